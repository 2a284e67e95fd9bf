"""The curves of a run: the lines of its `metrics.jsonl`."""

import json
import warnings
from pathlib import Path
from typing import Any

from kd.errors import StorageError
from kd.reading import read_bytes

MAX_METRICS = 1_000_000_000  # bytes of metrics.jsonl: a run of some million steps


def read_metrics(run_dir: Path) -> list[dict[str, Any]]:
    """Read the lines of `metrics.jsonl`, oldest first; none without a file. An incomplete last line is left out.

    A damaged line is left out with a warning: a curve with a gap is still useful, and scores come from `result.json`.
    """
    file = run_dir / "metrics.jsonl"
    if not file.is_file():
        return []
    try:
        content = read_bytes(file, "the metrics of a run", StorageError, limit=MAX_METRICS, inside=run_dir)
    except StorageError as error:
        warnings.warn(f"{error}; its curves are left out", stacklevel=2)
        return []
    lines = []
    for number, line in enumerate(content.split(b"\n")[:-1], start=1):
        try:
            values = json.loads(line)
            if not isinstance(values["step"], int):
                raise TypeError
        except (ValueError, TypeError, KeyError, RecursionError):
            warnings.warn(f"{file}:{number}: not a line of metrics (the file is damaged); line skipped", stacklevel=2)
        else:
            lines.append(values)
    return lines
