"""`kd study`: the list of runs, their training, and the leaderboard."""

import json
import os
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from kd.console import Say, print_blocks, print_line, print_lines, print_text, say, silent, stdout
from kd.errors import RecipeError, StorageError, StudyError, did_you_mean
from kd.recipe import Recipe
from kd.runs import run_command, state_of
from kd.study import board
from kd.study.budget import measure
from kd.study.output import StudyOutput, StudyRun
from kd.study.reader import Plan, Run
from kd.study.work import Work, Workers

ECHO = 2.0  # seconds in which the same signal may arrive twice: `timeout` sends it to the process and to its group


def study_command(plan: Plan, *, runs: Path, workers: Workers | None = None, as_json: bool = False) -> None:
    """Train what a study misses, and print what it has found.

    Args:
        plan: the study.
        runs: the folder of run directories.
        workers: train the runs; None: nothing is trained.
        as_json: print JSON and nothing else.

    Raises:
        StudyError: runs failed; the others are finished.
        StoppedError: a signal arrived; the same command resumes.
        RecipeError, StorageError: the finished runs cannot be compared.
    """
    everything = plan.runs()
    if plan.unmeasured is not None and not as_json:
        print_line("budget: the times are not measured yet, so the lengths are those that the recipes state")
    if not as_json:
        _print_list(everything, runs)
    failed = {}
    if workers is not None:
        with _signals() as arrived:
            work = Work(everything, runs, workers, silent if as_json else say, lambda: next(iter(arrived), None))
            work.train()
        failed = work.failed
    found, unranked = None, None
    try:
        found = board.board(plan, runs)
    except (RecipeError, StorageError) as error:  # the state of the runs, and why some failed, are shown all the same
        unranked = error
    if as_json:
        output = StudyOutput(
            study=plan.file.name, runs=[_plain(run, runs) for run in everything], leaderboard=board.ranked(found)
        )
        print_text(json.dumps(output.model_dump(), indent=1))
    elif found is not None:
        console = stdout()
        console.print()
        print_blocks(*board.table(found), left=2, console=console)
        console.print()
        for line in board.lines(found):
            print_line(line, wrap=True, console=console)
    if failed:
        lines = [f"{run.label} failed, status {ended.status}: {ended.why}" for run, ended in failed.items()]
        raise StudyError([*lines, *([f"no leaderboard: {unranked}"] if unranked else [])])
    if unranked is not None:
        raise unranked


def train_only(plan: Plan, label: str, *, runs: Path) -> None:
    """`kd study --only`: train one run in this process.

    Raises:
        RecipeError: the study has no such run.
        LockedError: another process trains it.
    """
    by_label = {run.label: run for run in plan.runs()}
    if label not in by_label:
        raise RecipeError(f"--only: no run '{label}' in {plan.file}{did_you_mean(label, by_label)}")
    run = by_label[label]
    from kd.components import check_torch
    from kd.train.session import run_recipe

    check_torch()
    run_recipe(run.recipe, runs=runs, role=run.role, command=run_command(run.recipe, runs), quiet=True)


def measure_times(plan: Plan, *, runs: Path, threads: int | None = None, say: Say = say) -> None:
    """Measure how long a step of every recipe takes, where the budget needs it.

    Args:
        plan: the study.
        runs: the folder of run directories.
        threads: of each run; None: those of this process.
        say: takes the line for the user.
    """
    if plan.unmeasured is None:
        return
    import torch

    from kd.diagnose.plan import step_time
    from kd.train.session import session

    torch.set_num_threads(threads or torch.get_num_threads())

    def timed(recipe: Recipe) -> tuple[float, int]:
        with session(recipe, runs=runs, say=silent, quiet=True) as opened:
            return step_time(recipe, opened)

    say(f"budget: measures a step of each of {len(plan.recipes)} recipes, about 10 s each ({plan.unmeasured})")
    measure(plan.unmeasured, plan.recipes, timed)


def visible_gpus() -> list[str]:
    """The GPUs that this process may use, as `CUDA_VISIBLE_DEVICES` names them."""
    import torch

    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = given.split(",") if given else [str(index) for index in range(torch.cuda.device_count())]
    return names[: torch.cuda.device_count()]


def _print_list(everything: Sequence[Run], runs: Path) -> None:
    states = [state_of(run.run_dir(runs)) for run in everything]
    rows = [
        (run.label, run.role, str(run.run_dir(runs)), str(state)) for run, state in zip(everything, states, strict=True)
    ]
    print_lines(("run", "role", "directory", "state"), rows, whole=2)
    kinds = [state.kind for state in states]
    counts = [f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds)]
    print_line(f"{len(everything)} runs: {', '.join(counts)}")


def _plain(run: Run, runs: Path) -> StudyRun:
    run_dir = run.run_dir(runs)
    state = state_of(run_dir)
    return StudyRun(
        run=run.label,
        variant=run.name,
        seed=run.seed,
        role=run.role,
        directory=str(run_dir),
        state=state.kind,
        step=state.step,
        why=state.why or None,
    )


@contextmanager
def _signals() -> Iterator[list[int]]:
    """The signals that arrive while the block runs; a second one ends the process, but not an echo of the first."""
    arrived: list[int] = []
    since = 0.0

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal since
        if not arrived:
            since = time.monotonic()
            arrived.append(number)
        elif time.monotonic() - since > ECHO:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)

    names = ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGBREAK")  # no system has all
    before = {}
    for name in names:
        if hasattr(signal, name):
            number = getattr(signal, name)
            if signal.getsignal(number) != signal.SIG_IGN:  # under nohup, SIGHUP is ignored
                before[number] = signal.signal(number, handle)
    try:
        yield arrived
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
