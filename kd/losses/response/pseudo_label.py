"""Self-training on the teacher's confident predictions."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from kd.losses._checks import check_classes
from kd.losses._pixels import Labels, Maps, full_precision, mean_over, pair


class PseudoLabel(nn.Module):
    """Pseudo-labels: cross entropy with the teacher's most probable class wherever the teacher is confident.

        y_i = argmax_c teacher_i,   loss = -log softmax_c(student_i)(y_i),
        mean over the valid pixels i with softmax_c(teacher_i)(y_i) >= threshold(y_i)

    Source: Lee, "Pseudo-Label: The Simple and Efficient Semi-Supervised Learning Method for Deep Neural Networks", ICML
        workshop 2013; a threshold for each class: Zou et al., "Unsupervised Domain Adaptation for Semantic Segmentation
        via Class-Balanced Self-Training", ECCV 2018, arXiv:1810.07911.
    Differs: the thresholds are given, not derived from the ranked data. A term with `pixels: unlabelled` trains on
        pixels without a label; any other term uses valid pixels only, as every loss does.

    Args:
        threshold: least probability of a pixel that is used, 0 … 1: one for all classes, or one per class. Rare classes
            need lower thresholds, or they are never learnt.

    Returns (of forward):
        Nats, >= 0; 0 if no pixel is above its threshold.

    Raises:
        ValueError: a threshold is outside 0 … 1, or their number is not K; the shapes differ.
    """

    compares = "logits"
    threshold: Tensor

    def __init__(self, threshold: float | Sequence[float] = 0.5) -> None:
        super().__init__()
        thresholds = torch.tensor(threshold, dtype=torch.float32)
        if thresholds.numel() == 0 or not ((thresholds >= 0) & (thresholds <= 1)).all():
            raise ValueError(f"threshold is {threshold}; every probability must be in [0, 1]")
        self.register_buffer("threshold", thresholds, persistent=False)

    def forward(self, student: Float[Tensor, "N K h w"], teacher: Maps, labels: Labels = None) -> Float[Tensor, ""]:
        """Cross entropy with the teacher's classes, mean over the pixels above their threshold."""
        with full_precision(student):
            student, teacher, valid = pair(student, teacher, labels)
            if self.threshold.dim():
                check_classes(student, threshold=self.threshold)
            probability, pseudo = F.softmax(teacher, 1).max(1)  # (N, h, w)
            confident = probability >= (self.threshold[pseudo] if self.threshold.dim() else self.threshold)
            values = F.cross_entropy(student, pseudo, reduction="none")
            return mean_over(values, valid & confident)
