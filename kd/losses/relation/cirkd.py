"""Cross-image relational distillation: within the batch, and against a memory of the teacher's pixels and regions."""

from collections.abc import Sequence
from functools import partial

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from kd.losses._checks import check_above, check_at_least, check_channels, of_one_tap
from kd.losses._pixels import AnyMaps, Labels, Maps, full_precision, pair, suppressed, unit
from kd.losses.relation._memory import Memory, drawn, entries_of_each_class
from kd.losses.relation._pairs import pixel_rows, pooled, summed_in_tiles


class CIRKDMiniBatch(nn.Module):
    """Cross-image relations within the batch: match which pixels of another image each pixel resembles.

        a_pq = cos(f_p, f_q) / τ,   loss = KL( softmax_q(a_pq of the teacher) ‖ softmax_q(a_pq of the student) )

    for p in image i and q in image j; mean over the valid p of image i, then over all N² pairs of images (i, j).

    Source: Yang et al., "Cross-Image Relational Knowledge Distillation for Semantic Segmentation", CVPR 2022,
        arXiv:2204.06986.
    Differs: ignored pixels are neither p nor q, and images without a valid pixel are in no pair. As in the paper, there
        is no factor τ²: τ is the scale of a similarity, it does not soften classes.

    With P = h·w / pool², (N·P)² similarities are computed, in tiles of at most 4 million.

    Args:
        temperature: τ > 0, no unit; smaller concentrates on the most similar pixels.
        pool: side >= 1, in pixels, of windows whose mean replaces their pixels; the cost falls with its fourth power.
            The paper uses 1; the authors' code uses 4 where both sides are at least 256.

    Returns (of forward):
        Nats, >= 0; 0 if all cosines are equal.

    Raises:
        ValueError: `temperature` is not above 0; `pool` is below 1; the sizes differ.
    """

    compares = "features"

    def __init__(self, temperature: float = 0.1, pool: int = 1) -> None:
        super().__init__()
        check_above(0, temperature=temperature)
        check_at_least(1, pool=pool)
        self.temperature = temperature
        self.pool = pool

    def forward(self, student: Float[Tensor, "N C h w"], teacher: AnyMaps, labels: Labels = None) -> Float[Tensor, ""]:
        """KL of the similarities to each image's pixels, mean over pixels and pairs of images."""
        with full_precision(student):
            student, teacher, valid = pair(student, teacher, labels, channels=False)
            (student, _), (teacher, seen) = (pooled(maps, valid, self.pool) for maps in (student, teacher))
            students, teachers = (unit(pixel_rows(maps), 2) for maps in (student, teacher))  # (N, P, C)
            seen = seen.flatten(1)  # (N, P)
            share = (seen.to(students.dtype) / seen.sum(1, keepdim=True).clamp(min=1)).flatten()  # (N·P,)
            # An image without a valid pixel is uniform in both softmaxes: as a group of nodes it adds 0.
            rows = (students.flatten(0, 1), teachers.flatten(0, 1))
            nodes = (list(students), list(teachers), list(seen))
            total = _relation(*rows, *nodes, share, self.temperature)
            return total / seen.any(1).sum().clamp(min=1).square()


class CIRKDMemory(nn.Module):
    """Cross-image relations with a memory: match which remembered pixels and regions each pixel resembles.

        a_pk = cos(f_p, v_k) / τ,   KL( softmax_k(a_pk of the teacher) ‖ softmax_k(a_pk of the student) ),
        mean over the valid pixels p;   loss = pixel · (v: remembered pixels) + region · (v: remembered class means)

    The v are the teacher's unit vectors of earlier batches. Each class has one queue of pixels and one of regions; a
    region is the mean of the unit vectors of one class in one image. Every step draws the v anew, equally many from
    each class.

    The batch's own pixels and regions are written after the value is computed, in training mode only, with the same
    result on every rank. A class with an empty queue is represented by the batch's own vectors. The queues and the
    count that decides the draws are buffers: a resumed run continues exactly.

    Source: Yang et al., "Cross-Image Relational Knowledge Distillation for Semantic Segmentation", CVPR 2022,
        arXiv:2204.06986.
    Differs: the queue of a class holds pixels of that class; the authors' code permutes the pixels of the class and
        indexes the whole map with the result, so that most entries belong to other classes or are ignored. Queues start
        empty, not random. The authors' projection (1×1 convolution, norm, ReLU, 1×1 convolution) is the term's adapter.

    Args:
        num_classes: K; the engine supplies it.
        channels: C of the teacher's map; the engine supplies it.
        temperature: τ > 0, no unit; smaller concentrates on the most similar entries.
        pixel_queue: remembered pixels per class. The authors' 20,000 for convolutional teachers take
            K · 20,000 · C · 4 bytes: 0.45 GB at K = 11 and C = 512; their 2,000 for SegFormer take a tenth.
        region_queue: remembered regions per class.
        pixel_samples: number of remembered pixels that a pixel is compared with, over all classes; rounded up to a
            multiple of K.
        region_samples: the same for regions.
        pixels_written: pixels per class and image that a step remembers, at most.
        pixel: factor of the pixel part, >= 0.
        region: factor of the region part, >= 0.

    Returns (of forward):
        Nats, >= 0; 0 if all cosines are equal. Without labels nothing is written.

    Raises:
        ValueError: `temperature` is not above 0; a size is below 1; a factor is below 0; the maps do not have
            `channels` channels; the shapes differ.
    """

    compares = "features"
    draws: Tensor

    def __init__(
        self,
        num_classes: int,
        channels: int | Sequence[int],
        temperature: float = 0.1,
        pixel_queue: int = 2000,
        region_queue: int = 2000,
        pixel_samples: int = 4096,
        region_samples: int = 1024,
        pixels_written: int = 16,
        pixel: float = 1.0,
        region: float = 1.0,
    ) -> None:
        super().__init__()
        check_above(0, temperature=temperature)
        channels = of_one_tap(channels)
        check_at_least(1, num_classes=num_classes, pixels_written=pixels_written)
        check_at_least(1, pixel_queue=pixel_queue, pixel_samples=pixel_samples)
        check_at_least(1, region_queue=region_queue, region_samples=region_samples)
        check_at_least(0, pixel=pixel, region=region)
        self.num_classes = num_classes
        self.channels = channels
        self.temperature = temperature
        self.pixels_written = pixels_written
        self.pixel = pixel
        self.region = region
        self.pixels = Memory(num_classes, pixel_queue, channels)
        self.regions = Memory(num_classes, region_queue, channels)
        self.pixel_samples = min(pixel_queue, -(-pixel_samples // num_classes))  # per class
        self.region_samples = min(region_queue, -(-region_samples // num_classes))
        self.register_buffer("draws", torch.zeros((), dtype=torch.int64))

    def forward(self, student: Float[Tensor, "N C h w"], teacher: Maps, labels: Labels = None) -> Float[Tensor, ""]:
        """KL of the similarities to the memory, mean over the valid pixels; then the memory is written."""
        with full_precision(student):
            student, teacher, valid = pair(student, teacher, labels)
            check_channels(student, self.channels)
            valid = valid.flatten(1)  # (N, P)
            students, teachers = (unit(pixel_rows(maps), 2) for maps in (student, teacher))  # (N, P, C)
            classes = torch.zeros_like(valid, dtype=torch.int64) if labels is None else labels.flatten(1).long()
            keys = drawn(3 * self.draws, valid.shape)
            pixels, regions = entries_of_each_class(teachers, classes, self.num_classes, self.pixels_written, keys)
            banks = (
                (self.pixel, self.pixels.sample(self.pixel_samples, 3 * self.draws + 1, pixels)),
                (self.region, self.regions.sample(self.region_samples, 3 * self.draws + 2, regions)),
            )
            students, teachers = students.flatten(0, 1), teachers.flatten(0, 1)  # (N·P, C)
            share = valid.flatten().to(students.dtype) / valid.sum().clamp(min=1)
            loss = student.new_zeros(())
            for factor, (bank, held) in banks:
                loss = loss + factor * _relation(students, teachers, [bank], [bank], [held], share, self.temperature)
            if self.training:
                self.draws += 1
                if labels is not None:
                    self.pixels.write(pixels)
                    self.regions.write(regions)
            return loss


def _relation(
    students: Float[Tensor, "R C"],
    teachers: Float[Tensor, "R D"],
    student_nodes: Sequence[Float[Tensor, "Q C"]],
    teacher_nodes: Sequence[Float[Tensor, "Q D"]],
    held: Sequence[Bool[Tensor, " Q"]],
    share: Float[Tensor, " R"],
    temperature: float,
) -> Float[Tensor, ""]:
    """Σ_p share_p · KL of the similarities between pixel p and the held nodes of a group, summed over the groups.

    Args:
        students: the student's pixels, of length 1.
        teachers: the teacher's pixels, of length 1.
        student_nodes: what the student's pixels are compared with, by group.
        teacher_nodes: what the teacher's pixels are compared with, by group.
        held: False for nodes that do not exist, by group.
        share: weight of each pixel.
        temperature: τ.
    """
    absent = [suppressed(share.new_zeros(len(nodes)), ~nodes) for nodes in held]  # the matrix product adds it
    part = partial(_part, teachers, teacher_nodes, absent, share, temperature)
    return summed_in_tiles(part, students / temperature, *student_nodes)


def _part(
    teachers: Float[Tensor, "R D"],
    teacher_nodes: Sequence[Float[Tensor, "Q D"]],
    absent: Sequence[Float[Tensor, " Q"]],
    share: Float[Tensor, " R"],
    temperature: float,
    rows: Float[Tensor, "r C"],
    nodes: Float[Tensor, "Q C"],
    tile: slice,
    group: int,
) -> Float[Tensor, ""]:
    log_student = F.log_softmax(torch.addmm(absent[group], rows, nodes.T), 1)
    target = torch.addmm(absent[group], teachers[tile] / temperature, teacher_nodes[group].T)
    # The softmax, not the exponential of its logarithm, which takes a CPU eight times as long where it underflows.
    divergence = (F.log_softmax(target, 1) - log_student).mul_(F.softmax(target, 1)).sum(1)
    return divergence @ share[tile]
