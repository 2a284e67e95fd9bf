"""The folder of an exported file: what is in it besides the file, and that it is complete or not there."""

import hashlib
import json
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch
from PIL import Image
from torch import nn

from kd.data.dataset import read, resize_image
from kd.deploy.export import standalone
from kd.deploy.export.formats import Format
from kd.deploy.export.graph import Form
from kd.deploy.prediction.photos import stated_ranges
from kd.errors import RecipeError, StorageError
from kd.evaluation.trained import Trained
from kd.files.manifest import WEIGHTS, read_verified
from kd.machine import choose, versions
from kd.metrics import scores
from kd.pictures import as_rgb, label_png
from kd.recipe import EvaluateConfig, Recipe
from kd.runs import Origin, origin_of, read_run_recipe, refuse_inside
from kd.scoring import full_size, predict
from kd.types import SegmentationDataset

CLASSES, README, SCRIPT = "classes.json", "README.md", "predict.py"
SAMPLES = 3


def as_trained(trained: Trained) -> tuple[Trained, Origin]:
    """The network with its run's own recipe, whatever overrides the command has, and where its weights come from.

    Raises:
        RecipeError: the network is a file that has left its run.
    """
    result = trained.of_run
    recipe = read_run_recipe(trained.path, trust=trained.recipe.trust)
    origin = origin_of(recipe, result, in_channels=trained.in_channels, colors=trained.colors)
    return replace(trained, recipe=recipe), origin


def passes_beyond_one(recipe: Recipe) -> str:
    """The keys of `evaluate` by which a score takes more than the one pass over the image that a file computes."""
    how, default = recipe.evaluate, EvaluateConfig()
    return ", ".join(f"evaluate.{k}" for k in ("window", "scales", "flip") if getattr(how, k) != getattr(default, k))


def input_text(trained: Trained, form: Form) -> str:
    """How the numbers of an image become those that a file takes; `trained` has its run's own recipe."""
    channels = {1: "grey", 3: "RGB"}.get(form.channels, f"{form.channels} channels")
    values = "uint8, 0 to 255" if form.uint8 else "float32 in [0, 1]"
    text = f"{channels}, {values}, not normalised (the file does that)"
    ranges = stated_ranges(trained)
    if ranges is None:
        return text
    shade = "255 (v - low) / (high - low), rounded, cut to 0 to 255" + ("" if form.uint8 else ", and divided by 255")
    return f"{text}; a number v becomes {shade}, with [low, high] of the channels: {[list(pair) for pair in ranges]}"


def facts_of(trained: Trained, origin: Origin, chosen: Format, form: Form) -> dict[str, object]:
    """What a user of the file needs to know: the content of `classes.json`, and part of the file's metadata.

    `trained` has its run's own recipe.
    """
    result, ranges = trained.of_run, stated_ranges(trained)
    return {
        "file": chosen.file,
        "classes": list(trained.classes),
        "colors": [list(color) for color in trained.colors],
        "input": f"images (N, C, H, W), {input_text(trained, form)}",
        "channels": form.channels,
        "ranges": ranges and [list(pair) for pair in ranges],
        "size": list(form.size),
        "dynamic": form.dynamic,
        "dtype": form.dtype,
        "output": form.output,
        "precision": "float32",
        "network": origin["network"],
        "recipe": f"{result.name}-{result.id}",
        "seed": result.seed,
        "miou": {name: scores(split.confusion).miou for name, split in result.splits.items()},
        "miou_with": passes_beyond_one(trained.recipe),
        "weights_sha256": hashlib.sha256(read_verified(trained.path, WEIGHTS)).hexdigest(),
        "versions": versions(),
    }


def as_texts(facts: dict[str, object]) -> dict[str, str]:
    """Facts as metadata: texts as they are, all others as JSON."""
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in facts.items()}


def write_script(folder: Path, trained: Trained, network: nn.Module, dataset: SegmentationDataset, form: Form) -> bool:
    """Write `predict.py`, and samples with the masks that the network gives; whether images of 8 bits are its input."""
    if form.channels not in (1, 3) or stated_ranges(trained) is not None:
        return False
    shutil.copyfile(standalone.__file__, folder / SCRIPT)
    precision = choose("cpu", "fp32", "contiguous")
    for kind in ("images", "masks"):
        (folder / "samples" / kind).mkdir(parents=True)
    for number in range(min(SAMPLES, len(dataset))):
        image = resize_image(read(dataset, number * len(dataset) // SAMPLES).image, form.size)
        (logits,) = predict(network, image[None], precision)
        classes = full_size(logits, form.size).to(torch.uint8).numpy()
        file = f"{number + 1}.png"
        Image.fromarray(as_rgb(image.numpy())).save(folder / "samples/images" / file)
        (folder / "samples/masks" / file).write_bytes(label_png(classes, trained.colors))
    return True


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """A folder that gets the name `out` when the block ends, and is removed if it fails.

    Raises:
        RecipeError: `out` is there already, and is not an empty folder; or it is in a run directory.
        StorageError: it cannot be made.
    """
    refuse_inside("--out", out)
    folder = out.absolute().parent / f".tmp-{secrets.token_hex(8)}"
    try:
        if out.is_symlink() or (out.exists() and not (out.is_dir() and not any(out.iterdir()))):
            raise RecipeError(f"{out}: already there; choose another --out, or remove it")
        try:
            folder.mkdir(parents=True)
            yield folder
            if out.is_dir():
                out.rmdir()
            folder.rename(out)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    except OSError as error:
        raise StorageError(f"{out}: cannot be written ({error.strerror}); choose another --out") from None
    except StorageError as error:  # of a file that has its hidden name
        raise StorageError(line.replace(str(folder), str(out)) for line in error.mistakes) from None
