"""The score of a run's teacher, computed once before the run trains: `teacher.json` and `teacher-counts.npz`."""

import hashlib
import os
import warnings
from pathlib import Path

from pydantic import BaseModel

from kd.errors import StorageError
from kd.files.checked import STRICT, Count, read_sealed, seal
from kd.files.manifest import Id, Sha256
from kd.files.reading import read_bytes
from kd.files.storage import write_atomic
from kd.runs.counts import TEACHER_COUNTS, write_counts
from kd.runs.result import SplitResult, per_image, plain

TEACHER = "teacher.json"


class _TeacherScore(BaseModel):
    """The content of `teacher.json`."""

    model_config = STRICT

    id: Id
    seed: Count
    split: SplitResult
    counts: Sha256 | None = None  # of `teacher-counts.npz`
    sha256: Sha256  # of this file, see `kd.files.checked.seal`


def write_teacher_score(run_dir: Path, split: SplitResult, *, id: str, seed: int) -> None:
    """Write `teacher-counts.npz` and `teacher.json`: the teacher's score, computed once before the run trains."""
    counts = write_counts(run_dir / TEACHER_COUNTS, per_image({"val": split}))
    digest = hashlib.sha256(counts).hexdigest() if counts else None
    write_atomic(run_dir / TEACHER, seal({"id": id, "seed": seed, "split": plain(split), "counts": digest}))


def has_teacher_score(run_dir: Path) -> bool:
    """Whether the run has a `teacher.json`."""
    return os.path.isfile(run_dir / TEACHER)  # False in a directory that nobody may look into


def forget_teacher_score(run_dir: Path) -> None:
    """Remove `teacher.json`: the teacher is scored again."""
    (run_dir / TEACHER).unlink(missing_ok=True)


def read_teacher_score(run_dir: Path, *, id: str, seed: int) -> SplitResult | None:
    """Read a run's `teacher.json`; None without one, and with a warning if it is damaged or of another run.

    The teacher is then scored again, which costs an evaluation.
    """
    if not has_teacher_score(run_dir):
        return None
    try:
        score = read_sealed(run_dir / TEACHER, _TeacherScore)
        if (score.id, score.seed) != (id, seed):
            raise StorageError(f"{run_dir / TEACHER}: is of run {score.id}, seed {score.seed}")
        counts = run_dir / TEACHER_COUNTS
        if score.counts is not None and score.counts != _digest(counts):
            raise StorageError(f"{counts}: missing or changed after kd wrote it")
    except StorageError as error:
        warnings.warn(f"{error}; the teacher is scored again", stacklevel=2)
        return None
    return score.split


def _digest(file: Path) -> str:
    return hashlib.sha256(read_bytes(file, "the counts of a run", StorageError)).hexdigest()
