"""Knowledge review: the student's deeper stages help its shallower stages to match the teacher's."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from kd.losses._checks import check_at_least, check_channels
from kd.losses._pixels import Labels, Maps, as_tuple, full_precision, mean_over, pair
from kd.types import resize

LEVELS = (4, 2, 1)  # cells per side of the coarser grids


class ReviewKD(nn.Module):
    """Knowledge review: fuse the student's stages from deep to shallow, then compare each with the teacher's.

        f_i = fuse(student_i, f_{i+1}),   loss = Σ_i HCL(out_i(f_i), teacher_i)
        HCL = Σ_l 2^-k · mean squared difference on grid l / Σ_l 2^-k,   grids: the map itself (k = 0), 4×4, 2×2, 1×1

    fuse takes both maps to `width` channels and adds them with two weights per pixel, computed from both by a 1×1
    convolution and a sigmoid; the deepest stage is not fused. The layers belong to this loss and are trained with the
    student. A term lists the taps of both networks from shallow to deep; each stage reaches the loss at the teacher's
    size.

    Source: Chen et al., "Distilling Knowledge via Knowledge Review", CVPR 2021, arXiv:2104.09044.
    Differs: maps need not be square: a grid has at most as many cells per side as the map has pixels, where the authors
        consider the height only. Deeper maps are enlarged bilinearly, not by nearest neighbour. A cell of a grid is the
        mean of its valid pixels, and ignored pixels enter the fusion as 0.

    Args:
        channels: of the teacher at each tap, or at the only tap; the engine supplies it.
        width: channels in the fusion, >= 1; the authors use 512, or the deepest stage's channels if those are fewer.

    Returns (of forward):
        Squared units of the features, >= 0.

    Raises:
        ValueError: `channels` or `width` is below 1; the number of maps or their channels are not `channels`; the
            shapes of a pair differ.
    """

    compares = "features"

    def __init__(self, channels: int | Sequence[int], width: int = 128) -> None:
        super().__init__()
        channels = (channels,) if isinstance(channels, int) else tuple(channels)
        check_at_least(1, width=width, **{f"channels[{i}]": count for i, count in enumerate(channels)})
        self.channels = channels
        self.enter = nn.ModuleList(_conv_norm(count, width, 1) for count in channels)
        self.weigh = nn.ModuleList(nn.Conv2d(2 * width, 2, 1) for _ in channels[:-1])  # the deepest has no partner
        self.leave = nn.ModuleList(_conv_norm(width, count, 3) for count in channels)

    def forward(
        self,
        student: Maps | tuple[Maps, ...],
        teacher: Maps | tuple[Maps, ...],
        labels: Labels | tuple[Labels, ...] = None,
    ) -> Float[Tensor, ""]:
        """HCL of the fused stages, summed over the stages."""
        students, teachers = as_tuple(student), as_tuple(teacher)
        of_stage: tuple[Labels, ...] = (None,) * len(students) if labels is None else as_tuple(labels)
        if not len(students) == len(teachers) == len(of_stage) == len(self.channels):
            raise ValueError(
                f"{len(students)} maps of the student, {len(teachers)} of the teacher, {len(of_stage)} of labels: "
                f"the loss was built for {len(self.channels)}; list as many taps as the loss has channels"
            )
        distances: list[Tensor] = []
        deeper: Tensor | None = None
        with full_precision(students[0]):
            for i in reversed(range(len(students))):
                maps, target, valid = pair(students[i], teachers[i], of_stage[i])
                check_channels(maps, self.channels[i])
                fused = self.enter[i](maps)
                if deeper is not None:
                    partner = resize(deeper, (maps.shape[2], maps.shape[3]))
                    shares = self.weigh[i](torch.cat((fused, partner), 1)).sigmoid()  # (N, 2, h, w)
                    fused = fused * shares[:, :1] + partner * shares[:, 1:]
                distances.append(hierarchical_distance(self.leave[i](fused), target, valid))
                deeper = fused
            return torch.stack(distances).sum()


def hierarchical_distance(
    student: Float[Tensor, "N C h w"], teacher: Float[Tensor, "N C h w"], valid: Bool[Tensor, "N h w"]
) -> Float[Tensor, ""]:
    """HCL: squared differences on the map and on coarser and coarser grids, each with half the previous weight.

    Args:
        student: float32 or float64.
        teacher: of the same type.
        valid: which pixels are valid.
    """
    difference = (student - teacher).where(valid[:, None], 0)
    result, weight, total = mean_over(difference.square().mean(1), valid), 1.0, 1.0
    height, width = valid.shape[1:]
    for level in LEVELS:
        grid = (min(level, height), min(level, width))
        if grid == (height, width):
            continue
        weight, total = weight / 2, total + weight / 2
        rows, columns = (_cells(n, m, difference) for n, m in zip((height, width), grid, strict=True))
        pixels = rows @ valid.to(difference.dtype) @ columns.T  # (N, *grid): valid pixels in each cell
        mean = rows @ difference @ columns.T / pixels.clamp(min=1)[:, None]  # (N, C, *grid)
        result = result + weight * mean_over(mean.square().mean(1), pixels > 0)
    return result / total


def _cells(length: int, cells: int, like: Float[Tensor, "..."]) -> Float[Tensor, "{cells} {length}"]:
    """1 where a pixel is in a cell; cells overlap by a pixel where `length` is not a multiple of `cells`."""
    cell = torch.arange(cells, device=like.device)[:, None]
    pixel = torch.arange(length, device=like.device)
    return ((pixel * cells < (cell + 1) * length) & ((pixel + 1) * cells > cell * length)).to(like.dtype)


def _conv_norm(in_channels: int, out_channels: int, kernel_size: int) -> nn.Sequential:
    convolution = nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(out_channels))
