"""Checks of arguments, and warnings, that several losses share."""

import warnings
from collections.abc import Sequence
from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor


def check_above(bound: float, **arguments: float) -> None:
    """Require every argument to be above `bound`, or raise a ValueError; NaN is not."""
    for name, value in arguments.items():
        if not value > bound:
            raise ValueError(f"{name} is {value}; it must be above {bound}")


def check_at_least(bound: float, **arguments: float | None) -> None:
    """Require every argument but None to be at least `bound`, or raise a ValueError; NaN is not."""
    for name, value in arguments.items():
        if value is not None and not value >= bound:
            raise ValueError(f"{name} is {value}; it must be at least {bound}")


def check_known(known: Sequence[str], **arguments: str) -> None:
    """Require every argument to be one of the known words, or raise a ValueError."""
    for name, value in arguments.items():
        if value not in known:
            raise ValueError(f"{name} '{value}' is unknown; known: {', '.join(known)}")


def check_classes(logits: Float[Tensor, "N K h w"], **arguments: Float[Tensor, " _K"]) -> None:
    """Require every argument to have one value per class of the logits, or raise a ValueError."""
    for name, values in arguments.items():
        if len(values) != logits.shape[1]:
            raise ValueError(f"{name} has {len(values)} values, the logits {logits.shape[1]} classes")


def check_channels(maps: Float[Tensor, "N C h w"], channels: int) -> None:
    """Require maps to have the number of channels that the loss was built for, or raise a ValueError."""
    if maps.shape[1] != channels:
        raise ValueError(f"maps {tuple(maps.shape)}: the loss was built for {channels} channels")


def of_one_tap(channels: int | Sequence[int]) -> int:
    """Return the channels of a tap, at least 1; a ValueError for those of several, which a term that lists taps has."""
    if isinstance(channels, Sequence):
        raise ValueError(f"channels {tuple(channels)} are those of {len(channels)} taps; name one tap per term")
    check_at_least(1, channels=channels)
    return channels


def warn_once(message: str) -> None:
    """Warn once per process; compiled code does not warn."""
    if not torch.compiler.is_compiling():
        _warn(message)


@cache
def _warn(message: str) -> None:
    warnings.warn(message, stacklevel=3)
