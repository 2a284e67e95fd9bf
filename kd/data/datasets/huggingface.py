"""Data sets of Hugging Face's `datasets`, saved on this machine."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from kd.data.images.decode import Held, read_header, size_text
from kd.data.images.names import nearest_content
from kd.data.images.read import read_image
from kd.data.masks.class_files import Color
from kd.data.masks.classes import ClassMap, distinct_colors, read_classes
from kd.data.masks.encoding import read_labels
from kd.data.masks.meaning import declared
from kd.data.splits.shares import Share, Shares
from kd.errors import DataError, raised
from kd.types import Sample

_SPLITS = {"train": ("train",), "val": ("validation", "val", "valid"), "test": ("test",)}


class HuggingFace:
    """A data set that `save_to_disk` of Hugging Face's `datasets` wrote: a column of images and one of masks.

    Nothing is downloaded, and no code of the data set runs. Masks and classes mean what they do in `Folders`; files
    are decoded by kd, under the same rules.

    Args:
        root: the folder that `save_to_disk` wrote.
        split: "train", "val" (validation, val or valid) or "test".
        classes: as in `Folders`.
        image: the column of the images.
        mask: the column of the masks; None for images without labels.
        val: share of the split train that is held out as "val", 0.2 or 20%, where there is no validation split.
        values: as in `Folders`.
        rest: as in `Folders`.
        channels: 3 (grey becomes three equal channels) or 1 (colour is an error).

    Raises:
        ValueError: `datasets` is not installed; an argument is out of range.
        DataError: the folder holds no such data set, split or column; (by item) a file is damaged or holds an unknown
            label, or an image and its mask differ in size.
    """

    def __init__(
        self,
        root: str,
        split: str,
        *,
        classes: ClassMap,
        image: str = "image",
        mask: str | None = "label",
        val: Share = None,
        values: Mapping[int | str, str] | None = None,
        rest: str | None = None,
        channels: int = 3,
    ) -> None:
        if channels not in (1, 3):
            raise ValueError(f"HuggingFace: channels must be 1 or 3, got {channels}")
        shares = Shares(val, owner="HuggingFace")
        known = read_classes(classes)
        self.class_names = known.names
        self.colors: tuple[Color, ...] = known.colors or distinct_colors(len(known.names))
        self.in_channels = channels
        self._meaning = declared(known, values, rest)
        self._image, self._mask = image, mask
        splits = _saved(Path(root))
        wanted = ("train",) if val is not None and split == "val" else _SPLITS.get(split, (split,))
        name = next((name for name in wanted if name in splits), None)
        if name is None:
            fix = "; set val: 20% to hold out a part of train" if split == "val" and "train" in splits else ""
            raise DataError(f"{root}: no split {wanted[0]}, only {', '.join(splits)}{fix}")
        self.sources = tuple(Path(file["filename"]) for file in splits[name].cache_files)
        self._rows = _undecoded(splits[name], [image, *([] if mask is None else [mask])], root)
        self.names = tuple(f"{root}/{name}/{index}" for index in range(len(self._rows)))
        self._index = list(range(len(self._rows)))
        if val is not None and split != "test":
            chosen = set(shares.of([f"{name}/{index}" for index in self._index], split))
            self._index = [index for index in self._index if f"{name}/{index}" in chosen]
            self.names = tuple(self.names[index] for index in self._index)

    def __len__(self) -> int:
        return len(self._index)

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        """The image `index`; all views are the same."""
        image, labels = read_image(self._held(key[0], self._image), self.in_channels), self.labels(key[0])
        if labels is not None and labels.shape != image.shape[1:]:
            sizes = f"{size_text(image.shape[1:])}, but its mask is {size_text(labels.shape)}"
            raise DataError(f"{self.names[key[0]]}: {sizes} (width × height)")
        return Sample(image, labels, self.names[key[0]])

    def image_size(self, index: int) -> tuple[int, int]:
        """(H, W) of an image, by its header."""
        return read_header(self._held(index, self._image)).size

    def labels(self, index: int) -> Tensor | None:
        """The labels of the image `index` alone, uint8 (H, W)."""
        return None if self._mask is None else read_labels(self._held(index, self._mask), self._meaning)

    def _held(self, index: int, column: str) -> Held:
        """The image file in a cell."""
        cell = self._rows[self._index[index]][column]
        if not (isinstance(cell, Mapping) and isinstance(cell.get("bytes"), bytes)):
            raise DataError(f"{self.names[index]}: {column} holds no image file")
        return Held(f"{self.names[index]}: {column}", cell["bytes"])


def _saved(root: Path) -> Mapping[str, Any]:
    """The splits that a folder holds, by name."""
    try:
        import datasets
    except ImportError:
        raise ValueError("datasets is not installed: pip install 'kd-segmentation[datasets]'") from None
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; {nearest_content(root)}")
    datasets.disable_progress_bars()
    try:
        found = datasets.load_from_disk(str(root))
    except Exception as error:
        raise DataError(
            f"{root}: not a data set that save_to_disk wrote ({raised(error)}); write one: "
            f"datasets.load_dataset(NAME).save_to_disk('{root}')"
        ) from error
    return found if isinstance(found, datasets.DatasetDict) else {"train": found}


def _undecoded(rows: Any, columns: list[str], root: str) -> Any:
    """The rows with the files of the images as they are."""
    import datasets

    for column in columns:
        if column not in rows.features:
            raise DataError(f"{root}: no column {column}, only {', '.join(rows.features)}; set image and mask")
        if not isinstance(rows.features[column], datasets.Image):
            raise DataError(f"{root}: the column {column} holds no images; set image and mask to those that do")
        rows = rows.cast_column(column, datasets.Image(decode=False))
    return rows.select_columns(columns)
