"""The meeting with real images: every network, loss and metric runs once at the sizes and batches of the run."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import TypeVar

import torch
from torch import Tensor, nn

from kd import distributed
from kd.components import is_users, refused_by
from kd.data.dataset import FirstImages, check_labels_alone
from kd.data.images.decode import size_text
from kd.data.loader import Evaluation, evaluation_batches
from kd.errors import DataError, RecipeError, raised
from kd.machine import Precision
from kd.parts.assemble import Parts
from kd.parts.mixing import scaled
from kd.parts.roles import restored, to_device
from kd.parts.stream import in_this_process, stream
from kd.parts.teacher.output import flaw
from kd.recipe import EvaluateConfig, Recipe, Use
from kd.scoring import check_metrics, evaluating, predict
from kd.types import Batch, SegmentationDataset, Tapped, size_of
from kd.units import counted

T = TypeVar("T")

STRIDE = 32  # the sizes that are tried in place of one that fails are multiples of it


def meet(parts: Parts) -> None:
    """Run a first micro-batch of training through both networks and all losses, and first images of val as scored.

    Nothing is differentiated, so this needs less memory than a step; weights, buffers and random state do not change.

    Raises:
        RecipeError: a network does not take the size or the number of images, with values that it takes; or a loss or
            metric fails.
        DataError: an image cannot be read, or a transform fails.
    """
    student, training = parts.student, parts.student.training
    modules = [module for module in (student, parts.ema) if module is not None]
    try:
        for dataset in (parts.train, parts.val):
            if len(dataset):
                check_labels_alone(dataset)
        with restored(parts.precision, *modules), torch.no_grad():
            _train(parts)
            meet_scoring(parts.recipe, _scored_networks(parts), parts.val, parts.precision)
    finally:
        student.train(training)


def _train(parts: Parts) -> None:
    """The first micro-batch of this process."""
    recipe = parts.recipe
    seed = recipe.train.seeds[0]
    first = next(stream(replace(parts, recipe=in_this_process(recipe)), seed=seed, steps=1))
    batch = to_device(first, parts.precision)
    parts.student.train()
    key = "data.crop" if recipe.data.crop else "data.size"

    def student(images: Tensor) -> Tapped:
        output: Tapped = parts.student(images)
        return output

    def teacher(images: Tensor) -> Tapped | None:
        return parts.teaching.seeing(images) if parts.teaching else None

    seen = parts.teaching.sight.of(batch) if parts.teaching else batch.images
    with parts.precision.autocast():
        of_teacher = _tried(recipe, "teacher", teacher, seen, _seen_key(recipe) or key, training=True)
        of_student = _tried(recipe, "student", student, batch.images, key, training=True)
    if of_teacher is not None and not parts.averages_teach:
        assert recipe.teacher is not None
        stated = recipe.teacher.outputs if recipe.teacher.use else None
        if what := flaw(of_teacher.logits, stated):
            raise RecipeError(f"{place(recipe, 'teacher')} {what}")
    assert of_student is not None
    _meet_scales(parts, first)
    _losses(parts, of_student, of_teacher, batch)


def _meet_scales(parts: Parts, first: Batch) -> None:
    """Run both networks at the other sizes of training."""
    for scale in sorted({*parts.recipe.train.scales} - {1.0}):
        batch = to_device(scaled(first, scale, parts.precision), parts.precision)
        try:
            with parts.precision.autocast():
                parts.student(batch.images)
                if parts.teaching is not None:
                    parts.teaching(batch)
        except (Exception, SystemExit) as error:  # noqa: BLE001  # they have run at the first size
            raise RecipeError(
                f"{parts.recipe.at('train', 'scales')}: train.scales: {scale:g} makes images of "
                f"{size_text(size_of(batch.images))}, on which a network fails ({raised(error)}); remove it"
            ) from None


def _seen_key(recipe: Recipe) -> str:
    """What sets the size of the images that the teacher sees, to be set to another one; "" if it is the student's."""
    given = recipe.teacher
    if given is None or not (given.size or given.scale):
        return ""
    return "teacher.size" if given.size else "teacher.scale: null, teacher.size"


@torch.enable_grad()
def _losses(parts: Parts, student: Tapped, teacher: Tapped | None, batch: Batch) -> None:
    """Every loss on the maps of the first micro-batch, which a loss may differentiate."""
    recipe = parts.recipe
    student = Tapped(
        _leaf(student.logits),
        {name: _leaf(logits) for name, logits in student.aux.items()},
        {
            name: tuple(map(_leaf, maps)) if isinstance(maps, tuple) else _leaf(maps)
            for name, maps in student.at.items()
        },
    )
    calls: list[tuple[Use, Callable[[], object]]] = [
        (recipe.supervised.loss, lambda: parts.supervised(student, batch.labels))
    ]
    if teacher is not None:
        calls += [
            (recipe.distill[name].loss, _call(term, name, student, teacher, batch))
            for name, term in parts.terms.items()
        ]
    for use, call in calls:
        try:
            call()
        except (Exception, SystemExit) as error:  # noqa: BLE001  # a bug of ours is raised as it is
            raise refused_by(use, error) from None


def _call(term: Callable[..., Tensor], *args: object) -> Callable[[], Tensor]:
    return lambda: term(*args)


def _leaf(maps: Tensor) -> Tensor:
    return maps.detach().requires_grad_()


def _scored_networks(parts: Parts) -> dict[str, nn.Module]:
    """The networks that evaluations run, by side."""
    networks = {"student": parts.network}
    if parts.teacher is not None and parts.teacher.network is not parts.network:
        networks["teacher"] = parts.teacher.network
    return networks


def meet_scoring(
    recipe: Recipe, networks: Mapping[str, nn.Module], dataset: SegmentationDataset, precision: Precision
) -> None:
    """Run one image of a split as the recipe scores it, and a batch as short as the last one of an evaluation.

    Args:
        recipe: how images are scored.
        networks: by side, "student" or "teacher"; the student's output goes through the further metrics too.
        dataset: the split.
        precision: where and how the networks run.

    Raises:
        RecipeError: a network does not take the size or the number of images, with values that it takes; or a metric
            fails.
        DataError: the split is empty, or an image cannot be read.
    """
    if not len(dataset):
        raise DataError(
            f"{recipe.data.dataset.at()}: the split is empty: {recipe.data.dataset.use} has no images in it"
        )
    full = recipe.train.batch_size // distributed.world()
    short = len(dataset) % full or min(full, len(dataset))
    one_pass = recipe.evaluate.model_copy(update={"scales": (1.0,), "flip": False})
    for images, how in {1: recipe.evaluate, short: one_pass if short > 1 else recipe.evaluate}.items():
        batch = _first_of(recipe, dataset, images)
        for side, network in networks.items():
            logits = _scored(recipe, side, network, batch.images, precision, how)
            _check_shape(recipe, side, logits, images, len(dataset.class_names))
            metrics_meet = side == "student" and images == 1
            if metrics_meet and (mistakes := check_metrics(recipe, batch.labels[0].to(logits.device), logits[0])):
                raise RecipeError(mistakes)


def _first_of(recipe: Recipe, dataset: SegmentationDataset, images: int) -> Evaluation:
    batches: Iterator[Evaluation] = evaluation_batches(
        FirstImages(dataset, images), recipe.scored_size, batch_size=images
    )
    return next(batches)


def _scored(
    recipe: Recipe, side: str, network: nn.Module, images: Tensor, precision: Precision, how: EvaluateConfig
) -> Tensor:
    """The logits of a batch."""
    key = "evaluate.window" if how.window else "evaluate.size" if recipe.evaluate.size else "data.size"

    def run(images: Tensor) -> Tensor:
        with evaluating(network):
            return predict(network, images, precision, how)

    return _tried(recipe, side, run, images, key)


def _check_shape(recipe: Recipe, side: str, logits: Tensor, images: int, classes: int) -> None:
    if logits.ndim != 4 or logits.shape[:2] != (images, classes):
        raise RecipeError(
            f"{place(recipe, side)} returns logits {tuple(logits.shape)} for {counted(images, 'image')} and {classes} "
            f"classes; expected ({images}, {classes}, h, w): keep the dimension of the batch"
        )


def _tried(
    recipe: Recipe, side: str, run: Callable[[Tensor], T], images: Tensor, key: str, *, training: bool = False
) -> T:
    """What a network returns for a batch.

    Args:
        recipe: of the run.
        side: "student" or "teacher".
        run: calls the network.
        images: (N, C, H, W).
        key: of the recipe, which sets the size of the images.
        training: whether it is a micro-batch of training.

    Raises:
        RecipeError: it fails; with a value of the recipe with which it does not. Or it changes the images in place.
    """
    version = images._version
    try:
        output = run(images)
    except (Exception, SystemExit) as error:
        use = _network(recipe, side)
        fix = _fix(recipe, run, images, key, training=training)
        if not (use is None or fix or is_users(use, error)):
            raise
        passes = refused_by(use, error) if use is not None else None
        if passes is error:
            raise
        height, width = images.shape[2:]
        given = f"{counted(len(images), 'image')} of {key.rpartition('.')[2]} [{height}, {width}]"
        raise RecipeError(
            f"{place(recipe, side)} fails on {given} in "
            f"{'training' if training else 'evaluation'}: {raised(error)}{f'; {fix}' if fix else ''}"
        ) from None
    if images._version != version:
        raise RecipeError(
            f"{place(recipe, side)} changes its images, which the other network reads too, in place; write "
            "images = images - mean, not images -= mean, and normalize(…) without inplace=True"
        )
    return output


def _fix(recipe: Recipe, run: Callable[[Tensor], object], images: Tensor, key: str, *, training: bool) -> str:
    """The change of the recipe with which a network runs that fails on these images; an empty text if none is found."""

    def runs(like: Tensor) -> bool:
        try:
            run(like)
        except (Exception, SystemExit):  # noqa: BLE001  # whatever it is, this is no fix
            return False
        return True

    if len(images) == 1 and runs(images.expand(2, -1, -1, -1).contiguous()):
        return _more_images(recipe) if training else "it takes two images, so keep the dimension of the batch in it"
    size = images.shape[2:]
    down = [max(STRIDE, length // STRIDE * STRIDE) for length in size]
    up = [-(-length // STRIDE) * STRIDE for length in size]
    for other in sorted((down, up), key=lambda other: abs(other[0] * other[1] - size[0] * size[1])):
        if other != list(size) and runs(images.new_zeros((*images.shape[:2], *other))):
            return f"set {key}: {other}, which it takes"
    return ""


def _more_images(recipe: Recipe) -> str:
    """The change of the recipe that gives each micro-batch more than one image."""
    train, processes = recipe.train, distributed.world()
    share = train.batch_size // processes
    fewer = next((number for number in range(share // 2, 0, -1) if share % number == 0), 0)
    change = f"train.accumulate: {fewer}" if fewer else f"train.batch_size: {2 * processes * recipe.accumulate}"
    return f"it takes micro-batches of two images (BatchNorm after pooling cannot train on one): set {change}"


def _network(recipe: Recipe, side: str) -> Use | None:
    """The component that a side's network is; None for a teacher that a run directory names."""
    if side == "student" or recipe.teacher is None:
        return recipe.student.network
    return recipe.teacher_recipe.student.network if recipe.teacher_recipe else recipe.teacher.network


def place(recipe: Recipe, side: str) -> str:
    """The beginning of a message about a network: the side "teacher" or "student"."""
    use = _network(recipe, side)
    return f"{recipe.at(side)}: the {side}{f' {use.use}' if use else ''}"
