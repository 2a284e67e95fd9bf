"""Double similarity distillation."""

from collections.abc import Sequence
from itertools import combinations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from kd.losses._checks import check_above, check_at_least, check_known
from kd.losses._pixels import Labels, Maps, as_tuple, attention, full_precision, mean_over, pair, suppressed, unit
from kd.losses.relation._pairs import pooled


class DSD(nn.Module):
    """Double similarity: match how attention changes from tap to tap, and which classes overlap in space.

        PSD: a = normalise_hw( mean_c F² ) at each tap,   r = normalise_hw(a_m - a_n) for taps n < m,
             Σ_hw (r_student - r_teacher)², mean over the pairs of taps and the batch
        CSD: q_c = softmax_hw(z_c / T) of the last tap, in windows of 2×2,   g_cd = Σ_hw q_c q_d,
             (g_student - g_teacher)², mean over c, d and the batch
        loss = psd · PSD + csd · CSD

    A term lists the taps in order of depth, the logits last, all of one size; channels may differ except at the last
    tap. With one tap there is no PSD.

    Source: Feng et al., "Double Similarity Distillation for Semantic Image Segmentation", IEEE TIP 2021.
    Differs: ignored pixels are left out of attention, windows and softmax, and an image without valid pixels out of the
        mean. The CSD of a map of twice the side is about 1/16, because g sums products of shares.

    Args:
        psd: factor of PSD, >= 0.
        csd: factor of CSD, >= 0.
        temperature: T > 0 of CSD, no unit; larger spreads each class over more pixels.
        convention: which code's PSD the loss returns:
            "default": the formula above;
            "cirkd": the mean over pixels instead of the sum, 1/P times the default for P valid pixels per image:
            CIRKD's psd = 1000 at 64×128 is 0.12 here, its csd = 10 is 10.

    Returns (of forward):
        No unit, >= 0; 0 if both parts agree.

    Raises:
        ValueError: `convention` is unknown; `temperature` is not above 0; a factor is below 0; the shapes of a pair
            differ, or the sizes of the taps.
    """

    compares = "either"
    conventions = ("default", "cirkd")

    def __init__(
        self, psd: float = 0.12, csd: float = 10.0, temperature: float = 4.0, convention: str = "default"
    ) -> None:
        super().__init__()
        check_known(self.conventions, convention=convention)
        check_above(0, temperature=temperature)
        check_at_least(0, psd=psd, csd=csd)
        self.psd = psd
        self.csd = csd
        self.temperature = temperature
        self.convention = convention

    def forward(
        self,
        student: Maps | tuple[Maps, ...],
        teacher: Maps | tuple[Maps, ...],
        labels: Labels | tuple[Labels, ...] = None,
    ) -> Float[Tensor, ""]:
        """The two parts with their factors, each a mean over the batch."""
        students, teachers = as_tuple(student), as_tuple(teacher)
        with full_precision(students[-1]):
            sizes = [tuple(maps.shape[2:]) for maps in students]
            if len(set(sizes)) > 1:
                raise ValueError(f"taps of sizes {sizes}: DSD compares taps of one size; resize them or choose others")
            last_labels = as_tuple(labels)[-1]
            *others, last = zip(students, teachers, strict=True)
            of_student, of_teacher, valid = pair(*last, last_labels)
            loss = self.csd * self._classes(of_student, of_teacher, valid)
            if others:
                pairs = [pair(*other, last_labels, channels=False)[:2] for other in others]
                loss = loss + self.psd * self._attention([*pairs, (of_student, of_teacher)], valid.flatten(1))
            return loss

    def _attention(self, pairs: Sequence[tuple[Maps, Maps]], valid: Bool[Tensor, "N P"]) -> Float[Tensor, ""]:
        students, teachers = ([attention(maps) for maps in side] for side in zip(*pairs, strict=True))  # (N, P) each
        changes = [
            (unit(students[m] - students[n], 1) - unit(teachers[m] - teachers[n], 1)).square()
            for n, m in combinations(range(len(students)), 2)
        ]
        change = torch.stack(changes).mean(0)  # (N, P)
        return mean_over(change, valid) if self.convention == "cirkd" else mean_over(change.sum(1), valid.any(1))

    def _classes(
        self, student: Float[Tensor, "N C h w"], teacher: Float[Tensor, "N C h w"], valid: Bool[Tensor, "N h w"]
    ) -> Float[Tensor, ""]:
        difference = self._overlaps(student, valid) - self._overlaps(teacher, valid)  # (N, C, C)
        return mean_over(difference.square().mean((1, 2)), valid.flatten(1).any(1))

    def _overlaps(self, maps: Float[Tensor, "N C h w"], valid: Bool[Tensor, "N h w"]) -> Float[Tensor, "N C C"]:
        maps, seen = pooled(maps, valid, 2)
        places = F.softmax(suppressed(maps / self.temperature, ~seen[:, None]).flatten(2), 2)  # (N, C, cells)
        return places @ places.mT
