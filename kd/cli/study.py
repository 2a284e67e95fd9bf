"""Train the variants of a recipe that are missing, and rank them.

A study names a recipe, its variants and their seeds. Its runs are ordinary run directories. Any number of processes, on
any machines that share the folder, may work on one study: each run is trained once.

Example:
    kd study camvid/study.yaml --jobs 10 data.args.root=/data/camvid
    kd study camvid/study.yaml --list
"""

import argparse

from kd.cli.options import add_overrides, add_runs, add_trust
from kd.cli.status import MEANINGS, READING, STUDY_FAILED

STATUSES = (*READING, STUDY_FAILED, *(status for status in MEANINGS if status > 100))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The study, and how its runs are trained."""
    parser.add_argument("recipe", metavar="STUDY", help="a study's file, or one that comes with kd")
    add_overrides(parser)
    parser.add_argument("--list", action="store_true", help="train nothing: list the runs, and rank what is finished")
    parser.add_argument("--jobs", type=_count, default=1, metavar="N", help="train N runs at once (default: 1)")
    parser.add_argument(
        "--threads", type=_count, metavar="N", help="threads of each run (default: the cores divided by the jobs)"
    )
    parser.add_argument("--only", metavar="RUN", help="train one run of the list, such as kl/0, in this process")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    add_trust(parser)
    add_runs(parser)


def _count(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 1024:
        raise argparse.ArgumentTypeError(f"must be a number from 1 to 1024, got '{text}'")
    return int(text)


def run(arguments: argparse.Namespace) -> int:
    """List, train and rank."""
    from kd.recipe.overrides import refuse_idle
    from kd.study.command import check_calls, study_command, train_only, visible_gpus
    from kd.study.reader import read_study

    refuse_idle(arguments.overrides, len(arguments.files))
    (file,) = arguments.files
    plan = read_study(file, arguments.overrides, trust=arguments.trust, runs=arguments.runs)
    if arguments.only is not None:
        return train_only(plan, arguments.only, runs=arguments.runs)
    if arguments.list:
        return study_command(plan, runs=arguments.runs, as_json=arguments.json)
    check_calls(plan)
    from kd.console import print_line
    from kd.machine import cores
    from kd.study.local import LocalWorkers

    threads = arguments.threads or max(1, cores() // arguments.jobs)
    if not arguments.json:
        print_line(f"{arguments.jobs} run{'s' if arguments.jobs > 1 else ''} at a time, threads of each: {threads}")
    workers = LocalWorkers(plan.words, jobs=arguments.jobs, threads=threads, gpus=visible_gpus())
    return study_command(plan, runs=arguments.runs, workers=workers, as_json=arguments.json)
