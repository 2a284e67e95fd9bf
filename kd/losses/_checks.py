"""What losses refuse and warn of alike."""

import warnings
from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor


def check_above(bound: float, **arguments: float) -> None:
    """Require each argument to be above `bound`; NaN never is.

    Raises:
        ValueError: it is not.
    """
    for name, value in arguments.items():
        if not value > bound:
            raise ValueError(f"{name} is {value}; it must be above {bound}")


def check_at_least(bound: float, **arguments: float | None) -> None:
    """Require each argument that is not None to be `bound` or more; NaN never is.

    Raises:
        ValueError: it is not.
    """
    for name, value in arguments.items():
        if value is not None and not value >= bound:
            raise ValueError(f"{name} is {value}; it must be at least {bound}")


def check_known(known: Sequence[str], **arguments: str) -> None:
    """Require each argument to be one of the known words.

    Raises:
        ValueError: it is not.
    """
    for name, value in arguments.items():
        if value not in known:
            raise ValueError(f"{name} '{value}' is unknown; known: {', '.join(known)}")


def check_classes(logits: Tensor, **arguments: Tensor) -> None:
    """Require each argument (K,) to have one value for each class of the logits (N, K, h, w).

    Raises:
        ValueError: it has not.
    """
    for name, values in arguments.items():
        if len(values) != logits.shape[1]:
            raise ValueError(f"{name} has {len(values)} values, the logits {logits.shape[1]} classes")


def check_channels(maps: Tensor, channels: int) -> None:
    """Require maps (N, C, h, w) to have the channels that a loss was built for.

    Raises:
        ValueError: they have not.
    """
    if maps.shape[1] != channels:
        raise ValueError(f"maps {tuple(maps.shape)}: the loss was built for {channels} channels")


def warn_once(message: str) -> None:
    """Warn once in the life of the process, and never in code that is being compiled."""
    if not torch.compiler.is_compiling():
        _warn(message)


@cache
def _warn(message: str) -> None:
    warnings.warn(message, stacklevel=3)
