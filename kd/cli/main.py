"""The command line: parse, call, print. Each command is a function in the module that does its work."""

import argparse
import os
import signal
import sys
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kd import __version__
from kd.cli import status

if TYPE_CHECKING:
    from kd.recipe import Recipe


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit status (see docs/architecture.md)."""
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
        return status.report(error, getattr(arguments, "settled", None))


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse, with `path=value` allowed behind options too: argparse alone takes positionals in one piece."""
    parser = _parser()
    arguments, rest = parser.parse_known_args(argv)
    if any("=" not in text or text.startswith("-") for text in rest) or (rest and not hasattr(arguments, "overrides")):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    texts = [text for text in getattr(arguments, "files", [getattr(arguments, "recipe", None)]) if text]
    arguments.files = [text for text in texts if "=" not in text]
    arguments.overrides = [*(text for text in texts if "=" in text), *getattr(arguments, "overrides", []), *rest]
    return arguments


def _one_line(message: Warning | str, *_: object, **__: object) -> None:
    status.tell(f"warning: {message}")


def _read_first(arguments: argparse.Namespace) -> None:
    """Read the recipes that the command names before torch is imported: a wrong or hostile one is refused at once."""
    if not arguments.needs_torch or getattr(arguments, "imports", False):
        return
    from kd.recipe import read_recipe, teacher_recipe

    for file in arguments.files:
        if not Path(file).is_dir():
            teacher_recipe(read_recipe(file, arguments.overrides, trust=arguments.trust))


def _check_torch(arguments: argparse.Namespace) -> None:
    if arguments.needs_torch:
        from kd.components.build import check_torch

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
    run.add_argument("--baseline", action="store_true", help="train the same student without distillation too")
    run.add_argument("--fresh", action="store_true", help="move this recipe's old run directories aside and start over")
    run.add_argument("--smoke", action="store_true", help="try everything once in a folder that is removed")
    run.add_argument(
        "--budget", type=_seconds, metavar="TIME", help="set train.epochs so that all ends within this time, such as 6h"
    )
    run.add_argument("--no-wait", action="store_true", help="exit 7 where another process trains the teacher already")

    cache = command("cache", _cache, "Compute a recipe's teacher ahead, for every view of every image.")
    _recipe(cache)

    check = command("check", _check, "Check recipes without training: shape, calls, and one small batch.")
    _files(check, "RECIPE", "recipe files; `path=value` overrides all of them")
    check.add_argument("--plan", action="store_true", help="measure for 20 s what the runs, the twin's too, will cost")
    check.add_argument("--imports", action="store_true", help="only list what the recipes would import")

    compare = command("compare", _compare, "Compare a recipe's student with its baseline and its teacher.")
    _files(compare, "TARGET", "recipes, run directories, and `path=value`")
    compare.add_argument("--json", action="store_true", help="print JSON instead of tables")
    compare.add_argument("--html", type=Path, metavar="FILE", help="where the page goes (default: the run directory)")

    diff = command("diff", _diff, "Show key by key what differs between two recipes or run directories.")
    for name in ("a", "b"):
        diff.add_argument(name, type=Path, metavar=name.upper(), help="a recipe or a run directory")

    _runs(command("list", _list, "List the runs, finished and unfinished."))

    doctor = command("doctor", _doctor, "Say why a recipe's teacher scores badly: its images' form or its classes.")
    _recipe(doctor)

    inspect = command("inspect", _inspect, "Show each term's taps, shapes, adapter, value and gradient on one batch.")
    _recipe(inspect)

    calibrate = command("calibrate", _calibrate, "Propose the terms' weights from their gradients on some batches.")
    _recipe(calibrate)
    calibrate.add_argument("--batches", type=int, default=4, help="batches to average over (default 4)")
    calibrate.add_argument(
        "--ratio", type=float, default=1.0, help="wanted: norm of a weighted term's gradient by the supervised one's"
    )

    bench = command("bench", _bench, "Time a recipe's step against its parts, all losses or networks, on this machine.")
    _recipe(bench, optional=True)
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
    from kd.units import as_seconds

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
    _runs(parser)


def _files(parser: argparse.ArgumentParser, metavar: str, summary: str) -> None:
    """Several recipes, and overrides among them."""
    parser.add_argument("files", nargs="+", metavar=metavar, help=summary)
    parser.set_defaults(overrides=[])
    _trust(parser)
    _runs(parser)


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
    from kd.recipe import read_recipe
    from kd.recipe.shipped import shipped_recipes
    from kd.train.session import run_recipe

    recipe = shipped_recipes() / "shapes" / "mobilenetv3_kl_cwd.yaml"
    run_recipe(read_recipe(recipe), runs=arguments.runs, baseline=True)
    return compare_command([str(recipe)], runs=arguments.runs)


def _run(arguments: argparse.Namespace) -> None:
    from kd import distributed
    from kd.components.build import check_calls
    from kd.console import say
    from kd.diagnose import plan
    from kd.recipe import read_recipe
    from kd.train.session import run_recipe

    recipe = read_recipe(arguments.recipe, arguments.overrides, trust=arguments.trust)
    check_calls(recipe)
    if arguments.smoke:
        _smoke(recipe)
        return
    with distributed.joined(recipe.device):
        jobs = plan.plan(recipe, runs=arguments.runs, baseline=arguments.baseline, fresh=arguments.fresh)
        for line in plan.lines(jobs) if jobs and distributed.rank() == 0 else []:
            say(line)
        if arguments.budget is not None:
            epochs = plan.epochs_within(jobs, arguments.budget, "--budget")
            arguments.settled = [f"train.epochs={epochs}", "train.steps=null"] if epochs else []
            if distributed.rank() == 0:
                say(f"--budget: {' '.join(arguments.settled) or 'nothing is left to train'}")
            recipe = read_recipe(arguments.recipe, [*arguments.overrides, *arguments.settled], trust=arguments.trust)
        run_recipe(
            recipe, runs=arguments.runs, fresh=arguments.fresh, baseline=arguments.baseline, wait=not arguments.no_wait
        )


def _smoke(recipe: "Recipe") -> None:
    """Try a recipe out in a folder that is removed."""
    from kd.compare import compare_command
    from kd.train.smoke import smoke

    with tempfile.TemporaryDirectory(prefix="kd-smoke-") as folder:
        run = smoke(recipe, runs=Path(folder))
        compare_command([str(run)], runs=Path(folder), trust=recipe.trust)
    print(f"{recipe.file}: trains, saves, resumes with the same bits, scores and reports; {folder} is removed")


def _cache(arguments: argparse.Namespace) -> None:
    from kd.components.build import check_calls
    from kd.recipe import read_recipe
    from kd.train.fill_cache import fill_cache

    recipe = read_recipe(arguments.recipe, arguments.overrides, trust=arguments.trust)
    check_calls(recipe)
    fill_cache(recipe, runs=arguments.runs)


def _check(arguments: argparse.Namespace) -> None:
    from kd.recipe import imports

    for file in arguments.files:
        if arguments.imports:
            print("\n".join(imports(file)))
            continue
        from kd.parts.dry_run import check_recipe

        for line in check_recipe(file, arguments.overrides, trust=arguments.trust, runs=arguments.runs):
            print(line)
        if arguments.plan:
            from kd.diagnose.plan import lines, plan
            from kd.recipe import read_recipe

            recipe = read_recipe(file, arguments.overrides, trust=arguments.trust)
            print("\n".join(lines(plan(recipe, runs=arguments.runs, baseline=True))))


def _compare(arguments: argparse.Namespace) -> int:
    from kd.compare import compare_command

    return compare_command(
        arguments.files,
        runs=arguments.runs,
        overrides=arguments.overrides,
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
    from kd.diagnose.inspect import inspect_command

    inspect_command(arguments.recipe, arguments.overrides, trust=arguments.trust, runs=arguments.runs)


def _calibrate(arguments: argparse.Namespace) -> None:
    from kd.diagnose.calibrate import calibrate_command

    calibrate_command(
        arguments.recipe,
        arguments.overrides,
        trust=arguments.trust,
        runs=arguments.runs,
        batches=arguments.batches,
        ratio=arguments.ratio,
    )


def _doctor(arguments: argparse.Namespace) -> None:
    from kd.diagnose.doctor import doctor_command

    doctor_command(arguments.recipe, arguments.overrides, trust=arguments.trust, runs=arguments.runs)


def _bench(arguments: argparse.Namespace) -> None:
    from kd.bench.losses import Sizes, losses_command
    from kd.bench.networks import bench_networks_command
    from kd.bench.step import bench_command
    from kd.errors import RecipeError

    given = {"--rounds": [arguments.rounds], "--sizes": arguments.sizes, "--size": arguments.size or [1]}
    for name, values in (given | {"--threads": [arguments.threads or 1]}).items():
        if min(values) < 1:
            raise RecipeError(f"kd bench: {name} has {min(values)}; it must be 1 or more")
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
    from kd.machine import describe

    print(describe())


def _schema(arguments: argparse.Namespace) -> None:
    import json

    from kd.recipe import json_schema

    print(json.dumps(json_schema(), indent=2))


def _copy(arguments: argparse.Namespace) -> None:
    from kd.recipe.copying import copy_recipe
    from kd.recipe.shipped import list_recipes

    if arguments.recipe is None:
        print("\n".join(list_recipes()))
        return
    print(copy_recipe(arguments.recipe, Path.cwd()))
