"""The networks of a recipe: how they are built, loaded, frozen, averaged and folded."""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from kd import distributed
from kd.components import Maker
from kd.errors import RecipeError, StorageError, WeightsError
from kd.machine import Precision
from kd.networks.weights import load_into
from kd.parts.folding import folded
from kd.parts.optimizer import frozen_in, phase_ends
from kd.parts.roles import Student, frozen_path
from kd.parts.trained import load_network
from kd.recipe import Recipe, Use, WeightsConfig
from kd.runs import is_finished, teacher_directories
from kd.types import Network, SegmentationDataset, as_tuple, traits


def student_network(
    recipe: Recipe, maker: Maker, data: SegmentationDataset, precision: Precision, notes: list[str]
) -> nn.Module:
    """Build the student's network and load its initial weights; a line on what was loaded goes to `notes`.

    Raises:
        RecipeError: the network does not exist, its weights do not load, or a part that it freezes was not loaded.
    """
    use, weights = recipe.student.network, recipe.student.weights

    def build() -> tuple[nn.Module, list[str]]:
        network = maker.network(use, len(data.class_names), data.in_channels)
        return network, [] if weights is None else [f"student: {_load(network, weights, use)}"]

    network, loaded = build()
    notes += loaded
    _check_frozen_are_loaded(recipe, network, lambda: build()[0])
    return _synchronized(recipe, network, precision)


def _check_frozen_are_loaded(recipe: Recipe, network: nn.Module, rebuild: Callable[[], nn.Module]) -> None:
    """Refuse to freeze modules that are not pretrained; `rebuild` builds the network again."""
    paths = frozen_in(recipe.student.freeze, [path for phase in recipe.phases for path in phase.freeze])
    if not paths:
        return
    drawn = _drawn(network, rebuild)
    mistakes = [
        f"{recipe.student.network.at()}: freeze: '{path}' has no pretrained weights ({random[0]} was drawn at random); "
        "give student.weights, or do not freeze it"
        for path in paths
        if (random := [name for name in drawn if name.startswith(f"{frozen_path(network, path)}.")])
    ]
    if mistakes:
        raise RecipeError(mistakes)


def _drawn(network: nn.Module, rebuild: Callable[[], nn.Module]) -> list[str]:
    """The names of the weights that were drawn at random, not loaded: another seed gives other values."""
    random_state = torch.get_rng_state()
    torch.manual_seed(torch.initial_seed() + 1)
    values = rebuild().state_dict()
    torch.set_rng_state(random_state)
    return [name for name, value in network.state_dict().items() if not torch.equal(value, values[name])]


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
    notes: list[str],
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
    use, weights = recipe.teacher.network, recipe.teacher.weights
    if recipe.teacher.ema is not None:
        assert ema is not None
        return ema.module, None
    if use is not None:

        def build() -> nn.Module:
            return maker.network(use, len(data.class_names), data.in_channels)

        network, where, run_dir = build(), use.at(), None
        if weights is not None:
            notes.append(f"teacher: {_load(network, weights, use)}")
        elif drawn := _drawn(network, build):
            notes.append(f"teacher: no weights given, {drawn[0]} was drawn at random; give teacher.weights")
    else:
        network, where, run_dir = _of_run(recipe, runs, trained)
    _check_teacher_fits(recipe, network, where, data)
    return network, run_dir


def _check_teacher_fits(recipe: Recipe, network: nn.Module, where: str, data: SegmentationDataset) -> None:
    """Refuse a teacher for other classes or channels than those of the data."""
    classes, channels = len(data.class_names), data.in_channels
    stated = (network.num_classes, network.in_channels) if isinstance(network, Network) else (classes, channels)
    if stated not in ((classes, channels), (1 if classes == 2 else classes, channels)):  # one logit is for two classes
        raise RecipeError(
            f"{recipe.file}: the teacher ({where}) has {stated[0]} classes and {stated[1]} image channels, "
            f"but the data have {classes} and {channels}; train a teacher on these data"
        )
    names = traits(network).class_names  # in another order, the logits would be of other classes
    if names is not None and len(names) == classes:
        for number, (name, expected) in enumerate(zip(names, data.class_names, strict=True)):
            if name.casefold() != expected.casefold():
                raise RecipeError(
                    f"{where}: teacher.args.target: class {number} is '{name}', but '{expected}' in the data; "
                    f"set target: [{', '.join(data.class_names)}]"
                )


def _of_run(recipe: Recipe, runs: Path, trained: bool) -> tuple[nn.Module, str, Path | None]:
    """The network of the teacher's run; if the run has not finished, the network as its recipe builds it."""
    run_dir, teacher_recipe = teacher_directories(recipe, runs)[0], recipe.teacher_recipe
    if is_finished(run_dir):
        return load_network(run_dir, recipe=teacher_recipe, trust=recipe.trust), str(run_dir), run_dir
    if trained or teacher_recipe is None:
        fix = f"train it: kd run {teacher_recipe.file}" if teacher_recipe else "name a finished run, or its recipe"
        raise RecipeError(f"{recipe.file}: teacher: {run_dir} has no result.json; {fix}")
    maker = Maker(teacher_recipe)
    data = maker.dataset("val")
    network = maker.network(teacher_recipe.student.network, len(data.class_names), data.in_channels)
    return network, str(teacher_recipe.file), None


def folded_copy(recipe: Recipe, network: nn.Module, in_channels: int, notes: list[str]) -> nn.Module | None:
    """A copy of the teacher's network with BatchNorm folded, if the recipe sets it and something can be folded."""
    if not recipe.train.fold_batchnorm:
        return None
    tapped = [address for term in recipe.distill.values() if term.at for address in as_tuple(term.at.teacher)]
    images = torch.rand(2, in_channels, 64, 64, generator=torch.Generator().manual_seed(0))
    images = images.to(next(network.parameters(), images).device)
    copied, count = folded(network.eval(), tapped, images)
    notes.append(f"teacher: {count} BatchNorm layers folded into the convolutions before them")
    return copied if count else None


def _load(network: nn.Module, weights: str | WeightsConfig, use: Use) -> str:
    try:
        return load_into(network, weights.options() if isinstance(weights, WeightsConfig) else weights)
    except (StorageError, WeightsError):  # of a run: they say what of it still holds
        raise
    except (ValueError, OSError) as error:
        name = weights.file if isinstance(weights, WeightsConfig) else weights
        raise RecipeError([f"{use.at()}: weights {name}: {error}"]) from None
