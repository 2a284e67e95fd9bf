"""What images and masks hold, read as a run will read them, in numbers and in lines for the user."""

import hashlib
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any, NamedTuple

import numpy as np

from kd.constants import IGNORE
from kd.data.datasets.folders import Folders
from kd.data.images.decode import Header, read_header, size_text
from kd.data.splits.duplicates import find_shared

SECONDS = 60.0  # to read masks; what is left then is not counted, and this is said
_THREADS = 2
_GREY = ("1", "L", "LA", "I;16", "I;16B", "I", "F")
SHOWN = 3  # names in a line


class Look(NamedTuple):
    """A dataset in numbers."""

    images: Mapping[str, int]  # of each split
    sizes: Sequence[tuple[int, int]]  # (H, W) of every image
    grey: bool  # whether all images have one channel
    class_names: tuple[str, ...]
    shares: tuple[float, ...]  # of each class among the labelled pixels of train, 0 … 1
    lines: list[str]  # for the user
    only: str = ""  # the class of all labelled pixels, if all are of one


class _Mask(NamedTuple):
    """What the labels of an image hold."""

    name: str
    counts: np.ndarray[Any, np.dtype[np.int64]]  # (256,)
    digest: bytes


def look(args: Mapping[str, Any], *, seconds: float = SECONDS) -> Look:
    """Open a dataset as a run does, and read its headers and masks.

    Args:
        args: of `Folders`; `channels` is chosen here.
        seconds: the time for the masks.

    Raises:
        DataError: as `Folders`; an image or mask cannot be read.
    """
    splits = {"train": Folders(**args, split="train"), "val": Folders(**args, split="val")}
    headers = {split: [read_header(pair.image) for pair in data.pairs] for split, data in splits.items()}
    flat = [header for listed in headers.values() for header in listed]
    modes = Counter(header.mode for header in flat)
    for split, data in splits.items():
        for mode in modes:
            at = next((i for i, header in enumerate(headers[split]) if header.mode == mode), None)
            if at is not None:
                data[at, 0]  # refuses what no run can read, such as 16 bits or transparency
    deadline = time.monotonic() + seconds
    masks = {split: list(_masks(data, deadline)) for split, data in splits.items()}
    names = splits["train"].class_names
    counts = {split: np.array([mask.counts for mask in found]).sum(0) for split, found in masks.items()}
    labelled = counts["train"][: len(names)]
    shares = tuple((labelled / max(1.0, labelled.sum())).tolist())
    sizes = [header.size for header in flat]
    lines = [
        _images_line(headers, modes, sizes),
        *_class_lines(names, counts, {split: len(found) for split, found in masks.items()}, splits),
        *_doubtful(masks, len(names)),
        *(note for data in splits.values() for note in data.notes),
    ]
    shared, note = find_shared(splits)
    lines += [line for found in shared for line in found.lines()] + ([note] if note else [])
    images = {split: len(data) for split, data in splits.items()}
    shown = sum(counts.values())[: len(names)]
    present = [name for name, pixels in zip(names, shown, strict=True) if pixels]
    everything = all(len(found) == images[split] for split, found in masks.items())
    only = present[0] if len(present) == 1 and everything else ""
    return Look(images, sizes, all(mode in _GREY for mode in modes), names, shares, lines, only)


def _masks(data: Folders, deadline: float) -> Iterator[_Mask]:
    """The labels of a split, in order, until the time is over."""

    def read(index: int) -> _Mask:
        labels = data.labels(index)
        assert labels is not None
        values = labels.numpy()
        digest = hashlib.blake2b(values.tobytes() + bytes(str(values.shape), "ascii"), digest_size=16).digest()
        return _Mask(data.names[index], np.bincount(values.ravel(), minlength=256), digest)

    left = iter(range(len(data)))
    with ThreadPoolExecutor(_THREADS) as pool:
        while chunk := list(islice(left, 32)):
            yield from pool.map(read, chunk)
            if time.monotonic() > deadline:
                return


def _images_line(headers: Mapping[str, list[Header]], modes: Counter[str], sizes: Sequence[tuple[int, int]]) -> str:
    common = Counter(sizes).most_common()
    held = size_text(common[0][0])
    if len(common) > 1:
        by_area = sorted(sizes, key=lambda size: size[0] * size[1])
        held = f"{size_text(by_area[0])} to {size_text(by_area[-1])}, most often {held}"
    counted = " + ".join(f"{len(found)} {split}" for split, found in headers.items())
    counts: Counter[str] = Counter()
    for mode, count in modes.items():
        counts[_kind(mode)] += count
    kinds = ", ".join(f"{count} {kind}" for kind, count in counts.most_common())
    turned = sum(header.turn != 1 for found in headers.values() for header in found)
    by_tag = f", {turned} turned by an EXIF tag" if turned else ""
    return f"images: {counted} of {held}, {kinds}{by_tag}"


def _kind(mode: str) -> str:
    if mode == "1":
        return "black and white, 1 bit"
    bits = "16 bits" if mode.startswith("I") else "8 bits"
    return f"in {'grey' if mode in _GREY else 'palette' if mode.startswith('P') else 'colour'}, {bits}"


def _class_lines(
    names: Sequence[str], counts: Mapping[str, Any], read: Mapping[str, int], splits: Mapping[str, Folders]
) -> list[str]:
    """A line for each class, and warnings about those that are rare or missing."""
    lines = []
    totals = {split: max(1.0, float(found[: len(names)].sum())) for split, found in counts.items()}
    for index, name in enumerate(names):
        shares = ", ".join(f"{split} {100 * counts[split][index] / totals[split]:.2f} %" for split in counts)
        lines.append(f"{index:>3} {name}: {shares}")
    if any(found[IGNORE] for found in counts.values()):
        shares = ", ".join(f"{split} {100 * found[IGNORE] / found.sum():.2f} %" for split, found in counts.items())
        lines.append(f"{IGNORE} ignored: {shares} of all pixels")
    for split, found in counts.items():
        missing = [name for index, name in enumerate(names) if not found[index]]
        if missing:
            lines.append(f"warning: {split}: no pixel of {', '.join(missing)}")
        everything = float(found.sum())
        if everything and found[IGNORE] > everything / 2:
            lines.append(f"warning: {split}: {100 * found[IGNORE] / everything:.1f} % of the pixels are ignored")
        if read[split] < len(splits[split]):
            lines.append(f"{split}: {read[split]} of {len(splits[split])} masks counted, as many as the time allows")
    present = [value for value in counts["train"][: len(names)].tolist() if value]
    if len(present) > 1 and max(present) > 100 * min(present):
        lines.append(
            f"imbalance: the commonest class has {max(present) / min(present):.0f} times the pixels of the rarest"
        )
    return lines


def _doubtful(masks: Mapping[str, list[_Mask]], classes: int) -> list[str]:
    """Warnings about masks that hold one class alone, or that are the same for several images."""
    flat = [mask for found in masks.values() for mask in found]
    empty = [mask.name for mask in flat if (mask.counts[:classes] > 0).sum() == 0]
    ground = [mask.name for mask in flat if (mask.counts[:classes] > 0).sum() == 1 and mask.counts[0]]
    seen: dict[bytes, str] = {}
    same = []
    for mask in flat:
        if (mask.counts[:classes] > 0).sum() > 1 and seen.setdefault(mask.digest, mask.name) != mask.name:
            same.append(f"{mask.name} = {seen[mask.digest]}")
    lines = []
    if empty:
        lines.append(f"warning: {_some(empty)}: no labelled pixel")
    if ground and len(ground) < len(flat):
        lines.append(f"{_some(ground)}: background alone")
    if same:
        lines.append(f"warning: suspicious pairs: different images with the same mask: {_some(same)}")
    return lines


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{', '.join(names[:SHOWN])}{more}"
