"""`kd run R --smoke`: every part of a run once, in seconds, before a week of it is asked for."""

from collections.abc import Callable
from pathlib import Path

from kd.engine.run import run_recipe
from kd.recipe import Recipe
from kd.runs import StorageError

STEPS = 2
BATCHES = 2  # of the validation split


def shortened(recipe: Recipe) -> Recipe:
    """The recipe with one seed, two steps, a checkpoint each, and no cache."""
    train = {"steps": STEPS, "epochs": None, "seeds": recipe.train.seeds[:1], "save_every": 1, "evaluate_every": STEPS}
    log = recipe.log.model_copy(update={"every": 1, "panels": min(recipe.log.panels, 1)})
    short = recipe.model_copy(update={"train": recipe.train.model_copy(update=train), "log": log, "cache": None})
    return short.model_copy(update={"phases": (), "track": None})  # two steps have no phases


def smoke(recipe: Recipe, *, runs: Path, say: Callable[[str], None] = print) -> Path:
    """Train two steps, score two batches, save; then lose the last step, resume, and end with the same bytes.

    An untrained teacher teaches as it is built.

    Args:
        recipe: checked in shape and calls.
        runs: an empty folder.
        say: takes the lines for the user.

    Returns:
        The run directory.

    Raises:
        StorageError: the resumed run ended with other weights.
    """
    short = shortened(recipe)
    (run,) = run_recipe(short, runs=runs, say=say, quiet=True, smoke=BATCHES)
    file = run / "student.safetensors"
    whole = file.read_bytes()
    (run / "result.json").unlink()
    for checkpoint in (run / "checkpoints").glob(f"step-{STEPS}-*.pt"):
        checkpoint.unlink()
    run_recipe(short, runs=runs, say=say, quiet=True, smoke=BATCHES)
    if file.read_bytes() != whole:
        raise StorageError(
            f"{run}: a resumed run ends with other weights than one that was not stopped: a component draws random "
            "numbers of its own, or an operation does not repeat; try deterministic=true"
        )
    return run
