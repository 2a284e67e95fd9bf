"""Run directories whose files a test has changed."""

import json
from pathlib import Path

from kd.runs.result import write_manifest


def list_anew(run_dir: Path) -> Path:
    """Write the manifest of a finished run again, after a test has written its files; the run directory."""
    result = json.loads((run_dir / "result.json").read_text())
    write_manifest(run_dir, id=result["id"], seed=result["seed"])
    return run_dir


def unfinish(run_dir: Path) -> None:
    """Leave a run as if it had been killed before its result was written."""
    for name in ("manifest.json", "result.json"):
        (run_dir / name).unlink()
