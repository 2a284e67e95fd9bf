"""Channel-wise distillation."""

from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from kd.losses._checks import check_above
from kd.losses._pixels import Labels, Maps, divergence, full_precision, mean_over, pair, suppressed


class CWD(nn.Module):
    """Channel-wise distillation: match where in the image each channel is active.

        loss = T² / C · Σ_c KL( softmax_hw(teacher_c / T) ‖ softmax_hw(student_c / T) ),   mean over the batch

    Source: Shu et al., "Channel-wise Knowledge Distillation for Dense Prediction", ICCV 2021, arXiv:2011.13256.
    Differs: ignored pixels are left out of both softmaxes, and an image without valid pixels is left out of the mean.
        CIRKD's code divides by the channels that the student has before its adapter: its weight w is w · C / C_student
        here.

    Args:
        temperature: T > 0, no unit; larger spreads each channel over more pixels.

    Returns (of forward):
        Nats times T², >= 0; 0 if the maps are equal up to a constant per channel.

    Raises:
        ValueError: `temperature` is not above 0; the shapes differ (add an adapter).
    """

    compares = "either"

    def __init__(self, temperature: float = 1.0) -> None:
        super().__init__()
        check_above(0, temperature=temperature)
        self.temperature = temperature

    def forward(self, student: Float[Tensor, "N C h w"], teacher: Maps, labels: Labels = None) -> Float[Tensor, ""]:
        """T² · KL over space, mean over channels and the batch."""
        with full_precision(student):
            student, teacher, valid = pair(student, teacher, labels)
            valid = valid.flatten(1)  # (N, h·w)
            values = divergence(self._over_space(teacher, valid), self._over_space(student, valid), 2)  # (N, C)
            return self.temperature**2 * mean_over(values.mean(1), valid.any(1))

    def _over_space(self, maps: Float[Tensor, "N C h w"], valid: Bool[Tensor, "N h*w"]) -> Float[Tensor, "N C h*w"]:
        return F.log_softmax(suppressed(maps.flatten(2) / self.temperature, ~valid[:, None]), 2)
