"""`kd bench --losses`: time and memory of every loss beside a teacher's forward pass on images of matching size."""

import statistics
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from rich.table import Table
from torch import Tensor, UntypedStorage, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import kd.losses
from kd.build import build
from kd.console import stdout
from kd.precision import Precision, choose
from kd.recipe import Use
from kd.types import IGNORE

TEACHER = "teachers.DeepLabV3ResNet50"
STRIDE = 8  # of the teacher's map, in pixels of its image
ENOUGH = 2.0  # seconds of a loss's rounds
OF_LOGITS = Use(use="kd.losses.PixelKL")
OF_PAIRS = Use(use="kd.losses.CIRKDMiniBatch")
ARGS: dict[str, list[dict[str, Any]]] = {  # where the defaults do not build a loss, or are not all
    "CIRKDMiniBatch": [{}, {"pool": 4}],
    "Masked": [{"loss": OF_LOGITS, "right": True, "entropy": 0.9, "near": 1}],
    "Sampled": [{"loss": OF_PAIRS, "pixels": 1024}],
}
TAPS = {"DSD": ("features", "logits")}  # what a loss of several taps reads


class Sizes(NamedTuple):
    """What the losses are timed on; the teacher's images are 8 times as high and wide as the maps."""

    images: int = 8
    classes: int = 19
    channels: int = 256
    height: int = 64
    width: int = 128

    def of(self, maps: str) -> tuple[int, int, int, int]:
        """Shape (N, C, h, w) of "logits" or "features"."""
        return self.images, self.classes if maps == "logits" else self.channels, self.height, self.width


class Cost(NamedTuple):
    """What one call of a loss takes."""

    loss: str  # its name, and arguments that are no defaults
    maps: str  # "logits", "features", or both
    forward: float  # seconds
    both: float  # seconds, forward and backward
    memory: int  # bytes at the peak of both, the maps themselves not counted


def losses_command(sizes: Sizes, rounds: int) -> None:
    """Print the cost of every loss, alone and as a share of the teacher's forward pass."""
    precision = choose()
    console = stdout()
    teacher = teacher_seconds(sizes, precision)
    image = f"{sizes.images}×3×{STRIDE * sizes.height}×{STRIDE * sizes.width}"
    console.print(f"{TEACHER} forward on {image}: {teacher:.2f} s ({precision}, {torch.get_num_threads()} threads)")
    table = Table(title=f"Losses in float32, median of {rounds} rounds at most")
    for name in ("loss", "maps", "forward ms", "+ backward ms", "of the teacher", "peak MB"):
        table.add_column(name, justify="left" if name in ("loss", "maps") else "right")
    for cost in costs(sizes, rounds, precision.device):
        times = f"{1e3 * cost.forward:.1f}", f"{1e3 * cost.both:.1f}", f"{100 * cost.both / teacher:.2f} %"
        table.add_row(cost.loss, cost.maps, *times, f"{cost.memory / 1e6:.0f}")
    for maps in ("logits", "features"):
        console.print(f"{maps}: {'×'.join(map(str, sizes.of(maps)))}")
    console.print(table)


def teacher_seconds(sizes: Sizes, precision: Precision) -> float:
    """Seconds of one forward pass of the teacher as it runs in training; image by image where memory is not a GPU's."""
    network: nn.Module = build(Use(use=TEACHER), folder=Path(), trust=False, num_classes=sizes.classes, in_channels=3)
    network.eval().to(precision.device).to(memory_format=precision.memory_format)
    each = sizes.images if precision.device.type == "cuda" else 1
    shape = (each, 3, STRIDE * sizes.height, STRIDE * sizes.width)
    images = precision.images(torch.randint(0, 256, shape, dtype=torch.uint8))

    def forward() -> None:
        with torch.no_grad(), precision.autocast():
            network(images)

    return _seconds(forward, 3, precision.device) * sizes.images / each


def costs(sizes: Sizes, rounds: int, device: torch.device, only: Sequence[str] = kd.losses.__all__) -> Iterator[Cost]:
    """The cost of each of these losses: distillation losses on the maps they compare, supervised ones on logits."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, sizes.classes, (sizes.images, sizes.height, sizes.width), generator=generator)
    labels[:, : sizes.height // 16] = IGNORE
    labels = labels.to(device)
    student, teacher = (
        {maps: torch.randn(sizes.of(maps), generator=generator).to(device) for maps in ("logits", "features")}
        for _ in range(2)
    )
    for maps in student.values():
        maps.requires_grad_()
    for name in only:
        for args in ARGS.get(name, [{}]):
            for taps in _places(name, args, sizes):
                loss = _built(name, args, sizes, taps[-1]).to(device)
                call = _call(loss, [student[tap] for tap in taps], [teacher[tap] for tap in taps], labels)
                both = _with_backward(call, [*(student[tap] for tap in taps), *loss.parameters()])
                yield Cost(
                    _shown(name, args),
                    ", ".join(taps),
                    _seconds(call, rounds, device),
                    _seconds(both, rounds, device),
                    _peak(both, device),
                )


def _shown(name: str, args: dict[str, Any]) -> str:
    values = {key: value.use.rpartition(".")[2] if isinstance(value, Use) else value for key, value in args.items()}
    return f"{name}({', '.join(f'{key}={value}' for key, value in values.items())})" if args else name


def _built(name: str, args: dict[str, Any], sizes: Sizes, tap: str) -> nn.Module:
    facts: dict[str, Callable[[], Any]] = {
        "num_classes": lambda: sizes.classes,
        "channels": lambda: sizes.of(tap)[1],
        "label_counts": lambda: [1] * sizes.classes,
    }
    use = Use(use=f"kd.losses.{name}", args=args)
    loss: nn.Module = build(use, folder=Path(), trust=False, facts=facts)
    return loss


def _places(name: str, args: dict[str, Any], sizes: Sizes) -> list[tuple[str, ...]]:
    """The taps of each row of a loss."""
    if name in TAPS:
        return [TAPS[name]]
    compares = getattr(_built(name, args, sizes, "logits"), "compares", "logits")
    return [("logits",), ("features",)] if compares == "either" else [(compares,)]


def _call(loss: nn.Module, student: list[Tensor], teacher: list[Tensor], labels: Tensor) -> Callable[[], Tensor]:
    if not hasattr(loss, "compares"):
        return lambda: loss(student[0], labels)
    if len(student) == 1:
        return lambda: loss(student[0], teacher[0], labels)
    return lambda: loss(tuple(student), tuple(teacher), (labels,) * len(student))


def _with_backward(call: Callable[[], Tensor], inputs: list[Tensor]) -> Callable[[], object]:
    return lambda: torch.autograd.grad(call(), inputs, allow_unused=True)


def _seconds(job: Callable[[], object], rounds: int, device: torch.device) -> float:
    """Median seconds of some rounds, the first left out; fewer rounds where they take more than `ENOUGH`."""
    taken: list[float] = []
    while len(taken) <= rounds and (len(taken) < 1 or sum(taken) < ENOUGH):
        _wait(device)
        began = time.perf_counter()
        job()
        _wait(device)
        taken.append(time.perf_counter() - began)
    return statistics.median(taken[1:] or taken)


def _peak(job: Callable[[], object], device: torch.device) -> int:
    """Bytes that a job holds at its peak beyond what was held before it."""
    if device.type == "cuda":
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        job()
        _wait(device)
        return int(torch.cuda.max_memory_allocated(device) - before)
    held = _Held()
    with held:
        job()
    return held.peak


class _Held(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of the tensors that operations make while they live: a CPU's allocator keeps no peak."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.peak = 0
        self._known: dict[int, weakref.ref[UntypedStorage]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        before = {each.untyped_storage()._cdata for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor)}
        result = func(*args, **(kwargs or {}))
        for each in tree_leaves(result):
            if isinstance(each, Tensor) and each.untyped_storage()._cdata not in before:
                self._count(each.untyped_storage())
        return result

    def _count(self, storage: UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._known:
            return

        def freed(_: object) -> None:
            self.now -= size
            del self._known[key]

        self._known[key] = weakref.ref(storage, freed)
        self.now += size
        self.peak = max(self.peak, self.now)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
