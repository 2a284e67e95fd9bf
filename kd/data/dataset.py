"""One split as (index, view) -> training sample, and what a look at the split tells before training."""

from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional as TF

from kd.data.labels import check_labels
from kd.errors import DataError, raised
from kd.types import IGNORE, Sample, SegmentationDataset, resize_labels

Transform = Callable[[tv_tensors.Image, tv_tensors.Mask], tuple[tv_tensors.Image, tv_tensors.Mask]]

# While transforms run, a pixel without a label is UNLABELLED, so that IGNORE can only be padding.
UNLABELLED = 254


class Item(NamedTuple):
    """One augmented training image."""

    image: Tensor  # uint8 (C, h, w)
    labels: Tensor  # int64 (h, w): 0 … K-1 and IGNORE
    inside: Tensor  # bool (h, w): False on padding
    key: Tensor  # int64 (2,): index, view


class Split(Dataset[Item]):
    """One split of a dataset for training: read, resize, augment, crop.

    `split[(index, view)]` is a pure function of (seed, view, index): all draws come from torch's CPU generator, which
    is seeded for the sample and restored after it.

    Args:
        dataset: one split, by the dataset contract.
        size: (H, W) in pixels that every image is resized to first.
        crop: (H, W) of a random window taken last, None for `size`; what it covers outside the image is padding.
        augment: transforms, in order. In their masks IGNORE is padding, and `UNLABELLED` (254) has no label.
        seed: another seed is another stream of augmentations.

    Raises:
        ValueError: the dataset has too many classes for labels of 8 bits.
        DataError: (by item) the sample cannot be read or breaks the dataset contract; a transform fails on it.
    """

    def __init__(
        self,
        dataset: SegmentationDataset,
        size: tuple[int, int],
        *,
        crop: tuple[int, int] | None = None,
        augment: Sequence[Transform] = (),
        seed: int = 0,
    ) -> None:
        if len(dataset.class_names) > UNLABELLED:
            raise ValueError(f"{len(dataset.class_names)} classes, at most {UNLABELLED} fit in labels of 8 bits")
        self.dataset = dataset
        self.size = (int(size[0]), int(size[1]))
        self.crop = self.size if crop is None else (int(crop[0]), int(crop[1]))
        self.augment = tuple(augment)
        self.seed = seed

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: tuple[int, int]) -> Item:
        """The image `index` as the pass `view` sees it."""
        index, view = key
        # Not torch.manual_seed, which reseeds every GPU, nor fork_rng, which starts CUDA in a forked worker.
        generator = torch.default_generator
        before = generator.get_state()
        generator.manual_seed(hashed(self.seed, view, index))
        try:
            sample = read(self.dataset, index, view)
            image, mask = _random_crop(*self._augmented(sample), self.crop)
        finally:
            generator.set_state(before)
        inside = mask != IGNORE
        labels = mask.masked_fill(mask == UNLABELLED, IGNORE).long()
        return Item(image, labels, inside, torch.tensor([index, view]))

    def _augmented(self, sample: Sample) -> tuple[Tensor, Tensor]:
        if sample.labels is None:
            labels = torch.full(self.size, UNLABELLED, dtype=torch.uint8)
        else:
            labels = resize_labels(sample.labels[None], self.size)[0]
            labels = labels.masked_fill(labels == IGNORE, UNLABELLED)
        resized = resize_image(sample.image, self.size)
        if resized is sample.image:
            resized = resized.clone()  # a transform may write in place, and the dataset may keep its samples
        image, mask = tv_tensors.Image(resized), tv_tensors.Mask(labels)
        for transform in self.augment:
            where = f"{sample.name}: {_named(transform)}"
            try:
                image, mask = transform(image, mask)
            except Exception as error:
                raise DataError(f"{where} failed: {raised(error)}") from error
            if image.shape[-2:] != mask.shape or image.dtype != torch.uint8 or mask.dtype != torch.uint8:
                raise DataError(
                    f"{where} gave an image {_kind(image)} and a mask {_kind(mask)}; "
                    "a transform returns uint8 (C, H, W) and uint8 (H, W) of one size"
                )
        return image.as_subclass(Tensor), mask.as_subclass(Tensor)


class Few:
    """The first images of a dataset.

    Args:
        dataset: one split.
        count: how many of its images.
    """

    def __init__(self, dataset: SegmentationDataset, count: int) -> None:
        self.dataset, self.count = dataset, min(count, len(dataset))

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, key: tuple[int, int]) -> Any:
        return self.dataset[key]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["dataset"], name)


def read(dataset: SegmentationDataset, index: int, view: int = 0) -> Sample:
    """A sample that surely keeps the dataset contract, whoever wrote the dataset.

    Raises:
        DataError: it cannot be read; the image or the labels have another type, shape or range than the contract's.
    """
    try:
        sample = dataset[index, view]
    except DataError:
        raise
    except Exception as error:
        raise DataError(f"{_named(dataset)}: sample {index} cannot be read: {raised(error)}") from error
    image, labels = sample.image, sample.labels
    if image.dtype != torch.uint8 or image.ndim != 3 or image.shape[0] != dataset.in_channels:
        raise DataError(f"{sample.name}: the image is {_kind(image)}; expected uint8 ({dataset.in_channels}, H, W)")
    if labels is not None:
        if labels.dtype != torch.uint8 or labels.shape != image.shape[1:]:
            raise DataError(
                f"{sample.name}: the labels are {_kind(labels)}; expected uint8 {tuple(image.shape[1:])}, as the image"
            )
        check_labels(labels, len(dataset.class_names), sample.name)
    return sample


def sample_name(dataset: SegmentationDataset, index: int) -> str:
    """What a message calls a sample: by the dataset's `names`, where it has them."""
    names = getattr(dataset, "names", None)
    return str(names[index]) if names else f"sample {index}"


def resize_image(image: Tensor, size: tuple[int, int]) -> Tensor:
    """An image uint8 (C, H, W) at another size: bilinear, antialiased where it shrinks."""
    return image if tuple(image.shape[1:]) == tuple(size) else TF.resize_image(image, list(size), antialias=True)


def hashed(*numbers: int) -> int:
    """A seed of 64 bits that depends on all of `numbers`, alike on every machine."""
    text = "/".join(str(int(number)) for number in numbers)
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little")


def _random_crop(image: Tensor, mask: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    missing = [max(0, wanted - had) for wanted, had in zip(size, mask.shape, strict=True)]
    if any(missing):
        padding = (0, missing[1], 0, missing[0])  # right and bottom
        image, mask = F.pad(image, padding, value=0), F.pad(mask, padding, value=IGNORE)
    top, left = (
        int(torch.randint(had - wanted + 1, ())) if had > wanted else 0
        for wanted, had in zip(size, mask.shape, strict=True)
    )
    window = (..., slice(top, top + size[0]), slice(left, left + size[1]))
    return image[window].contiguous(), mask[window].contiguous()


def _kind(value: Tensor) -> str:
    return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"


def _named(component: object) -> str:
    return getattr(component, "__name__", type(component).__name__)


class Survey(NamedTuple):
    """What the labels of a split hold."""

    images: int  # that were looked at
    of: int  # that there are
    pixels: int
    ignored: float  # share of the pixels, 0 … 1
    counts: tuple[int, ...]  # pixels of each class


def survey(dataset: SegmentationDataset, *, at_most: int = 500) -> Survey:
    """Count the labels of a split, of `at_most` images spread evenly over it; also finds files that cannot be read.

    Raises:
        DataError: the split is empty; a sample cannot be read or breaks the dataset contract.
    """
    length = len(dataset)
    if length == 0:
        raise DataError(f"{_named(dataset)}: the split is empty")
    looked_at = range(length) if length <= at_most else [i * length // at_most for i in range(at_most)]
    counts = torch.zeros(256, dtype=torch.int64)
    for index in looked_at:
        labels = read(dataset, index).labels
        if labels is not None:
            counts += torch.bincount(labels.flatten(), minlength=256)
    pixels = int(counts.sum())
    ignored = int(counts[IGNORE]) / pixels if pixels else 1.0
    return Survey(len(looked_at), length, pixels, ignored, tuple(counts[: len(dataset.class_names)].tolist()))


def warnings(train: Survey, val: Survey, class_names: Sequence[str]) -> list[str]:
    """What a user should read before step 1: two lines of facts, then the warnings."""
    facts, warned = [], []
    for name, seen in (("train", train), ("val", val)):
        missing = [label for label, count in zip(class_names, seen.counts, strict=True) if not count]
        classes = f"never occur: {', '.join(missing)}" if missing else "every class occurs"
        images = f"{seen.images} images" if seen.images == seen.of else f"{seen.images} of {seen.of} images"
        facts.append(f"{name}: {100 * seen.ignored:.1f} % of the pixels are ignored; {classes} ({images})")
        if seen.ignored > 0.5:
            warned.append(f"warning: {name}: more than half of the pixels are ignored ({100 * seen.ignored:.1f} %)")
        if len(class_names) - len(missing) == 1:
            only = next(label for label in class_names if label not in missing)
            warned.append(f"warning: {name}: the mean is over one class: only {only} occurs")
    return facts + warned
