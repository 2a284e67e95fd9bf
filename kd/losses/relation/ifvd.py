"""Intra-class feature variation distillation."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from kd.losses._checks import check_known
from kd.losses._pixels import AnyMaps, Labels, full_precision, mean_over, or_infinity, pair, unit
from kd.losses.relation._pairs import pixel_rows, segment_means
from kd.types import IGNORE


class IFVD(nn.Module):
    """Intra-class feature variation: match how similar each pixel is to the mean of its class.

        m_p = cos(f_p, mean of f over the pixels of p's class in p's image),   loss = (m_student - m_teacher)²,
        mean over the valid pixels

    Source: Wang et al., "Intra-class Feature Variation Distillation for Semantic Segmentation", ECCV 2020.
    Differs: ignored pixels are left out. Without labels the whole image is one class.

    Args:
        convention: which code's value the loss returns:
            "default": the formula above;
            "ifvd", "cirkd": the code of those papers, where ignored pixels add 0 to the sum and are counted in the
            mean: the default times the share of valid pixels.

    Returns (of forward):
        No unit, 0 … 4; 0 if every pixel is equally similar to the mean of its class in both maps.

    Raises:
        ValueError: `convention` is unknown; the sizes differ.
    """

    compares = "features"
    conventions = ("default", "ifvd", "cirkd")

    def __init__(self, convention: str = "default") -> None:
        super().__init__()
        check_known(self.conventions, convention=convention)
        self.convention = convention

    def forward(self, student: Float[Tensor, "N C h w"], teacher: AnyMaps, labels: Labels = None) -> Float[Tensor, ""]:
        """Squared difference of the pixels' similarity to their class, mean over the valid pixels."""
        with full_precision(student):
            student, teacher, valid = pair(student, teacher, labels, channels=False)
            valid = valid.flatten(1)  # (N, h·w)
            classes = torch.zeros_like(valid, dtype=torch.int64) if labels is None else labels.flatten(1).long()
            difference = _similarity_to_class(student, classes) - _similarity_to_class(teacher, classes)
            loss = mean_over(difference.square(), valid)
            return loss if self.convention == "default" else loss * valid.sum() / valid.numel()


def _similarity_to_class(maps: Float[Tensor, "N C h w"], classes: Int64[Tensor, "N h*w"]) -> Float[Tensor, "N h*w"]:
    """The cosine between each pixel and the mean of its class in its image; ignored pixels are a separate class."""
    rows = pixel_rows(maps).flatten(0, 1)  # (N·h·w, C)
    images = torch.arange(len(maps), device=maps.device)[:, None]
    segments = (images * (IGNORE + 1) + classes).flatten()
    means, _ = segment_means(rows, segments, len(maps) * (IGNORE + 1))
    along = (rows * unit(means, 1)[segments]).sum(1)
    cosine = along / or_infinity(torch.linalg.vector_norm(rows, dim=1))
    return cosine.view(classes.shape)
