"""Train the variants of a recipe that are missing, and rank them.

A study names a recipe, its variants and their seeds. Its runs are ordinary run directories. Any number of processes, on
any machines that share the folder, may work on one study: each run is trained once.

Example:
    kd study camvid/study.yaml --jobs 10 data.args.root=/data/camvid
    kd study camvid/study.yaml --list
"""

import argparse
import math
import re
from typing import TYPE_CHECKING

from kd.cli.options import Idle, add_overrides, add_runs, add_trust
from kd.cli.status import MEANINGS, PLAIN, STUDY_FAILED
from kd.console import print_text, say, silent

if TYPE_CHECKING:
    from kd.study.reader import Plan
    from kd.study.work import Workers

STATUSES = (*PLAIN, STUDY_FAILED, *(status for status in MEANINGS if status > 100))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The study, and how its runs are trained."""
    parser.add_argument("recipe", metavar="STUDY", help="a study's file, or one that comes with kd")
    add_overrides(parser)
    parser.add_argument("--list", action="store_true", help="train nothing: list the runs, and rank what is finished")
    parser.add_argument("--jobs", type=_count, metavar="N", help="train N runs at once (default: 1; with --on: all)")
    parser.add_argument(
        "--threads", type=_count, metavar="N", help="threads of each run (default: the cores divided by the jobs)"
    )
    parser.add_argument(
        "--on", type=_cluster, metavar="ray[://ADDRESS]", help="train on a Ray cluster; ADDRESS as ray start prints it"
    )
    parser.add_argument(
        "--print",
        choices=["slurm"],
        metavar="slurm",
        help="train nothing: print a script that submits the runs as arrays of jobs",
    )
    parser.add_argument("--gpus", type=_amount, metavar="N", help="GPUs of each run on a cluster, such as 0.25")
    parser.add_argument("--memory", type=_amount, metavar="GB", help="memory of each run on a cluster")
    parser.add_argument("--only", metavar="RUN", help="train one run of the list, such as kl/0, in this process")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    add_trust(parser)
    add_runs(parser)
    of_many = ("--jobs", "--threads", "--on", "--print", "--gpus", "--memory")
    idle = [Idle((*of_many, "--list", "--json"), beside="--only"), Idle(of_many, beside="--list")]
    idle += [Idle(("--on", "--json"), beside="--print"), Idle(("--gpus", "--memory"), without=("--on", "--print"))]
    parser.set_defaults(idle=idle)


def _count(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 1024:
        raise argparse.ArgumentTypeError(f"must be a number from 1 to 1024, got '{text}'")
    return int(text)


def _shares(arguments: argparse.Namespace, plan: "Plan") -> tuple[int, int]:
    """Runs at a time, and the threads of each."""
    from kd.machine import cores

    elsewhere = arguments.on is not None or arguments.print is not None
    jobs = arguments.jobs or (len(plan.runs()) if elsewhere else 1)
    return jobs, arguments.threads or (1 if elsewhere else max(1, cores() // jobs))


def _script(arguments: argparse.Namespace, plan: "Plan") -> str:
    from kd.study.slurm import script

    gpus = None if arguments.gpus is None else math.ceil(arguments.gpus)
    needs = {"threads": arguments.threads or 1, "jobs": arguments.jobs, "gpus": gpus, "memory": arguments.memory}
    return script(plan, runs=arguments.runs, **needs).rstrip("\n")


def _amount(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1e6:
        raise argparse.ArgumentTypeError(f"must be a number from 0, got '{text}'")
    return value


def _cluster(text: str) -> str:
    if re.fullmatch(r"ray(://[^:/]+:\d+)?", text) is None:
        raise argparse.ArgumentTypeError(f"must be ray or ray://HOST:PORT, got '{text}'")
    return text.removeprefix("ray").removeprefix("://")


def run(arguments: argparse.Namespace) -> None:
    """List, train and rank."""
    from kd.recipe.overrides import refuse_idle
    from kd.study.command import measure_times, study_command, train_only, visible_gpus
    from kd.study.reader import read_study

    refuse_idle(arguments.overrides, len(arguments.files))
    (file,) = arguments.files
    plan = read_study(file, arguments.overrides, trust=arguments.trust, runs=arguments.runs)
    if arguments.only is not None:
        if plan.unmeasured is not None:
            measure_times(plan, runs=arguments.runs)
            plan = read_study(file, arguments.overrides, trust=arguments.trust, runs=arguments.runs)
        train_only(plan, arguments.only, runs=arguments.runs)
        return
    if arguments.list:
        study_command(plan, runs=arguments.runs, as_json=arguments.json)
        return
    from kd.components import check_torch

    check_torch()
    from kd.parts.checks.calls import check_calls

    check_calls(*plan.recipes.values(), runs=arguments.runs)
    jobs, threads = _shares(arguments, plan)
    quiet = arguments.json or arguments.print is not None
    measure_times(plan, runs=arguments.runs, threads=threads, say=silent if quiet else say)
    plan = read_study(file, arguments.overrides, trust=arguments.trust, runs=arguments.runs)
    if arguments.print is not None:
        print_text(_script(arguments, plan))
        return
    if not arguments.json:
        say(f"at most {jobs} run{'s' if jobs > 1 else ''} at a time, threads of each: {threads}")
    workers: Workers
    if arguments.on is None:
        from kd.study.local import LocalWorkers

        workers = LocalWorkers(plan.words, jobs=jobs, threads=threads, gpus=visible_gpus())
    else:
        from kd.study.on_ray import Needs, RayWorkers

        needs = Needs(threads, arguments.gpus, arguments.memory)
        workers = RayWorkers(plan.words, address=arguments.on, slots=arguments.jobs or math.inf, needs=needs)
    study_command(plan, runs=arguments.runs, workers=workers, as_json=arguments.json)
