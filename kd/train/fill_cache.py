"""`kd cache RECIPE`: compute a recipe's teacher before training, once for every view of every image."""

import shutil
from pathlib import Path

from kd.console import say
from kd.errors import RecipeError, StorageError
from kd.parts.assemble import assemble
from kd.parts.checks.calls import check_calls
from kd.parts.roles import to_device
from kd.parts.stream import steps_to_fill, stream
from kd.parts.teacher.cache import CachedTeacher
from kd.recipe import Recipe, first_seed
from kd.runs import run_command
from kd.train.session import run_recipe
from kd.train.signals import stopping
from kd.train.start import step_teacher
from kd.units import data_size


def fill_cache(recipe: Recipe, *, runs: Path) -> list[Path]:
    """Fill the teacher cache for every seed of a recipe; its teacher is trained first if it has not been.

    Existing records are checked and kept, so the same call continues after an interruption.

    Args:
        recipe: checked in shape.
        runs: where run directories are.

    Returns:
        The folders, one per seed.

    Raises:
        RecipeError: the recipe is wrong, or has no cache or no teacher.
        StorageError: the disk has too little space.
        StoppedError: a signal arrived; the same call continues.
    """
    check_calls(recipe, runs=runs)
    if recipe.cache is None or recipe.teacher is None:
        raise RecipeError(f"{recipe.file}: nothing to cache; the recipe needs a `teacher`, and `cache: {{views: 4}}`")
    if recipe.teacher_recipe is not None:
        run_recipe(first_seed(recipe.teacher_recipe), runs=runs, role="teacher", command=run_command(recipe, runs))
    return [_fill(recipe, runs, seed) for seed in recipe.train.seeds]


def _fill(recipe: Recipe, runs: Path, seed: int) -> Path:
    parts = assemble(recipe, runs=runs, seed=seed)
    teacher = step_teacher(parts, seed, say)
    assert isinstance(teacher, CachedTeacher)
    steps = steps_to_fill(recipe, len(parts.train), len(parts.training) - len(parts.train))
    announced = False
    with stopping() as stop, parts.precision.autocast():
        for batch in stream(parts, seed=seed, steps=steps, waiting=stop.waiting):
            stop.check()
            teacher(to_device(batch, parts.precision))
            if teacher.failed:
                raise StorageError(f"{teacher.failed}; free space, and the same command continues")
            if not announced:
                announced = True
                _announce(teacher, len(parts.training))
    say(f"{teacher.folder}: complete")
    return teacher.folder


def _announce(teacher: CachedTeacher, images: int) -> None:
    """Print the size of the cache; refuse a cache that does not fit on the disk."""
    whole = teacher.records * teacher.record_bytes
    free = shutil.disk_usage(teacher.folder).free
    used = sum(_on_disk(file) for file in teacher.folder.iterdir())
    say(
        f"{teacher.folder}: {images} images × {teacher.views} views, {data_size(teacher.record_bytes)} each: "
        f"{data_size(whole)} on disk ({data_size(free)} free)"
    )
    if whole - used > free:
        raise StorageError(
            f"{teacher.folder}: {data_size(whole)} needed, {data_size(free)} free; "
            "use fewer cache.views, cache.dtype float16, or another cache.folder"
        )


def _on_disk(file: Path) -> int:
    """The bytes that a file takes; Windows does not count blocks."""
    status = file.stat()
    return int(getattr(status, "st_blocks", status.st_size / 512) * 512)
