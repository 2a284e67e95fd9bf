"""`kd run R --smoke`: every part of a run once, within seconds, before it trains for days."""

from pathlib import Path

from kd.errors import StorageError
from kd.files.manifest import MANIFEST, RESULT, WEIGHTS
from kd.parts.checks.calls import check_calls
from kd.recipe import Recipe, Use
from kd.recipe.schema import PhaseConfig
from kd.train.session import run_recipe

STEPS = 2  # or one for each phase, if there are more
BATCHES = 2  # of the validation split


def shortened(recipe: Recipe) -> Recipe:
    """The recipe with one seed, two steps or as many as phases, a checkpoint each, and no tracking."""
    steps = max(STEPS, len(recipe.phases))
    train = recipe.train.model_copy(
        update={
            "steps": steps,
            "epochs": None,
            "seeds": recipe.train.seeds[:1],
            "save_every": 1,
            "checkpoints": "all",  # the last one is removed on purpose; then the run resumes
            "evaluate_every": steps,
        }
    )
    return recipe.changed(
        train=train,
        log=recipe.log.model_copy(update={"every": 1, "panels": min(recipe.log.panels, 1)}),
        phases=_one_step_each(recipe.phases),
        schedule=_warmed_up_within(recipe.schedule, steps),
        track=None,
    )


def _one_step_each(phases: tuple[PhaseConfig, ...]) -> tuple[PhaseConfig, ...]:
    ends = [*range(1, len(phases)), None]
    return tuple(phase.model_copy(update={"until": end}) for phase, end in zip(phases, ends, strict=False))


def _warmed_up_within(schedule: Use, steps: int) -> Use:
    """The schedule, its warm-up at most as long as the run."""
    warmup = schedule.args.get("warmup", 0)
    if not isinstance(warmup, int) or warmup <= steps:
        return schedule
    return schedule.model_copy(update={"args": schedule.args | {"warmup": steps}})


def smoke(recipe: Recipe, *, runs: Path) -> Path:
    """Train a few steps, score two batches, save; then remove the last step, resume, and compare the weights.

    An untrained teacher teaches with its initial weights.

    Args:
        recipe: checked in shape.
        runs: an empty folder.

    Returns:
        The run directory.

    Raises:
        RecipeError: the recipe is wrong.
        StorageError: the resumed run ends with other weights.
    """
    check_calls(recipe, runs=runs)  # of what a trial run leaves out, too: `track`
    short = shortened(recipe)
    if recipe.cache is not None:
        cache = recipe.cache.model_copy(update={"folder": str(runs / "teacher-cache")})
        short = short.changed(cache=cache)
    (run_dir,) = run_recipe(short, runs=runs, quiet=True, smoke=BATCHES)
    file = run_dir / WEIGHTS
    uninterrupted = file.read_bytes()
    for name in (MANIFEST, RESULT):
        (run_dir / name).unlink()
    for checkpoint in (run_dir / "checkpoints").glob(f"step-{short.train.steps}-*.pt"):
        checkpoint.unlink()
    run_recipe(short, runs=runs, quiet=True, smoke=BATCHES)
    if file.read_bytes() != uninterrupted:
        raise StorageError(
            f"{run_dir}: the resumed run ends with other weights than the uninterrupted one: a component draws its own "
            "random numbers, or an operation is not deterministic; try deterministic=true"
        )
    return run_dir
