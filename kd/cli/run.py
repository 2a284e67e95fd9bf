"""Train a recipe, or resume it where an earlier call stopped.

A teacher that has a recipe but no finished run is trained first. The same command
again resumes an unfinished run and reports the score of a finished one. A run directory
in place of the recipe resumes that run, wherever it was copied to.

Example:
    kd run shapes/mobilenetv3_kl_cwd.yaml --baseline
    kd run shapes/mobilenetv3_kl_cwd.yaml train.epochs=2 "train.seeds=[0, 1, 2]"
    kd run runs/mobilenetv3_kl_cwd-0123abcd/seed0
"""

import argparse
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from kd.cli.options import Idle, add_recipe, open_recipes
from kd.cli.status import TRAINING

if TYPE_CHECKING:
    from kd.recipe import Recipe

STATUSES = TRAINING


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The recipe, what else is trained, and for how long."""
    add_recipe(parser)
    parser.add_argument("--baseline", action="store_true", help="also train the same student without distillation")
    again = parser.add_mutually_exclusive_group()
    again.add_argument("--fresh", action="store_true", help="move this recipe's run directories aside and start over")
    again.add_argument(
        "--accept-inputs",
        action="store_true",
        help="keep or resume runs although their images, labels, classes or teacher have changed, and mark them",
    )
    parser.add_argument(
        "--smoke", action="store_true", help="train, resume, score and compare a few steps in a temporary folder"
    )
    parser.add_argument(
        "--budget",
        type=_seconds,
        metavar="TIME",
        help="set train.epochs so that everything ends within this time, such as 6h",
    )
    parser.add_argument(
        "--no-wait",
        action="store_true",
        help="exit with status 7 instead of waiting for another process that trains the teacher or the baseline",
    )
    of_training = ("--baseline", "--budget", "--fresh", "--accept-inputs", "--no-wait", "--runs")
    parser.set_defaults(idle=[Idle(of_training, beside="--smoke")])


def _seconds(text: str) -> float:
    from kd.units import as_seconds

    try:
        return as_seconds(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def run(arguments: argparse.Namespace) -> None:
    """Plan, fit the plan into the budget if there is one, and train."""
    opening = "imports torch, builds the networks and looks at the data"
    (recipe,) = open_recipes(arguments, opening=opening, resumes=True)
    (named,) = map(Path, arguments.files)
    from kd.diagnose import plan
    from kd.runs import place_of, run_command
    from kd.train.session import session

    if arguments.smoke:
        _smoke(recipe)
        return
    runs, command = place_of(recipe, named, arguments.runs) if os.path.isdir(named) else (arguments.runs, "")
    with session(recipe, runs=runs) as opened:
        jobs = plan.plan(recipe, opened, baseline=arguments.baseline, fresh=arguments.fresh)
        for line in plan.lines(jobs) if jobs else []:
            opened.say(line)
        if arguments.budget is not None:
            epochs = plan.epochs_within(jobs, arguments.budget, "--budget")
            arguments.settled = [f"train.epochs={epochs}", "train.steps=null"] if epochs else []
            opened.say(f"--budget: {' '.join(arguments.settled) or 'nothing is left to train'}")
            recipe = opened.prepared.with_epochs(recipe, epochs) if epochs else recipe
        settled, options = getattr(arguments, "settled", []), ["--baseline"] if arguments.baseline else []
        opened.train(
            recipe,
            command=command or run_command(recipe, runs, *settled, *options),
            fresh=arguments.fresh,
            accept_inputs=arguments.accept_inputs,
            baseline=arguments.baseline,
            wait=not arguments.no_wait,
        )


def _smoke(recipe: "Recipe") -> None:
    """Try a recipe in a temporary folder."""
    from kd.compare import compare_command
    from kd.console import print_line
    from kd.diagnose.smoke import smoke

    with tempfile.TemporaryDirectory(prefix="kd-smoke-") as folder:
        run_dir = smoke(recipe, runs=Path(folder))
        compare_command([run_dir], runs=Path(folder), trust=recipe.trust)
    print_line(f"{recipe.file}: trains, saves, resumes with the same bits, scores and reports; {folder} is removed")
