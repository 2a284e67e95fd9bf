"""`kd label`: images without labels become a data set, by a network where it is sure of itself.

<out>/
    images/NAME.jpg      the images, as hard links to the files, or as copies where the disk has none
    masks/NAME.png       the predicted classes, 255 where the network is not sure
    confidence/NAME.png  the probability of the predicted class, 16-bit grey: 65535 is 1
    classes.yaml         the class map of the masks
    labels.json          the run, the rule, and for each class what was predicted and kept
"""

import hashlib
import io
import json
import os
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from kd.console import make_table, print_errors, print_line, progress, say, stdout
from kd.deploy.export.folder import new_folder
from kd.deploy.prediction.photos import Photo, find_photos, ranges_of
from kd.deploy.prediction.pipeline import THREADS, WAITING, Output, a_core_for_each_batch, ahead, outputs
from kd.errors import DataError, RecipeError
from kd.evaluation.trained import Trained, open_trained
from kd.files.manifest import WEIGHTS, read_verified
from kd.files.storage import write_atomic
from kd.pictures import label_png
from kd.recipe import yaml12
from kd.recipe.overrides import as_override
from kd.runs import Result
from kd.scoring import BAND
from kd.types import IGNORE, resize_bands
from kd.units import counted

LEVELS = 65_535  # of a probability of 1, in a confidence map
FIX = "free space, or choose another --out"


@dataclass(frozen=True)
class Rule:
    """Which pixels are kept; exactly one of the two is given.

    Attributes:
        min_confidence: the least probability, 0 … 1.
        per_class: the share of the pixels of each predicted class that is kept, the surest first, 0 … 1.
    """

    min_confidence: float | None = None
    per_class: float | None = None

    def least(self, tally: NDArray[np.int64]) -> NDArray[np.int64]:
        """The least level of each class that is kept.

        Args:
            tally: (K, LEVELS + 1), pixels by predicted class and level. Ties are kept together.
        """
        if self.per_class is None:
            assert self.min_confidence is not None
            return np.full(len(tally), round(self.min_confidence * LEVELS))
        from_above = tally[:, ::-1].cumsum(1)  # pixels of this level and those above
        wanted = np.ceil(self.per_class * from_above[:, -1:]).clip(min=1)
        least: NDArray[np.int64] = LEVELS - (from_above >= wanted).argmax(1)
        return least


class Labelled(NamedTuple):
    """What a network predicts for an image."""

    classes: NDArray[np.uint8]  # (H, W)
    levels: NDArray[np.uint16]  # (H, W): the probability of the predicted class, 0 … LEVELS


def label_command(
    target: str | os.PathLike[str],
    inputs: Sequence[str],
    out: Path,
    overrides: Sequence[str] = (),
    *,
    runs: Path,
    trust: bool,
    rule: Rule,
) -> int:
    """`kd label`: write a data set that `kd.data.Folders` reads; it appears as a whole or not at all.

    Args:
        target: a run directory, or a recipe.
        inputs: image files, folders and patterns.
        out: the folder of the data set, which must not exist.
        overrides: as of `kd.predict`.
        runs: where the runs of a recipe are.
        trust: whether the run's recipe may import components from outside kd.
        rule: which pixels are kept.

    Returns:
        The exit status: 0, or 3 if an image could not be read; the others are in the data set.

    Raises:
        RecipeError, DataError, WeightsError, StorageError: as `kd.predict`; or `out` is there already.
        DataError: no image could be read.
    """
    trained = open_trained(target, overrides, runs=runs, trust=trust)
    run = trained.of_run
    ranges = ranges_of(trained)
    if not inputs:
        raise RecipeError("no images: name files, folders or patterns after the run")
    photos = find_photos(inputs, arrays=ranges is not None, say=say)
    problems: list[DataError] = []
    with new_folder(out) as folder:
        say(str(trained))
        tally, names = _predict(trained, photos, folder, problems)
        least = rule.least(tally)
        with ThreadPoolExecutor(THREADS) as pool:
            for _ in ahead(pool, lambda name: _leave_out(folder, name, least, trained), names, THREADS):
                pass
        report = _report(trained, run, rule, tally, least, len(names))
        write_atomic(folder / "classes.yaml", yaml12.dump(_class_map(trained)).encode(), fix=FIX)
        write_atomic(folder / "labels.json", (json.dumps(report, indent=1) + "\n").encode(), fix=FIX)
    _show(trained, report, out)
    print_errors(line for problem in problems for line in problem.mistakes)
    return DataError.exit_status if problems else 0


def _predict(
    trained: Trained, photos: Sequence[Photo], folder: Path, problems: list[DataError]
) -> tuple[NDArray[np.int64], list[str]]:
    """Write images, confidence maps and masks without gaps.

    Returns:
        Pixels by predicted class and level, (K, LEVELS + 1); and the names of the images that could be read.
    """
    tally = np.zeros((len(trained.classes), LEVELS + 1), np.int64)
    paths = {photo.name: photo.path for photo in photos}
    names: list[str] = []

    def write(output: Output) -> tuple[str, Labelled]:
        labelled = _labelled(output.logits, output.image.shape[1:])
        _place(paths[output.name], folder / "images" / f"{output.name}{paths[output.name].suffix}")
        write_atomic(_mask(folder, output.name), label_png(labelled.classes, trained.colors), fix=FIX)
        write_atomic(_confidence(folder, output.name), _grey_png(labelled.levels), fix=FIX)
        return output.name, labelled

    share = a_core_for_each_batch(trained, len(photos))
    with share, ThreadPoolExecutor(THREADS) as pool, progress("labelled", len(photos)) as advance:
        for name, labelled in ahead(pool, write, outputs(trained, photos, bad=problems.append), WAITING):
            for label in np.unique(labelled.classes):
                tally[label] += np.bincount(labelled.levels[labelled.classes == label], minlength=LEVELS + 1)
            names.append(name)
            advance(len(names) + len(problems))
    if not names:
        raise DataError([line for problem in problems for line in problem.mistakes])
    return tally, names


def _labelled(logits: Tensor, size: tuple[int, ...]) -> Labelled:
    """The predicted classes of an image and their levels, from its logits (K, h, w); no map (K, H, W) is held."""
    classes, levels = [], []
    for band in resize_bands(logits[None], (size[0], size[1]), BAND):
        largest, indices = band[0].max(0)
        confidence = (largest - band[0].logsumexp(0)).exp()
        classes.append(indices.to("cpu", torch.uint8).numpy())
        levels.append((confidence.clamp(0, 1) * LEVELS).round().to("cpu", torch.int32).numpy().astype(np.uint16))
    return Labelled(np.concatenate(classes), np.concatenate(levels))


def _leave_out(folder: Path, name: str, least: NDArray[np.int64], trained: Trained) -> None:
    """Set the pixels of a mask to IGNORE whose level is below the least one of their class."""
    classes, levels = (np.asarray(Image.open(file(folder, name))) for file in (_mask, _confidence))
    kept = np.where(levels >= least[classes], classes, IGNORE)
    write_atomic(_mask(folder, name), label_png(kept, trained.colors), fix=FIX)


def _place(path: Path, target: Path) -> None:
    """Link a file under another name, or copy it where that is not possible."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(os.path.realpath(path), target)
    except OSError:  # another disk, or one without links
        shutil.copyfile(path, target)


def _mask(folder: Path, name: str) -> Path:
    return folder / "masks" / f"{name}.png"


def _confidence(folder: Path, name: str) -> Path:
    return folder / "confidence" / f"{name}.png"


def _grey_png(levels: NDArray[np.uint16]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(levels).save(file, "PNG")
    return file.getvalue()


def _class_map(trained: Trained) -> dict[str, int]:
    return {name: label for label, name in enumerate(trained.classes)}


def _report(
    trained: Trained, run: Result, rule: Rule, tally: NDArray[np.int64], least: NDArray[np.int64], images: int
) -> dict[str, Any]:
    """The content of `labels.json`."""
    pixels = tally.sum(1)
    kept = [int(tally[label, least[label] :].sum()) for label in range(len(tally))]
    classes = {
        name: {
            "predicted": int(pixels[label]),
            "kept": kept[label],
            "from": float(least[label] / LEVELS) if kept[label] else None,
        }
        for label, name in enumerate(trained.classes)
    }
    return {
        "format": 1,
        "run": f"{run.name}-{run.id}/seed{run.seed}",
        "weights_sha256": hashlib.sha256(read_verified(trained.path, WEIGHTS)).hexdigest(),
        "rule": {key: value for key, value in asdict(rule).items() if value is not None},
        "images": images,
        "pixels": {"all": int(pixels.sum()), "kept": sum(kept)},
        "classes": classes,
    }


def _show(trained: Trained, report: dict[str, Any], out: Path) -> None:
    """Print what was predicted and kept, and how a recipe reads it."""
    total = report["pixels"]["all"]
    rows = [
        [
            name,
            f"{100 * of['predicted'] / total:.1f}",
            f"{100 * of['kept'] / of['predicted']:.1f}" if of["predicted"] else "–",
            "–" if of["from"] is None else f"{of['from']:.3f}",
        ]
        for name, of in report["classes"].items()
    ]
    stdout().print(make_table(["class", "predicted %", "kept %", "from"], rows))
    count = report["images"]
    share = f"{100 * report['pixels']['kept'] / total:.1f} % of the pixels are labelled, 255 elsewhere"
    print_line(f"{out}: {counted(count, 'image')}; {share}")
    args: dict[str, Any] = {"root": str(out), "classes": str(out / "classes.yaml"), "val": "20%"}
    if trained.in_channels != 3:
        args["channels"] = trained.in_channels
    if ranges := ranges_of(trained):
        args["ranges"] = [list(pair) for pair in ranges]
    data = {"use": "kd.data.Folders", "args": args, "size": list(trained.recipe.data.size)}
    print_line(f"in a recipe: {as_override('data', data)}")
