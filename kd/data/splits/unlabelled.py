"""Images without labels that join the training images in every batch."""

import os
from collections.abc import Hashable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, cast

from kd.data.dataset import component_name, sample_name
from kd.data.images.arrays import ARRAY
from kd.data.images.decode import SUFFIXES, read_header
from kd.data.images.names import list_images, nearest_content, raise_all
from kd.data.images.ranges import read_in_ranges
from kd.data.images.read import read_image
from kd.errors import DataError
from kd.types import Sample, SegmentationDataset
from kd.units import counted


class Unlabelled:
    """The images of a folder, without labels; those that a split of the dataset has already are left out.

    If the folder holds no image itself, those in the folders below it are read. Sizes may differ.

    Args:
        folder: the folder.
        like: a split of the dataset, which gives the channels and the classes.
        splits: the splits whose files are left out, by name.

    Raises:
        DataError: the folder is missing, or no image is left; a header cannot be read; (by item) a file is damaged.
    """

    def __init__(
        self, folder: str, like: SegmentationDataset, splits: Mapping[str, SegmentationDataset] | None = None
    ) -> None:
        self.class_names, self.colors, self.in_channels = like.class_names, like.colors, like.in_channels
        if not Path(folder).is_dir():
            raise DataError(f"data.unlabelled.images: no folder {folder}; {nearest_content(Path(folder))}")
        ranges = getattr(like, "ranges", None)
        self._read = (
            partial(read_in_ranges, ranges=ranges) if ranges else partial(read_image, channels=self.in_channels)
        )
        listing = list_images(Path(folder), Path(folder), suffixes=(*SUFFIXES, ARRAY) if ranges else SUFFIXES)
        used = {split: set(map(_identity, _files(dataset))) for split, dataset in (splits or {}).items()}
        owners = {file: split for split, files in reversed(used.items()) for file in files}
        found = {path: owners.get(_identity(path)) for path in listing.files.values()}
        self.paths = [path for path, owner in found.items() if owner is None]
        taken = [split for split in used if split in found.values()]
        self.left_out = len(found) - len(self.paths)
        left_out = f"{self.left_out} of {' and '.join(taken)} left out" if taken else ""
        if not self.paths:
            why = left_out or f"{nearest_content(Path(folder))}; files read: {', '.join(SUFFIXES)}"
            raise DataError(f"data.unlabelled.images: no images in {folder}: {why}")
        raise_all([problem for path in self.paths if (problem := _problem(path))])
        self.names = tuple(map(str, self.paths))
        images = f"{counted(len(self.paths), 'image')} in {folder}"
        self.notes = tuple(
            note for note in (f"unlabelled: {images}{f' ({left_out})' if taken else ''}", listing.note) if note
        )

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        """The image `index`; all views are the same."""
        return Sample(self._read(self.paths[key[0]]), None, self.names[key[0]])

    def files(self, index: int) -> tuple[Path, ...]:
        """The image."""
        return (self.paths[index],)


class OtherImages:
    """The images of another training split, without labels; those that a split of the dataset has are left out.

    Args:
        others: the other training split: the same dataset with other arguments.
        splits: the splits whose images are left out, by name.

    Raises:
        DataError: the dataset does not tell its images apart, or no image is left.
    """

    def __init__(self, others: SegmentationDataset, splits: Mapping[str, SegmentationDataset]) -> None:
        self.class_names, self.colors, self.in_channels = others.class_names, others.colors, others.in_channels
        self.others = others
        known = [_image(others, index) for index in range(len(others))]
        used = {split: {_image(dataset, index) for index in range(len(dataset))} for split, dataset in splits.items()}
        taken = [split for split, images in used.items() if not images.isdisjoint(known)]
        self.indices = [index for index, image in enumerate(known) if not any(image in used[split] for split in taken)]
        left_out = f"{len(known) - len(self.indices)} of {' and '.join(taken)} left out"
        if not self.indices:
            raise DataError(f"data.unlabelled.args: no other training images: {left_out}")
        self.names = tuple(sample_name(others, index) for index in self.indices)
        images = counted(len(self.indices), "other training image")
        self.notes = (f"unlabelled: {images}{f' ({left_out})' if taken else ''}",)
        if callable(getattr(others, "files", None)):
            self.files = self._files
        if callable(getattr(others, "image_size", None)):
            self.image_size = self._image_size

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        return self.others[self.indices[key[0]], key[1]]._replace(labels=None)

    def _files(self, index: int) -> Any:
        return tuple(cast("Any", self.others).files(self.indices[index]))[:1]  # not its mask

    def _image_size(self, index: int) -> Any:
        return cast("Any", self.others).image_size(self.indices[index])


class Joined:
    """The samples of a training split, then images without labels.

    Args:
        labelled: the training split.
        unlabelled: joins it.
    """

    def __init__(self, labelled: SegmentationDataset, unlabelled: SegmentationDataset) -> None:
        self.parts = (labelled, unlabelled)
        self.ranges = getattr(labelled, "ranges", None)
        self.class_names, self.colors, self.in_channels = labelled.class_names, labelled.colors, labelled.in_channels
        self.names = tuple(sample_name(part, index) for part in self.parts for index in range(len(part)))
        if all(callable(getattr(part, "files", None)) for part in self.parts):
            self.files = self._files

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        part, index = self._place(key[0])
        sample: Sample = part[index, key[1]]
        return sample

    def _place(self, index: int) -> tuple[Any, int]:
        labelled, unlabelled = self.parts
        return (labelled, index) if index < len(labelled) else (unlabelled, index - len(labelled))

    def _files(self, index: int) -> Any:
        part, own = self._place(index)
        return part.files(own)


def _files(dataset: SegmentationDataset) -> Iterable[Any]:
    """All files of a split: images and masks; its names, where it does not list files."""
    listed = getattr(dataset, "files", None)
    if callable(listed):
        return [path for index in range(len(dataset)) for path in listed(index)]
    return list(getattr(dataset, "names", ()))


def _image(dataset: SegmentationDataset, index: int) -> Hashable:
    """What distinguishes the image of a sample: its file, or its name."""
    listed = getattr(dataset, "files", None)
    files = tuple(listed(index)) if callable(listed) else ()
    if not files and not getattr(dataset, "names", None):
        raise DataError(
            f"data.unlabelled.args: {component_name(dataset)} has neither `names` nor `files(index)`, which tell its "
            "images apart; docs/add-a-dataset.md"
        )
    return _identity(files[0]) if files else sample_name(dataset, index)


def _identity(path: Any) -> Hashable:
    """What all links to a file share: kd init and kd label link images under a second path."""
    try:
        found = os.stat(path)
    except OSError:
        return os.path.realpath(str(path))
    return found.st_dev, found.st_ino


def _problem(path: Path) -> str:
    """What is wrong with the header of an image; empty if nothing is."""
    try:
        read_header(path)
    except DataError as error:
        return str(error)
    return ""
