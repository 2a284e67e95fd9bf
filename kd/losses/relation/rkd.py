"""Relational distillation between class prototypes or sampled pixels."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from kd.losses._checks import check_at_least, check_known
from kd.losses._pixels import AnyMaps, Labels, full_precision, or_infinity, pair, unit
from kd.losses.relation._pairs import pixel_rows, segment_means, shuffled
from kd.types import IGNORE


class RKD(nn.Module):
    """Relational distillation: match the distances and angles between feature vectors of classes or pixels.

        d_ij = |x_i - x_j| / mean of the |x_i - x_j| that are not 0
        c_ijk = cosine of the angle at x_i between x_j and x_k
        loss = distance · mean_ij l(d_student - d_teacher) + angle · mean_ijk l(c_student - c_teacher)

    l(z) is z² / 2 up to |z| = 1 and |z| - 1/2 from there. The points x are the mean features of each class in each
    image, or single pixels of the batch.

    Source: Park et al., "Relational Knowledge Distillation", CVPR 2019, arXiv:1904.05068.
    Differs: the paper's points are images, of which a batch for segmentation has too few.

    Args:
        nodes: "classes": the mean of each class in each image of the batch; "pixels": single pixels. Without labels the
            points are always pixels.
        samples: greatest number of points, drawn anew in every call, >= 2. Memory is samples² · C + samples³.
        distance: factor of the distances, >= 0; 25 in the paper.
        angle: factor of the angles, >= 0; 50 in the paper.
        normalize: divide each point by its length first.

    Returns (of forward):
        No unit, >= 0; 0 if the points are equal up to a rotation, a shift and a factor, and with fewer than three
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

    def forward(self, student: Float[Tensor, "N C h w"], teacher: AnyMaps, labels: Labels = None) -> Float[Tensor, ""]:
        """The two parts with their factors."""
        with full_precision(student):
            student, teacher, valid = pair(student, teacher, labels, channels=False)
            valid = valid.flatten()  # (N·P,)
            students, teachers = (pixel_rows(maps).flatten(0, 1) for maps in (student, teacher))  # (N·P, C)
            if labels is not None and self.nodes == "classes":
                images = torch.arange(len(labels), device=student.device)[:, None]
                number = len(labels) * IGNORE  # of segments; one more holds the ignored pixels
                segments = (images * IGNORE + labels.flatten(1)).flatten().where(valid, number)
                (students, _), (teachers, counts) = (
                    segment_means(rows, segments, number + 1) for rows in (students, teachers)
                )
                students, teachers, valid = students[:-1], teachers[:-1], counts[:-1] > 0
            lots = shuffled(self.draws, len(valid)) + ~valid * 2**32
            chosen = lots.topk(min(self.samples, len(valid)), largest=False).indices  # valid points first
            if self.training:
                self.draws += 1
            return self._relations(students[chosen], teachers[chosen], valid[chosen])

    def _relations(
        self, student: Float[Tensor, "M C"], teacher: Float[Tensor, "M D"], valid: Bool[Tensor, " M"]
    ) -> Float[Tensor, ""]:
        pairs = valid[:, None] & valid
        triples = pairs[:, :, None] & valid
        points = valid.sum().clamp(min=1)
        (lengths, cosines), (teacher_lengths, teacher_cosines) = (
            self._distances_and_angles(rows, pairs) for rows in (student, teacher)
        )
        distance = F.smooth_l1_loss(lengths, teacher_lengths, reduction="none").where(pairs, 0).sum() / points**2
        angle = F.smooth_l1_loss(cosines, teacher_cosines, reduction="none").where(triples, 0).sum() / points**3
        return self.distance * distance + self.angle * angle

    def _distances_and_angles(
        self, points: Float[Tensor, "M C"], pairs: Bool[Tensor, "M M"]
    ) -> tuple[Float[Tensor, "M M"], Float[Tensor, "M M M"]]:
        """The angle (i, j, k) is at point i."""
        if self.normalize:
            points = unit(points, 1)
        between = points - points[:, None]  # (M, M, C): from the first to the second
        lengths = torch.linalg.vector_norm(between, dim=2).where(pairs, 0)
        mean = lengths.sum() / (lengths > 0).sum().clamp(min=1)
        directions = unit(between, 2)
        return lengths / or_infinity(mean), directions @ directions.mT
