"""The time of work on a device, measured when the device has finished."""

import time
from collections.abc import Callable

import torch


def seconds(job: Callable[[], object], device: torch.device) -> float:
    """Seconds of one call, from an idle device to an idle device."""
    wait(device)
    began = time.perf_counter()
    job()
    wait(device)
    return time.perf_counter() - began


def wait(device: torch.device) -> None:
    """Wait until the device has finished its work; a CPU's calls return when it has."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
