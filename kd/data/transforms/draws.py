"""Random draws of transforms, and the ranges of their arguments.

All draws come from torch's CPU generator, which `kd.data.splits.split.Split` seeds for each sample.
"""

import torch


def uniform(low: float, high: float) -> float:
    """A number between `low` and `high`."""
    return low + (high - low) * torch.rand(()).item()


def happens(p: float) -> bool:
    """True with probability `p`."""
    return uniform(0, 1) < p


def check_probability(name: str, p: float) -> None:
    """Refuse a probability outside 0 … 1.

    Raises:
        ValueError: it is.
    """
    if not 0 <= p <= 1:
        raise ValueError(f"{name}: p must be 0 … 1, got {p}")


def check_range(name: str, low: float, high: float) -> None:
    """Refuse a range of factors that is not 0 < low <= high.

    Raises:
        ValueError: it is not.
    """
    if not 0 < low <= high:
        raise ValueError(f"{name}: low and high must satisfy 0 < low <= high, got {low} and {high}")
