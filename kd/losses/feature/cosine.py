"""The direction of the teacher's feature vectors."""

from torch import Tensor, nn

from kd.losses._pixels import full_precision, mean_over, pair, unit


class Cosine(nn.Module):
    """Cosine distance: match where each pixel's feature vector points, whatever its length.

        loss = 1 - ⟨student, teacher⟩ / (‖student‖ · ‖teacher‖) over channels,   mean over the valid pixels

    Source: no one paper's; Grill et al., "Bootstrap Your Own Latent", NeurIPS 2020, arXiv:2006.07733, train with twice
        this distance.
    Differs: a pixel at which the teacher's vector is zero has no direction and is left out.

    Shape: student, teacher (N, C, h, w); labels (N, h, w) or None.

    Returns (of forward):
        No unit, 0 … 2; 0 when the vectors are equal up to a positive factor per pixel.

    Raises:
        ValueError: the shapes differ.
    """

    compares = "features"

    def forward(self, student: Tensor, teacher: Tensor, labels: Tensor | None = None) -> Tensor:
        """1 minus the cosine, mean over the valid pixels."""
        with full_precision(student):
            student, teacher, valid = pair(student, teacher, labels)
            valid = valid & teacher.ne(0).any(1)
            cosine = (unit(student, 1) * unit(teacher, 1)).sum(1)  # (N, h, w)
            return mean_over(1 - cosine, valid)
