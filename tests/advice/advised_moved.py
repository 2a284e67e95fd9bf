"""Run directories that are resumed away from their recipe: what is refused, and what is asked for instead."""

import os
from pathlib import Path

from advised_runs import only, run
from command import kd
from following import Row, succeeds
from manifests import unfinish

import kd as toolkit

TAUGHT = ("student.yaml", "--trust", "train.checkpoints=all")


def stopped() -> Path:
    """A taught run that was stopped before its end."""
    run_dir = run(*TAUGHT)
    unfinish(run_dir)
    return run_dir


def without_teacher() -> int:
    run_dir = stopped()
    os.rename("runs/" + next(path.name for path in Path("runs").glob("teacher-*")), "teacher-away")
    return kd("run", run_dir, "--trust")


def copied_there(text: str) -> None:
    """Copy the teacher's run to the place that is named."""
    (run_dir,) = Path("runs").glob("student-*/seed0")
    place = Path(text.partition("its teacher's run ")[2].partition(" is missing")[0])
    os.rename("teacher-away", place.parent)
    succeeds("run", run_dir, "--trust")


def without_inputs() -> int:
    run_dir = stopped()
    (run_dir / "inputs.json").unlink()
    return kd("run", run_dir, "--trust")


ROWS = [
    Row(
        "runs: a folder, but no run directory; name a recipe, or a run such as x-0123abcd/seed0",
        lambda: (stopped(), kd("run", "runs", "--trust")),
        lambda text: (succeeds("run", min(Path("runs").glob("student-*/seed0")), "--trust"), succeeds("run", *TAUGHT)),
    ),
    Row(
        "seed0 trains; name its recipe, or give machine settings alone, such as data.args.root",
        lambda: kd("run", stopped(), "--trust", "train.steps=9"),
        lambda text: (
            succeeds("run", min(Path("runs").glob("student-*/seed0")), "--trust", "device=cpu"),
            succeeds("run", *TAUGHT, "train.steps=9"),
        ),
    ),
    Row(
        "a run of runs, not of elsewhere; leave --runs out",
        lambda: kd("run", stopped(), "--trust", "--runs", "elsewhere"),
        lambda text: succeeds("run", only(), "--trust"),
    ),
    Row(
        "fresh and accept_inputs: one starts over, the other keeps the runs; give one of them",
        lambda: toolkit.run(stopped(), trust=True, fresh=True, accept_inputs=True),
        lambda text: toolkit.run(only(), trust=True, accept_inputs=True),
    ),
    Row("seed0 is missing; copy it there, or run its recipe", without_teacher, copied_there),
    Row(
        "seed0: does not record its teacher's run; run its recipe",
        without_inputs,
        lambda text: succeeds("run", *TAUGHT, "--accept-inputs"),
    ),
]
