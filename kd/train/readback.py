"""The numbers of the steps on their way from the device: sent without waiting, read when they have arrived."""

import math
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kd.types import Batch

DEPTH = 4  # steps on their way at most: the processor runs no further ahead, and keeps no more batches


class Sent(NamedTuple):
    """A step whose numbers are on their way."""

    step: int  # from 1
    batches: list[Batch]  # its micro-batches, as the loader made them
    names: tuple[str, ...]  # of the losses
    rates: Sequence[float] = ()  # the learning rates of the groups


class StepNumbers(NamedTuple):
    """The numbers of a step."""

    step: int  # from 1
    batches: list[Batch]
    finite: bool  # loss and gradient, on every rank; otherwise the step has changed no parameter
    norm: float  # of the gradient
    losses: list[dict[str, float]]  # of each micro-batch
    rates: Sequence[float] = ()  # the learning rates of the groups

    def __str__(self) -> str:
        """The term that is not finite, and all losses, of the first such micro-batch."""
        values = self.losses[self.culprits()[0]]
        terms = [name for name, value in values.items() if not math.isfinite(value) and name != "total"]
        listed = ", ".join(f"{name} {value:.4g}" for name, value in values.items())
        what = f"term '{terms[0]}' is {values[terms[0]]}" if terms else f"the gradient's norm is {self.norm}"
        return f"{what} ({listed})"

    def culprits(self) -> list[int]:
        """The micro-batches with a loss that is not finite; all, if only the gradient is not finite."""
        finite = self._finite()
        return [index for index in range(len(finite)) if not finite[index] or all(finite)]

    def has_finite_losses(self) -> bool:
        """Whether all losses of this process are finite: then its gradient is not, or a loss of another process."""
        return all(self._finite())

    def _finite(self) -> list[bool]:
        return [all(map(math.isfinite, losses.values())) for losses in self.losses]

    def means(self) -> dict[str, float]:
        """The mean of each loss over the micro-batches, and `gradient_norm`."""
        means = {name: math.fsum(losses[name] for losses in self.losses) / len(self.losses) for name in self.losses[0]}
        return means | {"gradient_norm": self.norm}


def packed(not_finite: Tensor, norm: Tensor, losses: list[dict[str, Tensor]]) -> Tensor:
    """The numbers of a step in one tensor, float32 (2 + micro-batches · losses)."""
    values = [not_finite, norm, *(value for by_name in losses for value in by_name.values())]
    return torch.stack([value.to(norm.device, torch.float32) for value in values])


class Readback:
    """Copies the numbers of each step to page-locked memory, where reading them waits for nothing.

    On a CPU, and on a device without such memory, they have arrived as soon as they are sent.

    Args:
        device: where the steps are computed.
    """

    def __init__(self, device: torch.device) -> None:
        self._on_gpu = device.type == "cuda"
        self._pending: deque[tuple[int, Sent, Any]] = deque()  # slot, step, and the event of its arrival
        self._slots = torch.empty(0)
        self._values: NDArray[np.float32] = self._slots.numpy()
        self._next = 0

    def send(self, numbers: Tensor, sent: Sent) -> None:
        """Send the numbers of a step, as `packed` makes them."""
        if self._values.shape != (DEPTH, len(numbers)):
            assert not self._pending
            self._slots = torch.empty(DEPTH, len(numbers), pin_memory=self._on_gpu)
            self._values = self._slots.numpy()
        slot, self._next = self._next, (self._next + 1) % DEPTH
        self._slots[slot].copy_(numbers, non_blocking=self._on_gpu)
        event = torch.cuda.Event() if self._on_gpu else None  # type: ignore[no-untyped-call]
        if event is not None:
            event.record()
        self._pending.append((slot, sent, event))

    def arrived(self, *, wait: bool) -> Iterator[StepNumbers]:
        """The steps whose numbers have arrived, in order; if `wait`, all steps.

        Without `wait` it waits only where `DEPTH` steps are on their way, which leaves the device enough to do.
        """
        while self._pending:
            slot, sent, event = self._pending[0]
            if event is not None and not event.query():
                if not wait and len(self._pending) < DEPTH:
                    return
                event.synchronize()  # waits for the device
            self._pending.popleft()
            yield _read(self._values[slot].tolist(), sent)


def _read(values: list[float], sent: Sent) -> StepNumbers:
    not_finite, norm, *rest = values
    count = len(sent.names)
    losses = [dict(zip(sent.names, rest[at : at + count], strict=True)) for at in range(0, len(rest), count)]
    return StepNumbers(sent.step, sent.batches, not_finite == 0, norm, losses, sent.rates)
