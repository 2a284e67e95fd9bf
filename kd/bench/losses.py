"""`kd bench --losses`: time and memory of every loss, and a teacher's forward pass on images of matching size."""

import statistics
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, UntypedStorage, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import kd.losses
from kd.bench.clock import seconds, wait
from kd.components import Maker
from kd.console import say
from kd.errors import RecipeError
from kd.machine import Precision, choose
from kd.recipe import Use
from kd.types import IGNORE

TEACHER = "teachers.DeepLabV3ResNet50"
STRIDE = 8  # of the teacher's map, in pixels of its image
ENOUGH = 2.0  # seconds of rounds after which a loss is not timed again
OF_LOGITS = Use(use="kd.losses.PixelKL")
OF_PAIRS = Use(use="kd.losses.CIRKDMiniBatch")
ARGS: dict[str, list[dict[str, Any]]] = {  # of losses with required or further arguments
    "CIRKDMiniBatch": [{}, {"pool": 4}],
    "Masked": [{"loss": OF_LOGITS, "right": True, "entropy": 0.9, "near": 1}],
    "Sampled": [{"loss": OF_PAIRS, "pixels": 1024}],
}
TAPS = {"DSD": ("features", "logits")}  # of losses that read several taps


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
    """The cost of one call of a loss."""

    loss: str  # its name and its non-default arguments
    maps: str  # "logits", "features", or both
    forward: float  # seconds
    both: float  # seconds, forward and backward
    memory: int  # bytes at the peak of both, without the maps themselves


def losses_command(names: Sequence[str], sizes: Sizes, rounds: int) -> None:
    """Print the cost of losses, also as a share of the teacher's forward pass; each row when it is measured.

    Args:
        names: such as CWD; all losses if empty.
        sizes: of the maps.
        rounds: maximum number of timed rounds, of which the table shows the median.

    Raises:
        RecipeError: a loss does not exist.
    """
    unknown = sorted(set(names) - set(kd.losses.__all__))
    if unknown:
        raise RecipeError(
            f"kd bench: --losses {', '.join(unknown)}: no such loss; known: {', '.join(kd.losses.__all__)}"
        )
    precision = choose()
    say(f"logits {_times(sizes.of('logits'))}, features {_times(sizes.of('features'))}, float32")
    say(f"median of {rounds} rounds, or of fewer if they take more than {ENOUGH:g} s")
    teacher = teacher_seconds(sizes, precision)
    image = _times((sizes.images, 3, STRIDE * sizes.height, STRIDE * sizes.width))
    say(f"{TEACHER} forward on {image}: {teacher:.2f} s ({precision}, {torch.get_num_threads()} threads)")
    columns = "{:<42} {:<18} {:>10} {:>13} {:>14} {:>8}"
    say(columns.format("loss", "maps", "forward ms", "+ backward ms", "of the teacher", "peak MB"))
    for cost in costs(sizes, rounds, precision.device, names or kd.losses.__all__):
        times = f"{1e3 * cost.forward:.1f}", f"{1e3 * cost.both:.1f}", f"{100 * cost.both / teacher:.2f} %"
        say(columns.format(cost.loss, cost.maps, *times, f"{cost.memory / 1e6:.0f}"))


def _times(shape: Sequence[int]) -> str:
    return "×".join(map(str, shape))


def teacher_seconds(sizes: Sizes, precision: Precision) -> float:
    """Seconds of one forward pass of the teacher as in training; on a CPU, one image at a time to save memory."""
    network: nn.Module = Maker().build(Use(use=TEACHER), num_classes=sizes.classes, in_channels=3)
    network.eval().to(precision.device).to(memory_format=precision.memory_format)
    batch_size = sizes.images if precision.device.type == "cuda" else 1
    shape = (batch_size, 3, STRIDE * sizes.height, STRIDE * sizes.width)
    images = precision.images(torch.randint(0, 256, shape, dtype=torch.uint8))

    def forward() -> None:
        with torch.no_grad(), precision.autocast():
            network(images)

    forward()
    return statistics.median(seconds(forward, precision.device) for _ in range(3)) * sizes.images / batch_size


def costs(sizes: Sizes, rounds: int, device: torch.device, only: Sequence[str] = kd.losses.__all__) -> Iterator[Cost]:
    """The cost of each loss in `only`: distillation losses on the maps that they compare, supervised ones on logits."""
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
            for taps in _taps_of(name, args, sizes):
                loss = _built(name, args, sizes, taps[-1]).to(device)
                call = _call(loss, [student[tap] for tap in taps], [teacher[tap] for tap in taps], labels)
                inputs = [*(student[tap] for tap in taps), *loss.parameters()]
                yield Cost(_shown(name, args), ", ".join(taps), *_measured(call, inputs, rounds, device))


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
    loss: nn.Module = Maker().build(use, facts=facts)
    return loss


def _taps_of(name: str, args: dict[str, Any], sizes: Sizes) -> list[tuple[str, ...]]:
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


def _measured(
    call: Callable[[], Tensor], inputs: list[Tensor], rounds: int, device: torch.device
) -> tuple[float, float, int]:
    """Median seconds of the forward pass and of both, and the bytes at the peak.

    The first round counts the bytes. Its time is used only if it exceeds `ENOUGH`, which makes the cost of counting
    negligible: a slow loss is called once.
    """
    times: list[tuple[float, float]] = []

    def once() -> None:
        began = time.perf_counter()
        loss = call()
        wait(device)
        forward = time.perf_counter() - began
        torch.autograd.grad(loss, inputs, allow_unused=True)
        wait(device)
        times.append((forward, time.perf_counter() - began))

    peak = _peak(once, device)
    while times[0][1] < ENOUGH and len(times) <= rounds and sum(both for _, both in times) < ENOUGH + times[0][1]:
        once()
    forward, both = zip(*(times[1:] or times), strict=True)
    return statistics.median(forward), statistics.median(both), peak


def _peak(job: Callable[[], object], device: torch.device) -> int:
    """Bytes that a job holds at its peak, beyond those held before it."""
    if device.type == "cuda":
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        job()
        wait(device)
        return int(torch.cuda.max_memory_allocated(device) - before)
    live = _LiveBytes()
    with live:
        job()
    return live.peak


class _LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of the tensors that operations make, until they are freed: a CPU's allocator records no peak."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.peak = 0
        self._known: dict[int, weakref.ref[UntypedStorage]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        before = {storage._cdata for storage in _storages((args, kwargs))}
        result = func(*args, **(kwargs or {}))
        for storage in _storages(result):
            if storage._cdata not in before:
                self._count(storage)
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


def _storages(tree: Any) -> Iterator[UntypedStorage]:
    return (leaf.untyped_storage() for leaf in tree_leaves(tree) if isinstance(leaf, Tensor))
