"""Any folder of images and masks."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor

from kd.data.datasets.layout import SPLITS, Layout
from kd.data.images.decode import size_text
from kd.data.images.files import Pair, pair
from kd.data.images.ranges import Given, check_ranges, read_in_ranges, steps_note
from kd.data.images.read import read_image
from kd.data.masks.class_files import Color
from kd.data.masks.classes import ClassMap, distinct_colors, read_classes
from kd.data.masks.encoding import read_labels
from kd.data.masks.meaning import declared
from kd.data.masks.of_split import (
    in_split,
    kinds_note,
    refuse_black_and_white,
    refuse_lossy,
    refuse_shifted,
    threshold_note,
)
from kd.data.masks.unknown import UnknownCodesError
from kd.data.splits.shares import Share, Shares
from kd.errors import DataError
from kd.types import Sample


class Folders:
    """Pairs of an image and a mask with the same name: `images/7.jpg` and `masks/7.png`.

    Splits are defined in one of four ways. `images: "{split}/images"`, `masks: "{split}/masks"`: one folder per
    split. `lists: "{split}.txt"`: one list file per split, with a name a line. `val: 20%`: that share of the images is
    held out, chosen by a hash of the names, the same on every machine. `folds: 5`, `fold: 0`: a fifth is held out, and
    another one for each fold.

    `classes`, `values`, `rest` and `threshold` declare once what all masks hold. Numbers are read as stored, whatever
    the palette of a file; colours are looked up in whatever encoding a file has. A black-and-white mask of 1 bit holds
    the numbers 0 and 1, or 0 and 255 where 255 is a class and 1 is not mentioned.

    Args:
        root: the folder that contains the others.
        split: "train", "val" or "test".
        classes: names in order of their index; or {name: [r, g, b]}; or {name: number}; or the path of a class map:
            YAML, CSV, a name a line, or CVAT's `labelmap.txt`. What the name `ignore` marks is no class.
        images: folder of the images, under `root`. If it holds none itself, those in the folders below it are read.
        masks: folder of the masks, under `root`; it may be that of the images. None for images without labels.
        image_suffix: an ending of an image's stem that the names lack, such as `_leftImg8bit`.
        mask_suffix: an ending of a mask's stem that the names lack, such as `_mask`.
        lists: list file of a split, under `root`.
        val: share of the images held out as "val", 0.2 or 20%.
        test: share held out as "test".
        folds: number of equal parts that all images but those of `test` are divided into, in place of `val`.
        fold: the part that is "val", counted from 0; the others are "train".
        group: keeps images that belong together (a patient, a sequence) in one split, and intervals rest on the groups:
            a regular expression with one group, searched for in the names; or a CSV file under `root` with the columns
            name and group. Lists and folders that divide a group are refused.
        values: number, or colour "r, g, b", -> name of a class, or `ignore`; in addition to `classes`. 255 is ignored
            unless it is given here or there.
        rest: name of a class, or `ignore`, for all that neither `classes` nor `values` names.
        threshold: for two classes, 1 … 255: masks are shades of grey, JPEG allowed, and from this shade up the second
            class.
        channels: 3 (grey becomes three equal channels) or 1 (colour is an error); any number with `ranges`.
        ranges: [low, high], the numbers that become 0 and 255, or one such pair for each channel: images may then have
            16 bits, fractions or several channels, in TIFF files or as `.npy` arrays (H, W), (H, W, C) or (C, H, W).
        follow_links: whether files and folders may be links that lead out of `root`.

    Raises:
        ValueError: an argument is out of range or conflicts with another.
        DataError: a folder or list is missing; an image has no mask or a mask no image; sizes differ; two files have
            one name; the split is empty; masks are in a lossy encoding; all masks hold only 0 and 255, and nothing
            states what 255 means; (by item) a file is damaged or holds an unknown label.
    """

    def __init__(
        self,
        root: str,
        split: str,
        *,
        classes: ClassMap,
        images: str = "images",
        masks: str | None = "masks",
        image_suffix: str = "",
        mask_suffix: str = "",
        lists: str | None = None,
        val: Share = None,
        test: Share = None,
        folds: int | None = None,
        fold: int | None = None,
        group: str | None = None,
        values: Mapping[int | str, str] | None = None,
        rest: str | None = None,
        threshold: int | None = None,
        channels: int = 3,
        ranges: Given = None,
        follow_links: bool = False,
    ) -> None:
        if channels not in (1, 3) and ranges is None:
            raise ValueError(f"Folders: channels must be 1 or 3, got {channels}; for others state ranges: [low, high]")
        try:
            self.ranges = check_ranges(ranges, channels)
        except ValueError as error:
            raise ValueError(f"Folders: {error}") from None
        shares = Shares(val, test, folds, fold)
        layout = Layout(
            Path(root), images, masks, image_suffix, mask_suffix, lists, shares, group, follow_links, bool(ranges)
        )
        known = read_classes(classes)
        self.class_names = known.names
        self.colors: tuple[Color, ...] = known.colors or distinct_colors(len(known.names))
        self.in_channels = channels
        self._meaning = declared(known, values, rest, threshold)
        files, notes, groups = layout.files(split)
        self.pairs = [Pair(image, None) for image, mask in files.values() if mask is None]
        if not self.pairs:
            self.pairs, headers, turns = pair((image, mask) for image, mask in files.values() if mask is not None)
            masks_of = [mask for _, mask, _ in self.pairs if mask is not None]
            refuse_lossy(masks_of, headers, self._meaning)
            refuse_black_and_white(self.pairs, lambda: _others(layout, split), self._meaning)
            refuse_shifted(self.pairs, self._meaning)
            notes += turns + kinds_note(masks_of, headers, self._meaning) + threshold_note(self.pairs, self._meaning)
        self.names = tuple(str(image) for image, _, _ in self.pairs)
        if self.ranges is not None:
            notes.append(steps_note(self.ranges))
        self.notes = tuple(notes)  # lines for the user
        if groups is not None:
            self.groups = groups

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        """The image `index`; all views are the same."""
        path, mask, _ = self.pairs[key[0]]
        image, labels = self.image(path), self.labels(key[0])
        if labels is not None and labels.shape != image.shape[1:]:  # the files changed after they were paired
            sizes = f"{size_text(image.shape[1:])}, but its mask {mask} is {size_text(labels.shape)}"
            raise DataError(f"{path}: {sizes} (width × height)")
        return Sample(image, labels, str(path))

    def image(self, path: Path) -> Tensor:
        """The image in a file, uint8 (C, H, W)."""
        return read_image(path, self.in_channels) if self.ranges is None else read_in_ranges(path, self.ranges)

    def labels(self, index: int) -> Tensor | None:
        """The labels of the image `index` alone, uint8 (H, W)."""
        _, mask, turn = self.pairs[index]
        if mask is None:
            return None
        try:
            return read_labels(mask, self._meaning, turn)
        except UnknownCodesError as error:
            raise in_split(error, self.pairs, self._meaning) from None

    def files(self, index: int) -> tuple[Path, ...]:
        """The image, and its mask if there is one."""
        return self.pairs[index].files


def _others(layout: Layout, split: str) -> Sequence[Pair]:
    """The pairs of the other splits, those that exist."""
    found: list[Pair] = []
    for other in SPLITS:
        if other != split and layout.exists(other):
            try:
                found += [Pair(image, mask) for image, mask in layout.files(other).files.values()]
            except DataError:
                continue  # reported when that split is opened
    return found
