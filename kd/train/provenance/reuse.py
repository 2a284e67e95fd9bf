"""Whether a run that is there already may be used again: only for the inputs that it was made from."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path

from kd.console import Say
from kd.errors import DataError, InputsError, LockedError, RecipeError, StorageError
from kd.parts.assemble import Parts
from kd.parts.data import Data
from kd.recipe import Recipe
from kd.runs import (
    forget_teacher_score,
    id_of,
    is_finished,
    locked,
    read_run_recipe,
    replace_inputs,
    teacher_directories,
)
from kd.train.provenance.inputs import Compared, accepted, compare, find, has_begun, in_result
from kd.train.provenance.record import Record


@dataclass(frozen=True)
class Asked:
    """What the user asked for, as it holds for one recipe of the command."""

    fresh: bool  # move its runs aside
    renew: bool  # move those aside that were made from other inputs
    accept_inputs: bool
    wait: bool  # for teachers and baselines
    command: str
    wait_for_own: bool = False

    def check(self, run_dir: Path, compared: Compared, recipe: Recipe) -> None:
        """Refuse a run of the recipe that was made from other inputs, unless the user accepts them.

        Raises:
            InputsError: the inputs differ.
        """
        if compared.is_refused and not self.accept_inputs:
            raise InputsError(run_dir, _other_root(run_dir, recipe) + compared.what, self.command)


def _other_root(run_dir: Path, recipe: Recipe) -> str:
    """Names both folders if the run was made from another one, where all files may differ; else an empty text."""
    now = recipe.data.args.get("root")
    with suppress(RecipeError, StorageError):  # a run without a readable recipe has no folder to name
        before = read_run_recipe(run_dir, trust=recipe.trust).data.args.get("root")
        return f"made from {before}, not from {now}: " if before != now else ""
    return ""


def is_kept(
    recipe: Recipe,
    run_dir: Path,
    data: Callable[[], Data],
    *,
    runs: Path,
    asked: Asked,
    say: Say,
    waiting: Callable[[], None],
    quiet: bool,
    lock: AbstractContextManager[None],
) -> bool:
    """Compare a run that is there already with what is there now; on rank 0.

    Args:
        recipe: of the run.
        run_dir: finished, stopped, or missing.
        data: builds or returns the datasets of the recipe.
        runs: where run directories are.
        asked: what becomes of a run from other inputs: it is kept and marked, moved aside or refused.
        say: takes the lines for the user.
        waiting: may raise to stop.
        quiet: show no progress.
        lock: locks the run directory, unless this process has locked it.

    Returns:
        Whether it is finished and is used as it is.

    Raises:
        InputsError: the inputs differ.
        DataError: the data of a finished run cannot be read.
        LockedError: a run that would be moved aside or marked is in use.
    """
    finished = is_finished(run_dir)
    if not finished and not has_begun(run_dir):
        return False
    try:
        splits, teacher = data(), next(iter(teacher_directories(recipe, runs)), None)
        found = find(recipe, splits.train, splits.val, teacher, splits.unlabelled(recipe))
        compared = compare(run_dir, found, waiting, quiet=quiet)
    except DataError as error:
        if not finished:
            raise
        if not asked.accept_inputs:
            raise DataError(
                f"{error}; {run_dir} is finished, but cannot be compared with its data: {asked.command} "
                "--accept-inputs keeps it as it is"
            ) from None
        return True
    if compared.is_refused and asked.renew:
        with locked(run_dir):  # another process may train it
            target = move_aside(run_dir)
        say(f"{run_dir}: {compared.what}; moved to {target}")
        return False
    asked.check(run_dir, compared, recipe)
    if finished:
        _keep(run_dir, compared, lock)
    return finished


def _keep(run_dir: Path, compared: Compared, lock: AbstractContextManager[None]) -> None:
    """Mark a finished run whose other inputs were accepted; keep the new stamps of files with the same content."""
    before, now, what, _ = compared
    if compared.is_refused:
        inputs = accepted(before or now, what, now)
        with lock:
            replace_inputs(run_dir, inputs, in_result(inputs))
    elif before is not None and not what and before.splits != now.splits:
        inputs = now.model_copy(update={"code": before.code, "note": before.note})
        with suppress(StorageError, LockedError), lock:  # without them, it is compared by content again next time
            replace_inputs(run_dir, inputs, in_result(inputs))


def start_record(
    parts: Parts, run_dir: Path, *, seed: int, asked: Asked, waiting: Callable[[], None], quiet: bool
) -> Record:
    """The record of a run that starts or resumes, compared with its earlier sessions; on rank 0, which has locked it.

    Raises:
        InputsError: the inputs differ.
    """
    found = find(parts.recipe, parts.train, parts.val, parts.teacher_run, parts.unlabelled)
    compared = compare(run_dir, found, waiting, quiet=quiet)
    asked.check(run_dir, compared, parts.recipe)
    now = compared.now
    if compared.is_refused:
        now = accepted(now, compared.what, now)
        forget_teacher_score(run_dir)  # it was computed from the other inputs
    return Record(run_dir, now.model_copy(update={"id": id_of(run_dir), "seed": seed}), found, seed=seed)


def move_aside(run_dir: Path) -> Path:
    """Rename a run directory to `seed<k>-before-<time>`; its new path."""
    while (target := run_dir.with_name(f"{run_dir.name}-before-{time.strftime('%Y%m%d-%H%M%S')}")).exists():
        time.sleep(0.1)  # another one was moved in this second
    run_dir.rename(target)
    return target
