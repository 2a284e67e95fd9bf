"""The command line: parse, call, print. Each command is a function in the module that does its work."""

import argparse
import os
import shlex
import signal
import sys
import tempfile
import traceback
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kd import __version__

if TYPE_CHECKING:
    from kd.recipe import Recipe

_STATUS = {  # by name: their modules import torch
    "RecipeError": 2,
    "DataError": 3,
    "DivergedError": 4,
    "NoCheckpointError": 5,
    "StorageError": 6,
    "LockedError": 7,
    "PeerLostError": 8,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit status (see docs/recipes.md)."""
    arguments = _parse(argv)
    warnings.showwarning = _one_line
    try:
        _read_first(arguments)
        _check_torch(arguments)
        return int(arguments.call(arguments) or 0)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # `kd list | head`: nobody reads on; keep the interpreter from flushing into the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except Exception as error:  # noqa: BLE001  # the last resort: a bug of ours gets its traceback and status 1
        return _report(error, getattr(arguments, "settled", None))


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse, with `path=value` allowed behind options too: argparse alone takes positionals in one piece."""
    parser = _parser()
    arguments, rest = parser.parse_known_args(argv)
    overrides = [text for text in rest if "=" in text and not text.startswith("-")]
    if len(overrides) < len(rest) or (rest and not hasattr(arguments, "overrides")):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if rest:
        arguments.overrides = [*arguments.overrides, *overrides]
    return arguments


def _report(error: Exception, settled: Sequence[str] | None) -> int:
    names = [kind.__name__ for kind in type(error).__mro__]
    rank = int(os.environ.get("RANK", "0"))  # torchrun's; the process group may be gone
    if "StoppedError" in names:
        if rank == 0:
            print(f"{error}: {_command(settled)}", file=sys.stderr)
        return 128 + int(error.signal)  # type: ignore[attr-defined]
    for name in names:
        if name in _STATUS:
            if rank == 0:
                print(error, file=sys.stderr)
            elif name not in ("RecipeError", "LockedError", "DivergedError"):  # those are the same on every rank
                print(f"process {rank}: {error}", file=sys.stderr)
            return _STATUS[name]
    traceback.print_exception(error)
    print(
        f"\nkd {__version__}: this is a bug. Please report it with the lines above, the recipe, and what `kd env` "
        "prints.",
        file=sys.stderr,
    )
    return 1


def _command(settled: Sequence[str] | None) -> str:
    """The command that goes on with what this one began; `settled` stands for its budget."""
    arguments = [argument for argument in sys.argv[1:] if argument != "--fresh"]
    if settled is not None:
        budget = next(i for i, argument in enumerate(arguments) if argument.startswith("--budget"))
        arguments[budget : budget + (1 if "=" in arguments[budget] else 2)] = settled
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return shlex.join(["kd", *arguments])
    processes = int(os.environ["LOCAL_WORLD_SIZE"])
    nodes = int(os.environ["WORLD_SIZE"]) // processes
    spread = ["--nnodes", str(nodes)] if nodes > 1 else ["--standalone"]
    return shlex.join(["torchrun", *spread, "--nproc-per-node", str(processes), "-m", "kd", *arguments])


def _one_line(message: Warning | str, *_: object, **__: object) -> None:
    print(f"warning: {message}", file=sys.stderr)


def _read_first(arguments: argparse.Namespace) -> None:
    """Read the recipes that the command names before torch is imported: a wrong or hostile one is refused at once."""
    texts = [getattr(arguments, "recipe", None), *getattr(arguments, "recipes", []), *getattr(arguments, "targets", [])]
    if not arguments.needs_torch or getattr(arguments, "imports", False):
        return
    from kd.recipe import read_recipe, teacher_recipe

    files, overrides = _split([text for text in texts if text], getattr(arguments, "overrides", []))
    for file in files:
        if not Path(file).is_dir():
            teacher_recipe(read_recipe(file, overrides, trust=getattr(arguments, "trust", False)))


def _check_torch(arguments: argparse.Namespace) -> None:
    if arguments.needs_torch:
        from kd.build import check_torch

        check_torch()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="kd", description="Knowledge distillation for semantic segmentation.")
    parser.add_argument("--version", action="version", version=f"kd {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, call: object, summary: str, *, needs_torch: bool = True) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=summary, description=summary)
        added.set_defaults(call=call, needs_torch=needs_torch)
        return added

    demo = command(
        "demo", _demo, "Train a teacher, a baseline and a distilled student on drawn shapes, and compare them."
    )
    _runs(demo)

    run = command("run", _run, "Train what a recipe says, or go on where an earlier call stopped.")
    _recipe(run)
    _runs(run)
    run.add_argument("--baseline", action="store_true", help="train the same student without distillation too")
    run.add_argument("--fresh", action="store_true", help="move this recipe's old run directories aside and start over")
    run.add_argument("--smoke", action="store_true", help="try everything once in a folder that is removed")
    run.add_argument(
        "--budget", type=_seconds, metavar="TIME", help="set train.epochs so that all ends within this time, such as 6h"
    )
    run.add_argument("--no-wait", action="store_true", help="exit 7 where another process trains the teacher already")

    cache = command("cache", _cache, "Compute a recipe's teacher ahead, for every view of every image.")
    _recipe(cache)
    _runs(cache)

    check = command("check", _check, "Check recipes without training: shape, calls, and one small batch.")
    check.add_argument("recipes", nargs="+", metavar="RECIPE", help="recipe files; `path=value` overrides all of them")
    check.set_defaults(overrides=[])
    check.add_argument("--plan", action="store_true", help="measure for 20 s what the runs, the twin's too, will cost")
    check.add_argument("--imports", action="store_true", help="only list what the recipes would import")
    _trust(check)
    _runs(check)

    compare = command("compare", _compare, "Compare a recipe's student with its baseline and its teacher.")
    compare.add_argument("targets", nargs="+", metavar="TARGET", help="recipes, run directories, and `path=value`")
    compare.set_defaults(overrides=[])
    compare.add_argument("--json", action="store_true", help="print JSON instead of tables")
    compare.add_argument("--html", type=Path, metavar="FILE", help="where the page goes (default: the run directory)")
    _trust(compare)
    _runs(compare)

    diff = command("diff", _diff, "Show key by key what differs between two recipes or run directories.")
    for name in ("a", "b"):
        diff.add_argument(name, type=Path, metavar=name.upper(), help="a recipe or a run directory")

    _runs(command("list", _list, "List the runs, finished and unfinished."))

    doctor = command("doctor", _doctor, "Say why a recipe's teacher scores badly: its images' form or its classes.")
    _recipe(doctor)
    _runs(doctor)

    inspect = command("inspect", _inspect, "Show each term's taps, shapes, adapter, value and gradient on one batch.")
    _recipe(inspect)
    _runs(inspect)

    calibrate = command("calibrate", _calibrate, "Propose the terms' weights from their gradients on some batches.")
    _recipe(calibrate)
    _runs(calibrate)
    calibrate.add_argument("--batches", type=int, default=4, help="batches to average over (default 4)")
    calibrate.add_argument(
        "--ratio", type=float, default=1.0, help="wanted: norm of a weighted term's gradient by the supervised one's"
    )

    bench = command("bench", _bench, "Time a recipe's step against its parts, all losses or networks, on this machine.")
    _recipe(bench, optional=True)
    _runs(bench)
    bench.add_argument("--rounds", type=int, default=10, help="timed rounds (default 10)")
    bench.add_argument(
        "--losses", nargs="*", metavar="NAME", help="time these losses (CWD) instead, beside a teacher's forward; all"
    )
    bench.add_argument(
        "--sizes",
        type=int,
        nargs=5,
        default=(8, 19, 256, 64, 128),
        metavar=("N", "K", "C", "H", "W"),
        help="of --losses: images, classes, channels, height and width of the maps (default 8 19 256 64 128)",
    )

    bench.add_argument(
        "--networks", nargs="*", metavar="NAME", help="measure these networks instead (students.MobileNetV2UNet); all"
    )
    bench.add_argument(
        "--size", type=int, nargs=2, metavar=("H", "W"), help="of the networks' images (default: 256 256 and 512 512)"
    )
    bench.add_argument("--threads", type=int, metavar="N", help="torch's threads, for --networks (default: its own)")

    command("env", _env, "Print versions, hardware and what precision: auto picks here.")
    command("schema", _schema, "Print the JSON Schema of recipes, for editors.", needs_torch=False)
    copy = command("copy", _copy, "Copy a recipe that comes with kd into the current folder.", needs_torch=False)
    copy.add_argument(
        "recipe", metavar="RECIPE", nargs="?", help="such as shapes/mobilenetv3_kl_cwd.yaml; none lists all"
    )
    return parser


def _seconds(text: str) -> float:
    from kd.engine.plan import as_seconds

    try:
        return as_seconds(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _recipe(parser: argparse.ArgumentParser, *, optional: bool = False) -> None:
    parser.add_argument(
        "recipe", metavar="RECIPE", nargs="?" if optional else None, help="a recipe file, or one that comes with kd"
    )
    parser.add_argument("overrides", nargs="*", metavar="path=value", help="such as train.epochs=2; YAML syntax")
    _trust(parser)


def _trust(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--trust",
        action="store_true",
        default=os.environ.get("KD_TRUST") == "1",
        help="import components from outside kd (also: KD_TRUST=1)",
    )


def _runs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--runs", type=Path, default=Path("runs"), metavar="DIR", help="run directories (default: runs)"
    )


def _demo(arguments: argparse.Namespace) -> int:
    from kd.compare import compare_command
    from kd.engine.run import run_recipe
    from kd.recipe import read_recipe, shipped_recipes

    recipe = shipped_recipes() / "shapes" / "mobilenetv3_kl_cwd.yaml"
    run_recipe(read_recipe(recipe), runs=arguments.runs, baseline=True)
    return compare_command([str(recipe)], runs=arguments.runs)


def _run(arguments: argparse.Namespace) -> None:
    from kd.build import check_calls
    from kd.engine import distributed, plan
    from kd.engine.run import run_recipe
    from kd.recipe import read_recipe

    recipe = read_recipe(arguments.recipe, arguments.overrides, trust=arguments.trust)
    check_calls(recipe)
    if arguments.smoke:
        _smoke(recipe)
        return
    with distributed.joined(recipe.device):
        jobs = plan.plan(recipe, runs=arguments.runs, baseline=arguments.baseline, fresh=arguments.fresh)
        for line in plan.lines(jobs) if jobs and distributed.rank() == 0 else []:
            print(line, flush=True)
        if arguments.budget is not None:
            epochs = plan.epochs_within(jobs, arguments.budget, "--budget")
            arguments.settled = [f"train.epochs={epochs}", "train.steps=null"] if epochs else []
            if distributed.rank() == 0:
                print(f"--budget: {' '.join(arguments.settled) or 'nothing is left to train'}", flush=True)
            recipe = read_recipe(arguments.recipe, [*arguments.overrides, *arguments.settled], trust=arguments.trust)
        run_recipe(
            recipe, runs=arguments.runs, fresh=arguments.fresh, baseline=arguments.baseline, wait=not arguments.no_wait
        )


def _smoke(recipe: "Recipe") -> None:
    """Try a recipe out in a folder that is removed."""
    from kd.compare import compare_command
    from kd.engine.smoke import smoke

    with tempfile.TemporaryDirectory(prefix="kd-smoke-") as folder:
        run = smoke(recipe, runs=Path(folder))
        compare_command([str(run)], runs=Path(folder), trust=recipe.trust)
    print(f"{recipe.file}: trains, saves, resumes with the same bits, scores and reports; {folder} is removed")


def _cache(arguments: argparse.Namespace) -> None:
    from kd.build import check_calls
    from kd.engine.fill import fill_cache
    from kd.recipe import read_recipe

    recipe = read_recipe(arguments.recipe, arguments.overrides, trust=arguments.trust)
    check_calls(recipe)
    fill_cache(recipe, runs=arguments.runs)


def _check(arguments: argparse.Namespace) -> None:
    from kd.recipe import imports

    files, overrides = _split(arguments.recipes, arguments.overrides)
    for file in files:
        if arguments.imports:
            print("\n".join(imports(file)))
            continue
        from kd.engine.check import check_recipe

        for line in check_recipe(file, overrides, trust=arguments.trust, runs=arguments.runs):
            print(line)
        if arguments.plan:
            from kd.engine.plan import lines, plan
            from kd.recipe import read_recipe

            recipe = read_recipe(file, overrides, trust=arguments.trust)
            print("\n".join(lines(plan(recipe, runs=arguments.runs, baseline=True))))


def _split(texts: Sequence[str], more: Sequence[str]) -> tuple[list[str], list[str]]:
    """Files and overrides of a command that takes several files."""
    return [text for text in texts if "=" not in text], [*(text for text in texts if "=" in text), *more]


def _compare(arguments: argparse.Namespace) -> int:
    from kd.compare import compare_command

    targets, overrides = _split(arguments.targets, arguments.overrides)
    return compare_command(
        targets,
        runs=arguments.runs,
        overrides=overrides,
        trust=arguments.trust,
        as_json=arguments.json,
        html=arguments.html,
    )


def _diff(arguments: argparse.Namespace) -> None:
    from kd.compare.diff import diff_command

    diff_command(arguments.a, arguments.b)


def _list(arguments: argparse.Namespace) -> None:
    from kd.compare import list_command

    list_command(arguments.runs)


def _inspect(arguments: argparse.Namespace) -> None:
    from kd.engine.inspect import inspect_command

    inspect_command(arguments.recipe, arguments.overrides, trust=arguments.trust, runs=arguments.runs)


def _calibrate(arguments: argparse.Namespace) -> None:
    from kd.engine.calibrate import calibrate_command

    calibrate_command(
        arguments.recipe,
        arguments.overrides,
        trust=arguments.trust,
        runs=arguments.runs,
        batches=arguments.batches,
        ratio=arguments.ratio,
    )


def _doctor(arguments: argparse.Namespace) -> None:
    from kd.engine.doctor import doctor_command

    doctor_command(arguments.recipe, arguments.overrides, trust=arguments.trust, runs=arguments.runs)


def _bench(arguments: argparse.Namespace) -> None:
    from kd.bench.losses import Sizes, losses_command
    from kd.bench.networks import bench_networks_command
    from kd.bench.step import bench_command
    from kd.recipe import RecipeError

    if arguments.networks is not None:
        bench_networks_command(
            arguments.networks, size=arguments.size, threads=arguments.threads, rounds=arguments.rounds
        )
    elif arguments.losses is not None:
        losses_command(arguments.losses, Sizes(*arguments.sizes), arguments.rounds)
    elif arguments.recipe is not None:
        bench_command(
            arguments.recipe, arguments.overrides, trust=arguments.trust, runs=arguments.runs, rounds=arguments.rounds
        )
    else:
        raise RecipeError("kd bench: no recipe; name one, or give --losses or --networks")


def _env(arguments: argparse.Namespace) -> None:
    from kd.precision import describe

    print(describe())


def _schema(arguments: argparse.Namespace) -> None:
    import json

    from kd.recipe import json_schema

    print(json.dumps(json_schema(), indent=2))


def _copy(arguments: argparse.Namespace) -> None:
    from kd.recipe import copy_recipe, list_recipes

    if arguments.recipe is None:
        print("\n".join(list_recipes()))
        return
    print(copy_recipe(arguments.recipe, Path.cwd()))
