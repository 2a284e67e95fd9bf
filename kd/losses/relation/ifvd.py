"""Intra-class feature variation distillation."""

import torch
from torch import Tensor, nn

from kd.losses._checks import check_known
from kd.losses._pixels import full_precision, mean_over, or_infinity, pair, unit
from kd.losses.relation._pairs import pixel_rows, segment_means
from kd.types import IGNORE


class IFVD(nn.Module):
    """Intra-class feature variation: match how far each pixel is from the mean of its class.

        m_p = cos(f_p, mean of f over the pixels of p's class in p's image),   loss = (m_student - m_teacher)²,
        mean over the valid pixels

    Source: Wang et al., "Intra-class Feature Variation Distillation for Semantic Segmentation", ECCV 2020.
    Differs: ignored pixels do not count. Without labels the whole image is one class.

    Args:
        convention: whose number the loss returns:
            "house": the formula above;
            "ifvd", "cirkd": the codes of those papers, where ignored pixels add 0 to the sum and count in the mean: the
            house value times the share of valid pixels.

    Shape: student (N, C, h, w), teacher (N, D, h, w): channels may differ; labels (N, h, w) or None.

    Returns (of forward):
        No unit, 0 … 4; 0 when every pixel is as near to its class's mean in both.

    Raises:
        ValueError: `convention` is unknown; the sizes differ.
    """

    compares = "features"
    conventions = ("house", "ifvd", "cirkd")

    def __init__(self, convention: str = "house") -> None:
        super().__init__()
        check_known(self.conventions, convention=convention)
        self.convention = convention

    def forward(self, student: Tensor, teacher: Tensor, labels: Tensor | None = None) -> Tensor:
        """Squared difference of the pixels' similarity to their class, mean over the valid pixels."""
        with full_precision(student):
            student, teacher, valid = pair(student, teacher, labels, channels=False)
            valid = valid.flatten(1)  # (N, h·w)
            classes = torch.zeros_like(valid, dtype=torch.int64) if labels is None else labels.flatten(1).long()
            difference = _similarity_to_class(student, classes) - _similarity_to_class(teacher, classes)
            loss = mean_over(difference.square(), valid)
            return loss if self.convention == "house" else loss * valid.sum() / valid.numel()


def _similarity_to_class(maps: Tensor, classes: Tensor) -> Tensor:
    """(N, h·w): the cosine between each pixel and its class's mean in its image; ignored pixels are a class apart."""
    rows = pixel_rows(maps).flatten(0, 1)  # (N·h·w, C)
    images = torch.arange(len(maps), device=maps.device)[:, None]
    segments = (images * (IGNORE + 1) + classes).flatten()
    means, _ = segment_means(rows, segments, len(maps) * (IGNORE + 1))
    along = (rows * unit(means, 1)[segments]).sum(1)
    cosine = along / or_infinity(torch.linalg.vector_norm(rows, dim=1))
    return cosine.view(classes.shape)
