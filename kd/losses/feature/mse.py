"""FitNet's hint: the teacher's features themselves."""

from torch import Tensor, nn

from kd.losses._pixels import full_precision, mean_over, pair


class MSE(nn.Module):
    """Feature regression: match every value of the teacher's map.

        loss = (student - teacher)²,   mean over channels and valid pixels

    Source: Romero et al., "FitNets: Hints for Thin Deep Nets", ICLR 2015, arXiv:1412.6550. The regressor that FitNet
        puts behind the student is the term's adapter.
    Differs: the paper sums and halves; the mean keeps one weight good at every width and size.

    Shape: student, teacher (N, C, h, w); labels (N, h, w) or None.

    Returns (of forward):
        Squared units of the features, >= 0; 0 when the maps are equal.

    Raises:
        ValueError: the shapes differ.
    """

    compares = "features"

    def forward(self, student: Tensor, teacher: Tensor, labels: Tensor | None = None) -> Tensor:
        """Squared difference, mean over channels and valid pixels."""
        with full_precision(student):
            student, teacher, valid = pair(student, teacher, labels)
            return mean_over((student - teacher).square().mean(1), valid)
