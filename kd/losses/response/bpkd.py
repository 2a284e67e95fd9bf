"""Boundary-privileged distillation."""

from torch import Tensor, nn
from torch.nn import functional as F

from kd.losses._checks import check_above, check_at_least
from kd.losses._pixels import divergence, full_precision, mean_over, members, near_boundary, pair, suppressed
from kd.losses.response._classes import labels_or_argmax


class BPKD(nn.Module):
    """Boundary-privileged distillation: pixel by pixel along the edges, by shape inside the bodies.

        E_c = pixels whose neighbourhood holds class c and another one
        edge = mean over { c : E_c is not empty } of the mean over E_c of
            KL( softmax_c(teacher / T) ‖ softmax_c(student / T) )
        body = mean over images and classes of
            KL( softmax_hw(teacher_c / T) ‖ softmax_hw(student_c / T) ), outside E_c
        loss = T² · ( body · its factor + edge · its factor )

    Source: Liu et al., "BPKD: Boundary Privileged Knowledge Distillation for Semantic Segmentation", WACV 2024,
        arXiv:2306.08075.
    Differs: edges are found at the map's own size, not found at full size and pooled; a neighbourhood of ignored pixels
        is no edge; edge pixels are taken out of the body's softmax, not set to 0 in it; a class counts once in the edge
        part however long its edge is, as in the paper, but by a mean over classes. Without labels, edges are the
        teacher's.

    Args:
        temperature: T > 0, no unit.
        radius: the edge's half width, in cells of the map, >= 1: the neighbourhood is a square of 2·radius + 1.
        body: factor of the bodies' part, >= 0.
        edge: factor of the edges' part, >= 0.

    Shape: student, teacher (N, K, h, w); labels (N, h, w) or None.

    Returns (of forward):
        Nats times T², >= 0; 0 when the logits are equal up to one constant per image.

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

    def forward(self, student: Tensor, teacher: Tensor, labels: Tensor | None = None) -> Tensor:
        """T² times the two divergences."""
        with full_precision(student):
            student, teacher, valid = pair(student, teacher, labels)
            edges = self._edges(labels_or_argmax(labels, teacher), student.shape[1])  # (N, K, h, w)
            student, teacher = student / self.temperature, teacher / self.temperature
            parts = self.body * _body(student, teacher, valid[:, None] & ~edges) + self.edge * _edge(
                student, teacher, edges
            )
            return self.temperature**2 * parts

    def _edges(self, labels: Tensor, num_classes: int) -> Tensor:
        present = members(labels, num_classes).float()
        near = F.max_pool2d(present, 2 * self.radius + 1, stride=1, padding=self.radius) > 0
        return near & near_boundary(labels, self.radius)[:, None]


def _edge(student: Tensor, teacher: Tensor, edges: Tensor) -> Tensor:
    values = divergence(F.log_softmax(teacher, 1), F.log_softmax(student, 1), 1)[:, None]  # (N, 1, h, w)
    pixels = edges.sum((0, 2, 3))  # (K,)
    return mean_over(values.where(edges, 0).sum((0, 2, 3)) / pixels.clamp(min=1), pixels > 0)


def _body(student: Tensor, teacher: Tensor, bodies: Tensor) -> Tensor:
    log_student, log_teacher = (F.log_softmax(suppressed(m, ~bodies).flatten(2), 2) for m in (student, teacher))
    return mean_over(divergence(log_teacher, log_student, 2), bodies.flatten(2).any(2))
