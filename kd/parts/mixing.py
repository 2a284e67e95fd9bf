"""What a step makes of its images: another size in each step, and rectangles exchanged among those without labels.

Both are drawn from a generator that is seeded by the run's seed and the step, so a resumed run draws the same.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from kd.data.splits.split import derived_seed
from kd.machine import Precision
from kd.types import Batch, Maps, Tapped, resize, resize_labels, size_of

SIZES, RECTANGLES = 2, 3  # purposes of a generator
AREA = 0.5  # of an image that a rectangle covers


class Mix(NamedTuple):
    """What each image without labels gets of another one: a rectangle, in both at the same place (CutMix).

    Its tensors are on the device of what it mixes.

    Source: Yun et al., "CutMix", ICCV 2019, arXiv:1905.04899; on pseudo-labels: French et al., "Semi-supervised
        semantic segmentation needs strong, varied perturbations", BMVC 2020, arXiv:1906.01916.
    """

    others: Int64[Tensor, " U"]  # the other image, counted among those without labels
    boxes: Float[Tensor, "U 4"]  # top, left, bottom, right as shares of the sides; zeros: nothing is mixed

    def of(self, maps: Tensor) -> Tensor:
        """The images, labels or maps (N, …, h, w) of a micro-batch, the last U of them mixed."""
        count = len(self.others)
        own = maps[-count:]
        box = self._covers(size_of(maps))
        box = box.view(count, *[1] * (maps.ndim - 3), *box.shape[1:])
        return torch.cat((maps[:-count], torch.where(box, own[self.others], own)))

    def _covers(self, size: tuple[int, int]) -> Bool[Tensor, "U h w"]:
        """Whether the centre of a cell is in the rectangle."""
        rows, columns = ((torch.arange(side, device=self.boxes.device) + 0.5) / side for side in size)
        top, left, bottom, right = self.boxes.T[:, :, None]  # (U, 1) each
        high, wide = (top <= rows) & (rows < bottom), (left <= columns) & (columns < right)
        covers: Tensor = high[:, :, None] & wide[:, None, :]
        return covers


def mixed(batch: Batch, teacher: Tapped, mix: Mix) -> tuple[Batch, Tapped]:
    """A micro-batch and the teacher's maps of it, both mixed: the teacher has seen whole images.

    Args:
        batch: on the device; the images without labels come last.
        teacher: its maps.
        mix: what is exchanged.
    """

    def of(maps: Maps) -> Maps:
        return tuple(map(mix.of, maps)) if isinstance(maps, tuple) else mix.of(maps)

    seen = Tapped(
        mix.of(teacher.logits),
        {name: mix.of(logits) for name, logits in teacher.aux.items()},
        {name: of(maps) for name, maps in teacher.at.items()},
    )
    return batch._replace(images=mix.of(batch.images), inside=mix.of(batch.inside)), seen


def draw_mix(seed: int, step: int, part: int, count: int, share: float) -> Mix:
    """Draw what is exchanged in a micro-batch.

    A rectangle covers half of the image, in proportions and at a place that are drawn.

    Args:
        seed: of the run.
        step: counted from 0.
        part: of the step: the micro-batch, over all processes.
        count: images without labels in it, U.
        share: probability that an image gets a rectangle.
    """
    generator = torch.Generator().manual_seed(derived_seed(seed, step, part, RECTANGLES))
    others = (torch.arange(count) + torch.randint(1, max(count, 2), (), generator=generator)) % count
    chosen, shape, top, left = torch.rand(4, count, generator=generator)
    height = AREA**shape  # AREA … 1
    width = AREA / height
    top, left = top * (1 - height), left * (1 - width)
    boxes = torch.stack((top, left, top + height, left + width), 1)
    return Mix(others, boxes * (chosen < share)[:, None])


@dataclass(frozen=True)
class Draws:
    """What is drawn for each step of a run, in this process.

    Attributes:
        seed: of the run.
        scales: factors of the size of its images; all processes and micro-batches of a step have the same.
        cutmix: share of the images without labels that are mixed.
        unlabelled: images without labels in a micro-batch.
        first: the first micro-batch of this process, counted over all processes.
    """

    seed: int = 0
    scales: tuple[float, ...] = (1.0,)
    cutmix: float = 0.0
    unlabelled: int = 0
    first: int = 0

    def scale(self, step: int) -> float:
        """The factor of the size of a step's images."""
        if len(self.scales) == 1:
            return self.scales[0]
        generator = torch.Generator().manual_seed(derived_seed(self.seed, step, SIZES))
        return self.scales[int(torch.randint(len(self.scales), (), generator=generator))]

    def mix(self, step: int, micro: int) -> Mix | None:
        """What is exchanged in a micro-batch of this process; None if nothing ever is."""
        if not (self.cutmix and self.unlabelled):
            return None
        return draw_mix(self.seed, step, self.first + micro, self.unlabelled, self.cutmix)


def scaled(batch: Batch, scale: float, precision: Precision) -> Batch:
    """A micro-batch as the loader makes it, resized on the device; with the factor 1, as it is."""
    height, width = size_of(batch.images)
    size = (max(math.floor(height * scale + 0.5), 1), max(math.floor(width * scale + 0.5), 1))
    if size == (height, width):
        return batch
    images = resize(precision.moved(batch.images).float(), size).round().clamp(0, 255).to(torch.uint8)
    labels = resize_labels(precision.moved(batch.labels), size)
    inside = resize_labels(precision.moved(batch.inside).to(torch.uint8), size).bool()
    return batch._replace(images=images, labels=labels, inside=inside)  # the teacher's: by its role
