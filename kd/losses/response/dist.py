"""Distillation from a stronger teacher."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from kd.losses._checks import check_above, check_at_least, check_known
from kd.losses._pixels import Labels, Maps, centred, full_precision, mean_over, pair, suppressed, unit
from kd.losses.response._classes import warn_of_two_classes

EPSILON = 1e-8  # the authors'


class DIST(nn.Module):
    """Distillation from a stronger teacher: match the order and spacing of the probabilities, not their values.

        inter = 1 - correlation over the classes,   mean over the valid pixels
        intra = 1 - correlation over all valid pixels of the batch,   mean over the classes
        loss = T² · ( inter · its factor + intra · its factor )

    of softmax_c(logits / T), with Pearson's correlation.

    Source: Huang et al., "Knowledge Distillation from A Stronger Teacher", NeurIPS 2022, arXiv:2205.10536.
    Differs: the authors' code adds 1e-8 to the product of the two norms; where a class has probability 1e-6, that
        product is as small, and identical maps are not at the minimum. A class whose probability is the same at all
        pixels of the teacher has no correlation and adds 0. T² is included (the authors' code for segmentation has
        T = 1). On maps, MMRazor's and torchdistill's code correlates over the batch at each pixel, which no paper does
        and which is undefined for one image.

    Args:
        temperature: T > 0, no unit.
        inter: factor of the first part, >= 0; the paper's β. With two classes this part has no gradient.
        intra: factor of the second part, >= 0; the paper's γ.
        convention: which code's value the loss returns:
            "default": the formula above, whatever a class's probability;
            "authors": 1e-8 is added to the product of the two norms, as in the code of the authors and MMRazor;
            "torchdistill": the product is raised to at least 1e-8.
            The values differ in the last digits, and by up to T² · intra / K for each class that is rare in the
            whole batch.

    Returns (of forward):
        No unit, 0 … 2 · T² · (inter + intra); 0 if all correlations are 1.

    Raises:
        ValueError: `temperature` is not above 0; a factor is below 0; `convention` is unknown; the shapes differ.
    """

    compares = "logits"
    conventions = ("default", "authors", "torchdistill")

    def __init__(
        self, temperature: float = 1.0, inter: float = 1.0, intra: float = 1.0, convention: str = "default"
    ) -> None:
        super().__init__()
        check_above(0, temperature=temperature)
        check_at_least(0, inter=inter, intra=intra)
        check_known(self.conventions, convention=convention)
        self.convention = convention
        self.temperature = temperature
        self.inter = inter
        self.intra = intra

    def forward(self, student: Float[Tensor, "N K h w"], teacher: Maps, labels: Labels = None) -> Float[Tensor, ""]:
        """T² times the two distances."""
        with full_precision(student):
            student, teacher, valid = pair(student, teacher, labels)
            warn_of_two_classes(student, "DIST's inter part")
            logits = (student / self.temperature, teacher / self.temperature)
            student, teacher = (F.softmax(maps, 1) for maps in logits)
            over_classes = self._cosine(_centred_pixels(student), _centred_pixels(teacher), (1,))  # (N, h, w)
            if self.convention == "default":
                student, teacher = (_relative(maps, valid) for maps in logits)
            over_pixels = self._cosine(centred(student, valid), centred(teacher, valid), (0, 2, 3))  # (K,)
            inter = mean_over(1 - over_classes, valid)
            intra = (1 - over_pixels).mean().where(valid.any(), 0)
            return self.temperature**2 * (self.inter * inter + self.intra * intra)

    def _cosine(
        self, a: Float[Tensor, "N K h w"], b: Float[Tensor, "N K h w"], dims: tuple[int, ...]
    ) -> Float[Tensor, "..."]:
        if self.convention == "default":
            a, b = unit(a, dims), unit(b, dims)
            return (a * b).sum(dims).where(b.ne(0).any(dims), 1)
        norms = torch.linalg.vector_norm(a, dim=dims) * torch.linalg.vector_norm(b, dim=dims)
        norms = norms.clamp(min=EPSILON) if self.convention == "torchdistill" else norms + EPSILON
        cosine: Tensor = (a * b).sum(dims) / norms
        return cosine


def _centred_pixels(probabilities: Float[Tensor, "N K h w"]) -> Float[Tensor, "N K h w"]:
    return probabilities - probabilities.mean(1, keepdim=True)


def _relative(logits: Float[Tensor, "N K h w"], valid: Bool[Tensor, "N h w"]) -> Float[Tensor, "N K h w"]:
    """Each class's probabilities divided by their highest at a valid pixel, which changes no correlation.

    Probabilities of 1e-20 would have a length of 0 in float32.
    """
    log_p = suppressed(F.log_softmax(logits, 1), ~valid[:, None])
    return (log_p - log_p.detach().amax((0, 2, 3), keepdim=True)).exp()
