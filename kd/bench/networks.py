"""`kd bench --networks`: the cost of networks on this machine in parameters, arithmetic, time and memory."""

import importlib
import inspect
import multiprocessing
import statistics
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import NamedTuple

import torch
from torch import nn

from kd.bench.clock import seconds
from kd.components import Maker
from kd.console import make_table, print_line, stdout
from kd.errors import RecipeError
from kd.machine import Precision, choose
from kd.memory import peak_memory
from kd.networks.arithmetic import count_macs
from kd.recipe import Use
from kd.types import as_classes, parameter_count
from kd.units import counted

SIZES = ((256, 256), (512, 512))
CLASSES = 21
TRAINED = 2  # images in a training step: the fewest that all BatchNorm layers accept


class Cost(NamedTuple):
    """The cost of one network at one size."""

    parameters: int
    macs: int  # multiply-accumulates of the forward pass of one image; 1e9 are a GMAC, or 2 GFLOPs
    forward: float  # seconds for one image, in evaluation mode
    step: float  # seconds for forward, backward and update on `TRAINED` images
    memory: int  # bytes: the peak of the training step, the network included


def bench_networks_command(
    names: Sequence[str] = (),
    *,
    size: Sequence[int] | None = None,
    threads: int | None = None,
    rounds: int = 5,
) -> None:
    """Print a table of the cost of networks at 256×256 and 512×512, or at `size`.

    Args:
        names: such as students.MobileNetV2UNet; () means all networks without further required arguments.
        size: (H, W) in pixels.
        threads: of torch on a CPU; None keeps the current number.
        rounds: timed rounds; the table shows their median.

    Raises:
        RecipeError: a network does not exist, or a number is too small.
    """
    if size is not None and min(size) < 64:
        raise RecipeError(f"kd bench: --size {size[0]} {size[1]}: networks need at least 64 pixels")
    if rounds < 1 or (threads is not None and threads < 1):
        raise RecipeError(f"kd bench: --threads {threads}, --rounds {rounds}: both must be at least 1")
    names = names or all_networks()
    for name in names:
        Maker().find(Use(use=name))
    precision = choose()
    print_line(
        f"{precision}, {counted(threads or torch.get_num_threads(), 'thread')}, {CLASSES} classes, median of {rounds}; "
        f"forward: one image; step: {TRAINED} images, forward, backward and update"
    )
    header = ("network", "parameters", "MB", "size", "GMAC", "forward s", "images/s", "step s", "peak MB")
    rows = [
        (
            name,
            f"{cost.parameters:,}",
            f"{4 * cost.parameters / 2**20:.1f}",
            f"{height}×{width}",
            f"{cost.macs / 1e9:.2f}",
            f"{cost.forward:.3f}",
            f"{1 / cost.forward:.1f}",
            f"{cost.step:.3f}",
            f"{cost.memory / 2**20:.0f}",
        )
        for name in names
        for (height, width), cost in _alone(name, ((size[0], size[1]),) if size else SIZES, threads, rounds)
    ]
    stdout().print(make_table(header, rows))


def all_networks() -> list[str]:
    """All students and teachers whose only required argument is the number of classes."""
    names = [
        f"{module}.{name}" for module in ("students", "teachers") for name in importlib.import_module(module).__all__
    ]
    return [name for name in names if _required(name) <= {"num_classes"}]


def _required(name: str) -> set[str]:
    """The arguments without a default."""
    parameters = inspect.signature(Maker().find(Use(use=name))).parameters.values()
    return {parameter.name for parameter in parameters if parameter.default is parameter.empty}


def _alone(
    name: str, sizes: Iterable[tuple[int, int]], threads: int | None, rounds: int
) -> list[tuple[tuple[int, int], Cost]]:
    """The costs, each measured in a new process, whose peak memory is that of this network at this size."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context, max_tasks_per_child=1) as pool:
        return [(size, pool.submit(measure, name, size, threads=threads, rounds=rounds).result()) for size in sizes]


def measure(name: str, size: tuple[int, int], *, threads: int | None = None, rounds: int = 5) -> Cost:
    """The cost of a network at a size; `memory` is right only in a process that measures nothing else."""
    if threads is not None:
        torch.set_num_threads(threads)
    precision = choose()
    before = _peak(precision)
    network: nn.Module = Maker().build(Use(use=name), num_classes=CLASSES, in_channels=3)
    parameters, macs = parameter_count(network), count_macs(network, size)
    images = torch.randint(0, 256, (TRAINED, 3, *size), dtype=torch.uint8)
    network.to(device=precision.device).to(memory_format=precision.memory_format)
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=0.01, momentum=0.9)
    network.eval()
    forward = _median(lambda: _forward(network, images[:1], precision), precision, rounds)
    network.train()
    step = _median(lambda: _step(network, images, optimizer, precision), precision, rounds)
    memory = max(0, _peak(precision) - before)  # Linux counts the pages of threads in batches, so a peak may shrink
    return Cost(parameters, macs, forward, step, memory)


@torch.no_grad()
def _forward(network: nn.Module, images: torch.Tensor, precision: Precision) -> None:
    with precision.autocast():
        network(precision.images(images))


def _step(network: nn.Module, images: torch.Tensor, optimizer: torch.optim.Optimizer, precision: Precision) -> None:
    with precision.autocast():
        logits = as_classes(network(precision.images(images)).logits)
    labels = torch.zeros(logits.shape[0], *logits.shape[2:], dtype=torch.int64, device=logits.device)
    nn.functional.cross_entropy(logits.float(), labels).backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    optimizer.zero_grad()


def _median(job: Callable[[], None], precision: Precision, rounds: int) -> float:
    """The median seconds of a job, after two rounds of warm-up."""
    return statistics.median([seconds(job, precision.device) for _ in range(rounds + 2)][2:])


def _peak(precision: Precision) -> int:
    return peak_memory(precision.device) or 0
