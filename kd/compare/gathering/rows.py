"""The rows of a comparison: a network is one for each of its roles, and one for each folder of runs that has it.

An assistant that was distilled, and teaches a smaller student, is a student with all its seeds and a teacher with the
seed that taught. Runs of one recipe in two folders are two rows, each beside its own baseline.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from kd.compare.comparison import ORDER, SAME_SCORE, Entry


class Rows:
    """Collects rows; their keys may be long until `ordered` gives them short ones."""

    def __init__(self) -> None:
        self._by_key: dict[str, Entry] = {}

    def add(self, entry: Entry) -> str:
        """Add a row, unless it is there; its key."""
        if entry.role == "alone" and self._has_all(entry):
            return entry.key
        if entry.role == "teacher" and (known := self._same_teacher(entry)) is not None:
            return known.key
        return self._by_key.setdefault(entry.key, entry).key

    def ordered(self) -> list[Entry]:
        """The rows by their roles, each with its short key: the folder of its runs, and what distinguishes it."""
        rows = sorted(self._by_key.values(), key=lambda row: ORDER.index(row.role))
        keys: dict[str, str] = {}
        for row in sorted(rows, key=lambda row: -ORDER.index(row.role)):  # a teacher's may need its student's
            keys[row.key] = _short_key(row, rows, keys)
        return [
            replace(row, key=keys[row.key], teacher=keys.get(row.teacher or ""), baseline=keys.get(row.baseline or ""))
            for row in rows
        ]

    def _has_all(self, entry: Entry) -> bool:
        """Whether other rows show all its runs, as a baseline or a teacher."""
        shown = {run_dir.resolve() for row in self._by_key.values() for run_dir in row.run_dirs}
        return all(run_dir.resolve() in shown for run_dir in entry.run_dirs)

    def _same_teacher(self, entry: Entry) -> Entry | None:
        """The row of a teacher with these runs and this score: at another size of images, it has another one."""
        for row in self._by_key.values():
            same = (row.role, row.name, row.run_dirs) == ("teacher", entry.name, entry.run_dirs)
            if same and abs(row.miou - entry.miou) < SAME_SCORE:
                return row
        return None


def _short_key(row: Entry, rows: Sequence[Entry], keys: Mapping[str, str]) -> str:
    """The folder of its runs; with its role, or the place of that folder, where other rows have one of that name."""
    key = row.folder
    others = [other for other in rows if other.folder == row.folder and other is not row]
    if any(ORDER.index(other.role) > ORDER.index(row.role) for other in others):
        key += f" as {row.role}"
    if elsewhere := {_place(other) for other in others if other.role == row.role} - {_place(row)}:
        key += f" in {_end(_place(row), elsewhere)}"
    if key in keys.values():  # one teacher, with another score
        key += f" for {next(keys[other.key] for other in rows if other.teacher == row.key)}"
    return key


def _place(row: Entry) -> Path:
    """The folder of runs that the row's are in."""
    return row.run_dirs[0].resolve().parents[1] if row.run_dirs else Path()


def _end(place: Path, others: Iterable[Path]) -> str:
    """As many of the last parts of a path as distinguish it from the others."""
    parts = place.parts
    ends = (parts[-number:] for number in range(1, len(parts)))
    return "/".join(next((end for end in ends if all(other.parts[-len(end) :] != end for other in others)), parts))
