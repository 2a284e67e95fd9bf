"""The peak memory of a piece of work in this process, and what is free."""

import ctypes
import gc
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # processes that time other runtimes do not hold torch
    import torch

_PROCESS = Path("/proc/self")  # Linux
_GROUPS = Path("/sys/fs/cgroup")
_NO_ALGORITHM = "unable to find an engine to execute this computation"  # cuDNN
_RAN_OUT = ("CUDNN_STATUS_ALLOC_FAILED", "CUBLAS_STATUS_ALLOC_FAILED", "CUDA error: out of memory")


@contextmanager
def lasting_objects() -> Iterator[None]:
    """Leave the objects that the block makes out of every search for garbage.

    They take a fifth of the time of torch's import, and 0.3 s each where the files of 20,000 images are listed.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_enabled:
            gc.enable()


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


def ran_out(error: BaseException) -> bool:
    """Whether an error is that of a GPU whose memory has run out.

    torch's allocator has a type for it. Libraries that take memory beside it have not; cuDNN finds no algorithm then,
    as where it has none at all, and torch counts how often it ran out.
    """
    import torch

    if isinstance(error, torch.OutOfMemoryError) or not isinstance(error, RuntimeError):
        return isinstance(error, torch.OutOfMemoryError)
    if _NO_ALGORITHM in str(error):
        return bool(torch.cuda.memory_stats().get("num_ooms", 0))
    return any(sign in str(error) for sign in _RAN_OUT)


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
    """Bytes of memory that processes can still share; None where the system does not report it.

    They count as this process's: the limits of its control groups hold for them.
    """
    try:
        return min(_free_of_process(), shutil.disk_usage("/dev/shm").free)
    except (OSError, StopIteration):
        return None


def free_memory(device: "torch.device") -> int | None:
    """Bytes that this process can still take on a device; None where the system does not report it.

    On CUDA, what torch has reserved and does not use counts as free.
    """
    if device.type == "cuda":
        import torch

        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0] + unused)
    if device.type != "cpu":
        return None
    try:
        return _free_of_process()
    except (OSError, StopIteration):
        return None


def _free_of_process() -> int:
    """What is free of the machine's memory, within the limits of this process's control groups (a container's, say)."""
    return min([_free_of_machine(), *_free_of_groups()])


def _free_of_machine() -> int:
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))


def _free_of_groups() -> Iterator[int]:
    """What is free in each control group of this process that limits its memory; files in memory can be given up."""
    own = (_PROCESS / "cgroup").read_text(encoding="utf-8").splitlines()
    v2 = next((line.removeprefix("0::/") for line in own if line.startswith("0::/")), "")
    for folder in [_GROUPS / v2, *(_GROUPS / v2).parents]:
        if folder.is_relative_to(_GROUPS):
            yield from _free_of_group(folder, "memory.max", "memory.current")
    yield from _free_of_group(_GROUPS / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes")  # version 1


def _free_of_group(folder: Path, limit: str, used: str) -> Iterator[int]:
    with suppress(OSError, ValueError):  # no such file; "max"
        most, now = (int((folder / name).read_text(encoding="ascii")) for name in (limit, used))
        stat = dict(line.split() for line in (folder / "memory.stat").read_text(encoding="ascii").splitlines())
        yield most - now + int(stat.get("inactive_file", 0))


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
