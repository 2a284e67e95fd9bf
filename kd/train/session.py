"""The runs of one command: the teacher first, then the seeds of the recipe, then its baseline."""

import json
import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any

import torch

from kd import console, distributed
from kd.checkout import commit_of, state_of_kd
from kd.console import Say
from kd.data.dataset import FirstImages
from kd.errors import LockedError, NotDeterministicError, RecipeError, StorageError
from kd.machine import deterministic, hardware, slow_path, versions
from kd.memory import restart_peak
from kd.parts.assemble import Parts, assemble, with_length_of, with_trained_teacher
from kd.parts.data import Data
from kd.parts.dry_run import dry_run
from kd.parts.meeting import meet
from kd.recipe import Recipe, baseline_of, first_seed, to_yaml
from kd.runs import is_finished, locked, read_environment, read_result, run_directory
from kd.storage import sweep, write_atomic, write_json
from kd.train.evaluation import headline, score_teacher
from kd.train.one_run import train_run
from kd.train.signals import Stop, stopping
from kd.train.sinks.log_file import logged
from kd.types import IGNORE
from kd.units import duration

POLL = 1.0  # seconds between two attempts to lock a run that another process trains
ATTEMPTS = 60  # attempts between two lines that report the wait


def run_recipe(
    recipe: Recipe,
    *,
    runs: Path,
    fresh: bool = False,
    baseline: bool = False,
    role: str | None = None,
    wait: bool = True,
    smoke: int | None = None,
    say: Say = console.say,
    quiet: bool = False,
) -> list[Path]:
    """Train the runs of a recipe, or resume them; under torchrun, this is one of several processes.

    Args:
        recipe: checked in shape and calls.
        runs: where run directories are.
        fresh: first move this recipe's old run directories aside; its teacher's stay.
        baseline: train the baseline too.
        role: the role of the network that the result records; None: "student" with distillation, else "baseline".
        wait: whether to wait while another process trains the teacher or the baseline that this recipe needs.
        smoke: number of batches to score in a trial run, which takes its teacher as it is built.
        say: takes the lines for the user.
        quiet: no live line.

    Returns:
        The run directories of the recipe, one per seed; then the baseline's.

    Raises:
        LockedError: another process trains this recipe; or its teacher or baseline, and `wait` is False.
        StoppedError: a signal arrived; the same call resumes.
        PeerLostError: another process under torchrun died.
    """
    with session(recipe, runs=runs, smoke=smoke, say=say, quiet=quiet) as opened:
        return opened.train(recipe, fresh=fresh, baseline=baseline, role=role, wait=wait)


@contextmanager
def session(
    recipe: Recipe, *, runs: Path, smoke: int | None = None, say: Say = console.say, quiet: bool = False
) -> Iterator["Session"]:
    """Join the other processes and catch stop signals while the block runs; arguments as for `run_recipe`."""
    with distributed.joined(recipe.device), stopping() as stop:
        is_first = distributed.rank() == 0
        try:
            with deterministic(recipe.deterministic):
                yield Session(runs, stop, say if is_first else _silent, quiet or not is_first, smoke)
        except NotDeterministicError as error:
            raise RecipeError(
                f"{recipe.at('deterministic')}: deterministic: {error}; replace the component that calls it, or set "
                "deterministic: false"
            ) from None
        except torch.OutOfMemoryError as error:
            raise RecipeError([_out_of_memory(recipe, error)]) from None


@dataclass(frozen=True)
class Session:
    """The runs of one command, in order: each is assembled and dry-run once, then trained.

    Attributes:
        runs: where run directories are.
        stop: whether a signal has arrived.
        say: takes the lines for the user.
        quiet: no live line.
        smoke: number of batches to score in trial runs.
    """

    runs: Path
    stop: Stop
    say: Say
    quiet: bool
    smoke: int | None = None
    _met: set[str] = field(default_factory=set)  # ids of the recipes that have met their real images
    _data: dict[str, Data] = field(default_factory=dict)  # by dataset and arguments
    _prepared: dict[tuple[str, int], Parts] = field(default_factory=dict)  # by id and seed, until they are trained

    def prepare(self, recipe: Recipe, seed: int) -> Parts:
        """Assemble and dry-run the parts of a run before it is trained; an unfinished teacher is taken as it is built.

        Raises:
            RecipeError: the parts do not fit, or a term cannot teach.
            DataError: the data cannot be read.
        """
        key = (recipe.id, seed)
        if key not in self._prepared:
            parts = assemble(recipe, runs=self.runs, seed=seed, trained=False, data=self._data_of(recipe))
            parts.notes.extend(dry_run(parts))
            if recipe.id not in self._met:  # all seeds have the same shapes
                meet(parts)
                self._met.add(recipe.id)
            if self.smoke is None:
                parts.data.check(recipe)
            self._prepared[key] = parts
        return self._prepared[key]

    def _data_of(self, recipe: Recipe) -> Data:
        """The datasets of a recipe: the same ones for every run of the session that reads the same data."""
        section = recipe.resolved()["data"]
        key = json.dumps([section["use"], section["args"]], sort_keys=True, default=str)
        if key not in self._data:
            self._data[key] = Data(recipe)
        return self._data[key]

    def with_epochs(self, recipe: Recipe, epochs: int) -> Recipe:
        """The recipe with another length; the prepared parts of it and of its baseline are kept."""
        changed = recipe.changed(train=recipe.train.model_copy(update={"epochs": epochs, "steps": None}))
        for before, after in ((recipe, changed), (baseline_of(recipe), baseline_of(changed))):
            for key in [key for key in self._prepared if key[0] == before.id]:
                self._prepared[after.id, key[1]] = with_length_of(self._prepared.pop(key), after)
        return changed

    def train(
        self,
        recipe: Recipe,
        *,
        fresh: bool = False,
        baseline: bool = False,
        role: str | None = None,
        wait: bool = True,
        needed: bool = False,
    ) -> list[Path]:
        """Train the runs of a recipe, as `run_recipe`; `needed` by another recipe, they may be trained elsewhere."""
        if recipe.teacher_recipe is not None and self.smoke is None:  # its first seed teaches all seeds of this recipe
            teacher = first_seed(recipe.teacher_recipe)
            run_dirs = [run_directory(recipe, self.runs, seed) for seed in recipe.train.seeds]
            teacher_dir = run_directory(teacher, self.runs, teacher.train.seeds[0])
            if not distributed.first(lambda: is_finished(teacher_dir) or all(map(is_finished, run_dirs))):
                # report mistakes in this recipe before its teacher trains for hours
                self.prepare(recipe, recipe.train.seeds[0])
            self.train(teacher, role="teacher", wait=wait, needed=True)
        trained = [self._train_seed(recipe, seed, fresh, role, wait=wait and needed) for seed in recipe.train.seeds]
        if baseline and recipe.distill:
            trained += self.train(baseline_of(recipe), fresh=fresh, wait=wait, needed=True)
        return trained

    def _train_seed(self, recipe: Recipe, seed: int, fresh: bool, role: str | None, *, wait: bool) -> Path:
        """Train one run."""
        self.stop.check()
        run_dir = distributed.first(lambda: run_directory(recipe, self.runs, seed))
        if fresh and distributed.first(run_dir.exists):
            self.say(f"{run_dir}: moved to {distributed.first(lambda: _move_aside(run_dir))}")
        if self._finished(run_dir):
            return run_dir
        if not wait and distributed.first(run_dir.exists):
            with self._locked(run_dir, wait):
                pass  # report a second process before the checks, which take time
        parts = self._take(recipe, seed)  # before anything is written: a recipe that cannot run leaves no directory
        lines = list(parts.notes)
        if self.smoke is None:
            lines += parts.data.lines()
        if (slow := slow_path(parts.precision, recipe.train.precision)) is not None:
            lines.append(slow)
        with self._locked(run_dir, wait):
            if wait and self._finished(run_dir):
                return run_dir
            with self._logged(run_dir) as say:
                processes = f", {distributed.world()} processes" if distributed.world() > 1 else ""
                say(f"{run_dir}: {_title(recipe, seed)} on {parts.precision}{processes}")
                for line in [*lines, *distributed.first(lambda: _changed_versions(run_dir))]:
                    say(line if line.startswith("warning") else f"  {line}")
                distributed.first(lambda: _describe(parts, run_dir))
                restart_peak(parts.precision.device)
                teacher = score_teacher(parts, run_dir, seed, self.stop, say)
                role = role or ("student" if recipe.distill else "baseline")
                result = train_run(
                    parts, run_dir, seed=seed, role=role, teacher=teacher, stop=self.stop, say=say, quiet=self.quiet
                )
                say(f"{run_dir}: {headline(result.splits['val'])} after {duration(result.seconds)}")
        return run_dir

    def _take(self, recipe: Recipe, seed: int) -> Parts:
        """Take the prepared parts of a run, with its trained teacher, from those that are kept."""
        parts = self.prepare(recipe, seed)
        del self._prepared[recipe.id, seed]
        if self.smoke is not None:
            return replace(parts, val=FirstImages(parts.val, self.smoke * recipe.train.batch_size))
        if recipe.teacher_recipe is not None and parts.teacher_run is None:
            return with_trained_teacher(parts, self.runs)
        return parts

    def _finished(self, run_dir: Path) -> bool:
        """Whether a run is finished; if so, this is reported."""
        if not distributed.first(lambda: is_finished(run_dir)):
            return False
        self.say(f"{run_dir}: finished ({headline(distributed.first(lambda: read_result(run_dir)).splits['val'])})")
        return True

    def _logged(self, run_dir: Path) -> AbstractContextManager[Say]:
        """A `say` that writes to the run's log too, on rank 0."""
        return logged(run_dir, self.say) if distributed.rank() == 0 else nullcontext(self.say)

    @contextmanager
    def _locked(self, run_dir: Path, wait: bool) -> Iterator[None]:
        """Lock the run directory for the block; if `wait`, wait while another process has locked it."""
        with ExitStack() as lock:
            for attempts in count():
                try:
                    distributed.first(lambda: lock.enter_context(locked(run_dir)))
                    break
                except LockedError as error:
                    if not wait:
                        raise
                    if attempts % ATTEMPTS == 0:
                        self.say(f"{error.who}; waiting for it ({duration(attempts * POLL)})")
                self.stop.check()
                time.sleep(POLL)
            yield


def _out_of_memory(recipe: Recipe, error: Exception) -> str:
    size, accumulate, processes = recipe.train.batch_size, recipe.train.accumulate, distributed.world()
    share = size // processes
    larger = next((parts for parts in range(accumulate + 1, share + 1) if share % parts == 0), None)
    fix = f"set train.accumulate={larger}" if larger else "use a smaller data.size or data.crop"
    return (
        f"{recipe.at('train', 'batch_size')}: out of GPU memory with train.batch_size {size} in micro-batches of "
        f"{share // accumulate} (train.accumulate {accumulate}, {processes} process{'es' if processes > 1 else ''}); "
        f"{fix} ({' '.join(str(error).split())[:120]})"
    )


def _describe(parts: Parts, run_dir: Path) -> None:
    """Remove the temporary files of a killed process; write the recipe and the environment."""
    sweep(run_dir)
    write_atomic(run_dir / "recipe.yaml", to_yaml(parts.recipe).encode())
    write_json(run_dir / "environment.json", _environment(parts))


def _silent(line: str) -> None:
    """Ranks other than 0 report nothing."""


def _environment(parts: Parts) -> dict[str, Any]:
    """The environment of a run: versions, hardware, the state of the code, and the facts of the data."""
    return {
        "command": shlex.join(["kd", *sys.argv[1:]]),
        "versions": versions(),
        "hardware": hardware(parts.precision.device),
        "processes": distributed.world(),
        "threads": torch.get_num_threads(),
        "precision": str(parts.precision),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "git": {"here": commit_of(Path.cwd()), "kd": state_of_kd()},
        "in_channels": parts.train.in_channels,
        "classes": list(parts.train.class_names),
        "ignore": IGNORE,
    }


def _changed_versions(run_dir: Path) -> list[str]:
    """A line for every version that has changed since an unfinished run was last trained."""
    try:
        before = read_environment(run_dir).versions
    except StorageError:  # the first start, or damaged: it is written anew
        return []
    return [
        f"{name} was {before[name]} and is now {now}: perhaps not bit-identical to an uninterrupted run"
        for name, now in versions().items()
        if before.get(name, now) != now
    ]


def _title(recipe: Recipe, seed: int) -> str:
    return f"{recipe.student.use}, {'distilled' if recipe.distill else 'from labels alone'}, seed {seed}"


def _move_aside(run_dir: Path) -> Path:
    target = run_dir.with_name(f"{run_dir.name}-before-{time.strftime('%Y%m%d-%H%M%S')}")
    run_dir.rename(target)
    return target
