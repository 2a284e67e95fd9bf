"""The curves of a run: the lines of its `metrics.jsonl`."""

import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Ge, Le

from kd.errors import StorageError
from kd.files.checked import checked
from kd.files.manifest import METRICS, has_file, read_verified

_Whole = Annotated[int, Ge(-(2**63)), Le(2**63)]  # a larger one is infinite, as 1e400 is, and no step
_Line = dict[str, _Whole | float]  # NaN too: the mIoU of images without labels


def read_metrics(run_dir: Path) -> list[dict[str, Any]]:
    """Read the lines of `metrics.jsonl`, oldest first; none without a file. An incomplete last line is left out.

    A damaged line of an unfinished run is left out with a warning, and so are all curves of a finished run whose file
    has changed: scores come from `result.json`.
    """
    return list(_parsed(run_dir, enumerate(_lines(run_dir), start=1)))


def latest(run_dir: Path) -> tuple[int, float | None]:
    """The last step of a run's curves, and its latest mIoU on the validation split; (0, None) without curves."""
    lines = _lines(run_dir)
    last = next(_parsed(run_dir, _newest_first(lines)), None)
    scored = next(_parsed(run_dir, ((n, line) for n, line in _newest_first(lines) if b'"val/miou"' in line)), None)
    return last["step"] if last else 0, scored.get("val/miou") if scored else None


def _lines(run_dir: Path) -> list[bytes]:
    try:
        if not has_file(run_dir, METRICS):
            return []
        return read_verified(run_dir, METRICS).split(b"\n")[:-1]
    except StorageError as error:
        warnings.warn(f"{error}; its curves are left out", stacklevel=3)
        return []


def _newest_first(lines: list[bytes]) -> Iterator[tuple[int, bytes]]:
    return ((number, lines[number - 1]) for number in range(len(lines), 0, -1))


def _parsed(run_dir: Path, lines: Iterable[tuple[int, bytes]]) -> Iterator[dict[str, Any]]:
    """The lines that are valid, each with the number that a warning names it by."""
    for number, line in lines:
        where = f"{run_dir / METRICS}:{number}"
        try:
            values = checked(line, _Line, where)
            if not isinstance(values.get("step"), int):
                raise StorageError(f"{where}: no step")
        except StorageError:
            warnings.warn(f"{where}: not a line of metrics (the file is damaged); line skipped", stacklevel=3)
        else:
            yield values
