"""Hinton's distillation at every pixel."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from kd.losses._checks import check_above, check_known
from kd.losses._pixels import Labels, Maps, divergence, full_precision, mean_over, pair

PART = 2**22  # elements compared at a time, in whole images: larger maps leave the cache and the heap of a CPU


class PixelKL(nn.Module):
    """Pixel-wise distillation: match the class probabilities at every pixel.

        loss = T² · KL( softmax_c(teacher / T) ‖ softmax_c(student / T) ),   mean over the valid pixels

    Source: Hinton et al., "Distilling the Knowledge in a Neural Network", 2015, arXiv:1503.02531.
    Differs: nothing; the mean is over pixels as the paper's is over images.

    Args:
        temperature: T > 0, no unit; larger gives improbable classes more influence.
        convention: which code's value the loss returns, with P valid pixels in a batch of N images and K classes:
            "default", "cirkd", "mdistiller": the formula above;
            "mmrazor-batchmean", "repdistiller": the sum over pixels divided by N, P/N times the default;
            "mmrazor-sum": the sum over pixels, P times the default;
            "mmrazor-mean": the mean over pixels and classes, 1/K times the default;
            "ifvd": the same without T², 1/(K·T²) times the default;
            "skd": cross entropy instead of KL, summed over pixels and divided by h·w; T must be 1. If all pixels are
            valid, it is N · (default + mean entropy of the teacher).

    Returns (of forward):
        Nats times T², >= 0; 0 if the logits are equal up to a constant per pixel.

    Raises:
        ValueError: `temperature` is not above 0; `convention` is unknown; the shapes differ.
    """

    compares = "logits"
    conventions = (
        "default",
        "cirkd",
        "ifvd",
        "mdistiller",
        "mmrazor-batchmean",
        "mmrazor-mean",
        "mmrazor-sum",
        "repdistiller",
        "skd",
    )

    def __init__(self, temperature: float = 1.0, convention: str = "default") -> None:
        super().__init__()
        check_above(0, temperature=temperature)
        check_known(self.conventions, convention=convention)
        if convention == "skd" and temperature != 1:
            raise ValueError(f"convention 'skd' has no temperature, but temperature is {temperature}; leave it out")
        self.temperature = temperature
        self.convention = convention

    def forward(self, student: Float[Tensor, "N K h w"], teacher: Maps, labels: Labels = None) -> Float[Tensor, ""]:
        """T² · KL(teacher ‖ student), mean over the valid pixels."""
        with full_precision(student):
            student, teacher, valid = pair(student, teacher, labels)
            images = max(1, PART // valid[0].numel() // student.shape[1])
            parts = zip(torch.split(student, images), torch.split(teacher, images), strict=True)
            per_pixel = torch.cat([self._per_pixel(*part) for part in parts])  # (N, h, w)
            if self.convention == "skd":
                return per_pixel.where(valid, 0).sum() / valid[0].numel()
            return self._factor(student, valid) * mean_over(per_pixel, valid)

    def _per_pixel(
        self, student: Float[Tensor, "N K h w"], teacher: Float[Tensor, "N K h w"]
    ) -> Float[Tensor, "N h w"]:
        """The divergence at every pixel; the cross entropy for "skd"."""
        if self.temperature != 1:  # a division by 1 would copy both maps
            student, teacher = student / self.temperature, teacher / self.temperature
        log_student, log_teacher = F.log_softmax(student, 1), F.log_softmax(teacher, 1)
        if self.convention == "skd":
            return -(log_teacher.exp() * log_student).sum(1)
        return divergence(log_teacher, log_student, 1)

    def _factor(self, student: Float[Tensor, "N K h w"], valid: Bool[Tensor, "N h w"]) -> Tensor | float:
        images, classes = student.shape[:2]
        squared = self.temperature**2
        match self.convention:
            case "ifvd":
                return 1 / classes
            case "mmrazor-mean":
                return squared / classes
            case "mmrazor-sum":
                return squared * valid.sum()
            case "mmrazor-batchmean" | "repdistiller":
                return squared * valid.sum() / images
            case _:
                return squared
