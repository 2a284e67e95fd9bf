"""Any folder of images and masks."""

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kd.data.classes import Color, class_of_values, distinct_colors, read_classes
from kd.data.files import find_images, find_pairs, nearest_content
from kd.data.images import SUFFIXES, is_grey, read_image, read_mask
from kd.data.labels import pack, translate
from kd.data.shares import Share, by_share, share_of
from kd.errors import DataError
from kd.types import IGNORE, Sample

_PROBED = 500  # masks checked for values other than 0 and 255


class Folders:
    """Pairs of an image and a mask with the same stem: `images/7.jpg` and `masks/7.png`.

    Splits are defined in one of three ways. `images: "{split}/images"`, `masks: "{split}/masks"`: one folder per
    split. `lists: "{split}.txt"`: one list file per split, with a name (stem) a line. `val: 20%`: that share of the
    images is held out, chosen by a hash of the stems, the same on every machine.

    Masks hold class indices (grey or palette; 255 is ignored) or, as RGB, the colours of `classes`; RGB masks without
    such colours must be grey. `values` translates other file values.

    Args:
        root: the folder that contains the others.
        split: "train", "val" or "test".
        classes: names in order of their index; or {name: [r, g, b]}; or {name: file value}; or the path of such a list
            or mapping in YAML, or of a CSV with the columns name, r, g, b (or name, value).
        images: folder of the images, under `root`.
        masks: folder of the masks, under `root`; None for images without labels.
        mask_suffix: an ending that a mask's stem has and its image's has not, such as `_mask`.
        lists: list file of a split, under `root`.
        val: share of the images held out as "val", 0.2 or 20%.
        test: share held out as "test".
        values: file value -> name of a class, or `ignore`. 255 is ignored unless it is given here.
        channels: 3 (grey becomes three equal channels) or 1 (colour is an error).
        follow_links: whether files and folders may be links that lead out of `root`.

    Raises:
        ValueError: an argument is out of range or conflicts with another.
        DataError: a folder or list is missing; an image has no mask or a mask no image; sizes differ; two files share
            a stem; the split is empty; all masks hold only 0 and 255, and `values` does not state what 255 means; (by
            item) a file is damaged or holds an unknown label.
    """

    def __init__(
        self,
        root: str,
        split: str,
        *,
        classes: Sequence[str] | Mapping[str, Sequence[int] | int] | str,
        images: str = "images",
        masks: str | None = "masks",
        mask_suffix: str = "",
        lists: str | None = None,
        val: Share = None,
        test: Share = None,
        values: Mapping[int, str] | None = None,
        channels: int = 3,
        follow_links: bool = False,
    ) -> None:
        if channels not in (1, 3):
            raise ValueError(f"Folders: channels must be 1 or 3, got {channels}")
        shares = by_share(images, lists, val, test)
        known = read_classes(classes)
        self.class_names = known.names
        self.colors: tuple[Color, ...] = known.colors or distinct_colors(len(known.names))
        self.in_channels = channels
        self._class_of_color = {int(pack(np.array(color))): index for index, color in enumerate(known.colors or ())}
        self._class_of_value = class_of_values(known, values)

        folder = Path(root)
        image_folder = folder / _below_root("images", images, split)
        list_file = None if lists is None else folder / _below_root("lists", lists, split)
        pairs: Mapping[str, tuple[Path, Path | None]]
        if masks is None:
            paths = find_images(image_folder, folder, list_file, follow_links=follow_links)
            pairs = {stem: (path, None) for stem, path in paths.items()}
        else:
            mask_folder = folder / _below_root("masks", masks, split)
            pairs = find_pairs(
                image_folder, mask_folder, folder, list_file, mask_suffix=mask_suffix, follow_links=follow_links
            )
        total = len(pairs)
        if shares:
            pairs = {stem: pairs[stem] for stem in share_of(list(pairs), split, val, test)}
        if not pairs:
            raise DataError(f"Folders: the split {split} is empty: {_why_empty(list_file or image_folder, total)}")
        self.pairs = list(pairs.values())
        self.names = tuple(str(image) for image, _ in self.pairs)
        if self._class_of_value[IGNORE] == IGNORE and IGNORE not in {int(value) for value in values or ()}:
            self._refuse_black_and_white()

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        """The image `index`; all views are the same."""
        path, mask = self.pairs[key[0]]
        image = read_image(path, self.in_channels)
        if mask is None:
            return Sample(image, None, str(path))
        codes, colored = self._codes(mask)
        class_of = self._class_of_color if colored else self._class_of_value
        labels = translate(codes, class_of, str(mask), colors=colored)
        if labels.shape != image.shape[1:]:  # the files changed after they were paired
            raise DataError(f"{path}: {tuple(image.shape[1:])}, but its mask {mask} is {tuple(labels.shape)} (H, W)")
        return Sample(image, labels, str(path))

    def _codes(self, mask: Path) -> tuple[NDArray[Any], bool]:
        """The codes of a mask, integers (H, W), and whether they are colours."""
        pixels = read_mask(mask)
        if pixels.ndim == 2:
            return pixels, False
        if self._class_of_color:
            return pack(pixels), True
        if not is_grey(pixels):
            raise DataError(f"{mask}: a mask in colour; write classes: {{{self.class_names[0]}: [r, g, b], …}}")
        return np.ascontiguousarray(pixels[..., 0]), False

    def _refuse_black_and_white(self) -> None:
        """Refuse masks of only 0 and 255, where 255 could be the second class or ignored: the recipe must state it."""
        white = pixels = 0
        for _, mask in self.pairs[:_PROBED]:
            if mask is None:
                return
            codes, colored = self._codes(mask)
            if colored or not np.isin(codes, (0, IGNORE)).all():
                return
            white, pixels = white + int((codes == IGNORE).sum()), pixels + codes.size
        if white:
            raise DataError(
                "masks: only 0 and 255 occur, and 255 is ignored by default: the whole foreground "
                f"({100 * white / pixels:.1f} % of the pixels) would be ignored; "
                f"set values: {{0: {self.class_names[0]}, 255: {self.class_names[1]}}}"
            )


def _why_empty(source: Path, total: int) -> str:
    if total:
        return (
            f"its share of the {total} image{'s' if total > 1 else ''} in {source} is 0; add images or raise the share"
        )
    if source.is_dir():
        return (
            f"no images in {source}; {nearest_content(source)}; files read: {', '.join(SUFFIXES)}, "
            "directly in the folder"
        )
    return f"no images in {source}"


def _below_root(argument: str, path: str, split: str) -> str:
    filled = path.replace("{split}", split)
    if PurePath(filled).is_absolute() or ".." in PurePath(filled).parts:
        raise ValueError(f"Folders: {argument} '{path}' leads out of root; give a path inside root")
    return filled
