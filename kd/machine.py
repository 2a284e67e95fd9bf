"""This machine: device, number type and memory format, versions, hardware, memory, determinism."""

import os
import platform
import re
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import torch

from kd.constants import __version__
from kd.errors import NotDeterministicError
from kd.units import from_environment


class Precision(NamedTuple):
    """How a run computes. Parameters and losses are always float32; autocast lowers the networks only."""

    device: torch.device
    dtype: torch.dtype  # bfloat16 or float32
    memory_format: torch.memory_format

    def autocast(self) -> AbstractContextManager[object]:
        """The context in which both networks run."""
        if self.dtype == torch.float32:
            return nullcontext()
        return torch.autocast(self.device.type, self.dtype)

    def moved(self, tensor: torch.Tensor) -> torch.Tensor:
        """A tensor on the device; on CUDA, the host does not wait for the copy."""
        return tensor.to(self.device, non_blocking=self.device.type == "cuda")

    def sent(self, tensor: torch.Tensor) -> torch.Tensor:
        """As `moved`, for a tensor that may not be in page-locked memory, so that the host would wait."""
        return self.moved(tensor.pin_memory() if self.device.type == "cuda" and tensor.is_cpu else tensor)

    def images(self, images: torch.Tensor) -> torch.Tensor:
        """uint8 (N, C, H, W) as float32 in [0, 1] on the device, in the networks' memory format."""
        return self.moved(images).contiguous(memory_format=self.memory_format) / 255  # of uint8, true division is float

    def __str__(self) -> str:
        """One line for the console and the environment file."""
        layout = "channels-last" if self.memory_format == torch.channels_last else "contiguous"
        return f"{self.device}, {str(self.dtype).removeprefix('torch.')}, {layout}"


def choose(device: str = "auto", precision: str = "auto", memory_format: str = "auto") -> Precision:
    """The fastest precision that this machine computes natively, or the recipe's choice.

    Args:
        device: auto, cpu, cuda or mps; `auto` is CUDA if torch finds a device, else the CPU.
        precision: auto, bf16 or fp32. `auto` is bf16 where the hardware multiplies it natively (AMX or AVX512-BF16,
            Ampere and later), else fp32: emulated bf16 was 15 times slower than fp32 on a processor with AVX2 alone.
            On mps, kd computes in fp32.
        memory_format: auto, channels_last or contiguous; `auto` is channels-last, but contiguous on mps.

    Raises:
        ValueError: torch does not find the device, or the device does not have the precision.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError(
            "device: cuda, but torch sees no CUDA device; set device: cpu, or install a CUDA build of torch"
        )
    if device == "mps":
        return _mps(precision, memory_format)
    use_cuda = device == "cuda" or (device == "auto" and torch.cuda.is_available())
    chosen = torch.device("cuda", torch.cuda.current_device()) if use_cuda else torch.device("cpu")
    native = has_native_bfloat16(chosen)
    dtype = torch.bfloat16 if precision == "bf16" or (precision == "auto" and native) else torch.float32
    layout = torch.contiguous_format if memory_format == "contiguous" else torch.channels_last
    return Precision(chosen, dtype, layout)


def _mps(precision: str, memory_format: str) -> Precision:
    """The GPU of an Apple computer, in float32."""
    if not torch.backends.mps.is_available():
        raise ValueError(
            "device: mps, but torch sees no Apple GPU; set device: cpu, or install torch for macOS on Apple silicon"
        )
    if precision == "bf16":
        raise ValueError("train.precision: bf16, but kd computes in float32 on mps; set train.precision: fp32")
    layout = torch.channels_last if memory_format == "channels_last" else torch.contiguous_format
    return Precision(torch.device("mps"), torch.float32, layout)


def random_state(device: torch.device) -> dict[str, torch.Tensor]:
    """The states of torch's random generators, on the CPU and on a device, by the type of device."""
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    elif device.type == "mps":
        states["mps"] = torch.mps.get_rng_state()
    return states


def set_random_state(device: torch.device, states: Mapping[str, torch.Tensor]) -> None:
    """Restore what `random_state` returned; states of other types of devices are ignored."""
    torch.set_rng_state(states["cpu"])
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)
    elif device.type == "mps" and "mps" in states:
        torch.mps.set_rng_state(states["mps"])


def has_native_bfloat16(device: torch.device) -> bool:
    """Whether the hardware multiplies bfloat16 natively."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type == "mps":
        return False
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def describe() -> str:
    """What a bug report needs: versions, hardware, and what `precision: auto` selects here."""
    chosen = choose()
    device = torch.cuda.get_device_name(chosen.device) if chosen.device.type == "cuda" else _processor()
    packages = ("kd-segmentation", "torch", "torchvision", "numpy", "pillow", "pydantic", "pyyaml")
    lines = [f"{name} {_version(name)}" for name in packages]
    lines += [f"python {platform.python_version()} on {platform.platform()}"]
    lines += [f"device {device}, {torch.get_num_threads()} threads, CUDA {torch.version.cuda or 'none'}"]
    return "\n".join([*lines, f"precision: auto is {chosen}"])


def hardware(device: torch.device) -> dict[str, str | int]:
    """The device, the processor and the number of cores that this process may use."""
    names: dict[str, str | int] = {"processor": _processor(), "cores": cores(), "system": platform.platform()}
    if device.type == "cuda":
        return {"gpu": torch.cuda.get_device_name(device), "cuda": torch.version.cuda or "none"} | names
    return names


def cores() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def training_processes() -> int:
    """The number of processes that train on this machine beside one another, this one included."""
    return max(1, from_environment("LOCAL_WORLD_SIZE", 1) * from_environment("KD_JOBS", 1))  # torchrun, kd study


def loader_workers(setting: int | str, device: torch.device | None = None) -> int:
    """The number of processes that load images for this one.

    Args:
        setting: of a recipe; "auto" shares the cores but one among the training processes of this machine.
        device: that trains meanwhile; on a CPU the workers compete with the training for the cores. None: none does,
            and the workers have all cores; a single worker would only take the place of this process.
    """
    if not isinstance(setting, str):
        return setting
    here = training_processes()
    if device is None:
        readers = min(8, cores() // here)
        return readers if readers > 1 else 0
    return min(8 if device.type == "cuda" else 2, (cores() - 1) // here)


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Let torch compute on so many cores in the block, at least 1; afterwards on as many as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(max(count, 1))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _processor() -> str:
    names = {line.split(":", 1)[1].strip() for line in _cpuinfo() if line.startswith("model name")}
    extensions = torch.backends.cpu.get_cpu_capability()
    return f"{', '.join(sorted(names)) or platform.processor() or platform.machine()} ({extensions})"


def _cpuinfo() -> list[str]:
    with suppress(OSError):  # Linux alone has this file
        return Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    return []


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def slow_path(chosen: Precision, precision: str) -> str | None:
    """A line for the user if the chosen precision is slow on this machine, otherwise None."""
    native = has_native_bfloat16(chosen.device)
    if chosen.dtype == torch.bfloat16 and not native:
        return f"precision: bf16 is emulated on this {chosen.device.type} and far slower than fp32; set precision: auto"
    if chosen.dtype == torch.float32 and native and precision == "fp32":
        return f"precision: fp32 is set, but this {chosen.device.type} computes bf16 natively, which is usually faster"
    return None


@cache  # the metadata of packages are files
def versions() -> dict[str, str]:
    """The versions that a result depends on."""
    names = ("torch", "torchvision", "numpy", "pillow")
    return {"kd": __version__, "python": platform.python_version()} | {name: metadata.version(name) for name in names}


@contextmanager
def deterministic(enabled: bool) -> Iterator[None]:
    """Let torch use only deterministic operations while the block runs.

    Raises:
        NotDeterministicError: an operation has no deterministic implementation.
    """
    if not enabled:
        yield
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS reads it when it starts
    before = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
    try:
        yield
    except (RuntimeError, ValueError) as error:  # a ValueError: the dry run reports it as a mistake
        operation = re.search(r"(\S+) does not have a deterministic implementation", str(error))
        if operation is None:
            raise
        raise NotDeterministicError(operation[1]) from None
    finally:
        torch.use_deterministic_algorithms(before[0])
        torch.backends.cudnn.benchmark = before[1]
