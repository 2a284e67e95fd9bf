"""Samples of any dataset, checked against the dataset contract whoever wrote it."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as TF

from kd.data.labels import check_labels
from kd.errors import DataError, RecipeError, raised, user_frame
from kd.types import Sample, SegmentationDataset

T = TypeVar("T")


class FirstImages:
    """The first images of a dataset.

    Args:
        dataset: one split.
        count: number of images, at most.
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
    """Read a sample and check that it keeps the dataset contract.

    Raises:
        DataError: it cannot be read; the type, shape or range of its image or labels breaks the contract.
        RecipeError: the code of a user's dataset fails on it.
    """
    sample = _read(dataset, index, lambda: dataset[index, view])
    if not (isinstance(sample, tuple) and all(hasattr(sample, field) for field in Sample._fields)):
        raise DataError(
            f"{component_name(dataset)}: sample {index} is a {type(sample).__name__}; "
            "return kd.types.Sample(image, labels, name)"
        )
    image, labels = sample.image, sample.labels
    for what, value in (("image", image), ("labels", labels)):
        if not (isinstance(value, Tensor) or (value is None and what == "labels")):
            raise DataError(f"{sample.name}: the {what} must be a torch tensor, not {type(value).__name__}")
    if image.dtype != torch.uint8 or image.ndim != 3 or image.shape[0] != dataset.in_channels:
        raise DataError(
            f"{sample.name}: the image is {type_and_shape(image)}; expected uint8 ({dataset.in_channels}, H, W)"
        )
    if labels is not None:
        if labels.dtype != torch.uint8 or labels.shape != image.shape[1:]:
            raise DataError(
                f"{sample.name}: the labels are {type_and_shape(labels)}; "
                f"expected uint8 {tuple(image.shape[1:])}, the image's size"
            )
        check_labels(labels, len(dataset.class_names), sample.name)
    return sample


def read_labels(dataset: SegmentationDataset, index: int) -> Tensor | None:
    """Read the labels of a sample; alone, if the dataset has a method `labels(index)`.

    Returns:
        uint8 (H, W), or None for an image without labels.

    Raises:
        DataError: they cannot be read, or break the dataset contract.
    """
    alone: Callable[[int], object] | None = getattr(dataset, "labels", None)
    if alone is None or not callable(alone):
        return read(dataset, index).labels
    labels = _read(dataset, index, lambda: alone(index))
    if labels is None:
        return None
    if not (isinstance(labels, Tensor) and labels.dtype == torch.uint8 and labels.ndim == 2):
        returned = type_and_shape(labels) if isinstance(labels, Tensor) else type(labels).__name__
        raise DataError(
            f"{sample_name(dataset, index)}: {component_name(dataset)}.labels returned {returned}; expected a torch "
            "tensor uint8 (H, W)"
        )
    check_labels(labels, len(dataset.class_names), sample_name(dataset, index))
    return labels


def check_labels_alone(dataset: SegmentationDataset) -> None:
    """Check that the labels that a dataset reads alone are those of its sample, by the first one.

    Raises:
        DataError: they differ, or cannot be read.
    """
    if not callable(getattr(dataset, "labels", None)):
        return
    of_sample, alone = read(dataset, 0).labels, read_labels(dataset, 0)
    if not (of_sample is alone if of_sample is None or alone is None else torch.equal(of_sample, alone)):
        raise DataError(
            f"{sample_name(dataset, 0)}: {component_name(dataset)}.labels(0) differs from the labels of sample 0, so "
            "that what is counted is not what is trained; return the same from both"
        )


def pixel_spacing(dataset: SegmentationDataset, index: int) -> tuple[float, float] | None:
    """The height and width of a pixel of an image in mm, by the dataset's `spacing(index)`; None if it is unknown.

    Raises:
        DataError: `spacing` fails, or returns anything but two numbers above 0.
    """
    stated: Callable[[int], Any] | None = getattr(dataset, "spacing", None)
    found = _read(dataset, index, partial(stated, index)) if callable(stated) else None
    if found is None:
        return None
    try:
        height, width = (float(side) for side in found)
    except (TypeError, ValueError):
        height = width = math.nan
    if not (0 < height < math.inf and 0 < width < math.inf):
        raise DataError(
            f"{sample_name(dataset, index)}: {component_name(dataset)}.spacing is {found!r}; return (height, width) of "
            "a pixel in mm, or None"
        )
    return height, width


def _read(dataset: SegmentationDataset, index: int, call: Callable[[], T]) -> T:
    """What `call` reads; an error of the user's code is the recipe's, one of a file is the data's."""
    try:
        return call()
    except DataError:
        raise
    except Exception as error:
        kind = DataError if isinstance(error, OSError) or user_frame(error) is None else RecipeError
        raise kind(f"{component_name(dataset)}: sample {index} cannot be read: {raised(error)}") from error


def resize_image(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize an image uint8 (C, H, W) bilinearly, with antialiasing where it shrinks."""
    return image if tuple(image.shape[1:]) == tuple(size) else TF.resize_image(image, list(size), antialias=True)


def image_files(dataset: SegmentationDataset) -> list[Path]:
    """The files of the images, in order, by the dataset's `files` or `names`; none if it does not list them.

    Raises:
        DataError: `files` fails.
    """
    listed: Callable[[int], Sequence[Any]] | None = getattr(dataset, "files", None)
    names: Sequence[Any] = getattr(dataset, "names", None) or ()
    if callable(listed):
        all_files = [_read(dataset, index, partial(listed, index)) for index in range(len(dataset))]
        paths = [Path(files[0]) for files in all_files if files]  # none: the images are drawn
    else:
        paths = [Path(str(name)) for name in names]
    return paths if len(paths) == len(dataset) and all(path.is_file() for path in paths) else []


def sample_name(dataset: SegmentationDataset, index: int) -> str:
    """What messages call a sample: its entry in the dataset's `names`, if the dataset has them."""
    names = getattr(dataset, "names", None)
    return f"sample {index}" if names is None or index >= len(names) else str(names[index])


def component_name(component: object) -> str:
    """What messages call a dataset or transform."""
    return getattr(component, "__name__", type(component).__name__)


def type_and_shape(value: Tensor) -> str:
    """The type and shape of a tensor as messages show them, such as `uint8 (3, 64, 64)`."""
    return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"
