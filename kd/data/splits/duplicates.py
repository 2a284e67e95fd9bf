"""The same image, or nearly the same one, in two splits: found by content, and by the look of small grey copies.

A copy of 36×32 pixels gives a hash of 64 bits: whether each of 8×8 cells is darker than the next one in its row. Two
images are nearly the same if few bits differ and their copies correlate: a photo saved again, resized or brightened is
found, the next frame of a moving camera is not. Copies with hardly any contrast (a blank slide) look alike without
being the same, so such images are compared by content only.
"""

import os
import time
from collections.abc import Callable, Collection, Generator, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from kd.data.dataset import image_files
from kd.data.images.decode import SUFFIXES, opened
from kd.data.workers import Key, read_beside
from kd.errors import DataError
from kd.files.fingerprint import sha256
from kd.types import SegmentationDataset

SECONDS = 20.0  # for the copies of all images
THREADS = 2  # Pillow decodes outside Python's lock
BITS = 6  # of 64 that may differ
ALIKE = 0.99  # least correlation of two copies
CONTRAST = 4.0  # least standard deviation of a copy, in grey levels
SHOWN = 3  # pairs in a line
_WIDE, _HIGH = 36, 32
_ROWS = 64  # images of a split that are compared at once
_PART = 32  # images that a thread reads before it asks for more


class Duplicate(NamedTuple):
    """An image of a split that another split has too."""

    name: str
    other: str  # the image of the other split
    same: bool  # whether the files have the same content; else they are nearly the same


class Shared(NamedTuple):
    """The images that two splits share."""

    splits: tuple[str, str]
    found: list[Duplicate]  # at most one for each image of the second split
    images: int  # of the second split

    def lines(self) -> list[str]:
        """Warnings for the user: of the same images, and of those that are nearly the same."""
        first, second = self.splits
        others = {"train": "training"}.get(first, first)
        lines = []
        for same in (True, False):
            pairs = [duplicate for duplicate in self.found if duplicate.same == same]
            if pairs:
                one, sign = len(pairs) == 1, "=" if same else "≈"
                image = f"{'a ' if one else ''}{others} image{'' if one else 's'}"
                what = f"{image} too" if same else f"nearly the same as {image}"
                shown = ", ".join(f"{first} {pair.other} {sign} {second} {pair.name}" for pair in pairs[:SHOWN])
                more = f" and {len(pairs) - SHOWN} more" if len(pairs) > SHOWN else ""
                are = "is" if one else "are"
                lines.append(
                    f"warning: {len(pairs)} of the {self.images} {second} images {are} {what}: {shown}{more}; "
                    "scores on them are too high"
                )
        return lines


class Look(NamedTuple):
    """What the copies of a split's images show; those without contrast are left out."""

    read: int  # images that were read
    indices: NDArray[np.int64]
    hashes: NDArray[np.uint64]
    copies: NDArray[np.uint8]  # (images, pixels)


def find_shared(
    splits: Mapping[str, SegmentationDataset],
    *,
    left_out: Mapping[str, Collection[int]] | None = None,
    seconds: float = SECONDS,
    advance: Callable[[int], None] = lambda read: None,
    begun: Mapping[str, "Begun"] | None = None,
) -> tuple[list[Shared], str]:
    """The images that splits share, and a line if the time did not suffice for all.

    Datasets that do not list the files of their images are left out; files of other kinds, such as arrays, are
    compared by content only.

    Args:
        splits: by name, "train" first.
        left_out: images of a split, by index, that are not looked at; the damaged ones, say.
        seconds: the time for the copies; images that are left then are compared by content only.
        advance: called with the number of images whose copies were made so far.
        begun: what `begin_looks` returned for some of the splits, of which no image is left out.

    Raises:
        DataError: an image cannot be read.
    """
    begun = begun or {}
    files = {
        split: [path for index, path in enumerate(paths) if index not in (left_out or {}).get(split, ())]
        for split, dataset in splits.items()
        if (paths := begun[split].files if split in begun else image_files(dataset))
    }
    if len(files) < 2:
        return [], ""
    deadline = time.monotonic() + seconds
    pictures = {split: _pictures(splits[split], paths) for split, paths in files.items()}
    looks: dict[str, Look] = {}
    for split, paths in reversed(pictures.items()):  # the small splits first
        before = sum(look.read for look in looks.values())
        source = _Copies(splits[split], paths, deadline)
        looks[split] = _look(source, partial(_advance, advance, before), begun[split].looks if split in begun else None)
    found = []
    for first, second in combinations(files, 2):
        paths, others = files[second], files[first]
        pairs = {index: (other, True) for index, other in _same(paths, others, looks[second], looks[first]).items()}
        for index, other in _near(looks[second], looks[first]):
            pairs.setdefault(index, (other, False))
        duplicates = [Duplicate(paths[i].name, others[other].name, same) for i, (other, same) in sorted(pairs.items())]
        if duplicates:
            found.append(Shared((first, second), duplicates, len(paths)))
    read, total = sum(look.read for look in looks.values()), sum(map(len, pictures.values()))
    note = f"{read} of {total} images were compared with those of other splits, as many as {seconds:.0f} s allow"
    return found, note if read < total else ""


class Begun(NamedTuple):
    """A split at whose images workers look beside what follows."""

    files: list[Path]
    looks: Generator[Look]


def begin_looks(dataset: SegmentationDataset, *, workers: int, seconds: float = SECONDS) -> Begun:
    """Let at least one worker look at the images of a split beside what follows; `find_shared` takes the result."""
    files = image_files(dataset)
    source = _Copies(dataset, _pictures(dataset, files), time.monotonic() + seconds)
    return Begun(files, read_beside(source, _look_of, source.chunks(), workers))


def _pictures(dataset: SegmentationDataset, paths: list[Path]) -> list[Path]:
    """These files of a dataset if their looks can be compared, else none."""
    return [] if getattr(dataset, "ranges", None) or not all(map(_is_picture, paths)) else paths


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES


def _same(paths: Sequence[Path], others: Sequence[Path], look: Look, other_look: Look) -> dict[int, int]:
    """Index -> index of another file with the same content; only files of equal size and look are read."""
    sizes, other_sizes = ([os.stat(path).st_size for path in files] for files in (paths, others))
    unlike, others_unlike = _unlike(look, other_look, len(others)), _unlike(other_look, look, len(paths))
    shared = set(sizes) & set(other_sizes)
    known: dict[str, int] = {}  # SHA-256 -> the first of `others`
    for index, (path, size) in enumerate(zip(others, other_sizes, strict=True)):
        if size in shared and index not in others_unlike:
            known.setdefault(sha256(path), index)
    return {
        index: known[digest]
        for index, (path, size) in enumerate(zip(paths, sizes, strict=True))
        if size in shared and index not in unlike and (digest := sha256(path)) in known
    }


def _unlike(look: Look, others: Look, total: int) -> set[int]:
    """The images that look like none of `total` others; none, unless all of these were looked at."""
    return set(look.indices[~np.isin(look.hashes, others.hashes)].tolist()) if others.read == total else set()


def _advance(advance: Callable[[int], None], before: int, read: int) -> None:
    advance(before + read)


class _Copies:
    """The index of each image with its copy, or with None after the deadline."""

    def __init__(self, dataset: SegmentationDataset, paths: Sequence[Path], deadline: float) -> None:
        self.dataset, self.paths, self._deadline = dataset, paths, deadline

    def __getitem__(self, key: Key) -> tuple[int, NDArray[np.uint8] | None]:
        return key[0], _copy(self.paths[key[0]]) if time.monotonic() < self._deadline else None

    def chunks(self) -> list[list[Key]]:
        """The keys of all images, spread evenly if the time is short."""
        order = sorted(range(len(self.paths)), key=lambda index: f"{index:032b}"[::-1])
        return [[(index, 0) for index in order[start : start + _PART]] for start in range(0, len(order), _PART)]


def _look(source: _Copies, advance: Callable[[int], None], begun: Iterable[Look] | None) -> Look:
    """The look of all images, several at a time unless workers have begun with them."""
    count, read, kept = len(source.paths), 0, 0
    indices, hashes = np.empty(count, np.int64), np.empty(count, np.uint64)
    copies = np.empty((count, _HIGH * _WIDE), np.uint8)
    with ExitStack() as stack:
        if begun is None:
            pool = stack.enter_context(ThreadPoolExecutor(THREADS))
            begun = pool.map(lambda keys: _look_of([source[key] for key in keys]), source.chunks())
        for part in begun:
            place = slice(kept, kept + len(part.indices))
            indices[place], hashes[place], copies[place] = part[1:]
            read, kept = read + part.read, place.stop
            advance(read)
    return Look(read, indices[:kept], hashes[:kept], copies[:kept])


def _look_of(items: Sequence[tuple[int, NDArray[np.uint8] | None]]) -> Look:
    """The look of some images by their copies (32, 36); of those without one, none."""
    read = [(index, copy) for index, copy in items if copy is not None]
    indices = np.array([index for index, _ in read], np.int64)
    copies = np.array([copy for _, copy in read], np.uint8).reshape(-1, _HIGH * _WIDE)
    kept = copies.std(1) >= CONTRAST
    indices, copies = indices[kept], copies[kept]
    cells = copies.reshape(-1, 8, _HIGH // 8, 9, _WIDE // 9).mean((2, 4))  # (images, 8, 9)
    bits = np.packbits(cells[:, :, :-1] < cells[:, :, 1:], axis=None).reshape(-1, 8)
    return Look(len(read), indices, bits.view(np.uint64).reshape(-1), copies)


def _unit(copies: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Copies of mean 0 and length 1, whose products are correlations."""
    flat: NDArray[np.float32] = copies - copies.mean(1, keepdims=True, dtype=np.float32)
    flat /= np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6)
    return flat


def _copy(path: Path) -> NDArray[np.uint8]:
    """A grey copy (32, 36) of an image."""
    try:
        with opened(path) as image:
            image.draft("L", (2 * _WIDE, 2 * _HIGH))  # a JPEG is decoded at a fraction of its size
            grey = image.convert("L").resize((_WIDE, _HIGH), Image.Resampling.BOX)
    except DataError:
        raise
    except Exception as error:  # damaged files raise nearly anything
        raise DataError(f"{path}: damaged: {' '.join(str(error).split()) or type(error).__name__}") from error
    return np.asarray(grey)


def _near(look: Look, others: Look) -> list[tuple[int, int]]:
    """Index and index of another image that is nearly the same: the one that correlates most."""
    pairs = []
    for start in range(0, len(look.hashes), _ROWS):
        part = slice(start, start + _ROWS)
        differing = np.bitwise_count(look.hashes[part, None] ^ others.hashes[None])  # (rows, others)
        columns = np.flatnonzero((differing <= BITS).any(0))
        if not len(columns):
            continue
        alike = _unit(look.copies[part]) @ _unit(others.copies[columns]).T
        alike[differing[:, columns] > BITS] = 0
        best = alike.argmax(1)
        rows = np.flatnonzero(alike.max(1) >= ALIKE)
        pairs += [(int(look.indices[start + row]), int(others.indices[columns[best[row]]])) for row in rows]
    return pairs
