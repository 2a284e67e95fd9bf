"""One split as (index, view) -> augmented training item."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from hashlib import blake2b
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision import tv_tensors

from kd.data.dataset import component_name, read, sample_name, type_and_shape
from kd.data.images.kept import Kept
from kd.data.labels import check_labels
from kd.data.transforms.crop import UNLABELLED, Crop
from kd.data.transforms.geometric import Geometric
from kd.data.transforms.photometric import Photometric
from kd.data.transforms.sampling import Frame, Size, sample_image, sample_labels
from kd.errors import DataError, RecipeError, raised, user_frame
from kd.types import IGNORE, SegmentationDataset, size_of

Transform = Callable[[tv_tensors.Image, tv_tensors.Mask], tuple[tv_tensors.Image, tv_tensors.Mask]]


class Item(NamedTuple):
    """One augmented training image."""

    image: Tensor  # uint8 (C, h, w)
    labels: Tensor  # uint8 (h, w): 0 … K-1 and IGNORE
    inside: Tensor  # bool (h, w): False on padding
    key: Tensor  # int64 (2,): index, view; (3,) with the `pixel_sum` of the image that the teacher sees
    teacher_image: Tensor | None = None  # uint8 (C, h', w'): the same, sampled and augmented at the teacher's size


class Split(Dataset[Item]):
    """One split of a dataset for training: read, place, sample, augment.

    Geometric transforms and the crop are composed, and the image is sampled once, from the pixels of its file; the
    other transforms then change the result. `split[(index, view)]` is a pure function of (seed, view, index): all
    random numbers come from torch's CPU generator, which is seeded for the sample and restored afterwards.

    Args:
        dataset: one split, by the dataset contract.
        size: (H, W) in pixels of a whole image before geometric transforms.
        crop: how the training image is cut out; None for a window of `size`.
        augment: transforms. Those that are `Geometric` come first, in order, then the crop, then the others, in order.
            In the masks of the others, IGNORE is padding and `UNLABELLED` (254) has no label; what they return in
            another size is cut to that of the crop.
        seed: selects the stream of augmentations.
        sums: add each image's `pixel_sum` to its key.
        kept: where samples are held after they were read; None reads them every time.
        teacher_size: (H, W) in pixels at which a teacher sees the training image: the same part of the file is sampled
            once more, at this size. None where it is the size of the crop, or where a transform is neither `Geometric`
            nor `Photometric`: what it does to one image cannot be repeated on the other.

    Raises:
        ValueError: the dataset has too many classes for 8-bit labels.
        DataError: (by item) the sample cannot be read or breaks the dataset contract; a transform of kd fails on it, or
            one returns what breaks the contract.
        RecipeError: (by item) a transform of the user's fails on it.
    """

    def __init__(
        self,
        dataset: SegmentationDataset,
        size: tuple[int, int],
        *,
        crop: Crop | None = None,
        augment: Sequence[Geometric | Photometric | Transform] = (),
        seed: int = 0,
        sums: bool = False,
        kept: Kept | None = None,
        teacher_size: Size | None = None,
    ) -> None:
        if len(dataset.class_names) > UNLABELLED:
            raise ValueError(f"{len(dataset.class_names)} classes; 8-bit labels hold at most {UNLABELLED}")
        self.dataset = dataset
        self.size = (int(size[0]), int(size[1]))
        self.crop = crop or Crop(self.size)
        self.geometric = [transform for transform in augment if isinstance(transform, Geometric)]
        self.others = [transform for transform in augment if not isinstance(transform, Geometric)]
        self.seed, self.sums, self.kept = seed, sums, kept
        repeated = all(isinstance(transform, Photometric) for transform in self.others)
        self.teacher_size = teacher_size if repeated and teacher_size != self.crop.size else None

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: tuple[int, int]) -> Item:
        """The image `index` as augmented for `view`."""
        index, view = key
        name, pixels, labels = self._read(index, view)
        # Not torch.manual_seed, which reseeds every GPU, nor fork_rng, which starts CUDA in a forked worker.
        generator = torch.default_generator
        state = generator.get_state()
        generator.manual_seed(derived_seed(self.seed, view, index))
        try:
            frame = self.crop.draw(self._frame(name, size_of(labels)), labels)
            taught = None if self.teacher_size is None else sample_image(pixels, frame.resized(self.teacher_size))
            sampled = sample_image(pixels, frame), sample_labels(labels, frame), taught
            image, mask, taught = self._augmented(name, *sampled)
        finally:
            generator.set_state(state)
        inside = mask != IGNORE
        labels = mask.masked_fill(mask == UNLABELLED, IGNORE)
        sums = [pixel_sum(image if taught is None else taught)] if self.sums else []
        return Item(image, labels, inside, torch.tensor([*key, *sums]), taught)

    def _read(self, index: int, view: int) -> tuple[str, Tensor, Tensor]:
        """Name, image and labels with `UNLABELLED`, as in the file."""
        held = None if self.kept is None else self.kept.get(index)
        if held is not None:
            return sample_name(self.dataset, index), *held
        image, labels, name = read(self.dataset, index, view)
        if labels is None:
            labels = torch.full(size_of(image), UNLABELLED, dtype=torch.uint8)
        else:
            labels = labels.masked_fill(labels == IGNORE, UNLABELLED)
        if self.kept is not None:
            self.kept.put(index, image, labels)
        return name, image, labels

    def _frame(self, name: str, file: tuple[int, int]) -> Frame:
        frame = Frame.of(file, self.size)
        for transform in self.geometric:
            with _naming(name, transform):
                placed = transform.place(frame)
            if not isinstance(placed, Frame):
                raise DataError(
                    f"{name}: {component_name(transform)}.place returned a {type(placed).__name__}; return a frame: "
                    "frame.moved(...)"
                )
            frame = placed
        return frame

    def _augmented(
        self, name: str, sampled: Tensor, labels: Tensor, taught: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Image, mask and the teacher's image after the transforms that are not geometric."""
        image, mask = tv_tensors.Image(sampled), tv_tensors.Mask(labels)
        for transform in self.others:
            with _naming(name, transform):
                if isinstance(transform, Photometric):
                    change = transform.draw_change()
                    image = tv_tensors.Image(change(image.as_subclass(Tensor), 1.0))
                    taught = None if taught is None else change(taught, taught.shape[1] / mask.shape[0])
                else:
                    image, mask = transform(image, mask)
                fits = image.shape == (len(sampled), *mask.shape) and image.dtype == mask.dtype == torch.uint8
                result = "" if fits else f"an image {type_and_shape(image)} and a mask {type_and_shape(mask)}"
                if taught is not None and (size_of(taught) != self.teacher_size or taught.dtype != torch.uint8):
                    result = f"an image {type_and_shape(taught)} for a teacher that sees {self.teacher_size}"
            if result:
                raise DataError(
                    f"{name}: {component_name(transform)} returned {result}; a transform returns uint8 "
                    f"({len(sampled)}, H, W) and uint8 (H, W) of one size"
                )
            if not isinstance(transform, Photometric):
                known = mask.as_subclass(Tensor).masked_fill(mask == UNLABELLED, IGNORE)
                where = f"{name}: {component_name(transform)}"
                check_labels(known, len(self.dataset.class_names), where, "a transform")
        pixels, labels = image.as_subclass(Tensor), mask.as_subclass(Tensor)
        if size_of(labels) == self.crop.size:
            return pixels.contiguous(), labels.contiguous(), None if taught is None else taught.contiguous()
        frame = self.crop.draw(Frame.of(labels.shape, labels.shape), labels)
        return sample_image(pixels, frame), sample_labels(labels, frame), None


@contextmanager
def _naming(name: str, transform: object) -> Iterator[None]:
    """Name the sample and the transform in an error."""
    try:
        yield
    except Exception as error:
        kind = DataError if user_frame(error) is None else RecipeError
        raise kind(f"{name}: {component_name(transform)} failed: {raised(error)}") from error


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
