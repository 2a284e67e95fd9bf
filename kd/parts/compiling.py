"""`train.compile`: the networks of a step through `torch.compile`, or as they are where that fails."""

import copy
import warnings
from collections.abc import Sequence

import torch
from torch import Tensor

from kd.machine import Precision
from kd.parts.roles import Student, Teacher
from kd.types import Batch


def compile_roles(roles: Sequence[Student | Teacher], batch: Batch, precision: Precision, backend: str) -> None:
    """Let the roles run their networks compiled; evaluation goes on without.

    One forward pass, for a student a backward pass too, compiles them here; what it moved is put back. If it fails,
    all run uncompiled, with one warning.

    Args:
        roles: the student, and the teacher where it is compiled too.
        batch: of the shape that training has.
        precision: how they run.
        backend: torch.compile's.
    """
    states = [copy.deepcopy(role.state_dict()) for role in roles]
    devices = [precision.device] if precision.device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        try:
            for role in roles:
                role.taps.run = torch.compile(role.network, backend=backend)
                _try(role, batch, precision)
        except Exception as error:  # noqa: BLE001  # whatever a compiler raises: training can do without it
            for role in roles:
                role.taps.run = role.network
            reason = " ".join(str(error).split())[:200]
            warnings.warn(f"train.compile: failed ({type(error).__name__}: {reason}); goes on uncompiled", stacklevel=2)
    for role, state in zip(roles, states, strict=True):
        role.load_state_dict(state)


def _try(role: Student | Teacher, batch: Batch, precision: Precision) -> None:
    with precision.autocast():
        output = role(batch.images) if isinstance(role, Student) else role(batch)
    trained: list[Tensor] = [parameter for parameter in role.parameters() if parameter.requires_grad]
    if trained and output.logits.requires_grad:
        torch.autograd.grad(output.logits.float().sum(), trained, allow_unused=True)
