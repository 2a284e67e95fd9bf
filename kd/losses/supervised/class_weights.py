"""Class weights: the factor of each class, computed from its number of pixels."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

METHODS = ("median_frequency", "inverse_log", "effective_number")


def class_weights(counts: Sequence[float], method: str, *, beta: float | None = None) -> list[float]:
    """Compute one factor per class, larger for rarer classes.

        median_frequency:  w_c = median(f) / f_c,   f_c = n_c / Σ n
        inverse_log:       w_c = 1 / ln(1.02 + f_c)
        effective_number:  w_c ∝ (1 - β) / (1 - β^n_c),   with mean 1 over the classes that occur

    A class without pixels gets 0: no pixel would use its factor, and two of the formulas give infinity. Medians and
    means leave it out.

    Source: Eigen and Fergus, "Predicting Depth, Surface Normals and Semantic Labels", ICCV 2015, arXiv:1411.4734;
        Paszke et al., "ENet", 2016, arXiv:1606.02147; Cui et al., "Class-Balanced Loss Based on Effective Number of
        Samples", CVPR 2019, arXiv:1901.05555.
    Differs: Eigen and Fergus divide n_c by the pixels of the images that contain class c, which the counts do not hold.

    Args:
        counts: pixels of each class in the training labels, >= 0.
        method: one of `METHODS`.
        beta: β in [0, 1) of the effective number; None is 1 - 1 / Σ n, the paper's β = (N - 1) / N. A β such as 0.9999
            is meant for thousands of images: with millions of pixels it makes all weights equal.

    Returns:
        As many factors as counts, >= 0.

    Raises:
        ValueError: `method` is unknown; a count is below 0; all are 0; `beta` is outside [0, 1).
    """
    if method not in METHODS:
        raise ValueError(f"weight '{method}' is unknown; known: {', '.join(METHODS)}, or one factor per class")
    counts = [float(count) for count in counts]
    total = sum(counts)
    if min(counts, default=0.0) < 0 or not 0 < total < math.inf:
        raise ValueError(f"label counts are {counts}; they must be >= 0, and at least one above 0")
    if beta is not None and not 0 <= beta < 1:
        raise ValueError(f"beta is {beta}; it must be in [0, 1)")
    present = sorted(count for count in counts if count > 0)
    if method == "median_frequency":
        middle = (present[(len(present) - 1) // 2] + present[len(present) // 2]) / 2
        return [middle / count if count else 0.0 for count in counts]
    if method == "inverse_log":
        return [1 / math.log(1.02 + count / total) if count else 0.0 for count in counts]
    # β^n as exp(n · log β): with many pixels, 1 - β is far below the rounding of β.
    log_beta = math.log1p(-1 / total) if beta is None and total > 1 else math.log(beta) if beta else -math.inf
    raw = [-1 / math.expm1(count * log_beta) if count else 0.0 for count in counts]
    return [weight * len(present) / sum(raw) for weight in raw]


def as_factors(weight: Sequence[float] | str | None, label_counts: Sequence[int] | None) -> Float[Tensor, " K"] | None:
    """Convert the `weight` argument of a loss: one factor per class, or the name of a method that computes them.

    Raises:
        ValueError: a factor is below 0; a name is unknown or has no label counts.
    """
    if weight is None:
        return None
    if isinstance(weight, str):
        if weight in METHODS and label_counts is None:
            raise ValueError(f"weight '{weight}' needs label_counts: pixels of each class in the training labels")
        weight = class_weights(label_counts or [1], weight)
    if not all(factor >= 0 for factor in weight):  # NaN is not
        raise ValueError(f"weight is {list(weight)}; every factor must be >= 0")
    return torch.tensor(weight, dtype=torch.float32)
