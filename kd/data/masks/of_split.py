"""What the masks of a split hold together: checks that no single mask allows, within a bounded time."""

import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from kd.data.images.decode import Header
from kd.data.images.files import Pair
from kd.data.images.read import read_mask
from kd.data.masks.encoding import count_codes, lossy_mask, read_codes, shades
from kd.data.masks.meaning import WHITE, Meaning
from kd.data.masks.unknown import UnknownCodesError, how_many, message, ranges, values_line
from kd.data.words import yaml_word
from kd.errors import DataError

In = TypeVar("In")
Out = TypeVar("Out")

SECONDS = 10.0  # at most, to read the masks of a split
_KINDS = {
    "1": "black-and-white",
    "L": "grey",
    "LA": "grey",
    "P": "palette",
    "PA": "palette",
    "RGB": "RGB",
    "RGBA": "RGB",
}
_THREADS = 4
_DOUBTFUL = 32  # shades: as far from black and from white, a pixel of a compressed mask is an edge


def refuse_lossy(masks: Sequence[Path], headers: Sequence[Header], meaning: Meaning) -> None:
    """Refuse masks in an encoding that changes values, unless they are separated by a threshold.

    Raises:
        DataError: names the first, and how many there are.
    """
    lossy = [(path, header.lossy) for path, header in zip(masks, headers, strict=True) if header.lossy]
    if lossy and meaning.threshold is None:
        path, encoding = lossy[0]
        masks_so = f" ({len(lossy)} of {len(masks)} masks)" if len(lossy) > 1 else ""
        raise DataError(f"{path}: {lossy_mask(encoding, meaning, masks_so)}")


def kinds_note(masks: Sequence[Path], headers: Sequence[Header], meaning: Meaning) -> list[str]:
    """A line if the files differ in kind, with an example of each."""
    example: dict[str, Path] = {}
    counts: Counter[str] = Counter()
    for path, header in zip(masks, headers, strict=True):
        kind = _KINDS.get(header.mode, "16-bit")
        counts[kind] += 1
        example.setdefault(kind, path)
    if len(counts) < 2:
        return []
    listed = ", ".join(f"{count} {kind} (such as {example[kind]})" for kind, count in counts.most_common())
    held = "colours" if meaning.colors else "numbers"
    return [f"masks of several kinds: {listed}; classes and values decide for all: they hold {held}"]


def in_split(error: UnknownCodesError, pairs: Sequence[Pair], meaning: Meaning) -> DataError:
    """The error of a mask with unknown codes, with all unknown codes of its split."""
    total, read = Counter[int](), 0

    def counts_of(item: Pair) -> dict[int, int]:
        try:
            return _counts(item, meaning)
        except DataError:
            return {}  # reported when it is read as a sample

    for counts in in_time(counts_of, pairs):
        total.update(counts)
        read += bool(counts)
    counted = error.found.counts | total  # the mask itself may not be among those that were read in time
    return DataError(message(meaning, error.found._replace(counts=counted, masks=read, total=len(pairs))))


def refuse_black_and_white(pairs: Sequence[Pair], others: Callable[[], Sequence[Pair]], meaning: Meaning) -> None:
    """Refuse masks of two classes that hold only 0 and 255, where 255 would be ignored: the recipe must state it.

    A split that holds only background and ignored pixels is fine if a mask of another split holds the second class.

    Args:
        pairs: of the split.
        others: returns the pairs of the other splits.
        meaning: of the masks.

    Raises:
        DataError: with the share of the pixels that would be ignored, and the line that gives 255 a class.
    """
    if not meaning.ignores_white or len(meaning.names) != 2 or meaning.threshold is not None:
        return
    white = pixels = read = total = 0
    for split in (pairs, others):
        listed = split() if callable(split) else split
        total += len(listed)
        for counts in in_time(lambda item: _counts(item, meaning), listed):
            if counts.keys() - {0, WHITE}:
                return
            white, pixels, read = white + counts.get(WHITE, 0), pixels + sum(counts.values()), read + 1
        if not white:
            return
    line = values_line(meaning, {0: meaning.names[0], WHITE: meaning.names[1]})
    raise DataError(
        f"masks: only 0 and 255 occur in {how_many(read, total)}, and 255 is ignored by default: the whole foreground "
        f"({100 * white / pixels:.1f} % of the pixels) would be ignored; in data.args set {line}"
    )


def refuse_shifted(pairs: Sequence[Pair], meaning: Meaning) -> None:
    """Refuse a list of K names that count from 0 for masks that hold 1 … K, where `values` only adds the number K.

    Raises:
        DataError: with the line that numbers the classes from 1.
    """
    given, names = meaning.given or {}, meaning.names
    if not meaning.by_index or len(names) not in given or 0 in given or 0 not in meaning.codes:
        return
    seen = set[int]()
    for counts in in_time(lambda item: _counts(item, meaning), pairs):
        seen |= counts.keys()
        if 0 in seen:
            return
    if len(names) in seen:
        line = values_line(replace(meaning, given=None), dict(enumerate(names, 1)))
        raise DataError(
            f"masks: they hold {ranges(seen - {WHITE})} and never 0, but a list of names counts from 0; in "
            f"data.args set {line}, or add 0: {yaml_word(names[0])} to values if that is meant"
        )


def threshold_note(pairs: Sequence[Pair], meaning: Meaning) -> list[str]:
    """With a threshold, a line with the share of pixels that are neither black nor white."""
    if meaning.threshold is None:
        return []
    doubtful = pixels = read = 0
    for shown in in_time(lambda item: shades(read_mask(_mask(item))), pairs, seconds=SECONDS / 4):
        doubtful += int(((shown >= _DOUBTFUL) & (shown <= WHITE - _DOUBTFUL)).sum())
        pixels, read = pixels + shown.size, read + 1
    share = 100 * doubtful / max(pixels, 1)
    looked_at = f"shades {_DOUBTFUL} … {WHITE - _DOUBTFUL}; {how_many(read, len(pairs))}"
    return [f"threshold {meaning.threshold}: {share:.1f} % of the pixels are doubtful ({looked_at})"]


def in_time(function: Callable[[In], Out], items: Sequence[In], seconds: float = SECONDS) -> Iterator[Out]:
    """`function` of the items in order, several at a time, until the time is over."""
    end = time.monotonic() + seconds
    # Pillow decodes without the interpreter's lock; threads that ignore warnings may restore them in any order
    with warnings.catch_warnings(), ThreadPoolExecutor(_THREADS) as pool:
        start, size = 0, 1
        while start < len(items) and (start == 0 or time.monotonic() < end):
            yield from pool.map(function, items[start : start + size])
            start, size = start + size, min(4 * size, 64)


def _counts(item: Pair, meaning: Meaning) -> dict[int, int]:
    return count_codes(read_codes(_mask(item), meaning, item.turn))


def _mask(item: Pair) -> Path:
    assert item.mask is not None
    return item.mask
