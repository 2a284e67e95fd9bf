"""Cross-image relational distillation: within the batch, and against a memory of the teacher's pixels and regions."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kd.losses._checks import check_above, check_at_least, check_channels
from kd.losses._pixels import full_precision, pair, suppressed, unit
from kd.losses.relation._memory import Memory, drawn, entries_of_each_class
from kd.losses.relation._pairs import pixel_rows, pooled, summed_in_tiles


class CIRKDMiniBatch(nn.Module):
    """Cross-image relations within the batch: match which pixels of another image each pixel resembles.

        a_pq = cos(f_p, f_q) / τ,   loss = KL( softmax_q(a_pq of the teacher) ‖ softmax_q(a_pq of the student) )

    for p in image i and q in image j; mean over the valid p of image i, then over all N² pairs of images (i, j).

    Source: Yang et al., "Cross-Image Relational Knowledge Distillation for Semantic Segmentation", CVPR 2022,
        arXiv:2204.06986.
    Differs: ignored pixels are neither p nor q, and images without a valid pixel are in no pair. As in the paper, there
        is no factor τ²: τ is the scale of a similarity, not a softening of classes.

    Args:
        temperature: τ > 0, no unit; smaller looks at the most similar pixels alone.
        pool: side in pixels, >= 1, of the windows whose mean stands for their pixels; the cost falls with its fourth
            power. 1 is the paper's; the authors' code pools by 4 where both sides are 256 or more.

    Shape: student (N, C, h, w), teacher (N, D, h, w): channels may differ; labels (N, h, w) or None. With P = h·w /
        pool², (N·P)² similarities are computed, in tiles of some rows: never more than 4 million of them are held.

    Returns (of forward):
        Nats, >= 0; 0 when all cosines are equal.

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

    def forward(self, student: Tensor, teacher: Tensor, labels: Tensor | None = None) -> Tensor:
        """KL of the similarities to each image's pixels, mean over pixels and pairs of images."""
        with full_precision(student):
            student, teacher, valid = pair(student, teacher, labels, channels=False)
            (student, _), (teacher, seen) = (pooled(maps, valid, self.pool) for maps in (student, teacher))
            mine, its = (unit(pixel_rows(maps), 2) for maps in (student, teacher))  # (N, P, C)
            seen = seen.flatten(1)  # (N, P)
            share = (seen.to(mine.dtype) / seen.sum(1, keepdim=True).clamp(min=1)).flatten()  # (N·P,)
            # An image without a valid pixel is all one to both softmaxes: as a group of nodes it adds 0.
            total = _relation(
                mine.flatten(0, 1), its.flatten(0, 1), list(mine), list(its), list(seen), share, self.temperature
            )
            return total / seen.any(1).sum().clamp(min=1).square()


class CIRKDMemory(nn.Module):
    """Cross-image relations with a memory: match which remembered pixels and regions each pixel resembles.

        a_pk = cos(f_p, v_k) / τ,   KL( softmax_k(a_pk of the teacher) ‖ softmax_k(a_pk of the student) ),
        mean over the valid pixels p;   loss = pixel · (v: remembered pixels) + region · (v: remembered class means)

    The v are the teacher's, of earlier batches: each class has one queue of pixels and one of regions (a region is the
    mean of the unit vectors of one class in one image), all of length 1. In every step the v are drawn anew, equally
    many from each class.

    The batch's own pixels and regions are written after the value is computed, in training mode alone, the same on
    every rank. A class whose queue is still empty is represented by the batch's own. Queues, and the count that the
    draws depend on, are buffers: a resumed run continues exactly.

    Source: Yang et al., "Cross-Image Relational Knowledge Distillation for Semantic Segmentation", CVPR 2022,
        arXiv:2204.06986.
    Differs: a class's queue holds pixels of that class; the authors' code permutes the class's pixels and then indexes
        the whole map with the result, so that most entries are of other classes or ignored. Queues start empty, not
        random. The authors' projection (1×1 convolution, norm, ReLU, 1×1 convolution) is the term's adapter here.

    Args:
        num_classes: K; the engine supplies it.
        channels: C, those of the teacher's map; the engine supplies it.
        temperature: τ > 0, no unit; smaller looks at the most similar entries alone.
        pixel_queue: pixels remembered of each class. The authors' 20,000 for convolutional teachers take
            K · 20,000 · C · 4 bytes: 0.45 GB at K = 11 and C = 512; the 2,000 they use for SegFormer a tenth.
        region_queue: regions remembered of each class.
        pixel_samples: about how many remembered pixels a pixel is compared with, over all classes.
        region_samples: about how many remembered regions.
        pixels_written: pixels of each class and image that are remembered in a step, at most.
        pixel: factor of the pixels' part, >= 0.
        region: factor of the regions' part, >= 0.

    Shape: student, teacher (N, C, h, w); labels (N, h, w) or None, where nothing is written.

    Returns (of forward):
        Nats, >= 0; 0 when all cosines are equal.

    Raises:
        ValueError: `temperature` is not above 0; a size is below 1; a factor is below 0; the maps have other than
            `channels` channels; the shapes differ.
    """

    compares = "features"
    draws: Tensor

    def __init__(
        self,
        num_classes: int,
        channels: int,
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
        check_at_least(1, num_classes=num_classes, channels=channels, pixels_written=pixels_written)
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
        self.pixel_samples = min(pixel_queue, -(-pixel_samples // num_classes))  # of each class
        self.region_samples = min(region_queue, -(-region_samples // num_classes))
        self.register_buffer("draws", torch.zeros((), dtype=torch.int64))

    def forward(self, student: Tensor, teacher: Tensor, labels: Tensor | None = None) -> Tensor:
        """KL of the similarities to the memory, mean over the valid pixels; then the memory is written."""
        with full_precision(student):
            student, teacher, valid = pair(student, teacher, labels)
            check_channels(student, self.channels)
            valid = valid.flatten(1)  # (N, P)
            mine, its = (unit(pixel_rows(maps), 2) for maps in (student, teacher))  # (N, P, C)
            classes = torch.zeros_like(valid, dtype=torch.int64) if labels is None else labels.flatten(1).long()
            keys = drawn(3 * self.draws, valid.shape)
            new_pixels, new_regions = entries_of_each_class(its, classes, self.num_classes, self.pixels_written, keys)
            banks = (
                (self.pixel, self.pixels.sample(self.pixel_samples, 3 * self.draws + 1, new_pixels)),
                (self.region, self.regions.sample(self.region_samples, 3 * self.draws + 2, new_regions)),
            )
            mine, its = mine.flatten(0, 1), its.flatten(0, 1)  # (N·P, C)
            share = valid.flatten().to(mine.dtype) / valid.sum().clamp(min=1)
            loss = student.new_zeros(())
            for factor, (bank, held) in banks:
                loss = loss + factor * _relation(mine, its, [bank], [bank], [held], share, self.temperature)
            if self.training:
                self.draws += 1
                if labels is not None:
                    self.pixels.write(new_pixels)
                    self.regions.write(new_regions)
            return loss


def _relation(
    mine: Tensor,
    its: Tensor,
    my_nodes: list[Tensor],
    its_nodes: list[Tensor],
    held: list[Tensor],
    share: Tensor,
    temperature: float,
) -> Tensor:
    """Σ_p share_p · KL of the similarities between pixel p and the held nodes of a group, summed over the groups.

    Args:
        mine: the student's pixels (R, C), of length 1.
        its: the teacher's.
        my_nodes: what the student's are compared with, (Q, C) a group.
        its_nodes: what the teacher's are compared with.
        held: bool (Q,) a group.
        share: (R,).
        temperature: τ.
    """
    absent = [suppressed(mine.new_zeros(len(nodes)), ~nodes) for nodes in held]  # added by the product itself

    def part(rows: Tensor, nodes: Tensor, tile: slice, group: int) -> Tensor:
        log_student = F.log_softmax(torch.addmm(absent[group], rows, nodes.T), 1)
        target = torch.addmm(absent[group], its[tile] / temperature, its_nodes[group].T)
        # The softmax, not exp of its logarithm: on a CPU, exp of what underflows takes eight times as long.
        divergence = (F.log_softmax(target, 1) - log_student).mul_(F.softmax(target, 1)).sum(1)
        return divergence @ share[tile]

    return summed_in_tiles(part, mine / temperature, *my_nodes)
