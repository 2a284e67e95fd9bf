"""Knowledge distillation for semantic segmentation.

`import kd` is instant: what its names need is imported when they are first used, torch too.

    import kd

    result = kd.run("shapes/mobilenetv3_kl_cwd.yaml", baseline=True)
    comparison = kd.compare("shapes/mobilenetv3_kl_cwd.yaml")
    network = kd.load_student(result.run_dirs[0])
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kd.constants import IGNORE, RESULTS_REVISION, __version__

if TYPE_CHECKING:
    from torch import nn

    from kd import adapters, data, errors, losses, metrics, schedules
    from kd.compare import compare
    from kd.deploy.prediction.written import Prediction
    from kd.recipe import read_recipe
    from kd.runs import Result, SplitResult

__all__ = [
    "IGNORE",
    "RESULTS_REVISION",
    "RunResult",
    "__version__",
    "adapters",
    "compare",
    "data",
    "errors",
    "evaluate",
    "export",
    "load_student",
    "losses",
    "metrics",
    "predict",
    "read_recipe",
    "run",
    "schedules",
]


@dataclass(frozen=True)
class RunResult:
    """The finished runs of one recipe.

    Attributes:
        run_dirs: the run directories, one a seed, in the recipe's order of seeds.
        results: the content of each one's `result.json`.
        baseline_dirs: the run directories of the baseline; empty without `baseline=True`.
        baseline_results: the content of each one's `result.json`.
    """

    run_dirs: tuple[Path, ...]
    results: "tuple[Result, ...]"
    baseline_dirs: tuple[Path, ...]
    baseline_results: "tuple[Result, ...]"


def run(
    recipe: str | os.PathLike[str],
    overrides: Iterable[str] = (),
    *,
    trust: bool = False,
    runs: str | os.PathLike[str] = "runs",
    baseline: bool = False,
    fresh: bool = False,
    accept_inputs: bool = False,
    quiet: bool = False,
) -> RunResult:
    """Train the runs of a recipe, its teacher first; the same call resumes runs that an earlier one left unfinished.

    Args:
        recipe: a recipe file, or one that ships with kd (`shapes/mobilenetv3_kl_cwd.yaml`); or a run directory, to
            resume that run.
        overrides: `path=value` texts in YAML syntax, such as `train.epochs=2`.
        trust: whether the recipe may import components from outside kd, a file beside it included.
        runs: where run directories are; a run that is named has its own place.
        baseline: train the same student without its teacher too.
        fresh: move this recipe's run directories aside and start over; the teacher's stay unless its inputs differ.
        accept_inputs: keep or resume runs although their images, labels, classes or teacher have changed; mark them.
            Not with `fresh`.
        quiet: print nothing.

    Returns:
        The run directories and their results, one a seed. Finished runs are not trained again.

    Raises:
        RecipeError: the recipe is wrong; the message lists every mistake with its place.
        InputsError: a run was made from other inputs; `fresh` or `accept_inputs` decides what becomes of it.
        DataError: the data cannot be read.
        DivergedError: a loss is not finite.
        StoppedError: a signal stopped the run; the same call resumes it.
        StorageError: something cannot be read or written.
        LockedError: another process trains this recipe.
    """
    from kd import console
    from kd.recipe import read_recipe
    from kd.recipe.overrides import listed
    from kd.runs import place_of, read_result, resumable
    from kd.train.session import run_recipe

    named, runs, command = Path(recipe), Path(runs), ""
    if os.path.isdir(named):
        checked = resumable(named, listed(overrides), trust=trust)
        runs, command = place_of(checked, named, runs)
    else:
        checked = read_recipe(named, overrides, trust=trust)
    run_dirs = run_recipe(
        checked,
        runs=runs,
        baseline=baseline,
        fresh=fresh,
        accept_inputs=accept_inputs,
        command=command,
        say=console.silent if quiet else console.say,
        quiet=quiet,
    )
    results = tuple(map(read_result, run_dirs))
    seeds = len(checked.train.seeds)
    return RunResult(tuple(run_dirs[:seeds]), results[:seeds], tuple(run_dirs[seeds:]), results[seeds:])


def evaluate(
    run_dir: str | os.PathLike[str],
    split: str = "val",
    overrides: Iterable[str] = (),
    *,
    recipe: str | os.PathLike[str] | None = None,
    runs: str | os.PathLike[str] = "runs",
    trust: bool = False,
) -> "SplitResult":
    """Score a trained network on its recipe's data, as the recipe scores: size, window, scales and flip.

    Args:
        run_dir: the run directory of one seed, or a recipe with one finished run; or a file of a network: weights, or
            what `kd.export` wrote.
        split: "train", "val" or "test".
        overrides: `path=value` texts that change how it is scored (`evaluate.flip=true`), or on which data
            (`data.args.root=…`); classes are matched by name.
        recipe: of a file that states none, or is to be scored by another.
        runs: where the runs of recipes are.
        trust: whether the run's recipe, or an override, may import components from outside kd.

    Returns:
        The confusion matrix, the classes, the counts of every image, and the recipe's further metrics.

    Raises:
        RecipeError: the run's recipe names code that is not trusted; an override is wrong; the data have other classes.
        DataError: the data cannot be read, or no pixel is labelled.
        WeightsError: the run's weights are missing or damaged, or do not fit its recipe.
        StorageError: another file of the run is missing or damaged.
    """
    from kd.errors import RecipeError
    from kd.evaluation.scored import score_run
    from kd.evaluation.targets import find
    from kd.recipe.overrides import listed

    found = find([os.fspath(run_dir)], listed(overrides), recipe=recipe, runs=Path(runs), trust=trust)
    if found.damaged:
        raise found.damaged[0]
    target, *others = found.targets
    if others:
        raise RecipeError(f"{run_dir}: holds {len(others) + 1} runs; name one, such as {target.path}")
    return score_run(target, split).score


def export(
    run: str | os.PathLike[str],
    out: str | os.PathLike[str],
    overrides: Iterable[str] = (),
    *,
    to: str = "onnx",
    size: tuple[int, int] | None = None,
    dynamic: bool = False,
    argmax: bool = False,
    uint8: bool = False,
    int8: bool = False,
    max_drop: float = 1.0,
    runs: str | os.PathLike[str] = "runs",
    trust: bool = False,
) -> Path:
    """Write the network of a finished run as a folder for another runtime, once its file scores as the network does.

    Args:
        run: a run directory, the folder of a recipe's runs, or a recipe; of several seeds, the first is taken.
        out: a new folder, which gets the file, `classes.json`, `README.md`, `predict.py` and three sample images.
        overrides: `path=value` texts, such as `data.args.root=…`: where the images are that the file is checked on.
        to: the format: "onnx", "openvino" or "pt2".
        size: (H, W) of the images; None: the recipe's.
        dynamic: whether the file takes any batch and size; otherwise one image of `size`.
        argmax: whether the file gives class indices, int64 (N, H, W), in place of logits, (N, K, H, W).
        uint8: whether it takes uint8 images, 0 … 255, in place of float32 in [0, 1].
        int8: whether it computes in INT8, calibrated on training images.
        max_drop: points of mIoU on the validation images that a file in INT8 may lose.
        runs: where the runs of a recipe are.
        trust: whether the run's recipe may import components from outside kd.

    Returns:
        The file. It takes images (N, C, H, W), not normalised.

    Raises:
        RecipeError: there is no finished run; its recipe names code that is not trusted; a package is missing; the
            network cannot be exported, or the file does not compute what the network computes. Nothing is written.
        DataError: the validation images, on which the file is checked, cannot be read.
        WeightsError: the run's weights are missing or damaged.
        StorageError: another file of the run is missing or damaged, or `out` cannot be written.
    """
    from kd.deploy.export.export import export as export_run

    return export_run(
        run,
        out,
        overrides,
        to=to,
        size=size,
        dynamic=dynamic,
        argmax=argmax,
        uint8=uint8,
        int8=int8,
        max_drop=max_drop,
        runs=runs,
        trust=trust,
    )


def predict(
    run: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    images: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    overrides: Iterable[str] = (),
    *,
    recipe: str | os.PathLike[str] | None = None,
    runs: str | os.PathLike[str] = "runs",
    trust: bool = False,
    probabilities: bool = False,
    tiles: tuple[int, int] | None = None,
) -> "Iterator[Prediction]":
    """Predict images with a trained network, as its recipe scores: size, window, scales and flip.

    Args:
        run: a run directory, the folder of a recipe's runs, or a recipe; of several seeds, the first is taken. Or a
            file of a network: weights, or what `kd.export` wrote. Several of them predict together, by the mean
            of their probabilities, on images as the first one's recipe prepares them.
        images: an image file, a folder, or a pattern such as `photos/*.jpg`; or several of them.
        overrides: `path=value` texts that change how it predicts, such as `evaluate.flip=true` or `device=cpu`.
        recipe: of a file that states none, or is to predict by another.
        runs: where the runs of a recipe are.
        trust: whether the run's recipe, or an override, may import components from outside kd.
        probabilities: whether each prediction has the probabilities of all classes too.
        tiles: (H, W): predict each image at its own size, in tiles of this size that overlap by half. None: images are
            resized as for a score.

    Returns:
        An iterator of predictions in the order of the images, each with the image's `name`, its `image` (H, W, 3),
        turned upright by its EXIF tag, `classes` (H, W) and `probabilities` (K, H, W) or None. Few of them are in
        memory at a time.

    Raises:
        RecipeError: there is no finished run; its recipe names code that is not trusted.
        DataError: an input does not exist; or, when its turn comes, an image cannot be read.
        WeightsError: the run's weights are missing or damaged.
        StorageError: another file of the run is missing or damaged.
    """
    from kd.deploy.prediction.predict import predicted

    return predicted(
        run, images, overrides, recipe=recipe, runs=runs, trust=trust, probabilities=probabilities, tiles=tiles
    )


def load_student(run_dir: str | os.PathLike[str], *, trust: bool = False) -> "nn.Module":
    """Load the network that a finished run trained, in evaluation mode on the CPU.

    Args:
        run_dir: the run directory of one seed.
        trust: whether the run's recipe may import components from outside kd.

    Returns:
        A network whose `network(images).logits` are (N, K, h, w) for images (N, C, H, W), float in [0, 1].

    Raises:
        RecipeError: it is no run directory; the run is not finished, or its recipe names code that is not trusted.
        WeightsError: the run has no weights, or they are damaged or do not fit its recipe's network.
        StorageError: another file of the run is missing or damaged.
    """
    from kd.parts.trained import load_network

    return load_network(Path(run_dir), trust=trust)


def __getattr__(name: str) -> Any:
    """Import a name of `__all__` when it is first used."""
    if name not in __all__:
        raise AttributeError(f"module 'kd' has no attribute '{name}'")
    value = import_module("kd.recipe").read_recipe if name == "read_recipe" else import_module(f"kd.{name}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
