"""`kd data --check`: what is wrong with the images and masks of a recipe, one line a defect."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kd.components import Maker, is_ours
from kd.console import print_line, progress
from kd.data.dataset import image_files
from kd.data.images.decode import UPRIGHT, read_header, size_text
from kd.data.splits.duplicates import find_shared
from kd.data.workers import Reader, read_batches
from kd.errors import DataError, RecipeError
from kd.machine import loader_workers
from kd.prepare.defects.copies import Look, Looks, Unreadable
from kd.prepare.defects.fit import misfits
from kd.recipe import Recipe
from kd.types import IGNORE, SegmentationDataset
from kd.units import counted

SHOWN = 3  # names in a line
FITTED = 3000  # images, at most, whose masks are compared with them; evenly spread
BLANK = 1.0  # grey levels: the standard deviation of an image that shows nothing
FAINT = 6.0  # grey levels, and
FAINTER = 4  # times less than half of the images have: an image that shows hardly anything
SMALL = 4  # times shorter than half of the images
RARE = 1e-4  # of the labelled pixels: a class that is hardly learnt
UNUSUAL = 0.1  # of the images: what more of them have is usual in a data set
APART = (0.01, 0.001)  # a class with more than this share in one split and less than that in the other
_CHUNK = 16  # images that a worker sends together


class Defect(NamedTuple):
    """Something wrong, or likely to be."""

    kind: str
    text: str  # one line: where, and what


@dataclass(frozen=True)
class Seen:
    """What was read of the splits."""

    classes: tuple[str, ...]
    datasets: dict[str, SegmentationDataset]
    looks: dict[str, list[Look]] = field(default_factory=dict)
    unreadable: dict[str, set[int]] = field(default_factory=dict)  # by index

    def everywhere(self) -> list[tuple[str, Look]]:
        """All looks with the names of their splits."""
        return [(split, look) for split, looks in self.looks.items() for look in looks]

    def counts(self, split: str) -> NDArray[np.int64]:
        """The pixels of each class in a split."""
        counts = np.zeros(len(self.classes), np.int64)
        for look in self.looks[split]:
            counts += look.counts[: len(self.classes)]
        return counts


def check_command(recipe: Recipe) -> int:
    """Print the defects, and return the exit status: 3 if there are any."""
    defects, images, notes = find_defects(recipe)
    for kind, text in defects:
        print_line(f"{kind}: {text}")
    for note in notes:
        print_line(note)
    found = counted(len(defects), "defect") if defects else "no defect found"
    print_line(f"{found} in {counted(images, 'image')}")
    return DataError.exit_status if defects else 0


def find_defects(recipe: Recipe) -> tuple[list[Defect], int, list[str]]:
    """The defects of a recipe's data, the number of images that were read, and lines on what could not be decided.

    Raises:
        RecipeError: the dataset cannot be built for another reason than its files, or a user's code fails.
    """
    datasets, defects = _opened(recipe)
    seen = Seen(next(iter(datasets.values())).class_names if datasets else (), datasets)
    total = sum(map(len, datasets.values()))
    done = 0
    with progress("looked at", total) as advance:

        def looked_at(images: int) -> None:
            nonlocal done
            advance(done := done + images)

        for split, dataset in datasets.items():
            items = list(_looks(dataset, loader_workers(recipe.data.workers), looked_at))
            seen.looks[split] = [item for item in items if isinstance(item, Look)]
            seen.unreadable[split] = {i for i, item in enumerate(items) if isinstance(item, Unreadable)}
            defects += [Defect("unreadable", item.text) for item in items if isinstance(item, Unreadable)]
    for look_for in _CHECKS:
        defects += look_for(seen)
    misfitting, note = _misfits(seen)
    return defects + misfitting, total, [note] if note else []


def _opened(recipe: Recipe) -> tuple[dict[str, SegmentationDataset], list[Defect]]:
    """The splits that can be opened, and what is wrong with the others."""
    maker = Maker(recipe)
    datasets: dict[str, SegmentationDataset] = {}
    problems: dict[str, None] = {}  # without repetition
    for split in ("train", "val"):
        try:
            datasets[split] = maker.dataset(split)
        except DataError as error:
            problems |= dict.fromkeys(error.mistakes)
    if is_ours(recipe.data.dataset):  # others may do anything for a split that is never used
        with suppress(RecipeError, DataError):
            datasets["test"] = maker.dataset("test")
    return datasets, [Defect("files", text) for text in problems]


def _looks(dataset: SegmentationDataset, workers: int, looked_at: Callable[[int], None]) -> Iterator[Look | Unreadable]:
    """What each sample looks like, in order."""
    indices = range(len(dataset))
    keys = ([(index, 0) for index in indices[start : start + _CHUNK]] for start in indices[::_CHUNK])
    workers = workers if len(dataset) > 4 * _CHUNK else 0  # a small split is read before they have started
    for batch in read_batches(Reader(Looks(dataset), list, workers), keys, workers, 300, None, False, lambda: None):
        yield from batch
        looked_at(len(batch))


def _labels(seen: Seen) -> Iterator[Defect]:
    """Masks without a label, and masks of one class where nearly all others have several."""
    for split, looks in seen.looks.items():
        masked = [look for look in looks if look.mask]
        yield from _named("no label", split, [look for look in masked if not len(look.classes)], "no pixel is labelled")
        ignored = sum(int(look.counts[IGNORE]) for look in masked)
        pixels = sum(int(look.counts.sum()) for look in masked)
        if 2 * ignored > pixels:
            yield Defect("ignored", f"{split}: {100 * ignored / pixels:.1f} % of the pixels are ignored")
    everywhere = [(split, look) for split, look in seen.everywhere() if len(look.classes)]
    single = [(split, look) for split, look in everywhere if len(look.classes) == 1]
    if len(single) <= max(1, UNUSUAL / 2 * len(everywhere)) and len(everywhere) > 4 * len(single):
        for split, look in single:
            name = seen.classes[int(look.classes[0])]
            text = f"{look.name}: all its labels are {name}, where other masks hold several classes"
            yield Defect("one class", f"{split}: {text}")


def _classes(seen: Seen) -> Iterator[Defect]:
    """Classes that are missing, hardly occur, or occur in one split only."""
    counts = {split: seen.counts(split) for split in seen.looks if split != "test"}
    for split, found in counts.items():
        if not found.sum():
            continue
        for name, count in zip(seen.classes, found, strict=True):
            if count == 0:
                yield Defect("missing class", f"{split}: {name} does not occur")
            elif split == "train" and count < RARE * found.sum():
                yield Defect(
                    "rare class", f"{split}: {name} has {100 * count / found.sum():.2g} % of the labelled pixels"
                )
    if len(counts) == 2 and all(found.sum() for found in counts.values()):
        train, val = (found / found.sum() for found in counts.values())
        for name, here, there in zip(seen.classes, train, val, strict=True):
            if min(here, there) and max(here, there) > APART[0] and min(here, there) < APART[1]:
                shares = f"{100 * here:.2g} % of train, but {100 * there:.2g} % of val"
                yield Defect("different shares", f"{name} has {shares}")


def _images(seen: Seen) -> Iterator[Defect]:
    """Images that show nothing, that are grey among coloured ones, or far smaller than the others."""
    everywhere = seen.everywhere()
    if not everywhere:
        return
    spread = float(np.median([look.spread for _, look in everywhere]))
    sides = np.median([look.size for _, look in everywhere], axis=0)
    colored = sum(look.colored for _, look in everywhere) / len(everywhere)
    for split, looks in seen.looks.items():
        blank = [look for look in looks if look.spread < BLANK]
        faint = [look for look in looks if BLANK <= look.spread < min(FAINT, spread / FAINTER)]
        yield from _named("blank image", split, blank, "the image shows nothing")
        yield from _named("faint image", split, faint, "the image has hardly any contrast")
        if colored > 1 - UNUSUAL:
            grey = [look for look in looks if not look.colored and look.spread >= BLANK]
            yield from _named("grey image", split, grey, "the image is grey, but most are coloured")
        small = [look for look in looks if (np.array(look.size) * SMALL < sides).any()]
        sizes = f"{size_text(small[0].size)}, but most are about {sides[1]:.0f}×{sides[0]:.0f}" if small else ""
        yield from _named("small image", split, small, f"the image is {sizes}")


def _turned(seen: Seen) -> Iterator[Defect]:
    """Images that are stored on their side or mirrored, and turned upright by their EXIF tag."""
    for split, dataset in seen.datasets.items():
        names = []
        for file in image_files(dataset):
            with suppress(DataError):  # an array, or reported as unreadable
                if read_header(file).turn != UPRIGHT:
                    names.append(str(file))
        if names:
            yield Defect(
                "EXIF", f"{split}: {_list(names)}: stored turned, with an EXIF tag that other tools may ignore"
            )


def _repeated(seen: Seen) -> Iterator[Defect]:
    """Images of two splits, images that occur twice in one, and masks that several images share."""
    for (first, second), pairs, _ in find_shared(seen.datasets, left_out=seen.unreadable)[0]:
        for pair in pairs:
            kind, sign = ("image in two splits", "=") if pair.same else ("nearly the same image in two splits", "≈")
            yield Defect(kind, f"{first} {pair.other} {sign} {second} {pair.name}")
    for split, looks in seen.looks.items():
        for same in _groups(looks, lambda look: look.image if look.spread >= BLANK else b""):
            masks = "with different masks" if len({look.mask for look in same}) > 1 else "with the same mask"
            kind = "image with two masks" if "different" in masks else "image twice"
            yield Defect(kind, f"{split}: {_list([look.name for look in same])}: the same image {masks}")
    looks = [look for _, look in seen.everywhere()]
    groups = _groups(looks, lambda look: look.mask if len(look.classes) > 1 else b"")
    copied = [same for same in groups if len({look.image for look in same}) > 1]
    if sum(map(len, copied)) <= max(2, UNUSUAL * len(looks)):
        for same in copied:
            yield Defect("same mask", f"{_list([look.name for look in same])}: different images with the same mask")


def _misfits(seen: Seen) -> tuple[list[Defect], str]:
    """Masks that do not fit their images."""
    looks = [look for _, look in seen.everywhere() if len(look.classes) > 1 and look.spread >= BLANK]
    step = -(-len(looks) // FITTED) or 1
    looks = looks[::step]
    found, note = misfits(looks, seen.classes)
    fitting = {misfit.image: misfit.other for misfit in found if misfit.other is not None}
    defects = []
    for index, kind, text, other in found:
        if index is None:
            defects.append(Defect(kind, text))
        elif other is None:
            defects.append(Defect(kind, f"{looks[index].name}: {text}"))
        elif fitting.get(other) != index:
            defects.append(Defect(kind, f"{looks[index].name}: the mask of {looks[other].name} fits, its own does not"))
        elif index < other:
            defects.append(Defect(kind, f"{looks[index].name} and {looks[other].name}: each fits the other's mask"))
    return defects, note


_CHECKS = (_labels, _classes, _images, _turned, _repeated)


def _named(kind: str, split: str, looks: Sequence[Look], what: str) -> Iterator[Defect]:
    for look in looks:
        yield Defect(kind, f"{split}: {look.name}: {what}")


def _groups(looks: Sequence[Look], key: Callable[[Look], bytes]) -> list[list[Look]]:
    """The looks of equal keys, where there are several."""
    groups: defaultdict[bytes, list[Look]] = defaultdict(list)
    for look in looks:
        if key(look):
            groups[key(look)].append(look)
    return [same for same in groups.values() if len(same) > 1]


def _list(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
