"""Recipe -> Run: the one place where everything meets."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from kd.build import build
from kd.data.dataset import Split, survey
from kd.data.loader import training_batches
from kd.engine import distributed
from kd.engine.compiling import compile_roles
from kd.engine.folding import folded
from kd.engine.optimizer import Phases, make_optimizer, phase_ends, resting
from kd.engine.roles import Student, Teacher
from kd.engine.schedule import Told
from kd.engine.step import Run, Supervised, Term
from kd.engine.teacher_cache import CachedTeacher
from kd.engine.train import give_up
from kd.precision import Precision, choose
from kd.recipe import Recipe, RecipeError, Use, Weights, as_steps, teacher_recipe
from kd.recipe import Term as TermRecipe
from kd.runs import build_network, is_finished, load_network, teacher_directories
from kd.taps import as_tuple
from kd.types import Batch, SegmentationDataset, Tapped
from kd.weights import load_into


@dataclass(frozen=True)
class Parts:
    """A recipe's objects before training: what `kd check`, `kd inspect` and `kd bench` look at too."""

    recipe: Recipe
    train: SegmentationDataset
    val: SegmentationDataset
    student: Student
    teacher: Teacher | None
    teacher_run: Path | None  # where the teacher's weights came from, if from a run
    terms: dict[str, Term]
    supervised: Supervised
    steps: int
    precision: Precision
    notes: list[str]  # what was loaded, what is slow: lines for the user
    ema: AveragedModel | None  # of the student's network alone
    teaching: Teacher | None  # the teacher as it works in a step: itself, or its copy with BatchNorm folded

    @property
    def averages_teach(self) -> bool:
        """Whether the student's own moving average is the teacher."""
        return self.recipe.teacher is not None and self.recipe.teacher.ema is not None

    @property
    def network(self) -> nn.Module:
        """The network whose weights are the result: the moving average's where `train.ema` asks for one."""
        if self.ema is None or self.recipe.train.ema is None:
            return self.student.network
        averaged: nn.Module = self.ema.module
        return averaged

    @property
    def scored(self) -> dict[str, tuple[nn.Module, nn.Module | None]]:
        """What an evaluation scores, by its name in the metrics: a network, and a teacher that it may agree with."""
        teacher = self.teacher.network if self.teacher is not None and self.recipe.evaluate.agreement else None
        both: dict[str, tuple[nn.Module, nn.Module | None]] = {
            "val": (self.network, None if teacher is self.network else teacher)
        }
        if self.network is not self.student.network:
            both["val_student"] = (self.student.network, None)
        elif self.ema is not None:
            both["val_ema"] = (self.ema.module, None)
        return both


def assemble(recipe: Recipe, *, runs: Path, seed: int, trained: bool = True) -> Parts:
    """Build everything that a recipe names.

    The student is built first from `seed`, so a recipe and its baseline twin start from the same weights.

    Args:
        recipe: checked in shape.
        runs: where run directories are.
        seed: of the initial weights.
        trained: False takes an unfinished teacher as it is built: for checks before it is trained.

    Raises:
        RecipeError: the parts do not fit.
        DataError: the data cannot be read.
    """
    _divide(recipe)
    train, val = (make_dataset(recipe, split) for split in ("train", "val"))
    if train.class_names != val.class_names:
        raise RecipeError(
            [f"{recipe.data.dataset.at()}: train has the classes {train.class_names}, val {val.class_names}"]
        )
    notes: list[str] = []
    torch.manual_seed(seed)
    use = recipe.student.network
    network = build_network(recipe, use, len(train.class_names), train.in_channels)
    if recipe.student.weights is not None:
        notes.append(f"student: {_load(network, recipe.student.weights, use)}")
    _refuse_random(recipe, network, lambda: build_network(recipe, use, len(train.class_names), train.in_channels), seed)
    network = _synchronized(recipe, network)
    steps = total_steps(recipe, len(train))
    ema = _moving_average(recipe, network)  # before any hook: a copy's hooks would fill the original's store
    student, losses, known = Student(network, {}, {}, {}), dict[str, Any](), dict[str, tuple[int, ...]]()
    teacher, folded_teacher, teacher_run = None, None, None
    if recipe.teacher is not None:
        teacher_network, teacher_run, note = _teacher_network(recipe, runs, train, trained, ema)
        notes += note
        twin = _folded(recipe, teacher_network, train.in_channels, notes)  # copied before any hook
        teacher = _with_taps(recipe, "teacher", lambda at: Teacher(teacher_network, at))
        if twin is not None:
            folded_teacher = Teacher(twin, teacher.taps.addresses)
        student = _with_taps(recipe, "student", lambda at: Student(network, at, {}, {}))
        channels = _meet_adapters(recipe, student, teacher, train.in_channels)
        known = {name: _known(term, teacher.network, name) for name, term in recipe.distill.items()}
        losses = {
            name: _build_loss(
                recipe, term.loss, train, channels[name], f"distill.{name}" if term.at is None else None, known[name]
            )
            for name, term in recipe.distill.items()
        }
        student.losses.update({name: loss for name, loss in losses.items() if isinstance(loss, nn.Module)})
    _freeze(recipe, student, steps)
    precision = _precision(recipe)
    for role in filter(None, (student, teacher, folded_teacher, ema)):
        role.to(device=precision.device, memory_format=precision.memory_format)
    terms = {name: _term(recipe, term, losses[name], steps, known[name]) for name, term in recipe.distill.items()}
    supervised_loss = _build_loss(recipe, recipe.supervised.loss, train)
    if isinstance(supervised_loss, nn.Module):
        supervised_loss.to(precision.device)
    supervised = Supervised(supervised_loss, recipe.supervised.aux_weight)
    return Parts(
        recipe,
        train,
        val,
        student,
        teacher,
        teacher_run,
        terms,
        supervised,
        steps,
        precision,
        notes,
        ema=ema,
        teaching=folded_teacher or teacher,
    )


def make_run(
    parts: Parts,
    *,
    seed: int,
    start: int,
    due: Callable[..., None],
    not_finite: Callable[..., None] = give_up,
    waiting: Callable[[], None] = lambda: None,
) -> Run:
    """The run of assembled parts, from step `start` on, with its stream of batches; this rank's share of them."""
    recipe = parts.recipe
    _compile(parts)
    optimizer = make_optimizer(recipe, parts.student)
    phases = Phases(recipe, parts.student, optimizer, parts.steps)
    factor = build(recipe.schedule, folder=recipe.folder, trust=recipe.trust, steps=parts.steps)
    return Run(
        student=distributed.wrapped(parts.student),
        teacher=taught_by(parts, seed),
        supervised=parts.supervised,
        terms=parts.terms,
        optimizer=optimizer,
        factor=factor,
        batches=stream(parts, seed=seed, start=start, waiting=waiting),
        precision=parts.precision,
        steps=parts.steps,
        accumulate=recipe.train.accumulate,
        clip_norm=recipe.train.clip_norm or float("inf"),
        due=due,
        step=start,
        enter=phases.enter,
        average=_follows(parts),
        not_finite=not_finite,
    )


def taught_by(parts: Parts, seed: int) -> Callable[[Batch], Tapped | None]:
    """What answers in a step: the teacher, behind its cache where the recipe has one; None without a teacher."""
    if parts.teaching is None:
        return lambda batch: None
    if parts.recipe.cache is None:
        return parts.teaching
    return CachedTeacher(parts.teaching, parts.recipe, images=len(parts.train), seed=seed, precision=parts.precision)


def stream(
    parts: Parts,
    *,
    seed: int,
    start: int = 0,
    steps: int | None = None,
    alone: bool = False,
    waiting: Callable[[], None] = lambda: None,
) -> Iterator[Batch]:
    """The run's micro-batches from step `start` on: this rank's, or, `alone`, those of all ranks."""
    recipe = parts.recipe
    parallel = distributed.world()
    augment = [build(use, folder=recipe.folder, trust=recipe.trust) for use in recipe.data.augment]
    split = Split(parts.train, recipe.data.size, crop=recipe.data.crop, augment=augment, seed=seed)
    return training_batches(
        split,
        steps=parts.steps if steps is None else steps,
        start=start,
        batch_size=recipe.train.batch_size,
        views=recipe.cache.views if recipe.cache else None,
        accumulate=recipe.train.accumulate * (parallel if alone else 1),
        seed=seed,
        rank=0 if alone else distributed.rank(),
        world=1 if alone else parallel,
        workers=recipe.data.workers,
        waiting=waiting,
    )


def make_dataset(recipe: Recipe, split: str) -> SegmentationDataset:
    """One split of the recipe's dataset."""
    dataset: SegmentationDataset = build(recipe.data.dataset, folder=recipe.folder, trust=recipe.trust, split=split)
    return dataset


def total_steps(recipe: Recipe, images: int) -> int:
    """The run's length in steps: `steps`, or ceil(epochs · images / batch size)."""
    if recipe.train.steps is not None:
        return recipe.train.steps
    assert recipe.train.epochs is not None
    return -(-recipe.train.epochs * images // recipe.train.batch_size)


def _precision(recipe: Recipe) -> Precision:
    try:
        return choose(recipe.device, recipe.train.precision, recipe.train.memory_format)
    except ValueError as error:
        raise RecipeError([f"{recipe.file}: {error}"]) from None


def _divide(recipe: Recipe) -> None:
    """Refuse a batch that cannot be shared equally."""
    size, processes, accumulate = recipe.train.batch_size, distributed.world(), recipe.train.accumulate
    parts = processes * accumulate
    if size % parts:
        good = sorted({max(parts, size // parts * parts), (size // parts + 1) * parts})
        raise RecipeError(
            f"{recipe.at('train', 'batch_size')}: train.batch_size: {size} images do not divide among {processes} "
            f"processes × {accumulate} micro-batches; the nearest that do: {' and '.join(map(str, good))}"
        )


def _synchronized(recipe: Recipe, network: nn.Module) -> nn.Module:
    """The network with SyncBatchNorm where the recipe asks for it; in one process there is nothing to synchronize."""
    if not recipe.train.sync_batchnorm or distributed.world() == 1:
        return network
    if _precision(recipe).device.type == "cpu":
        raise RecipeError(
            f"{recipe.at('train', 'sync_batchnorm')}: train.sync_batchnorm: torch synchronizes BatchNorm on GPUs only, "
            "this run is on the CPU; set it to false"
        )
    synchronized: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]
    return synchronized


def _folded(recipe: Recipe, network: nn.Module, in_channels: int, notes: list[str]) -> nn.Module | None:
    """The teacher's copy with BatchNorm folded, where the recipe asks for it and something was folded."""
    if not recipe.train.fold_batchnorm:
        return None
    tapped = [address for term in recipe.distill.values() if term.at for address in as_tuple(term.at.teacher)]
    images = torch.rand(2, in_channels, 64, 64, generator=torch.Generator().manual_seed(0))
    twin, count = folded(network.eval(), tapped, images)
    notes.append(f"teacher: {count} BatchNorm layers folded into the convolutions before them")
    return twin if count else None


def _compile(parts: Parts) -> None:
    """Compile what the recipe asks for, on a batch of the training's shape."""
    recipe = parts.recipe
    if recipe.train.compile == "off":
        return
    roles: list[Student | Teacher] = [parts.student]
    if recipe.train.compile == "all" and parts.teaching is not None:
        roles.append(parts.teaching)
    images = recipe.train.batch_size // recipe.train.accumulate // distributed.world()
    compile_roles(
        roles, example_batch(parts, recipe.data.crop or recipe.data.size, images), parts.precision, "inductor"
    )


def _moving_average(recipe: Recipe, network: nn.Module) -> AveragedModel | None:
    """A copy of the student's network that follows it, BatchNorm's statistics too; always in evaluation mode."""
    decay = recipe.train.ema or (recipe.teacher.ema if recipe.teacher else None)
    if decay is None:
        return None
    average = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
    ema = AveragedModel(network, multi_avg_fn=average, use_buffers=True)
    return ema.requires_grad_(False).eval()


def _follows(parts: Parts) -> Callable[[], None]:
    ema, network = parts.ema, parts.student.network
    return (lambda: None) if ema is None else (lambda: ema.update_parameters(network))


def _refuse_random(recipe: Recipe, network: nn.Module, build_again: Callable[[], nn.Module], seed: int) -> None:
    """Refuse to freeze what is not pretrained: weights that another seed makes different were drawn, not loaded."""
    paths = resting(recipe.student.freeze, [path for phase in recipe.phases for path in phase.freeze])
    if not paths:
        return
    before = torch.get_rng_state()
    torch.manual_seed(seed + 1)
    other = build_again()
    if recipe.student.weights is not None:
        _load(other, recipe.student.weights, recipe.student.network)
    torch.set_rng_state(before)
    values = other.state_dict()
    drawn = [name for name, value in network.state_dict().items() if not torch.equal(value, values[name])]
    mistakes = [
        f"{recipe.student.network.at()}: freeze: '{path}' has no pretrained weights ({inside[0]} was drawn at random); "
        "give student.weights, or do not freeze it"
        for path in paths
        if (inside := [name for name in drawn if name.startswith(f"{path}.")])
    ]
    if mistakes:
        raise RecipeError(mistakes)


def _freeze(recipe: Recipe, student: Student, steps: int) -> None:
    """Try every phase's freezing, and leave what rests in all of them at rest."""
    phase_ends(recipe, steps)
    always = recipe.student.freeze
    places: list[tuple[Sequence[str | int], Sequence[str]]] = [(("student", "freeze"), always)]
    places += [(("phases", i, "freeze"), resting(always, phase.freeze)) for i, phase in enumerate(recipe.phases)]
    for keys, paths in [*places, places[0]]:
        try:
            student.freeze(paths)
        except ValueError as error:
            where = ".".join(map(str, keys[:-1]))
            raise RecipeError(f"{recipe.at(*keys)}: {where}.{error}") from None


def _load(network: nn.Module, weights: str | Weights, use: Use) -> str:
    try:
        return load_into(network, weights.options() if isinstance(weights, Weights) else weights)
    except (ValueError, OSError) as error:
        name = weights.file if isinstance(weights, Weights) else weights
        raise RecipeError([f"{use.at()}: weights {name}: {error}"]) from None


def _teacher_network(
    recipe: Recipe, runs: Path, data: SegmentationDataset, trained: bool, ema: AveragedModel | None
) -> tuple[nn.Module, Path | None, list[str]]:
    """The teacher's network, the run it comes from, and lines for the user."""
    assert recipe.teacher is not None
    classes, channels = len(data.class_names), data.in_channels
    if recipe.teacher.ema is not None:
        assert ema is not None
        return ema.module, None, []
    if recipe.teacher.network is not None:
        use = recipe.teacher.network
        network = build_network(recipe, use, classes, channels)
        weights = recipe.teacher.weights
        note = [] if weights is None else [f"teacher: {_load(network, weights, use)}"]
        return _agreeing(network, use.at(), recipe, classes, channels), None, note
    run = teacher_directories(recipe, runs)[0]
    if is_finished(run):
        network = load_network(run, trust=recipe.trust)
        return _agreeing(network, str(run), recipe, classes, channels), run, []
    if trained or recipe.teacher.run is not None:
        raise RecipeError([f"{recipe.file}: teacher: {run} has no result.json; {_fix(recipe)}"])
    its_recipe = teacher_recipe(recipe)
    assert its_recipe is not None
    its_data = make_dataset(its_recipe, "val")
    network = build_network(its_recipe, its_recipe.student.network, len(its_data.class_names), its_data.in_channels)
    return _agreeing(network, str(its_recipe.file), recipe, classes, channels), None, []


def _fix(recipe: Recipe) -> str:
    """What to do about a teacher that is not trained."""
    its_recipe = teacher_recipe(recipe)
    return f"train it: kd run {its_recipe.file}" if its_recipe else "name a finished run, or its recipe"


def _agreeing(network: nn.Module, where: str, recipe: Recipe, classes: int, channels: int) -> nn.Module:
    theirs = (getattr(network, "num_classes", classes), getattr(network, "in_channels", channels))
    if theirs not in ((classes, channels), (1 if classes == 2 else classes, channels)):  # one logit speaks of two
        raise RecipeError(
            [
                f"{recipe.file}: the teacher ({where}) has {theirs[0]} classes and {theirs[1]} image channels, "
                f"the data {classes} and {channels}; train a teacher on this data"
            ]
        )
    return network


def _with_taps(recipe: Recipe, side: str, make: Callable[[dict[str, Any]], Any]) -> Any:
    addresses = {name: getattr(term.at, side) if term.at else "logits" for name, term in recipe.distill.items()}
    try:
        return make(addresses)
    except ValueError as error:
        raise _at_its_tap(recipe, side, error) from None


def _at_its_tap(recipe: Recipe, side: str, error: ValueError) -> RecipeError:
    """What `Taps` said, at the address that it is about; anything else said of the whole network."""
    for name, term in recipe.distill.items():
        addresses = as_tuple(getattr(term.at, side)) if term.at else ()
        if any(str(error).startswith(f"tap '{address}':") for address in addresses):
            return RecipeError(f"{recipe.at('distill', name, 'at', side)}: distill.{name}.at: the {side}: {error}")
    return RecipeError(f"{recipe.at(side)}: the {side}: {error}")


def _meet_adapters(recipe: Recipe, student: Student, teacher: Teacher, in_channels: int) -> dict[str, Any]:
    """Build each adapter for the channels that one forward pass shows; the teacher's channels by term."""
    channels: dict[str, Any] = {}
    images = torch.rand(2, in_channels, 64, 64, generator=torch.Generator().manual_seed(0))
    keys = torch.zeros(2, 2, dtype=torch.int64)
    blank = torch.zeros(2, 64, 64)
    training = student.training
    with torch.no_grad():
        ours = _seen(recipe, "student", lambda: student.eval()(images))
        theirs = _seen(recipe, "teacher", lambda: teacher(Batch(images, blank.long(), blank.bool(), keys)))
    student.train(training)
    for name, term in recipe.distill.items():
        s, t = ours[name], theirs[name]
        if isinstance(s, tuple) != isinstance(t, tuple):
            raise RecipeError([f"{term.loss.at()}: distill.{name}.at: one side lists several taps, the other one"])
        pairs = list(zip(s, t, strict=True)) if isinstance(s, tuple) else [(s, t)]
        if term.adapter is not None:
            made = [_build_adapter(recipe, term.adapter, a.shape[1], b.shape[1]) for a, b in pairs]
            student.adapters[name] = nn.ModuleList(made) if isinstance(s, tuple) else made[0]
        channels[name] = tuple(b.shape[1] for _, b in pairs) if isinstance(s, tuple) else pairs[0][1].shape[1]
    return channels


def _seen(recipe: Recipe, side: str, run: Callable[[], Tapped]) -> dict[str, Any]:
    """The maps at a role's taps; only a forward pass shows that a tapped module does not run, or runs twice."""
    try:
        return dict(run().at)
    except ValueError as error:
        raise _at_its_tap(recipe, side, error) from None


def _build_adapter(recipe: Recipe, use: Use, in_channels: int, out_channels: int) -> nn.Module:
    adapter: nn.Module = build(
        use, folder=recipe.folder, trust=recipe.trust, in_channels=in_channels, out_channels=out_channels
    )
    return adapter


def _build_loss(
    recipe: Recipe,
    use: Use,
    data: SegmentationDataset,
    channels: Any = None,
    at_logits: str | None = None,
    known: tuple[int, ...] = (),
) -> Any:
    """A loss; it and those in its arguments get the offered facts they name. `at_logits`: a term without `at`."""
    labels = known or tuple(range(len(data.class_names)))
    facts: dict[str, Callable[[], Any]] = {
        "num_classes": lambda: len(labels),
        "channels": lambda: len(known) or channels,
        "label_counts": lambda: tuple(survey(data).counts[label] for label in labels),
    }
    loss = build(use, folder=recipe.folder, trust=recipe.trust, facts=facts)
    if at_logits and getattr(loss, "compares", "either") == "features":
        raise RecipeError(
            [f"{use.at()}: {use.use} compares features: {at_logits} needs at: {{student: …, teacher: …}}"]
        )
    return loss


def _known(term: TermRecipe, teacher: nn.Module, name: str) -> tuple[int, ...]:
    """The classes that the teacher can speak of, for a term on logits; () for all."""
    known: tuple[int, ...] = getattr(teacher, "known", ())
    sides = [term.at.student, term.at.teacher] if term.at else ["logits", "logits"]
    over_classes = [[_has_classes(one) for one in ([side] if isinstance(side, str) else side)] for side in sides]
    if len(known) in (0, getattr(teacher, "num_classes", 0)) or not any(map(all, zip(*over_classes, strict=True))):
        return ()
    if len(over_classes[0]) > 1:
        raise RecipeError(
            f"{term.loss.at()}: distill.{name}.at: this teacher knows {len(known)} of the classes, so logits are "
            "compared by themselves; give them a term of their own"
        )
    return known


def _has_classes(address: str) -> bool:
    return address == "logits" or address.startswith("aux.")


def _term(recipe: Recipe, term: TermRecipe, loss: Any, steps: int, known: tuple[int, ...]) -> Term:
    weight = term.weight
    if isinstance(weight, Use):
        factor = build(weight, folder=recipe.folder, trust=recipe.trust, steps=steps)
        if isinstance(factor, Told):
            raise RecipeError([f"{weight.at()}: {weight.use} is for the learning rate; a weight is told no scores"])
    else:
        factor = _fixed(float(weight))
    return Term(loss, factor, term.resize, term.pixels, known)


def _fixed(weight: float) -> Callable[[int], float]:
    return lambda step: weight


def example_batch(parts: Parts, size: tuple[int, int] = (64, 64), images: int = 2) -> Batch:
    """A made-up batch on the run's device: noise, and labels with every class and some ignored pixels."""
    generator = torch.Generator().manual_seed(0)
    shape = (images, *size)
    noise: Tensor = torch.randint(
        0, 256, (images, parts.train.in_channels, *size), generator=generator, dtype=torch.uint8
    )
    labels = torch.randint(0, len(parts.train.class_names), shape, generator=generator)
    labels[:, : size[0] // 8] = 255
    device = parts.precision.device
    keys = torch.zeros(images, 2, dtype=torch.int64)
    return Batch(
        parts.precision.images(noise), labels.to(device), torch.ones(shape, dtype=torch.bool, device=device), keys
    )


__all__ = [
    "Parts",
    "as_steps",
    "assemble",
    "example_batch",
    "make_dataset",
    "make_run",
    "stream",
    "taught_by",
    "total_steps",
]
