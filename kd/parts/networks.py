"""The networks of a recipe: how they are built, loaded, frozen, averaged and folded."""

import copy
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from kd import distributed
from kd.components import Maker
from kd.errors import RecipeError
from kd.files.manifest import unfinished
from kd.machine import Precision
from kd.networks.class_names import displaced
from kd.networks.weights import Loaded
from kd.parts.loading import MAPPED, Notes, drawn_at_random, load_for
from kd.parts.optimizer import frozen_in, phase_ends
from kd.parts.roles import Student, frozen_path
from kd.parts.teacher.folding import folded
from kd.parts.teacher.output import Channels, class_order
from kd.parts.trained import load_network
from kd.recipe import Recipe, Use
from kd.recipe.overrides import as_override
from kd.recipe.yaml12 import in_flow
from kd.runs import is_finished, read_result, run_command, teacher_directories
from kd.types import Network, SegmentationDataset, as_tuple, traits


def student_network(
    recipe: Recipe, maker: Maker, data: SegmentationDataset, precision: Precision, notes: Notes
) -> nn.Module:
    """Build the student's network and load its initial weights; a line on what was loaded goes to `notes`.

    Raises:
        RecipeError: the network does not exist, its weights do not load, or a part that it freezes was not loaded.
    """
    use, weights = recipe.student.network, recipe.student.weights

    def build() -> tuple[nn.Module, Loaded | None]:
        network = maker.network(use, len(data.class_names), data.in_channels)
        if weights is None:
            return network, None
        partial = recipe.student.partial
        return network, load_for("student", network, weights, use, data.class_names, partial=partial)

    network, loaded = build()
    notes.extend(f"student: {line}" for line in traits(network).loaded)
    if loaded is not None and displaced(data.class_names, loaded.classes or ()):
        notes.append(
            f"student: its weights are for classes in another order ({', '.join(loaded.classes or ())}), so that each "
            "starts with the classifier of another one"
        )
    if loaded is not None and loaded.missing:
        notes.remark(f"student: started from partial weights: {loaded.missing}")
    elif loaded is not None:
        notes.append(f"student: {loaded.line}")
    _check_frozen_are_loaded(recipe, network, lambda: build()[0])
    return _synchronized(recipe, network, precision)


def _check_frozen_are_loaded(recipe: Recipe, network: nn.Module, rebuild: Callable[[], nn.Module]) -> None:
    """Refuse to freeze modules that are not pretrained; `rebuild` builds the network again."""
    paths = frozen_in(recipe.student.freeze, [path for phase in recipe.phases for path in phase.freeze])
    if not paths:
        return
    drawn = drawn_at_random(network, rebuild)
    mistakes = [
        f"{recipe.student.network.at()}: freeze: '{path}' has no pretrained weights ({random[0]} was drawn at random); "
        "give student.weights, or do not freeze it"
        for path in paths
        if (random := [name for name in drawn if name.startswith(f"{frozen_path(network, path)}.")])
    ]
    if mistakes:
        raise RecipeError(mistakes)


def _synchronized(recipe: Recipe, network: nn.Module, precision: Precision) -> nn.Module:
    """The network with SyncBatchNorm, if the recipe sets it and there are several processes."""
    if not recipe.train.sync_batchnorm or distributed.world() == 1:
        return network
    if precision.device.type == "cpu":
        raise RecipeError(
            f"{recipe.at('train', 'sync_batchnorm')}: train.sync_batchnorm: torch synchronizes BatchNorm on GPUs only, "
            "and this run is on the CPU; set it to false"
        )
    synchronized: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]
    return synchronized


def moving_average(recipe: Recipe, network: nn.Module) -> AveragedModel | None:
    """A copy of the student's network that averages weights and BatchNorm statistics; always in evaluation mode."""
    decay = recipe.train.ema or (recipe.teacher.ema if recipe.teacher else None)
    if decay is None:
        return None
    average = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
    ema = AveragedModel(network, multi_avg_fn=average, use_buffers=True)
    return ema.requires_grad_(False).eval()


def freeze(recipe: Recipe, student: Student, steps: int) -> None:
    """Check the frozen modules of every phase by freezing them; end with those that are frozen in all phases."""
    phase_ends(recipe, steps)
    always = recipe.student.freeze
    places: list[tuple[Sequence[str | int], Sequence[str]]] = [(("student", "freeze"), always)]
    places += [(("phases", i, "freeze"), frozen_in(always, phase.freeze)) for i, phase in enumerate(recipe.phases)]
    for keys, paths in [*places, places[0]]:
        try:
            student.freeze(paths)
        except ValueError as error:
            where = ".".join(map(str, keys[:-1]))
            raise RecipeError(f"{recipe.at(*keys)}: {where}.{error}") from None


def teacher_network(
    recipe: Recipe,
    maker: Maker,
    data: SegmentationDataset,
    ema: AveragedModel | None,
    notes: Notes,
    *,
    runs: Path,
    trained: bool,
) -> tuple[nn.Module, Path | None]:
    """Build the teacher's network and load its weights; a line on what was loaded goes to `notes`.

    Args:
        recipe: has a teacher.
        maker: of the recipe.
        data: a split of the student's data.
        ema: the student's moving average, which may be the teacher.
        notes: lines for the user.
        runs: where run directories are.
        trained: False takes an unfinished teacher as it is built.

    Returns:
        The network, and the run directory that its weights come from, if they come from one.

    Raises:
        RecipeError: the network or the run does not exist, or is not made for these data.
    """
    assert recipe.teacher is not None
    use = recipe.teacher.network
    if recipe.teacher.ema is not None:
        assert ema is not None
        return ema.module, None
    if use is not None:
        return component_teacher(recipe, maker, use, data, notes), None
    network, where, run_dir, names = _of_run(recipe, runs, trained)
    _fit(recipe, network, names, where, data, notes)
    return network, run_dir


def component_teacher(recipe: Recipe, maker: Maker, use: Use, data: SegmentationDataset, notes: Notes) -> nn.Module:
    """The teacher that a recipe names by `use`, with its weights; it returns logits of the data's classes.

    Raises:
        RecipeError: the network does not exist, is not loaded whole, or is not made for these data.
    """
    network, names = _of_component(recipe, maker, use, data, notes)
    _fit(recipe, network, names, use.at(), data, notes)
    return network


def _fit(
    recipe: Recipe, network: nn.Module, names: Sequence[str], where: str, data: SegmentationDataset, notes: Notes
) -> None:
    """Make a teacher return logits in the order of the data's classes, or refuse it."""
    assert recipe.teacher is not None
    _check_teacher_fits(recipe, network, where, data)
    order = class_order(names, data.class_names, where) if names else ()
    if order:
        notes.append(f"teacher: its classes are in another order ({', '.join(names)}); they are mapped by name")
    Channels(order, recipe.teacher.outputs == "probabilities").give(network)


def _of_component(
    recipe: Recipe, maker: Maker, use: Use, data: SegmentationDataset, notes: Notes
) -> tuple[nn.Module, Sequence[str]]:
    """The network that a recipe names, its weights loaded, and the names of its classes; () if they are unknown."""
    assert recipe.teacher is not None
    weights, stated = recipe.teacher.weights, recipe.teacher.classes or ()

    def build() -> nn.Module:
        return maker.network(use, len(data.class_names), data.in_channels)

    network = build()
    notes.extend(f"teacher: {line}" for line in traits(network).loaded)
    mapped = use.use == MAPPED  # its rows are in the data's order
    if weights is None or weights == "none":
        if drawn := drawn_at_random(network, build):
            notes.drawn = drawn
            notes.remark(
                f"warning: the teacher was never trained: no weights are given, and {drawn[0]} was drawn at random; "
                "give it weights: teacher.weights=FILE"
            )
            return network, stated
        known: Sequence[str] = ()
    else:
        loaded = load_for("teacher", network, weights, use, data.class_names)
        notes.append(f"teacher: {loaded.line}")
        known = loaded.classes or ()
    own = traits(network).class_names
    known = own or (known if len(known) == len(data.class_names) and not mapped else ())
    notes.recorded = known
    if stated and known and [name.casefold() for name in stated] != [name.casefold() for name in known]:
        raise RecipeError(
            f"{recipe.at('teacher', 'classes')}: teacher.classes: is {in_flow(list(stated))}, but its weights are for "
            f"{in_flow(list(known))}; remove teacher.classes"
        )
    if not (stated or known or mapped):
        notes.append(
            "teacher: the order of its classes is not recorded; taken to be the data's; "
            f"if it is, state it: {as_override('teacher.classes', list(data.class_names))}"
        )
    return network, () if own and mapped else stated or known  # its target is compared by `_check_teacher_fits`


def _check_teacher_fits(recipe: Recipe, network: nn.Module, where: str, data: SegmentationDataset) -> None:
    """Refuse a teacher for other classes or channels than those of the data."""
    classes, channels = len(data.class_names), data.in_channels
    stated = (network.num_classes, network.in_channels) if isinstance(network, Network) else (classes, channels)
    if stated not in ((classes, channels), (1 if classes == 2 else classes, channels)):  # one logit is for two classes
        raise RecipeError(
            f"{recipe.file}: the teacher ({where}) has {stated[0]} classes and {stated[1]} image channels, "
            f"but the data have {classes} and {channels}; train a teacher on these data"
        )
    names = traits(network).class_names
    if recipe.teacher is not None and recipe.teacher.use == MAPPED and names is not None and len(names) == classes:
        for number, (name, expected) in enumerate(zip(names, data.class_names, strict=True)):
            if name.casefold() != expected.casefold():
                raise RecipeError(
                    f"{where}: teacher.args.target: class {number} is '{name}', but '{expected}' in the data; "
                    f"set target: [{', '.join(data.class_names)}]"
                )


def _of_run(recipe: Recipe, runs: Path, trained: bool) -> tuple[nn.Module, str, Path | None, Sequence[str]]:
    """The network of the teacher's run and its classes; if the run has not finished, as its recipe builds them."""
    run_dir, teacher_recipe = teacher_directories(recipe, runs)[0], recipe.teacher_recipe
    if is_finished(run_dir):
        network = load_network(run_dir, recipe=teacher_recipe, trust=recipe.trust)
        return network, str(run_dir), run_dir, read_result(run_dir).splits["val"].classes
    if trained or teacher_recipe is None:
        train = run_command(teacher_recipe, runs) if teacher_recipe else ""
        fix = f"train it: {train}" if train else "name a finished run, or its recipe"
        begun = "" if train else unfinished(run_dir, trust=recipe.trust)
        raise RecipeError(f"{recipe.file}: teacher: {begun or f'{run_dir} has no result.json; {fix}'}")
    maker = Maker(teacher_recipe)
    data = maker.dataset("val")
    network = maker.network(teacher_recipe.student.network, len(data.class_names), data.in_channels)
    return network, str(teacher_recipe.file), None, data.class_names


def folded_copy(recipe: Recipe, network: nn.Module, in_channels: int, notes: Notes) -> nn.Module | None:
    """A copy of the teacher's network with BatchNorm folded, if the recipe sets it and something can be folded."""
    if not recipe.train.fold_batchnorm:
        return None
    tapped = [address for term in recipe.distill.values() if term.at for address in as_tuple(term.at.teacher)]
    images = torch.rand(2, in_channels, 64, 64, generator=torch.Generator().manual_seed(0))
    exact = copy.deepcopy(network).cpu()  # a GPU convolves in TF32, in which the copy differs by more than it may
    copied, count = folded(exact.eval(), tapped, images)
    notes.append(f"teacher: {count} BatchNorm layers folded into the convolutions before them")
    return copied if count else None
