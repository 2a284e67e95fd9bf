"""Variational information distillation."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from kd.losses._checks import check_above, check_channels, of_one_tap
from kd.losses._pixels import Labels, Maps, full_precision, mean_over, pair

LEAST = 1e-5  # variance


class VID(nn.Module):
    """Variational information distillation: regress the teacher's map with a learnt variance per channel.

        loss = ½ · [ (teacher_c - student_c)² / σ²_c + log σ²_c ],   mean over channels and valid pixels

    This is the negative log-likelihood of the teacher's map under a normal distribution. Its mean is the student's map
    after the term's adapter (`kd.adapters.MLP` is close to the paper's). Its variance σ²_c = softplus(a_c) + 10⁻⁵ is a
    parameter of this loss, trained with the student: small for channels that are easy to match.

    Source: Ahn et al., "Variational Information Distillation for Knowledge Transfer", CVPR 2019, arXiv:1904.05835.
    Differs: without the constant ½ log 2π; the mean, where the paper sums.

    Args:
        channels: C, the teacher's channels at the tap; the engine supplies it.
        variance: initial σ² > 10⁻⁵, in squared units of the features.

    Returns (of forward):
        Nats up to a constant; below 0 where the variances are below 1.

    Raises:
        ValueError: `channels` is below 1, of several taps, or not the channels of the maps; `variance` is too small;
            the shapes differ.
    """

    compares = "features"

    def __init__(self, channels: int | Sequence[int], variance: float = 5.0) -> None:
        super().__init__()
        channels = of_one_tap(channels)
        check_above(LEAST, variance=variance)
        start = variance - LEAST
        self.raw_variance = nn.Parameter(torch.full((channels,), start + math.log(-math.expm1(-start))))

    def forward(self, student: Float[Tensor, "N C h w"], teacher: Maps, labels: Labels = None) -> Float[Tensor, ""]:
        """Negative log-likelihood of the teacher's map, mean over channels and valid pixels."""
        with full_precision(student):
            student, teacher, valid = pair(student, teacher, labels)
            check_channels(student, len(self.raw_variance))
            variance = (F.softplus(self.raw_variance) + LEAST)[:, None, None]
            values = ((teacher - student).square() / variance + variance.log()).mean(1) / 2  # (N, h, w)
            return mean_over(values, valid)
