"""`train.compile`: a step's networks run through `torch.compile`, or uncompiled where that fails."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from kd.machine import Precision
from kd.parts.roles import Student, Teacher, restored
from kd.types import Batch


def compile_roles(roles: Sequence[Student | Teacher], batch: Batch, precision: Precision, backend: str) -> None:
    """Let the roles run their networks compiled; evaluation runs them uncompiled.

    A forward pass, and for a student a backward pass, compiles them here; weights, buffers and random state are then
    restored. If compilation fails, all run uncompiled, with one warning.

    Args:
        roles: the student, and the teacher where it is compiled too.
        batch: of the shape that training has.
        precision: how they run.
        backend: torch.compile's.
    """
    with restored(precision, *roles):
        try:
            for role in roles:
                role.taps.run = torch.compile(role.network, backend=backend)
                _run_once(role, batch, precision)
        except Exception as error:  # noqa: BLE001  # whatever a compiler raises: training does not need it
            for role in roles:
                role.taps.run = role.network
            reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
            warnings.warn(f"train.compile: failed ({reason}); training continues uncompiled", stacklevel=2)


def is_compiled(role: Student | Teacher) -> bool:
    """Whether a role runs its network compiled."""
    return role.taps.run is not role.network


@contextmanager
def uncompiled(role: Student | Teacher) -> Iterator[None]:
    """Let a role run its network as it is written inside the block."""
    compiled, role.taps.run = role.taps.run, role.network
    try:
        yield
    finally:
        role.taps.run = compiled


def _run_once(role: Student | Teacher, batch: Batch, precision: Precision) -> None:
    with precision.autocast():
        output = role(batch.images) if isinstance(role, Student) else role(batch)
    trained: list[Tensor] = [parameter for parameter in role.parameters() if parameter.requires_grad]
    if trained and output.logits.requires_grad:
        torch.autograd.grad(output.logits.float().sum(), trained, allow_unused=True)
