"""Masked generative distillation: the distance; the mask and the generator are an adapter."""

from jaxtyping import Float
from torch import Tensor, nn

from kd.losses._checks import check_known
from kd.losses._pixels import Labels, Maps, full_precision, mean_over, pair


class MGD(nn.Module):
    """Masked generative distillation: generate the teacher's whole map from part of the student's.

        loss = (G(m · student) - teacher)²,   mean over channels and valid pixels

    The mask m and the generator G are the term's adapter, `kd.adapters.MaskedGenerator`; without it this is `MSE`.

    Source: Yang et al., "Masked Generative Distillation", ECCV 2022, arXiv:2205.01529.
    Differs: the mean, where the authors sum: a weight keeps its meaning at every width and size.

    Args:
        convention: which code's value the loss returns, for maps of C channels:
            "default": the formula above;
            "mgd": 2·10⁻⁵ · the sum over channels and valid pixels / N, which is 2·10⁻⁵ · C · P times the default for P
            valid pixels per image (also the value of MMRazor). A recipe's weight of 1 then means the authors' α.

    Returns (of forward):
        Squared units of the features, >= 0; 0 if the maps are equal.

    Raises:
        ValueError: `convention` is unknown; the shapes differ.
    """

    compares = "features"
    conventions = ("default", "mgd")

    def __init__(self, convention: str = "default") -> None:
        super().__init__()
        check_known(self.conventions, convention=convention)
        self.convention = convention

    def forward(self, student: Float[Tensor, "N C h w"], teacher: Maps, labels: Labels = None) -> Float[Tensor, ""]:
        """Squared difference, mean over channels and valid pixels."""
        with full_precision(student):
            student, teacher, valid = pair(student, teacher, labels)
            squared = (student - teacher).square()
            if self.convention == "mgd":
                return 2e-5 * squared.sum() / len(student)
            return mean_over(squared.mean(1), valid)
