"""Decoupled distillation."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from kd.losses._checks import check_above, check_at_least
from kd.losses._pixels import Labels, Maps, divergence, full_precision, mean_over, members, pair, suppressed
from kd.losses.response._classes import labels_or_argmax, warn_of_two_classes


class DKD(nn.Module):
    """Decoupled distillation: weight the label's probability and the distribution of the other classes separately.

        loss = T² · ( target · KL(b_t ‖ b_s) + non_target · KL(r_t ‖ r_s) ),   mean over the valid pixels

    With p = softmax_c(logits / T) and label y: b = (p_y, 1 - p_y), r = softmax of the logits without class y.

    Source: Zhao et al., "Decoupled Knowledge Distillation", CVPR 2022, arXiv:2203.08679.
    Differs: 1 - p_y is computed from the logits of the other classes, so the value stays finite for a student that is
        confident and wrong, where the authors' code returns infinity. Without labels, y is the teacher's most probable
        class.

    Args:
        temperature: T > 0, no unit.
        target: factor of the label's part, >= 0; the paper's α.
        non_target: factor of the other classes' part, >= 0; the paper's β. With two classes this part is 0.

    Returns (of forward):
        Nats times T², >= 0; 0 if the logits are equal up to a constant per pixel.

    Raises:
        ValueError: `temperature` is not above 0; a factor is below 0; the shapes differ.
    """

    compares = "logits"

    def __init__(self, temperature: float = 4.0, target: float = 1.0, non_target: float = 8.0) -> None:
        super().__init__()
        check_above(0, temperature=temperature)
        check_at_least(0, target=target, non_target=non_target)
        self.temperature = temperature
        self.target = target
        self.non_target = non_target

    def forward(self, student: Float[Tensor, "N K h w"], teacher: Maps, labels: Labels = None) -> Float[Tensor, ""]:
        """T² times the two divergences, mean over the valid pixels."""
        with full_precision(student):
            student, teacher, valid = pair(student, teacher, labels)
            warn_of_two_classes(student, "DKD's non-target part")
            is_label = members(labels_or_argmax(labels, teacher), student.shape[1])
            binary_student, rest_student = self._parts(student, is_label)
            binary_teacher, rest_teacher = self._parts(teacher, is_label)
            target = divergence(binary_teacher, binary_student, 1)  # (N, h, w)
            non_target = divergence(rest_teacher, rest_student, 1)
            return self.temperature**2 * mean_over(self.target * target + self.non_target * non_target, valid)

    def _parts(
        self, logits: Float[Tensor, "N K h w"], is_label: Bool[Tensor, "N K h w"]
    ) -> tuple[Float[Tensor, "N 2 h w"], Float[Tensor, "N K h w"]]:
        """Log-probabilities of label and not label, and of the classes without the label."""
        logits = logits / self.temperature
        others = suppressed(logits, is_label)
        label, other = logits.where(is_label, 0).sum(1), others.logsumexp(1)
        return F.log_softmax(torch.stack((label, other), 1), 1), F.log_softmax(others, 1)
