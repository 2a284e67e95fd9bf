"""Focal loss: cross entropy that concentrates on pixels that are still wrong."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int64, Integer
from torch import Tensor, nn
from torch.nn import functional as F

from kd.losses._checks import check_at_least, check_classes, check_known
from kd.losses._pixels import clear_ignored, full_precision, members
from kd.losses.supervised.class_weights import as_factors


class Focal(nn.Module):
    """Focal loss: cross entropy in which a pixel has less weight the more certain the network is of its label.

        loss = Σ_i w(y_i) · α(y_i) · (1 - p_i)^γ · -log p_i  /  Σ_i w(y_i),   p_i = softmax_c(logits)(y_i),
        over the valid pixels i

    Source: Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017, arXiv:1708.02002.
    Differs: softmax over classes, as in cross entropy, where the paper has one sigmoid per class ("torchvision",
        "smp"); the mean over valid pixels, where the paper divides by the number of objects.

    Args:
        gamma: γ >= 0; 0 is cross entropy.
        alpha: α >= 0, not divided out: one number for all classes, or one per class. Under "torchvision" and "smp" a
            number in [0, 1] as in the paper: α where the pixel has the class, 1 - α where it has not; under "monai" a
            number in [0, 1] is 1 - α for class 0 and α for all others. None is 1.
        weight: one factor per class, >= 0, divided out as in `CrossEntropy`; or "median_frequency", "inverse_log" or
            "effective_number", computed from `label_counts`. None is 1 for all.
        label_counts: pixels of each class in the training labels; the engine supplies it.
        convention: which code's value the loss returns, with P valid pixels and K classes:
            "default": the formula above;
            "monai": 1/K times the default (`use_softmax=True`: a mean over classes too), and `weight` is not divided
            out;
            "torchvision", "smp": sigmoids, each class against the rest, mean over pixels and classes;
            "smp-normalized": the same, each class divided by its Σ_i (1 - p_i)^γ (SMP's `normalized=True`, which
            divides by the pixels twice).

    Returns (of forward):
        Nats, >= 0.

    Raises:
        ValueError: `gamma`, `alpha` or `weight` is out of range, or their number is not K; `weight` is a name and there
            are no `label_counts`; `convention` is unknown; the sizes differ.
    """

    alpha: Tensor | None
    weight: Tensor | None
    conventions = ("default", "monai", "smp", "smp-normalized", "torchvision")

    def __init__(
        self,
        gamma: float = 2.0,
        alpha: float | Sequence[float] | None = None,
        weight: Sequence[float] | str | None = None,
        label_counts: Sequence[int] | None = None,
        convention: str = "default",
    ) -> None:
        super().__init__()
        check_at_least(0, gamma=gamma)
        check_known(self.conventions, convention=convention)
        self.gamma = gamma
        self.convention = convention
        self.one_vs_rest = convention in ("smp", "smp-normalized", "torchvision")
        if self.one_vs_rest and weight is not None:
            raise ValueError(f"convention '{convention}' has no class weights; leave out weight")
        share = isinstance(alpha, int | float) and 0 <= alpha <= 1
        shared = self.one_vs_rest or (convention == "monai" and isinstance(alpha, int | float))  # α and 1 - α
        if alpha is not None and shared and not share:
            raise ValueError(f"alpha is {alpha}; under convention '{convention}' it must be one number in [0, 1]")
        balance = None if alpha is None else torch.tensor(alpha, dtype=torch.float32)
        if balance is not None and not (balance >= 0).all():
            raise ValueError(f"alpha is {alpha}; it must be >= 0")
        self.register_buffer("alpha", balance, persistent=False)
        self.register_buffer("weight", as_factors(weight, label_counts), persistent=False)

    def forward(self, logits: Float[Tensor, "N K H W"], labels: Integer[Tensor, "_N _H _W"]) -> Float[Tensor, ""]:
        """Cross entropy weighted by (1 - p)^γ, mean over the valid pixels."""
        with full_precision(logits):
            logits, valid = clear_ignored(logits, labels)
            labels = labels.long().where(valid, 0)
            if self.one_vs_rest:
                return self._sigmoids(logits, labels, valid)
            values = self._focal(-F.cross_entropy(logits, labels, reduction="none"))  # (N, H, W)
            if self.alpha is not None:
                alpha = self.alpha.to(logits.dtype)
                if self.convention == "monai" and not alpha.dim():
                    alpha = torch.cat((1 - alpha[None], alpha.expand(logits.shape[1] - 1)))
                if alpha.dim():
                    check_classes(logits, alpha=alpha)
                values = values * (alpha[labels] if alpha.dim() else alpha)
            if self.weight is not None:
                check_classes(logits, weight=self.weight)
            shares = torch.ones_like(values) if self.weight is None else self.weight.to(logits.dtype)[labels]
            shares = shares.where(valid, 0)
            total = valid.sum() if self.convention == "monai" else shares.sum()
            mean = (values.where(valid, 0) * shares).sum() / total.where(total > 0, 1)
            return mean / logits.shape[1] if self.convention == "monai" else mean

    def _modulation(self, log_probability: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        # The floor is above 0, where the slope of the power is infinite for γ < 1.
        return (-log_probability.expm1()).clamp(min=torch.finfo(log_probability.dtype).tiny) ** self.gamma

    def _focal(self, log_probability: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        return self._modulation(log_probability) * -log_probability

    def _sigmoids(
        self, logits: Float[Tensor, "N K H W"], labels: Int64[Tensor, "N H W"], valid: Bool[Tensor, "N H W"]
    ) -> Float[Tensor, ""]:
        member = members(labels, logits.shape[1])
        log_probability = F.logsigmoid(torch.where(member, logits, -logits))  # of being right, class by class
        values = self._focal(log_probability)
        if self.alpha is not None:
            values = values * torch.where(member, self.alpha, 1 - self.alpha)
        if self.convention == "smp-normalized":
            shares = self._modulation(log_probability).where(valid[:, None], 0).sum((0, 2, 3))  # (K,)
            values = values / shares.clamp(min=1e-6)[:, None, None]
        return values.where(valid[:, None], 0).sum() / (valid.sum().clamp(min=1) * logits.shape[1])
