"""`kd run R --smoke`: every part of a run once, in seconds, before a week of it is asked for."""

from pathlib import Path

from kd.console import Say
from kd.errors import StorageError
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
            "checkpoints": "all",  # the last one is lost on purpose, then the run resumes
            "evaluate_every": steps,
        }
    )
    return recipe.changed(
        train=train,
        log=recipe.log.model_copy(update={"every": 1, "panels": min(recipe.log.panels, 1)}),
        phases=_a_step_each(recipe.phases),
        schedule=_warmed_in(recipe.schedule, steps),
        track=None,
    )


def _a_step_each(phases: tuple[PhaseConfig, ...]) -> tuple[PhaseConfig, ...]:
    ends = [*range(1, len(phases)), None]
    return tuple(phase.model_copy(update={"until": end}) for phase, end in zip(phases, ends, strict=False))


def _warmed_in(schedule: Use, steps: int) -> Use:
    """The schedule with a warm-up that is no longer than the run."""
    warmup = schedule.args.get("warmup", 0)
    if not isinstance(warmup, int) or warmup <= steps:
        return schedule
    return schedule.model_copy(update={"args": schedule.args | {"warmup": steps}})


def smoke(recipe: Recipe, *, runs: Path, say: Say = print) -> Path:
    """Train a few steps, score two batches, save; then lose the last step, resume, and end with the same bytes.

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
    if recipe.cache is not None:
        cache = recipe.cache.model_copy(update={"folder": str(runs / "teacher-cache")})
        short = short.changed(cache=cache)
    (run,) = run_recipe(short, runs=runs, say=say, quiet=True, smoke=BATCHES)
    file = run / "student.safetensors"
    whole = file.read_bytes()
    (run / "result.json").unlink()
    for checkpoint in (run / "checkpoints").glob(f"step-{short.train.steps}-*.pt"):
        checkpoint.unlink()
    run_recipe(short, runs=runs, say=say, quiet=True, smoke=BATCHES)
    if file.read_bytes() != whole:
        raise StorageError(
            f"{run}: a resumed run ends with other weights than one that was not stopped: a component draws random "
            "numbers of its own, or an operation does not repeat; try deterministic=true"
        )
    return run
