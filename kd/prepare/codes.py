"""What masks hold, and the arguments of `kd.data.Folders` that give it a meaning."""

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from kd.constants import IGNORE
from kd.data.images.decode import Header, read_header
from kd.data.images.read import is_grey, read_mask
from kd.data.masks.class_files import file_rows
from kd.data.masks.classes import IGNORED, Classes, color_of, read_classes
from kd.data.masks.encoding import count_codes, read_codes, shades
from kd.data.masks.meaning import WHITE, Meaning
from kd.data.masks.unknown import ranges
from kd.errors import DataError
from kd.units import counted

MAX_CLASSES = 64  # without names: more numbers or colours than that are edges or instances
RARE = 0.01  # share of the pixels that may be of no class
_MAX_CODES = 100_000
_THREADS = 2
_LOOKED_AT = 50  # masks, for soft edges
_DARK = 32  # shades below this are black, and as far from 255 white
_FEW = 5  # pictures, to tell masks from images
_SHADES = 4  # between black and white, from which they are edges
_BLACK_AND_WHITE = {0, 0xFFFFFF}
_WORDS = ("class", "label", "categor", "codes")
_MAPS = ("obj.names", "names.txt", "dataset.json")  # the last is nnU-Net's
_BACKGROUNDS = ("background", "_background_", "__background__", "bg")
_IGNORED = (IGNORED, "__ignore__", "void", "unlabeled", "unlabelled")


def is_background(label: str) -> bool:
    """Whether a label is one of the names of the background."""
    return label.lower() in _BACKGROUNDS


def is_ignored(label: str) -> bool:
    """Whether a label is one of the names of what is no class."""
    return label.lower() in _IGNORED


@dataclass
class Codes:
    """The numbers or colours in masks."""

    colors: bool  # whether colours decide
    counts: Counter[int] = field(default_factory=Counter)  # pixels of each code
    masks: int = 0

    def shares(self) -> dict[int, float]:
        """The share of each code, the commonest first."""
        total = max(1, self.counts.total())
        return {code: count / total for code, count in self.counts.most_common()}


def find_map(folders: Sequence[Path]) -> tuple[Path | None, list[str]]:
    """A class map in one of these folders, and lines about files that only looked like one.

    Args:
        folders: in which a file is one whose name speaks of classes or labels.

    Raises:
        DataError: a file that is called a map, or one of classes, is none.
    """
    notes: list[str] = []
    for folder in dict.fromkeys(folders):
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            text = path.stem.lower()
            kind = path.suffix.lower()
            is_map = any(word in text for word in _WORDS) or path.name.lower() in _MAPS
            if not (is_map and kind in (".csv", ".txt", ".names", ".yaml", ".yml", ".json") and path.is_file()):
                continue
            try:
                read_classes(str(path))
            except DataError as error:
                if "class" in text or "map" in text:
                    raise
                notes.append(f"warning: not a class map: {error}")  # such as the labels of whole images
            else:
                return path, notes
    return None, notes


def read_map(path: Path) -> tuple[Classes, dict[str, Any] | list[str]]:
    """A class map, and the same as `classes` of a recipe.

    Raises:
        DataError: it is none.
    """
    known = read_classes(str(path))
    rows = file_rows(path)
    if known.by_index:
        return known, [name for name, _ in rows]
    return known, {
        name: list(map(_plain, markers)) if len(markers) > 1 else _plain(markers[0]) for name, markers in rows
    }


def _plain(marker: int | Sequence[int]) -> Any:
    return marker if isinstance(marker, int) else list(marker)


def count(masks: Sequence[Path], *, colors: bool) -> Codes:
    """The codes in all masks.

    Args:
        masks: the files.
        colors: whether a class map gives colours.

    Raises:
        DataError: a mask cannot be read, or holds more codes than any class map.
    """
    found = Codes(colors)
    meaning = Meaning(("", "", ""), {0: 0}, colors)

    def counts_of(path: Path) -> dict[int, int]:
        return count_codes(read_codes(path, meaning))

    with ThreadPoolExecutor(_THREADS) as pool:
        for counts in pool.map(counts_of, masks):
            found.counts.update(counts)
            found.masks += 1
            if len(found.counts) > _MAX_CODES:
                what = "colours" if colors else "numbers"
                held = f"more than {_MAX_CODES:,} {what} in {counted(found.masks, 'mask')}"
                raise DataError(f"{masks[found.masks - 1]}: {held}; give masks with one for each class")
    return found


def hold_colors(masks: Sequence[Path], headers: Sequence[Header]) -> bool:
    """Whether a mask shows colours: RGB that is not grey."""
    for path, header in zip(masks, headers, strict=True):
        if header.mode in ("RGB", "RGBA") and not is_grey(read_mask(path).values):
            return True
    return False


def are_soft(masks: Sequence[Path], headers: Sequence[Header]) -> bool:
    """Whether masks are black and white with soft edges: nearly all pixels are at the ends, the others of any shade."""
    counts = np.zeros(256, dtype=np.int64)
    for path, header in zip(masks[:_LOOKED_AT], headers[:_LOOKED_AT], strict=True):
        if header.mode not in ("L", "RGB", "1"):
            return False
        counts += np.bincount(shades(read_mask(path)).ravel(), minlength=256)
    between = counts[_DARK : 256 - _DARK]
    is_mixed = int((between > 0).sum()) >= _SHADES or any(header.lossy for header in headers)
    return is_mixed and counts[256 - _DARK :].sum() > 0 and bool(between.sum() < 0.1 * counts.sum())


def hold_classes(paths: Sequence[Path]) -> bool:
    """Whether pictures are masks: few colours in each, or black and white with soft edges."""
    some = paths[:: max(1, len(paths) // _FEW)][:_FEW]
    values = [read_mask(path).values for path in some]
    flat = [found.reshape(-1, found.shape[2] if found.ndim == 3 else 1) for found in values]
    return all(len(np.unique(found, axis=0)) <= MAX_CLASSES for found in flat) or are_soft(
        some, [read_header(path) for path in some]
    )


def meaning_of(masks: Sequence[Path], class_map: Path | None) -> tuple[dict[str, Any], list[str]]:
    """The arguments `classes`, `values`, `rest` and `threshold` for masks, and lines for the user.

    Args:
        masks: the files.
        class_map: a file with names, numbers or colours; None if there is none.

    Raises:
        DataError: the masks cannot be read, or what they hold has no meaning without a class map.
    """
    headers = [read_header(path) for path in masks]
    known, written = read_map(class_map) if class_map else (None, [])
    where = str(class_map)
    lossy = [header.lossy for header in headers if header.lossy]
    two = known is None or len(known.names) == 2
    colors = known.colors is not None if known and not known.by_index else hold_colors(masks, headers)
    grey = not colors or (known is not None and known.codes.keys() <= _BLACK_AND_WHITE)
    if two and grey and are_soft(masks, headers):
        names = _by_code(known) if known else ["background", "foreground"]
        edges = f"edges blurred by {lossy[0]}" if lossy else "soft edges"
        return {"classes": names, "threshold": 128}, [
            f"masks are black and white with {edges}: from shade 128 up a pixel is {names[1]}"
        ]
    found = count(masks, colors=colors)
    nodata = {code: share for code, share in found.shares().items() if code < 0}  # what GDAL calls so
    for code in nodata:
        del found.counts[code]
    if not found.counts:
        raise _one_value(masks[0], ranges(sorted(nodata)))
    if known is None:
        args, notes = _unnamed(found, masks[0])
    elif known.by_index:
        args, notes = _listed(found, known, written, where)
    else:
        args, notes = _mapped(found, known, written, where)
    if nodata:
        args["values"] = {**args.get("values", {}), **dict.fromkeys(nodata, IGNORED)}
    notes += [f"{code} ({100 * share:.1f} % of the pixels) is ignored" for code, share in nodata.items()]
    return _without_void(args, notes)


def _without_void(args: dict[str, Any], notes: list[str]) -> tuple[dict[str, Any], list[str]]:
    """The same, in which a class that is called void, or so, is ignored, if two others remain."""
    classes = args["classes"]
    void = [name for name in classes if is_ignored(name)]
    if len(void) != 1 or void == [IGNORED] or len(classes) < 3:
        return args, notes

    def new(name: str) -> str:
        return IGNORED if name == void[0] else name

    if isinstance(classes, dict):
        args["classes"] = {new(name): marks for name, marks in classes.items()}
    else:
        args["classes"] = [new(name) for name in classes]
    if "values" in args:
        args["values"] = {code: new(name) for code, name in args["values"].items()}
    return args, [*notes, f"{void[0]} is no class: its pixels are ignored"]


def _mapped(found: Codes, known: Classes, written: Any, where: str) -> tuple[dict[str, Any], list[str]]:
    """The meaning under a class map of colours or numbers."""
    shares = found.shares()
    unknown = {code: share for code, share in shares.items() if code not in known.codes}
    if not known.colors:
        unknown.pop(IGNORE, None)
    if not unknown:
        return {"classes": written}, []
    greys = {color_of(code)[0] for code in shares if len(set(color_of(code))) == 1} if found.colors else set()
    if (
        len(greys) == len(shares)
        and max(greys - {IGNORE}, default=WHITE) < len(known.names)
        and shares.keys() & known.codes.keys() <= _BLACK_AND_WHITE
    ):
        names = _by_code(known) if len(known.names) == 2 and 0 in known.codes else list(known.names)
        numbers = f"0 is {names[0]}, 1 is {names[1]}" + (", …" if len(names) > 2 else "")
        return {"classes": names}, [f"masks hold numbers, not the colours of {where}: {numbers}"]
    if unknown.keys() == {0} and unknown[0] > RARE and not any(map(is_background, known.names)):
        note = f"masks hold {_code(found, 0)}, which {where} lacks: it is taken for the background"
        return {"classes": {"background": list(color_of(0)) if found.colors else 0, **written}}, [note]
    listed = _listed_codes(found, unknown)
    if sum(unknown.values()) > RARE:
        raise DataError(
            f"{where}: {listed} of the masks are missing; add them, under the name ignore if they are no class"
        )
    return {"classes": written, "rest": "ignore"}, [f"warning: {listed} are in no class of {where}: ignored"]


def _by_code(known: Classes) -> list[str]:
    """The names of the classes, that of the darkest colour or smallest number first."""
    labels = [label for _, label in sorted(known.codes.items()) if label != IGNORE]
    return [known.names[label] for label in dict.fromkeys(labels)]


def _listed(found: Codes, known: Classes, written: Any, where: str) -> tuple[dict[str, Any], list[str]]:
    """The meaning under names alone."""
    names, shares = list(known.names), found.shares()
    if found.colors:
        lines = ", ".join(f"{_code(found, code)} ({100 * share:.1f} %)" for code, share in list(shares.items())[:12])
        raise DataError(
            f"{where}: names alone, but the masks hold {len(shares)} colours: {lines}; "
            "write name,r,g,b a line into a CSV file, and add --classes FILE"
        )
    codes = sorted(set(shares) - {IGNORE})
    positions = set(known.codes)
    if set(shares) == {0, WHITE} and len(names) == 2:
        names.sort(key=is_background, reverse=True)
        return {"classes": names, "values": {0: names[0], WHITE: names[1]}}, [
            f"masks hold 0 and 255: 255 is {names[1]}"
        ]
    if set(codes) <= positions:
        return {"classes": written}, []
    if 0 not in codes and set(codes) <= set(range(1, len(names) + 1)):
        values = dict(enumerate(names, 1))
        return {"classes": names, "values": values}, [
            f"masks never hold 0: {where} numbers its names from 1",
        ]
    if codes == list(range(len(names) + 1)) and not any(map(is_background, names)):
        note = f"masks hold 0 … {len(names)} for {len(names)} names in {where}: 0 is taken for the background"
        return {"classes": ["background", *names]}, [note]
    if len(codes) == len(names):
        values = dict(zip(codes, names, strict=True))
        return {"classes": names, "values": values}, [f"masks hold {ranges(codes)}: the names of {where} in this order"]
    raise DataError(
        f"{where}: {len(names)} names, but the masks hold {ranges(codes)}; write name,number a line into a CSV file, "
        "and add --classes FILE"
    )


def _unnamed(found: Codes, example: Path) -> tuple[dict[str, Any], list[str]]:
    """The meaning without names: black or 0 is the background."""
    shares = found.shares()
    rest: dict[str, Any] = {}
    note = "no file of class names: kd init --classes FILE gives classes their names"
    if len(shares) > MAX_CLASSES:
        common = {code: share for code, share in shares.items() if share >= 0.001}
        if found.colors and 2 <= len(common) <= MAX_CLASSES and sum(common.values()) > 0.9:
            shares, rest = common, {"rest": "ignore"}
        else:
            what = "colours" if found.colors else "numbers"
            held = f"the masks hold {len(shares)} {what}, too many for classes"
            raise DataError(
                f"{example}: {held}; export one number a class if they are edges or instances, or add --classes FILE"
            )
    codes = sorted(shares)
    if found.colors:
        classes: Any = {("background" if code == 0 else f"color_{code:06x}"): list(color_of(code)) for code in codes}
        if len(classes) < 2:
            raise _one_value(example, _code(found, codes[0]))
        return {"classes": classes, **rest}, [note]
    if codes == [0, WHITE]:
        classes = ["background", "foreground"]
        return {"classes": classes, "values": {0: classes[0], WHITE: classes[1]}}, [
            "masks hold 0 and 255: 255 is foreground"
        ]
    if codes[-1] > WHITE:
        what = f"the masks hold {ranges(codes)}, and numbers above 255 are ids of instances"
        raise DataError(f"{example}: {what}; export one number a class, or add --classes FILE")
    numbers = [code for code in codes if code != IGNORE]
    if len(numbers) < 2:
        raise _one_value(example, ranges(codes))
    names = ["background" if code == 0 else f"class {code}" for code in numbers]
    if numbers == list(range(len(numbers))):
        return {"classes": names}, [note]
    return {"classes": dict(zip(names, numbers, strict=True))}, [note]


def _one_value(example: Path, value: str) -> DataError:
    return DataError(f"{example}: all masks hold {value} alone; give masks of at least 2 classes")


def _listed_codes(found: Codes, codes: dict[int, float]) -> str:
    listed = ", ".join(_code(found, code) for code in list(codes)[:8])
    more = f" and {len(codes) - 8} more" if len(codes) > 8 else ""
    what = "colours" if found.colors else "numbers"
    return f"{what} {listed}{more} ({100 * sum(codes.values()):.2f} % of the pixels)"


def _code(found: Codes, code: int) -> str:
    return str(color_of(code)) if found.colors else str(code)
