"""One split as (index, view) -> augmented training item."""

from collections.abc import Callable, Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset
from torchvision import tv_tensors

from kd.data.dataset import component_name, read, resize_image, sample_name, type_and_shape
from kd.data.kept import Kept
from kd.errors import DataError, RecipeError, raised, user_frame
from kd.types import IGNORE, SegmentationDataset, resize_labels

Transform = Callable[[tv_tensors.Image, tv_tensors.Mask], tuple[tv_tensors.Image, tv_tensors.Mask]]

# Labels of pixels without a label while transforms run, so that IGNORE can only be padding.
UNLABELLED = 254


class Item(NamedTuple):
    """One augmented training image."""

    image: Tensor  # uint8 (C, h, w)
    labels: Tensor  # int64 (h, w): 0 … K-1 and IGNORE
    inside: Tensor  # bool (h, w): False on padding
    key: Tensor  # int64 (2,): index, view; (3,) with the image's `pixel_sum`


class Split(Dataset[Item]):
    """One split of a dataset for training: read, resize, augment, crop.

    `split[(index, view)]` is a pure function of (seed, view, index): all random numbers come from torch's CPU
    generator, which is seeded for the sample and restored afterwards.

    Args:
        dataset: one split, by the dataset contract.
        size: (H, W) in pixels that every image is resized to first.
        crop: (H, W) of the random window that is cut last, None for `size`; where it exceeds the image, it is padding.
        augment: transforms, in order. In their masks, IGNORE is padding and `UNLABELLED` (254) has no label.
        seed: selects the stream of augmentations.
        sums: add each image's `pixel_sum` to its key.
        kept: where resized samples are held after they were read; None reads them every time.

    Raises:
        ValueError: the dataset has too many classes for 8-bit labels.
        DataError: (by item) the sample cannot be read or breaks the dataset contract; a transform of kd fails on it.
        RecipeError: (by item) a transform of the user's fails on it.
    """

    def __init__(
        self,
        dataset: SegmentationDataset,
        size: tuple[int, int],
        *,
        crop: tuple[int, int] | None = None,
        augment: Sequence[Transform] = (),
        seed: int = 0,
        sums: bool = False,
        kept: Kept | None = None,
    ) -> None:
        if len(dataset.class_names) > UNLABELLED:
            raise ValueError(f"{len(dataset.class_names)} classes; 8-bit labels hold at most {UNLABELLED}")
        self.dataset = dataset
        self.size = (int(size[0]), int(size[1]))
        self.crop = self.size if crop is None else (int(crop[0]), int(crop[1]))
        self.augment = tuple(augment)
        self.seed, self.sums, self.kept = seed, sums, kept

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: tuple[int, int]) -> Item:
        """The image `index` as augmented for `view`."""
        index, view = key
        # Not torch.manual_seed, which reseeds every GPU, nor fork_rng, which starts CUDA in a forked worker.
        generator = torch.default_generator
        state = generator.get_state()
        generator.manual_seed(derived_seed(self.seed, view, index))
        try:
            image, mask = _random_crop(*self._augmented(*self._resized(index, view)), self.crop)
        finally:
            generator.set_state(state)
        inside = mask != IGNORE
        labels = mask.masked_fill(mask == UNLABELLED, IGNORE).long()
        return Item(image, labels, inside, torch.tensor([*key, pixel_sum(image)] if self.sums else key))

    def _resized(self, index: int, view: int) -> tuple[str, Tensor, Tensor]:
        """Name, image and labels with `UNLABELLED`, at the size of the split; transforms may write to both maps."""
        held = None if self.kept is None else self.kept.get(index)
        if held is not None:
            return sample_name(self.dataset, index), *held
        name, image, labels = self._read(index, view)
        if self.kept is not None:
            self.kept.put(index, image, labels)
        return name, image, labels

    def _read(self, index: int, view: int) -> tuple[str, Tensor, Tensor]:
        sample = read(self.dataset, index, view)
        if sample.labels is None:
            labels = torch.full(self.size, UNLABELLED, dtype=torch.uint8)
        else:
            labels = resize_labels(sample.labels[None], self.size)[0]
            labels = labels.masked_fill(labels == IGNORE, UNLABELLED)
        resized = resize_image(sample.image, self.size)
        if resized is sample.image:
            resized = resized.clone()  # a transform may write in place, and the dataset may cache its samples
        return sample.name, resized, labels

    def _augmented(self, name: str, resized: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        image, mask = tv_tensors.Image(resized), tv_tensors.Mask(labels)
        for transform in self.augment:
            where = f"{name}: {component_name(transform)}"
            try:
                image, mask = transform(image, mask)
                fits = image.shape[-2:] == mask.shape and image.dtype == mask.dtype == torch.uint8
                result = "" if fits else f"an image {type_and_shape(image)} and a mask {type_and_shape(mask)}"
            except Exception as error:
                kind = DataError if user_frame(error) is None else RecipeError
                raise kind(f"{where} failed: {raised(error)}") from error
            if result:
                raise DataError(
                    f"{where} returned {result}; a transform returns uint8 (C, H, W) and uint8 (H, W) of one size"
                )
        return image.as_subclass(Tensor), mask.as_subclass(Tensor)


def derived_seed(*numbers: int) -> int:
    """A 64-bit seed that depends on all of `numbers`, the same on every machine."""
    text = "/".join(str(int(number)) for number in numbers)
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little")


def pixel_sum(image: Tensor) -> int:
    """A 64-bit sum that identifies an image: its uint8 pixels times fixed random numbers, modulo 2^64."""
    return int(image.flatten().long() @ _factors(image.numel()))


@lru_cache(maxsize=4)
def _factors(count: int) -> Tensor:
    return torch.randint(-(2**63), 2**63 - 1, (count,), generator=torch.Generator().manual_seed(0))


def _random_crop(image: Tensor, mask: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    bottom, right = (max(0, length - given) for length, given in zip(size, mask.shape, strict=True))
    if bottom or right:
        image = F.pad(image, (0, right, 0, bottom), value=0)
        mask = F.pad(mask, (0, right, 0, bottom), value=IGNORE)
    top, left = (
        int(torch.randint(given - length + 1, ())) if given > length else 0
        for length, given in zip(size, mask.shape, strict=True)
    )
    window = (..., slice(top, top + size[0]), slice(left, left + size[1]))
    return image[window].contiguous(), mask[window].contiguous()
