"""The endless stream of a run's training images, as this process reads it."""

from collections.abc import Callable, Iterator

from kd import distributed
from kd.data.crop import Crop
from kd.data.kept import keep
from kd.data.loader import training_batches
from kd.data.split import Split
from kd.machine import loader_workers
from kd.parts.assemble import Parts
from kd.recipe import Recipe
from kd.types import Batch


def stream(
    parts: Parts,
    *,
    seed: int,
    start: int = 0,
    steps: int | None = None,
    alone: bool = False,
    waiting: Callable[[], None] = lambda: None,
) -> Iterator[Batch]:
    """The run's micro-batches from step `start` on: this rank's, or those of all ranks if `alone`."""
    recipe = parts.recipe
    world = 1 if alone else distributed.world()
    augment = [parts.maker.build(use) for use in recipe.data.augment]
    split = Split(
        parts.training,
        recipe.data.size,
        crop=Crop(recipe.data.crop or recipe.data.size, recipe.data.max_class_share, recipe.data.padding),
        augment=augment,
        seed=seed,
        sums=recipe.cache is not None and parts.teacher is not None,
        kept=keep(parts.training) if _read_again(parts, start, steps) else None,
    )
    return training_batches(
        split,
        steps=parts.steps if steps is None else steps,
        start=start,
        batch_size=recipe.train.batch_size,
        labelled=len(parts.train),
        unlabelled_size=recipe.unlabelled_size,
        views=recipe.cache.views if recipe.cache else None,
        accumulate=recipe.train.accumulate * (distributed.world() // world),
        seed=seed,
        rank=0 if alone else distributed.rank(),
        world=world,
        workers=loader_workers(recipe.data.workers, parts.precision.device),
        pin_memory=parts.precision.device.type == "cuda",  # a copy from there to the GPU waits for nothing
        waiting=waiting,
    )


def _read_again(parts: Parts, start: int, steps: int | None) -> bool:
    """Whether the stream reads images more than once, and the recipe lets them be held."""
    images = ((parts.steps if steps is None else steps) - start) * parts.recipe.images_per_step
    return parts.recipe.data.decoded == "auto" and images > len(parts.training)


def steps_to_fill(recipe: Recipe, labelled: int, unlabelled: int) -> int:
    """Steps after which every view of every image is in the teacher cache, with so many images; 0 without a cache."""
    views = recipe.cache.views if recipe.cache else 0
    streams = [(labelled, recipe.train.batch_size), (unlabelled, max(recipe.unlabelled_size, 1))]
    return max(-(-views * images // size) for images, size in streams)


def in_this_process(recipe: Recipe) -> Recipe:
    """The recipe without data workers: for commands that read a few batches."""
    return recipe.changed(data=recipe.data.model_copy(update={"workers": 0}))
