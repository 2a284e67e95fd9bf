"""Checks of arguments, and warnings, that several losses share."""

import warnings
from collections.abc import Sequence
from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor


def check_above(bound: float, **arguments: float) -> None:
    """Require every argument to be above `bound`; NaN is refused.

    Raises:
        ValueError: an argument is not; the message names it and its value.
    """
    for name, value in arguments.items():
        if not value > bound:
            raise ValueError(f"{name} is {value}; it must be above {bound}")


def check_at_least(bound: float, **arguments: float | None) -> None:
    """Require every argument that is not None to be at least `bound`; NaN is refused.

    Raises:
        ValueError: an argument is not; the message names it and its value.
    """
    for name, value in arguments.items():
        if value is not None and not value >= bound:
            raise ValueError(f"{name} is {value}; it must be at least {bound}")


def check_known(known: Sequence[str], **arguments: str) -> None:
    """Require every argument to be one of the known words.

    Raises:
        ValueError: an argument is not; the message lists the known words.
    """
    for name, value in arguments.items():
        if value not in known:
            raise ValueError(f"{name} '{value}' is unknown; known: {', '.join(known)}")


def check_classes(logits: Float[Tensor, "N K h w"], **arguments: Float[Tensor, " _K"]) -> None:
    """Require every argument to have one value per class of the logits.

    Raises:
        ValueError: an argument has another number of values.
    """
    for name, values in arguments.items():
        if len(values) != logits.shape[1]:
            raise ValueError(f"{name} has {len(values)} values, the logits {logits.shape[1]} classes")


def check_channels(maps: Float[Tensor, "N C h w"], channels: int) -> None:
    """Require maps to have the number of channels that the loss was built for.

    Raises:
        ValueError: the maps have another number.
    """
    if maps.shape[1] != channels:
        raise ValueError(f"maps {tuple(maps.shape)}: the loss was built for {channels} channels")


def warn_once(message: str) -> None:
    """Warn once per process; compiled code does not warn."""
    if not torch.compiler.is_compiling():
        _warn(message)


@cache
def _warn(message: str) -> None:
    warnings.warn(message, stacklevel=3)
