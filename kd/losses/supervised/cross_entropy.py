"""Cross entropy with the labels."""

from collections.abc import Sequence

from jaxtyping import Float, Integer
from torch import Tensor, nn
from torch.nn import functional as F

from kd.losses._checks import check_classes
from kd.losses._pixels import clear_ignored, full_precision
from kd.losses.supervised.class_weights import as_factors
from kd.types import IGNORE


class CrossEntropy(nn.Module):
    """Cross entropy: the negative log-probability of each pixel's label.

        loss = Σ_i w(y_i) · -log softmax_c(logits)(y_i)  /  Σ_i w(y_i),   over the valid pixels i

    Source: maximum likelihood; smoothing: Szegedy et al., "Rethinking the Inception Architecture", CVPR 2016,
        arXiv:1512.00567.
    Differs: 0, not NaN or inf, if no pixel is valid or all labels have weight 0; otherwise the value of
        `torch.nn.CrossEntropyLoss`.

    Args:
        weight: one factor per class, >= 0; or "median_frequency", "inverse_log" or "effective_number", computed from
            `label_counts`. None is 1 for all.
        label_smoothing: ε in [0, 1): the label keeps 1 - ε, and all K classes share ε.
        label_counts: pixels of each class in the training labels; the engine supplies it.

    Returns (of forward):
        Nats, >= 0.

    Raises:
        ValueError: a weight is below 0, or their number is not K; `weight` is a name and there are no `label_counts`;
            `label_smoothing` is outside [0, 1); the sizes differ.
    """

    weight: Tensor | None

    def __init__(
        self,
        weight: Sequence[float] | str | None = None,
        label_smoothing: float = 0.0,
        label_counts: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"label_smoothing is {label_smoothing}; it must be in [0, 1)")
        self.register_buffer("weight", as_factors(weight, label_counts), persistent=False)
        self.label_smoothing = label_smoothing

    def forward(self, logits: Float[Tensor, "N K H W"], labels: Integer[Tensor, "_N _H _W"]) -> Float[Tensor, ""]:
        """Weighted mean of the negative log-likelihood over the valid pixels."""
        with full_precision(logits):
            labels = labels.long()
            logits, valid = clear_ignored(logits, labels)
            if self.weight is not None:
                check_classes(logits, weight=self.weight)
            weight = None if self.weight is None else self.weight.to(logits.dtype)
            # One value per pixel, then a sum: the reduced kernel is not deterministic on CUDA.
            values = F.cross_entropy(
                logits, labels, weight, ignore_index=IGNORE, reduction="none", label_smoothing=self.label_smoothing
            )
            total = valid.sum() if weight is None else weight[labels.where(valid, 0)].where(valid, 0).sum()
            # If all labels have weight 0, smoothing still gives a sum, but there is nothing to divide it by.
            return values.sum().where(total > 0, 0) / total.where(total > 0, 1)
