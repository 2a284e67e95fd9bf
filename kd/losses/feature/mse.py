"""Regression of the teacher's features: the loss of FitNet."""

from jaxtyping import Float
from torch import Tensor, nn

from kd.losses._pixels import Labels, Maps, full_precision, mean_over, pair


class MSE(nn.Module):
    """Feature regression: match every value of the teacher's map.

        loss = (student - teacher)²,   mean over channels and valid pixels

    Source: Romero et al., "FitNets: Hints for Thin Deep Nets", ICLR 2015, arXiv:1412.6550. FitNet's regressor after the
        student is the term's adapter.
    Differs: the mean, where the paper sums and halves: a weight keeps its meaning at every width and size.

    Returns (of forward):
        Squared units of the features, >= 0; 0 if the maps are equal.

    Raises:
        ValueError: the shapes differ.
    """

    compares = "features"

    def forward(self, student: Float[Tensor, "N C h w"], teacher: Maps, labels: Labels = None) -> Float[Tensor, ""]:
        """Squared difference, mean over channels and valid pixels."""
        with full_precision(student):
            student, teacher, valid = pair(student, teacher, labels)
            return mean_over((student - teacher).square().mean(1), valid)
