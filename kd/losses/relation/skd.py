"""Structured knowledge distillation, the pair-wise part."""

from functools import partial

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from kd.losses._checks import check_known
from kd.losses._pixels import AnyMaps, Labels, full_precision, pair, suppressed, unit
from kd.losses.relation._pairs import pixel_rows, summed_in_tiles


class SKD(nn.Module):
    """Structured knowledge distillation, pair-wise: match how similar any two regions of an image are.

        a_ij = cos(f_i, f_j),   loss = (a_student - a_teacher)²,   mean over i, j of an image, then over the batch

    f_i is the maximum over window i, channel by channel.

    Source: Liu et al., "Structured Knowledge Distillation for Semantic Segmentation", CVPR 2019, arXiv:1903.04197.
    Differs: ignored pixels are left out of the windows, windows without a valid pixel out of the pairs, and images
        without a valid pixel out of the mean. Two different losses have this name, see `convention`.

    With M windows, N·M² similarities are computed, in tiles of at most 4 million. At 64×128 and 2×2, M is 2048.

    Args:
        pool: the window: an integer is its side in pixels, a fraction in (0, 1] its share of the map's height and
            width. None: 2 for "default" and "cirkd", 0.5 for "skd".
        convention: which code's value the loss returns:
            "default", "cirkd": the formula above over windows of 2×2 pixels, as in CIRKD's code;
            "skd": the authors' code, over windows of half the map: 2×2 regions, but 3 on a side of odd length, the last
            one pixel wide. It treats the lengths |f| as constants: the value is that of the formula, the gradient is
            not.

    Returns (of forward):
        No unit, 0 … 4; 0 if the directions of the windows are equal up to a rotation of the channels.

    Raises:
        ValueError: `convention` is unknown; `pool` is not one of the above; the sizes differ.
    """

    compares = "features"
    conventions = ("default", "cirkd", "skd")

    def __init__(self, pool: float | None = None, convention: str = "default") -> None:
        super().__init__()
        check_known(self.conventions, convention=convention)
        if pool is None:
            pool = 0.5 if convention == "skd" else 2
        if not pool > 0 or (pool > 1 and pool % 1 != 0):
            raise ValueError(f"pool is {pool}; it must be a side in pixels (1, 2, ...) or a share of the map below 1")
        self.pool = pool
        self.convention = convention

    def forward(self, student: Float[Tensor, "N C h w"], teacher: AnyMaps, labels: Labels = None) -> Float[Tensor, ""]:
        """Squared difference of the similarities, mean over an image's pairs and over the batch."""
        with full_precision(student):
            student, teacher, valid = pair(student, teacher, labels, channels=False)
            window = self._window(student)
            seen = F.max_pool2d(valid[:, None].to(student.dtype), window, window, ceil_mode=True).flatten(1) > 0
            students, teachers = (self._directions(maps, valid, seen, window) for maps in (student, teacher))
            share = seen.to(students.dtype) / seen.sum(1, keepdim=True).clamp(min=1)  # (N, M)
            total = summed_in_tiles(partial(_part, teachers, share), students, students)
            return total / seen.any(1).sum().clamp(min=1)

    def _window(self, maps: Float[Tensor, "N C h w"]) -> tuple[int, int]:
        height, width = maps.shape[2:]
        if isinstance(self.pool, float) and self.pool <= 1:
            return max(1, int(height * self.pool)), max(1, int(width * self.pool))
        return int(self.pool), int(self.pool)

    def _directions(
        self,
        maps: Float[Tensor, "N C h w"],
        valid: Bool[Tensor, "N h w"],
        seen: Bool[Tensor, "N M"],
        window: tuple[int, int],
    ) -> Float[Tensor, "N M C"]:
        highest = F.max_pool2d(suppressed(maps, ~valid[:, None]), window, window, ceil_mode=True)
        nodes = pixel_rows(highest).where(seen[..., None], 0)
        if self.convention == "skd":
            lengths: Tensor = torch.linalg.vector_norm(nodes.detach(), dim=2, keepdim=True)
            return nodes / (lengths + 1e-8)
        return unit(nodes, 2)


def _part(
    teachers: Float[Tensor, "N M D"],
    share: Float[Tensor, "N M"],
    rows: Float[Tensor, "N m C"],
    nodes: Float[Tensor, "N M C"],
    tile: slice,
    group: int,
) -> Float[Tensor, ""]:
    """Sum of the squared differences between some rows and all nodes."""
    difference = rows @ nodes.mT - teachers[:, tile] @ teachers.mT  # (N, m, M)
    return ((difference.square() @ share[..., None])[..., 0] * share[:, tile]).sum()
