"""A toy teacher and student that train in milliseconds."""

import itertools
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import torch
from torch import Tensor, nn

from kd.losses import MSE, CrossEntropy, PixelKL
from kd.machine import Precision
from kd.parts.objective import Supervised, Term
from kd.parts.roles import Student, Teacher
from kd.train.phases import Phases
from kd.train.step import TrainState
from kd.train.update import Update
from kd.types import Batch, SegmentationOutput, Tap

CPU = Precision(torch.device("cpu"), torch.float32, torch.contiguous_format)


class Toy(nn.Module):
    """Two convolutions; GroupNorm unless `batch_norm`, so that an image's result does not depend on its batch."""

    def __init__(self, channels: int, *, batch_norm: bool = False, dropout: float = 0.0, classes: int = 5) -> None:
        super().__init__()
        self.num_classes, self.in_channels = classes, 3
        self.taps = {"low": Tap(channels, 2)}
        self.conv = nn.Conv2d(3, channels, 3, 2, 1)
        self.norm = nn.BatchNorm2d(channels) if batch_norm else nn.GroupNorm(2, channels)
        self.act = nn.ReLU()
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Conv2d(channels, classes, 1)

    def forward(self, images: Tensor) -> SegmentationOutput:
        low = self.act(self.norm(self.conv(images)))
        return SegmentationOutput(self.head(self.dropout(low)), {"low": low}, {})


def batch(images: int = 8, size: int = 16, classes: int = 5, seed: int = 1) -> Batch:
    """Noise and random labels without ignored pixels, so that all parts have equally many valid pixels."""
    generator = torch.Generator().manual_seed(seed)
    return Batch(
        torch.randint(0, 256, (images, 3, size, size), generator=generator, dtype=torch.uint8),
        torch.randint(0, classes, (images, size, size), generator=generator).to(torch.uint8),
        torch.ones(images, size, size, dtype=torch.bool),
        torch.zeros(images, 2, dtype=torch.int64),
    )


def part(whole: Batch, where: slice) -> Batch:
    return Batch(*(tensor[where] for tensor in whole[:4]))


def toy_run(
    batches: Iterator[Batch] | None = None,
    *,
    steps: int = 3,
    accumulate: int = 1,
    wrap: Callable[[nn.Module], nn.Module] = lambda module: module,
    batch_norm: bool = False,
    dropout: float = 0.0,
    lr: float = 0.1,
    precision: Precision = CPU,
) -> TrainState:
    """A run with a KL term on the logits and an MSE term after an adapter."""
    torch.manual_seed(0)
    losses = {"kl": PixelKL(4.0), "hint": MSE()}
    at = {"kl": "logits", "hint": "low"}
    student = Student(Toy(4, dropout=dropout), at, {"hint": nn.Conv2d(4, 8, 1)}, losses)
    teacher = Teacher(Toy(8, batch_norm=batch_norm), at)
    for module in (student, teacher):
        module.to(precision.device)
    model = wrap(student)
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
    for group in optimizer.param_groups:
        group["initial_lr"] = group["lr"]
    nothing = SimpleNamespace(phases=(), student=SimpleNamespace(freeze=()))
    return TrainState(
        student=model,
        teacher=teacher,
        supervised=Supervised(CrossEntropy(), 0.4),
        terms={"kl": Term(losses["kl"], lambda step: 1.0), "hint": Term(losses["hint"], lambda step: 2.0)},
        optimizer=optimizer,
        phases=Phases(nothing, student, optimizer, lambda step: 1.0, steps),
        update=Update(optimizer, None),
        ema=None,
        batches=itertools.repeat(batch()) if batches is None else batches,
        precision=precision,
        steps=steps,
        accumulate=accumulate,
        clip_norm=float("inf"),
    )


def white_is_infinite(module: nn.Module, args: tuple[Tensor]) -> tuple[Tensor]:
    """Make an image of 255 everywhere infinite, without a branch: a hook of a module that gets images."""
    return (args[0] / (args[0].amin() < 1),)


def flat(module: nn.Module) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in module.parameters()])
