"""The runs of one command: the teacher first, then the seeds of the recipe, then its baseline."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from kd import console, distributed
from kd.console import Say
from kd.errors import NoCheckpointError, NotDeterministicError, RecipeError
from kd.machine import deterministic, slow_path
from kd.memory import ran_out, restart_peak
from kd.parts.assemble import Parts
from kd.parts.checks.calls import check_calls
from kd.recipe import Recipe, baseline_of, first_seed
from kd.runs import (
    failure_noted,
    is_finished,
    locked,
    read_result,
    run_command,
    run_directory,
)
from kd.train.auto.fit import out_of_memory
from kd.train.between_steps.evaluation import headline, score_teacher
from kd.train.one_run import train_run
from kd.train.prepared import Prepared
from kd.train.provenance.description import changed_environment, describe
from kd.train.provenance.record import Record
from kd.train.provenance.reuse import Asked, is_kept, move_aside, start_record
from kd.train.signals import Stop, stopping
from kd.train.sinks.log_file import logged
from kd.train.waiting import in_turn
from kd.units import duration


def run_recipe(
    recipe: Recipe,
    *,
    runs: Path,
    fresh: bool = False,
    accept_inputs: bool = False,
    baseline: bool = False,
    role: str | None = None,
    wait: bool = True,
    smoke: int | None = None,
    command: str = "",
    say: Say = console.say,
    quiet: bool = False,
) -> list[Path]:
    """Train the runs of a recipe, or resume them; under torchrun, this is one of several processes.

    Args:
        recipe: checked in shape.
        runs: where run directories are.
        fresh: first move this recipe's run directories aside, and its teacher's if that was made from other inputs or
                cannot be resumed.
        accept_inputs: keep runs that were made from other inputs than those that are there now, and mark them.
        baseline: train the baseline too.
        role: the role of the network that the result records; None: "student" with distillation, else "baseline".
        wait: whether to wait while another process trains the teacher or the baseline that this recipe needs.
        smoke: number of batches to score in a trial run, which takes its teacher as it is built.
        command: the user's, for messages; empty: the `kd run` of this recipe.
        say: takes the lines for the user.
        quiet: no live line.

    Returns:
        The run directories of the recipe, one per seed; then the baseline's.

    Raises:
        InputsError: a run was made from other inputs, and neither `fresh` nor `accept_inputs` is given.
        RecipeError: with every call in it, and in its teachers' recipes, that is wrong; or another mistake.
        LockedError: another process trains this recipe; or its teacher or baseline, and `wait` is False.
        StoppedError: a signal arrived; the same call resumes.
        PeerLostError: another process under torchrun died.
    """
    with session(recipe, runs=runs, smoke=smoke, say=say, quiet=quiet) as opened:
        return opened.train(
            recipe, fresh=fresh, accept_inputs=accept_inputs, baseline=baseline, role=role, wait=wait, command=command
        )


@contextmanager
def session(
    recipe: Recipe, *, runs: Path, smoke: int | None = None, say: Say = console.say, quiet: bool = False
) -> Iterator["Session"]:
    """Join the other processes, check all calls, and catch stop signals while the block runs; as `run_recipe`."""
    with distributed.joined(recipe.device), stopping() as stop:
        check_calls(recipe, runs=runs)
        is_first = distributed.rank() == 0
        try:
            with deterministic(recipe.deterministic), _naming_memory(recipe):
                quiet = quiet or not is_first
                prepared = Prepared(runs, quiet=quiet, smoke=smoke)
                yield Session(runs, stop, say if is_first else console.silent, quiet, smoke, prepared)
        except NotDeterministicError as error:
            raise RecipeError(
                f"{recipe.at('deterministic')}: deterministic: {error}; replace the component that calls it, or set "
                "deterministic: false"
            ) from None


@contextmanager
def _naming_memory(recipe: Recipe) -> Iterator[None]:
    """Report a GPU whose memory runs out in the block by the settings of the recipe that it trains."""
    try:
        yield
    except RuntimeError as error:
        if not ran_out(error):
            raise
        raise out_of_memory(recipe, error) from None


@dataclass(frozen=True)
class Session:
    """The runs of one command, in order: each is assembled and dry-run once, then trained.

    Attributes:
        runs: where run directories are.
        stop: whether a signal has arrived.
        say: takes the lines for the user.
        quiet: no live line.
        smoke: number of batches to score in trial runs.
        prepared: the parts of the runs, until they are trained.
    """

    runs: Path
    stop: Stop
    say: Say
    quiet: bool
    smoke: int | None
    prepared: Prepared
    _noted: set[str] = field(default_factory=set)  # datasets that do not list their files

    def train(
        self,
        recipe: Recipe,
        *,
        fresh: bool = False,
        accept_inputs: bool = False,
        baseline: bool = False,
        role: str | None = None,
        wait: bool = True,
        command: str = "",
    ) -> list[Path]:
        """Train the runs of a recipe, as `run_recipe`."""
        if fresh and accept_inputs:
            raise RecipeError("fresh and accept_inputs: one starts over, the other keeps the runs; give one of them")
        command = command or run_command(recipe, self.runs, *(["--baseline"] if baseline else []))
        return self._train(recipe, Asked(fresh, fresh, accept_inputs, wait, command), baseline, role)

    def _train(self, recipe: Recipe, asked: Asked, baseline: bool, role: str | None) -> list[Path]:
        """Train a recipe's teacher, its seeds and its baseline."""
        needed = replace(asked, wait_for_own=asked.wait)  # by another recipe: it may be trained elsewhere
        if recipe.teacher_recipe is not None and self.smoke is None:  # its first seed teaches all seeds of this recipe
            teacher = first_seed(recipe.teacher_recipe)
            run_dirs = [run_directory(recipe, self.runs, seed) for seed in recipe.train.seeds]
            teacher_dir = run_directory(teacher, self.runs, teacher.train.seeds[0])
            if not distributed.first(lambda: is_finished(teacher_dir) or all(map(is_finished, run_dirs))):
                # report mistakes in this recipe before its teacher trains for hours
                self.prepared.parts(recipe, recipe.train.seeds[0])
            self._train(teacher, replace(needed, fresh=False), False, "teacher")
        trained = [self._train_or_renew(recipe, seed, asked, role) for seed in recipe.train.seeds]
        if baseline and recipe.distill:
            trained += self._train(baseline_of(recipe), needed, False, None)
        return trained

    def _train_or_renew(self, recipe: Recipe, seed: int, asked: Asked, role: str | None) -> Path:
        """Train one run; under `--fresh`, from step 0 if its checkpoints cannot be used."""
        try:
            return self._train_seed(recipe, seed, asked, role)
        except NoCheckpointError as error:
            if not asked.renew or asked.fresh:
                raise
            self.say(str(error))
            return self._train_seed(recipe, seed, replace(asked, fresh=True), role)

    def _train_seed(self, recipe: Recipe, seed: int, asked: Asked, role: str | None) -> Path:
        """Train one run."""
        self.stop.check()
        wait = asked.wait_for_own
        run_dir = distributed.first(lambda: run_directory(recipe, self.runs, seed))
        if asked.fresh and distributed.first(run_dir.exists):
            self.say(f"{run_dir}: moved to {distributed.first(lambda: move_aside(run_dir))}")
            run_dir = distributed.first(lambda: run_directory(recipe, self.runs, seed))
        if self._finished(recipe, run_dir, asked):
            return run_dir
        run_dir = distributed.first(lambda: run_directory(recipe, self.runs, seed))
        if not wait and distributed.first(run_dir.exists):
            with in_turn(run_dir, self.stop, self.say, wait=wait):
                pass  # report a second process before the checks, which take time
        with _naming_memory(recipe):
            parts = self.prepared.take(recipe, seed)  # before anything is written: a faulty recipe leaves no directory
        lines = list(parts.notes)
        if not self.prepared.surveyed(recipe, seed):
            parts.data.check(recipe)
            lines += parts.data.lines(recipe)
        if (slow := slow_path(parts.precision, recipe.train.precision)) is not None:
            lines.append(slow)
        lines += self._unlisted(parts)
        noted = failure_noted(run_dir) if distributed.rank() == 0 else nullcontext()
        with in_turn(run_dir, self.stop, self.say, wait=wait), noted, _naming_memory(parts.recipe):
            if wait and self._finished(recipe, run_dir, asked, lock=nullcontext()):
                return run_dir
            records: list[Record] = []  # of rank 0 alone
            record = partial(
                start_record,
                parts,
                run_dir,
                seed=seed,
                asked=asked,
                waiting=self.stop.waiting,
                quiet=self.quiet,
            )
            distributed.first(lambda: records.append(record()))
            description = describe(parts, records[0]) if records else None
            with self._logged(run_dir) as say:
                processes = f", {distributed.world()} processes" if distributed.world() > 1 else ""
                say(f"{run_dir}: {_title(recipe, seed)} on {parts.precision}{processes}")
                for line in [*lines, *distributed.first(lambda: changed_environment(run_dir))]:
                    say(line if line.startswith("warning") else f"  {line}")
                distributed.first(lambda: None if description is None else description.write())
                restart_peak(parts.precision.device)
                teacher = score_teacher(parts, run_dir, seed, self.stop, say, quiet=self.quiet)
                role = role or ("student" if recipe.distill else "baseline")
                result = train_run(
                    parts,
                    run_dir,
                    seed=seed,
                    role=role,
                    teacher=teacher,
                    description=description,
                    stop=self.stop,
                    say=say,
                    quiet=self.quiet,
                )
                say(f"{run_dir}: {headline(result.splits['val'])} after {duration(result.seconds)}")
        return run_dir

    def _finished(
        self, recipe: Recipe, run_dir: Path, asked: Asked, *, lock: AbstractContextManager[None] | None = None
    ) -> bool:
        """Whether a run is finished and is used as it is; if so, this is reported. See `is_kept`."""

        def kept() -> bool:
            return is_kept(
                recipe,
                run_dir,
                lambda: self.prepared.data_of(recipe),
                runs=self.runs,
                asked=asked,
                say=self.say,
                waiting=self.stop.waiting,
                quiet=self.quiet,
                lock=lock or locked(run_dir),
            )

        if self.smoke is not None or not distributed.first(kept):  # a trial run is never used again
            return False
        result = distributed.first(lambda: read_result(run_dir))
        marks = f"; {', '.join(result.marks)}" if result.marks else ""
        self.say(f"{run_dir}: finished ({headline(result.splits['val'])}{marks})")
        return True

    def _unlisted(self, parts: Parts) -> list[str]:
        """A line, once a session, for a dataset that does not list its files."""
        listed = hasattr(parts.train, "files") or hasattr(parts.train, "sources")
        if listed or parts.recipe.data.use in self._noted:
            return []
        self._noted.add(parts.recipe.data.use)
        return [
            f"data: {parts.recipe.data.use} has no files(index), so changed files are not noticed, only added and "
            "removed samples; docs/add-a-dataset.md has an example"
        ]

    def _logged(self, run_dir: Path) -> AbstractContextManager[Say]:
        """A `say` that writes to the run's log too, on rank 0."""
        return logged(run_dir, self.say) if distributed.rank() == 0 else nullcontext(self.say)


def _title(recipe: Recipe, seed: int) -> str:
    return f"{recipe.student.use}, {'distilled' if recipe.distill else 'from labels alone'}, seed {seed}"
