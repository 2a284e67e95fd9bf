"""Relational distillation between class prototypes or sampled pixels."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kd.losses._checks import check_at_least, check_known
from kd.losses._pixels import full_precision, or_infinity, pair, unit
from kd.losses.relation._pairs import pixel_rows, segment_means, shuffled
from kd.types import IGNORE


class RKD(nn.Module):
    """Relational distillation: match the distances and angles between the points that an image's classes make.

        d_ij = |x_i - x_j| / mean of the |x_i - x_j| that are not 0
        c_ijk = cosine of the angle at x_i between x_j and x_k
        loss = distance · mean_ij l(d_student - d_teacher) + angle · mean_ijk l(c_student - c_teacher)

    l(z) is z² / 2 up to |z| = 1 and |z| - 1/2 from there. The points x are the mean features of each class in each
    image, or single pixels of the batch.

    Source: Park et al., "Relational Knowledge Distillation", CVPR 2019, arXiv:1904.05068.
    Differs: the paper's points are images; a batch for segmentation has too few of them.

    Args:
        nodes: "classes": the mean of each class in each image of the batch; "pixels": single pixels. Without labels it
            is always pixels.
        samples: how many points take part, at most; they are drawn anew in every call. Memory is samples² · C +
            samples³.
        distance: factor of the distances, >= 0; 25 in the paper.
        angle: factor of the angles, >= 0; 50 in the paper.
        normalize: divide each point by its length first.

    Shape: student (N, C, h, w), teacher (N, D, h, w): channels may differ; labels (N, h, w) or None.

    Returns (of forward):
        No unit, >= 0; 0 when the points are equal up to a rotation, a shift and a factor, and with fewer than three
        points.

    Raises:
        ValueError: `nodes` is unknown; `samples` is below 2; a factor is below 0; the sizes differ.
    """

    compares = "features"
    draws: Tensor

    def __init__(
        self,
        nodes: str = "classes",
        samples: int = 64,
        distance: float = 25.0,
        angle: float = 50.0,
        normalize: bool = False,
    ) -> None:
        super().__init__()
        check_known(("classes", "pixels"), nodes=nodes)
        check_at_least(2, samples=samples)
        check_at_least(0, distance=distance, angle=angle)
        self.nodes = nodes
        self.samples = samples
        self.distance = distance
        self.angle = angle
        self.normalize = normalize
        self.register_buffer("draws", torch.zeros((), dtype=torch.int64))

    def forward(self, student: Tensor, teacher: Tensor, labels: Tensor | None = None) -> Tensor:
        """The two parts with their factors."""
        with full_precision(student):
            student, teacher, valid = pair(student, teacher, labels, channels=False)
            valid = valid.flatten()  # (N·P,)
            mine, its = (pixel_rows(maps).flatten(0, 1) for maps in (student, teacher))  # (N·P, C)
            if labels is not None and self.nodes == "classes":
                images = torch.arange(len(labels), device=student.device)[:, None]
                segments = (images * IGNORE + labels.flatten(1)).flatten().where(valid, len(labels) * IGNORE)
                (mine, _), (its, counts) = (
                    segment_means(rows, segments, len(labels) * IGNORE + 1) for rows in (mine, its)
                )
                mine, its, valid = mine[:-1], its[:-1], counts[:-1] > 0  # the last segment is the ignored pixels'
            lot = shuffled(self.draws, len(valid)) + ~valid * 2**32
            chosen = lot.topk(min(self.samples, len(valid)), largest=False).indices  # valid ones first
            if self.training:
                self.draws += 1
            return self._relations(mine[chosen], its[chosen], valid[chosen])

    def _relations(self, mine: Tensor, its: Tensor, valid: Tensor) -> Tensor:
        pairs = valid[:, None] & valid
        points = valid.sum().clamp(min=1)
        (lengths, cosines), (its_lengths, its_cosines) = (self._distances_and_angles(x, pairs) for x in (mine, its))
        distance = F.smooth_l1_loss(lengths, its_lengths, reduction="none").where(pairs, 0).sum() / points**2
        triples = pairs[:, :, None] & valid
        angle = F.smooth_l1_loss(cosines, its_cosines, reduction="none").where(triples, 0).sum() / points**3
        return self.distance * distance + self.angle * angle

    def _distances_and_angles(self, points: Tensor, pairs: Tensor) -> tuple[Tensor, Tensor]:
        """(M, M) and (M, M, M), the angle at the first of the three."""
        if self.normalize:
            points = unit(points, 1)
        between = points - points[:, None]  # (M, M, C): from the first to the second
        lengths = torch.linalg.vector_norm(between, dim=2).where(pairs, 0)
        mean = lengths.sum() / (lengths > 0).sum().clamp(min=1)
        directions = unit(between, 2)
        return lengths / or_infinity(mean), directions @ directions.mT
