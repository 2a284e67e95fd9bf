"""Direction of the feature vectors."""

from jaxtyping import Float
from torch import Tensor, nn

from kd.losses._pixels import Labels, Maps, full_precision, mean_over, pair, unit


class Cosine(nn.Module):
    """Cosine distance: match the direction of the feature vector at each pixel, whatever its length.

        loss = 1 - ⟨student, teacher⟩ / (‖student‖ · ‖teacher‖) over channels,   mean over the valid pixels

    Source: no single paper; Grill et al., "Bootstrap Your Own Latent", NeurIPS 2020, arXiv:2006.07733, train with twice
        this distance.
    Differs: a pixel at which the teacher's vector is zero has no direction and is left out.

    Returns (of forward):
        No unit, 0 … 2; 0 if the vectors are equal up to a positive factor per pixel.

    Raises:
        ValueError: the shapes differ.
    """

    compares = "features"

    def forward(self, student: Float[Tensor, "N C h w"], teacher: Maps, labels: Labels = None) -> Float[Tensor, ""]:
        """1 minus the cosine, mean over the valid pixels."""
        with full_precision(student):
            student, teacher, valid = pair(student, teacher, labels)
            student, teacher = unit(student, 1), unit(teacher, 1)
            return mean_over(1 - (student * teacher).sum(1), valid & teacher.ne(0).any(1))
