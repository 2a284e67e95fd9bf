"""`kd diff A B`: key by key, what differs between two recipes or run directories."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from kd.console import stdout
from kd.metrics import scores
from kd.recipe import Recipe, read_recipe
from kd.runs import is_finished, read_result, read_run_recipe
from kd.storage import read_json

NOTHING = "–"


def diff_command(a: str | Path, b: str | Path, *, console: Console | None = None) -> bool:
    """Print what differs in the recipes, and between run directories in versions, hardware and results too.

    Nothing that the recipes name is imported.

    Returns:
        Whether anything differs.

    Raises:
        RecipeError: a recipe is wrong.
        StorageError: a run's file cannot be read.
    """
    console = console or stdout()
    here, there = facts(Path(a)), facts(Path(b))
    keys = [key for key in {**here, **there} if here.get(key, NOTHING) != there.get(key, NOTHING)]
    if not keys:
        console.print(f"{a} and {b}: no difference", markup=False)
        return False
    table = Table("key", str(a), str(b))
    for key in keys:
        table.add_row(key, here.get(key, NOTHING), there.get(key, NOTHING))
    console.print(table)
    return True


def facts(path: Path) -> dict[str, str]:
    """All that a recipe, or a run directory, says of itself: dotted key -> text."""
    if not path.is_dir():
        return dict(_flat(_recipe(read_recipe(path, trust=True)), "recipe"))
    found = dict(_flat(_recipe(read_run_recipe(path, trust=True)), "recipe"))
    found |= _flat(read_json(path / "environment.json"), "environment")
    if not is_finished(path):
        return found | {"result": "unfinished"}
    result = read_result(path)
    known: dict[str, Any] = {
        "seed": result.seed,
        "network": result.network,
        "parameters": result.parameters,
        "seconds": round(result.seconds),
        "peak_memory": result.peak_memory,
    }
    for name, split in result.splits.items():
        one = scores(split.confusion)
        known[name] = {"images": split.images, "miou": one.miou, "pixel_accuracy": one.pixel_accuracy}
    return found | dict(_flat(known, "result"))


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
