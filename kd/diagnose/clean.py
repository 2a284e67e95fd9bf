"""`kd clean`: remove files that no run needs any more. Results, weights and metrics stay."""

import re
import shlex
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from kd.console import print_line, print_lines
from kd.errors import LockedError, RecipeError, StorageError, WeightsError
from kd.files.manifest import RESULT, WEIGHTS, read_verified
from kd.recipe import yaml12
from kd.runs import locked, read_result
from kd.units import data_size

STALE = 3600  # seconds: no process takes longer to write a file


class Removal(NamedTuple):
    """A file or folder that can be removed."""

    path: Path
    why: str
    run_dir: Path  # locked while it is removed

    @property
    def size(self) -> int:
        """Bytes of its files."""
        files = self.path.rglob("*") if self.path.is_dir() else [self.path]
        return sum(file.lstat().st_size for file in files if not file.is_dir())


def clean_command(runs: Path, *, yes: bool = False) -> None:
    """List what can be removed, and remove it if `yes`.

    Raises:
        StorageError: something cannot be removed.
    """
    removable = removals(runs)
    if not removable:
        print_line(f"{runs}: nothing to free")
        return
    sizes = [removal.size for removal in removable]
    rows = [(data_size(size), str(path), why) for size, (path, why, _) in zip(sizes, removable, strict=True)]
    print_lines(("size", "what", "why"), rows, whole=3)
    if not yes:
        print_line(f"{data_size(sum(sizes))} in all; {shlex.join(['kd', 'clean', str(runs), '--yes'])} frees it")
        return
    freed = sum(size for size, removal in zip(sizes, removable, strict=True) if _remove(removal))
    print_line(f"freed {data_size(freed)}")


def removals(runs: Path) -> list[Removal]:
    """What can be removed in a folder of runs, by path.

    - The checkpoints of a run that has its result and its weights, unless its recipe keeps them (`checkpoints: all`).
    - A run directory that `--fresh` moved aside: whole if it has no result, else its checkpoints.
    - Temporary files that killed processes left.
    """
    found: list[Removal] = []
    for run_dir in sorted(runs.glob("*-*/seed*")):
        try:
            found += list(_of_run(run_dir))
        except OSError as error:
            print_line(f"{run_dir}: cannot be read ({error.strerror}); it is left out")
    return found


def _of_run(run_dir: Path) -> Iterator[Removal]:
    aside = re.fullmatch(r"seed\d+-before-\d{8}-\d{6}", run_dir.name) is not None
    if run_dir.is_symlink() or not run_dir.is_dir() or not (aside or re.fullmatch(r"seed\d+", run_dir.name)):
        return
    if aside and not (run_dir / RESULT).exists():
        yield Removal(run_dir, "moved aside by --fresh, without a result", run_dir)
        return
    checkpoints = run_dir / "checkpoints"
    done = _are_ours(checkpoints) and _is_complete(run_dir) and not _keeps_all(run_dir)
    if done:
        yield Removal(checkpoints, f"checkpoints of a finished run{' that was moved aside' if aside else ''}", run_dir)
    oldest = time.time() - STALE
    for file in sorted(run_dir.rglob(".tmp-*")):
        covered = done and checkpoints in file.parents
        if not covered and file.is_file() and file.lstat().st_mtime < oldest:
            yield Removal(file, "left by a killed process", run_dir)


def _are_ours(checkpoints: Path) -> bool:
    """Whether it is a folder that holds only files that training writes."""
    ours = re.compile(r"step-\d+-[0-9a-f]{8}\.pt|index\.jsonl|\.tmp-.*")
    is_folder = checkpoints.is_dir() and not checkpoints.is_symlink()
    return is_folder and all(ours.fullmatch(file.name) for file in checkpoints.iterdir())


def _is_complete(run_dir: Path) -> bool:
    """Whether a run has a valid result and its weights; if not, `kd run` can still make them from the checkpoints."""
    try:
        read_result(run_dir)
        read_verified(run_dir, WEIGHTS)
    except (StorageError, WeightsError):
        return False
    return True


def _keeps_all(run_dir: Path) -> bool:
    """Whether the run's recipe keeps its checkpoints, or cannot be read."""
    file = run_dir / "recipe.yaml"
    try:
        root = yaml12.compose(yaml12.read_text(file, inside=run_dir), str(file))
    except RecipeError:
        return True
    recipe = yaml12.plain(root)[0] if root is not None else None
    train = recipe.get("train") if isinstance(recipe, dict) else None
    return not isinstance(train, dict) or train.get("checkpoints") == "all"


def _remove(removal: Removal) -> bool:
    """Remove it, unless a process uses its run directory; whether it was removed."""
    path = removal.path
    try:
        with locked(removal.run_dir):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
    except LockedError as error:
        print_line(str(error))
        return False
    except OSError as error:
        raise StorageError(f"{path}: cannot be removed ({error.strerror})") from None
    return True
