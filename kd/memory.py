"""The peak memory of a piece of work in this process, and what is free."""

import ctypes
import shutil
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # processes that time other runtimes do not hold torch
    import torch

_PROCESS = Path("/proc/self")  # Linux


def restart_peak(device: "torch.device") -> None:
    """Begin a new measurement: where the system allows it, `peak_memory` forgets what came before."""
    if device.type == "cuda":
        import torch

        torch.cuda.reset_peak_memory_stats(device)
    elif device.type == "cpu":
        restart_resident_peak()


def restart_resident_peak() -> None:
    """Let `resident_peak` forget what came before, where the system allows it."""
    with suppress(OSError):  # not Linux, or a container without this file: the peak remains that of the process
        (_PROCESS / "clear_refs").write_text("5", encoding="ascii")


def peak_memory(device: "torch.device") -> int | None:
    """Bytes at the peak since `restart_peak`, or None where the system does not measure them.

    On CUDA, the tensors that torch held on the device. On a CPU, the resident size of this process, without its data
    workers, but with what it kept from earlier work; on systems other than Linux, its peak since the process began.
    """
    if device.type == "cuda":
        import torch

        return torch.cuda.max_memory_allocated(device)
    return resident_peak() if device.type == "cpu" else None


def resident() -> int | None:
    """Bytes that this process holds now; None on systems other than Linux."""
    return _status("VmRSS")


def _status(name: str) -> int | None:
    """Bytes of an entry of the process's status; None where the system has none."""
    with suppress(OSError):
        lines = (_PROCESS / "status").read_text(encoding="utf-8").splitlines()
        return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:")), None)
    return None


def resident_peak() -> int | None:
    """Bytes that this process held at its peak; None on Windows."""
    peak = _status("VmHWM")  # not `ru_maxrss`, which a started process inherits
    if peak is not None:
        return peak
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
