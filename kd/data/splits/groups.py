"""Which images belong together, such as those of a patient: by a pattern of their names, or by a CSV file."""

import re
from collections.abc import Iterable
from pathlib import Path, PurePath
from unicodedata import normalize

from kd.data.images.names import without_suffix
from kd.errors import DataError, shorten
from kd.files.reading import MAX_DATA, csv_rows, read_text

SHOWN = 3  # names in a message
MAX_PATTERN = 200  # characters


def check_group(group: str) -> None:
    """Check `group` of `Folders` without opening a file.

    Raises:
        ValueError: it is neither a CSV file nor a regular expression with one group.
    """
    if _is_file(group):
        if PurePath(group).is_absolute() or ".." in PurePath(group).parts:
            raise ValueError(f"Folders: group '{group}' leads out of root; give a path inside root")
        return
    if len(group) > MAX_PATTERN:
        raise ValueError(f"Folders: group has {len(group)} characters; a pattern has at most {MAX_PATTERN}")
    try:
        groups = re.compile(group).groups
    except re.error as error:
        raise ValueError(f"Folders: group '{group}' is not a regular expression ({error})") from None
    if groups != 1:
        raise ValueError(
            f"Folders: group '{group}' has {groups} groups in parentheses, but needs one, which is the same for images "
            "that belong together, such as '(patient\\d+)_'"
        )


def groups_of(names: Iterable[str], group: str, root: Path, *, inside: Path | None = None) -> dict[str, str]:
    """Name -> group, for every name.

    Args:
        names: of the images, without their suffixes.
        group: a regular expression with one group, searched for in each name; or the path, under `root`, of a CSV file
            with the columns name and group.
        root: of the dataset.
        inside: a folder that the file must not be a link out of.

    Raises:
        DataError: an image has no group, or two; the file cannot be read.
    """
    if _is_file(group):
        source, given = f"in {root / group}", _from_file(root / group, inside)
        found = {name: given.get(name, given.get(name.rpartition("/")[2])) for name in names}
    else:
        source, pattern = f"by the pattern '{group}'", re.compile(group)
        matches = {name: pattern.search(name) for name in names}
        found = {name: match[1] if match else None for name, match in matches.items()}
    missing = [name for name, of_name in found.items() if of_name is None]
    if missing:
        more = f" and {len(missing) - SHOWN} more" if len(missing) > SHOWN else ""
        raise DataError(
            f"Folders: {len(missing)} of {len(found)} images have no group {source}: "
            f"{', '.join(missing[:SHOWN])}{more}; give every image one"
        )
    return {name: of_name for name, of_name in found.items() if of_name is not None}


def _is_file(group: str) -> bool:
    return group.lower().endswith(".csv")


def _from_file(path: Path, inside: Path | None) -> dict[str, str]:
    """Name, without the suffix of an image -> group, from a CSV file; a row without either is passed over."""
    text = read_text(path, "a CSV file of groups", DataError, limit=MAX_DATA, inside=inside)
    rows = csv_rows(text, path, DataError)
    titles = [title.strip() for title in next(rows, (1, []))[1]]
    missing = [title for title in ("name", "group") if title not in titles]
    if missing:
        raise DataError(f"{path}: no column {' and '.join(missing)}; its first line must be name,group")
    found: dict[str, tuple[str, int]] = {}
    for line, row in rows:
        cells = dict(zip(titles, (cell.strip() for cell in row), strict=False))
        name = without_suffix(normalize("NFC", cells.get("name", "").replace("\\", "/")))
        if not (name and (group := cells.get("group"))):
            continue
        other, first = found.setdefault(name, (group, line))
        if group != other:
            raise DataError(
                f"{path}:{line}: {shorten(name)} is in group '{shorten(group)}', but in group '{shorten(other)}' by "
                f"line {first}; remove one of the two"
            )
    return {name: group for name, (group, _) in found.items()}
