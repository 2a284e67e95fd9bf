"""Any folder of images and masks."""

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from pathlib import Path, PurePath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kd.data.classes import meanings, read_classes
from kd.data.files import SUFFIXES, is_grey, list_entries, listed, paired, raise_all, read_image, read_mask, there
from kd.data.labels import Color, distinct_colors, pack, translate
from kd.errors import DataError
from kd.types import IGNORE, Sample

_PROBED = 500  # masks that are looked at before "only 0 and 255 occur" is said


class Folders:
    """Pairs of an image and a mask that share their stem: `images/7.jpg` and `masks/7.png`.

    Splits are made in one of three ways. `images: "{split}/images"`, `masks: "{split}/masks"`: folders a split.
    `lists: "{split}.txt"`: a file a split, with a name (stem) a line. `val: 20%`: that share of the images is held
    out, chosen by a hash of the stems, alike on every machine.

    Masks hold class indices (grey or palette; 255 is ignored) or, as RGB, the colours of `classes`; RGB masks without
    such colours must be grey. Where values stand for something else, `values` says for what.

    Args:
        root: the folder that holds the others.
        split: "train", "val" or "test".
        classes: names in order of their index; or {name: [r, g, b]}; or {name: file value}; or the path of such a list
            or mapping in YAML, or of a CSV with the columns name, r, g, b (or name, value).
        images: folder of the images, under `root`.
        masks: folder of the masks, under `root`; None for images without labels.
        mask_suffix: what the stem of a mask has at its end and that of its image has not, as `_mask`.
        lists: file of the names in a split, under `root`.
        val: share of the images held out as "val", 0.2 or 20%.
        test: share held out as "test".
        values: file value -> name of a class, or `ignore`. 255 is ignored unless it stands here.
        channels: 3 (grey becomes three equal channels) or 1 (colour is an error).
        follow_links: whether files and folders may be links that lead out of `root`.

    Raises:
        ValueError: an argument is out of range or does not fit another.
        DataError: a folder or list is missing; an image or a mask is without the other; sizes differ; two files share
            a stem; the split is empty; all masks hold only 0 and 255, and 255 is not stated; (by item) a file is
            damaged or holds an unknown label.
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
        val: float | str | None = None,
        test: float | str | None = None,
        values: Mapping[int, str] | None = None,
        channels: int = 3,
        follow_links: bool = False,
    ) -> None:
        if channels not in (1, 3):
            raise ValueError(f"Folders: channels {channels} must be 1 or 3")
        if lists is None and val is None and "{split}" not in images:
            raise ValueError(
                'Folders: how is it split? write val: 20%, or lists: "{split}.txt", or images: "{split}/images" and '
                'masks: "{split}/masks"'
            )
        if (val is not None or test is not None) and (lists is not None or "{split}" in images):
            raise ValueError(
                "Folders: val and test take shares of one folder; leave them out where lists or folders split"
            )
        known = read_classes(classes)
        self.class_names = known.names
        self.colors: tuple[Color, ...] = known.colors or distinct_colors(len(known.names))
        self.in_channels = channels
        self._by_color = {int(pack(np.array(color))): i for i, color in enumerate(known.colors or ())}
        self._by_value = meanings(known, values)

        folder = Path(root)
        image_folder = folder / _inside("images", images, split)
        found = listed(image_folder, folder, follow_links=follow_links)
        source = image_folder
        if lists is not None:
            source = folder / _inside("lists", lists, split)
            names = list_entries(source)
            raise_all(
                [f"{source}: no image named {name[:80]!r} in {image_folder}" for name in names if name not in found]
            )
            found = {name: found[name] for name in names}
        pairs: Mapping[str, tuple[Path, Path | None]]
        if masks is None:
            pairs = {stem: (path, None) for stem, path in found.items()}
        else:
            mask_folder = folder / _inside("masks", masks, split)
            labelled = listed(mask_folder, folder, mask_suffix, follow_links=follow_links)
            if lists is not None:
                labelled = {stem: path for stem, path in labelled.items() if stem in found}
            pairs = paired(found, labelled, (image_folder, mask_folder))
        whole = len(pairs)
        if lists is None and "{split}" not in images:
            pairs = {
                stem: pairs[stem] for stem in _held_out(list(pairs), split, _share("val", val), _share("test", test))
            }
        if not pairs:
            raise DataError(f"Folders: the split {split} is empty: {_why_empty(source, whole)}")
        self.pairs = list(pairs.values())
        self.names = tuple(str(image) for image, _ in self.pairs)
        if self._by_value[IGNORE] == IGNORE and IGNORE not in {int(value) for value in values or ()}:
            self._refuse_black_and_white()

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        """The image `index`; views are alike."""
        path, mask = self.pairs[key[0]]
        image = read_image(path, self.in_channels)
        if mask is None:
            return Sample(image, None, str(path))
        codes, colored = self._codes(mask)
        labels = translate(codes, self._by_color if colored else self._by_value, str(mask), colors=colored)
        if labels.shape != image.shape[1:]:  # the files were changed since they were paired
            raise DataError(f"{path}: {tuple(image.shape[1:])}, but its mask {mask} is {tuple(labels.shape)} (H, W)")
        return Sample(image, labels, str(path))

    def _codes(self, mask: Path) -> tuple[NDArray[Any], bool]:
        """What a mask holds, integers (H, W), and whether they are colours."""
        pixels = read_mask(mask)
        if pixels.ndim == 2:
            return pixels, False
        if self._by_color:
            return pack(pixels), True
        if not is_grey(pixels):
            raise DataError(f"{mask}: a mask in colour; write classes: {{{self.class_names[0]}: [r, g, b], …}}")
        return np.ascontiguousarray(pixels[..., 0]), False

    def _refuse_black_and_white(self) -> None:
        """255 is the usual white of a mask of two classes, and the usual label to ignore: it must not be guessed."""
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
                "masks: only 0 and 255 occur, and 255 is ignore: all foreground "
                f"({100 * white / pixels:.1f} % of the pixels) would be left out; "
                f"write values: {{0: {self.class_names[0]}, 255: {self.class_names[1]}}}"
            )


def _why_empty(source: Path, images: int) -> str:
    if images:
        return (
            f"its share of the {images} image{'s' if images > 1 else ''} in {source} is none; add images, or raise it"
        )
    if source.is_dir():
        return f"no images in {source}; {there(source)}; read are {', '.join(SUFFIXES)} in it, not in folders below it"
    return f"no images for it in {source}"


def _inside(argument: str, path: str, split: str) -> str:
    filled = path.replace("{split}", split)
    if PurePath(filled).is_absolute() or ".." in PurePath(filled).parts:
        raise ValueError(f"Folders: {argument} '{path}' leads out of root; write a path below it")
    return filled


def _share(name: str, value: float | str | None) -> float:
    try:
        share = float(value[:-1]) / 100 if isinstance(value, str) and value.endswith("%") else float(value or 0)
    except ValueError:
        share = -1.0
    if not 0 <= share < 1:
        raise ValueError(f"Folders: {name} {value!r} must be a share of the images, as 0.2 or 20%")
    return share


def _held_out(stems: list[str], split: str, val: float, test: float) -> list[str]:
    """The stems of a split, in their order; adding images moves few of the others."""
    if val + test >= 1:
        raise ValueError(f"Folders: val {val:g} and test {test:g} leave nothing to train on")
    drawn = sorted(stems, key=lambda stem: blake2b(stem.encode()).digest())
    ends = (round(val * len(stems)), round(val * len(stems)) + round(test * len(stems)))
    chosen = set({"val": drawn[: ends[0]], "test": drawn[ends[0] : ends[1]]}.get(split, drawn[ends[1] :]))
    return [stem for stem in stems if stem in chosen]
