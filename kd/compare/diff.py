"""`kd diff A B`: the keys in which two recipes or run directories differ."""

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from kd.compare.output import DiffOutput, KeyDifference
from kd.console import make_table, print_line, print_text, stdout
from kd.metrics import scores
from kd.recipe import Recipe, read_recipe
from kd.runs import MetricResult, is_finished, read_environment, read_result, read_run_recipe

NOTHING = "–"


def diff_command(a: str | Path, b: str | Path, *, as_json: bool = False, console: Console | None = None) -> bool:
    """Print the differences of two recipes; of two run directories also those in versions, hardware and results.

    The components that the recipes name are not imported.

    Returns:
        Whether anything differs.

    Raises:
        RecipeError: a recipe is wrong.
        StorageError: a run's file cannot be read.
    """
    console = console or stdout()
    of_a, of_b = facts(Path(a)), facts(Path(b))
    keys = [key for key in of_a | of_b if of_a.get(key, NOTHING) != of_b.get(key, NOTHING)]
    if as_json:
        differences = [KeyDifference(key=key, a=of_a.get(key), b=of_b.get(key)) for key in keys]
        found = DiffOutput(a=str(a), b=str(b), differences=differences).model_dump()
        print_text(json.dumps(found, indent=1), console=console)
        return bool(keys)
    if not keys:
        print_line(f"{a} and {b}: no difference", console=console)
        return False
    rows = [(key, of_a.get(key, NOTHING), of_b.get(key, NOTHING)) for key in keys]
    console.print(make_table(("key", str(a), str(b)), rows, left=3))
    return True


def facts(path: Path) -> dict[str, str]:
    """The content of a recipe or a run directory: dotted key -> text."""
    if not os.path.isdir(path):
        return dict(_flat(_recipe(read_recipe(path, trust=True)), "recipe"))
    recipe = dict(_flat(_recipe(read_run_recipe(path, trust=True)), "recipe"))
    facts_of_run = recipe | dict(_flat(read_environment(path).model_dump(), "environment"))
    if not is_finished(path):
        return facts_of_run | {"result": "unfinished"}
    result = read_result(path)
    numbers: dict[str, Any] = {
        "seed": result.seed,
        "network": result.network,
        "parameters": result.parameters,
        "seconds": round(result.seconds),
        "peak_memory": result.peak_memory,
    }
    for name, split in result.splits.items():
        score = scores(split.confusion)
        numbers[name] = {"images": split.images, "miou": score.miou, "pixel_accuracy": score.pixel_accuracy}
        numbers[name] |= {label: _headline(metric) for label, metric in split.metrics.items()}
    return facts_of_run | dict(_flat(numbers, "result"))


def _headline(metric: MetricResult) -> float | str | None:
    """A metric's value, with its unit if it is no share: a distance may be in pixels in one run, in mm in another."""
    known = metric.headline
    return known if known is None or metric.unit == "%" else f"{known:.4f} {metric.unit}".rstrip()


def _recipe(recipe: Recipe) -> dict[str, Any]:
    return {"id": recipe.id} | recipe.resolved()


def _flat(value: Any, key: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping) and value:
        for name, item in value.items():
            yield from _flat(item, f"{key}.{name}")
    elif isinstance(value, (list, tuple)) and any(isinstance(item, (Mapping, list, tuple)) for item in value):
        for index, item in enumerate(value):
            yield from _flat(item, f"{key}.{index}")
    else:
        yield key, f"{value:.4f}" if isinstance(value, float) and key.startswith("result.") else str(value)
