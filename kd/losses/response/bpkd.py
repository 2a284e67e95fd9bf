"""Boundary-privileged distillation."""

from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from kd.losses._checks import check_above, check_at_least
from kd.losses._pixels import (
    Labels,
    Maps,
    divergence,
    full_precision,
    mean_over,
    members,
    near_boundary,
    pair,
    suppressed,
)
from kd.losses.response._classes import labels_or_argmax


class BPKD(nn.Module):
    """Boundary-privileged distillation: match edges pixel by pixel, and the shape of each class outside the edges.

        E_c = pixels whose neighbourhood holds class c and another class
        edge = mean over { c : E_c is not empty } of the mean over E_c of
            KL( softmax_c(teacher / T) ‖ softmax_c(student / T) )
        body = mean over images and classes of
            KL( softmax_hw(teacher_c / T) ‖ softmax_hw(student_c / T) ), outside E_c
        loss = T² · ( body · its factor + edge · its factor )

    Source: Liu et al., "BPKD: Boundary Privileged Knowledge Distillation for Semantic Segmentation", WACV 2024,
        arXiv:2306.08075.
    Differs: edges are found at the size of the map, not at full size and then pooled; a class next to ignored pixels
        only has no edge; edge pixels are removed from the body's softmax, not set to 0 in it; every class has the same
        weight in the edge part, as in the paper, but by a mean over classes. Without labels, edges are those of the
        teacher's most probable classes.

    Args:
        temperature: T > 0, no unit.
        radius: half width of the edge in cells of the map, >= 1: the neighbourhood is a square of 2·radius + 1.
        body: factor of the body part, >= 0.
        edge: factor of the edge part, >= 0.

    Returns (of forward):
        Nats times T², >= 0; 0 if the logits are equal up to one constant per image.

    Raises:
        ValueError: `temperature` is not above 0; `radius` is below 1; a factor is below 0; the shapes differ.
    """

    compares = "logits"

    def __init__(self, temperature: float = 1.0, radius: int = 1, body: float = 1.0, edge: float = 2.5) -> None:
        super().__init__()
        check_above(0, temperature=temperature)
        check_at_least(1, radius=radius)
        check_at_least(0, body=body, edge=edge)
        self.temperature = temperature
        self.radius = radius
        self.body = body
        self.edge = edge

    def forward(self, student: Float[Tensor, "N K h w"], teacher: Maps, labels: Labels = None) -> Float[Tensor, ""]:
        """T² times the two divergences."""
        with full_precision(student):
            student, teacher, valid = pair(student, teacher, labels)
            edges = self._edges(labels_or_argmax(labels, teacher), student.shape[1])
            student, teacher = student / self.temperature, teacher / self.temperature
            body = self.body * _body(student, teacher, valid[:, None] & ~edges)
            return self.temperature**2 * (body + self.edge * _edge(student, teacher, edges))

    def _edges(self, labels: Int64[Tensor, "N h w"], num_classes: int) -> Bool[Tensor, "N K h w"]:
        present = members(labels, num_classes).float()
        near = F.max_pool2d(present, 2 * self.radius + 1, stride=1, padding=self.radius) > 0
        return near & near_boundary(labels, self.radius)[:, None]


def _edge(
    student: Float[Tensor, "N K h w"], teacher: Float[Tensor, "N K h w"], edges: Bool[Tensor, "N K h w"]
) -> Float[Tensor, ""]:
    values = divergence(F.log_softmax(teacher, 1), F.log_softmax(student, 1), 1)[:, None]  # (N, 1, h, w)
    pixels = edges.sum((0, 2, 3))  # (K,)
    return mean_over(values.where(edges, 0).sum((0, 2, 3)) / pixels.clamp(min=1), pixels > 0)


def _body(
    student: Float[Tensor, "N K h w"], teacher: Float[Tensor, "N K h w"], bodies: Bool[Tensor, "N K h w"]
) -> Float[Tensor, ""]:
    log_student, log_teacher = (
        F.log_softmax(suppressed(logits, ~bodies).flatten(2), 2) for logits in (student, teacher)
    )
    return mean_over(divergence(log_teacher, log_student, 2), bodies.flatten(2).any(2))
