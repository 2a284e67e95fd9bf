"""The peak memory of a piece of work in this process, and what is free."""

import ctypes
import shutil
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path

import torch

_PROCESS = Path("/proc/self")  # Linux


def restart_peak(device: torch.device) -> None:
    """Begin a new measurement: where the system allows it, `peak_memory` forgets what came before."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif device.type == "cpu":
        with suppress(OSError):  # not Linux, or a container without this file: the peak remains that of the process
            (_PROCESS / "clear_refs").write_text("5", encoding="ascii")


def peak_memory(device: torch.device) -> int | None:
    """Bytes at the peak since `restart_peak`, or None where the system does not measure them.

    On CUDA, the tensors that torch held on the device. On a CPU, the resident size of this process, without its data
    workers, but with what it kept from earlier work; on systems other than Linux, its peak since the process began.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return _resident_peak() if device.type == "cpu" else None


def _resident_peak() -> int | None:
    with suppress(OSError):  # not `ru_maxrss`, which a started process inherits
        lines = (_PROCESS / "status").read_text(encoding="utf-8").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
    try:
        import resource
    except ImportError:  # Windows
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def free_shared() -> int | None:
    """Bytes of memory that processes can still share; None where the system does not tell."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
        return min(free, shutil.disk_usage("/dev/shm").free)
    except (OSError, StopIteration):
        return None


def give_back() -> None:
    """Return to the system what this process has freed; with other C libraries than glibc, nothing happens.

    glibc keeps the gaps that maps of several sizes leave, and over thousands of images they add up.
    """
    trim = _trim()
    if trim is not None:
        trim(0)


@cache
def _trim() -> Callable[[int], int] | None:
    try:
        trim: Callable[[int], int] = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):  # TypeError: Windows
        return None
    return trim
