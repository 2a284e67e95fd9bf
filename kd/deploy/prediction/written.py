"""The files of a prediction: masks, colour masks, overlays and probabilities."""

import io
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from kd.deploy.prediction.photos import Photo
from kd.errors import RecipeError
from kd.evaluation.trained import Trained
from kd.files.storage import write_atomic
from kd.pictures import BAND, QUALITY, RGB, Labels, colourise, label_png, overlay

KINDS = ("masks", "color", "overlay", "probabilities")  # what can be written of an image, each in a folder of its name
SUFFIXES = {"masks": ".png", "color": ".png", "overlay": ".jpg", "probabilities": ".npz"}


class Prediction(NamedTuple):
    """What a network predicts for an image, at the image's own size, upright."""

    name: str  # of the file below its folder, without suffix
    image: NDArray[np.uint8]  # (H, W, 3)
    classes: NDArray[np.uint8]  # (H, W), 0 … K-1
    probabilities: NDArray[np.float16] | None  # (K, H, W), if they were asked for


def refuse_existing(photos: Sequence[Photo], out: Path, kinds: Sequence[str], *, overwrite: bool) -> None:
    """Refuse to replace files: the masks of a dataset may have the same names.

    Raises:
        RecipeError: a file, or the folder of a video, is already there.
    """
    if overwrite:
        return
    files = (
        out / kind / photo.name if photo.video else _file(out, kind, photo.name) for photo in photos for kind in kinds
    )
    existing = [file for file in files if os.path.lexists(file)]
    if existing:
        more = f" and {len(existing) - 1} more" if len(existing) > 1 else ""
        raise RecipeError(f"{existing[0]}{more}: already there; choose another --out, or replace them with --overwrite")


def _file(out: Path, kind: str, name: str) -> Path:
    return out / kind / f"{name}{SUFFIXES[kind]}"


def write(prediction: Prediction, trained: Trained, out: Path, kinds: Sequence[str]) -> None:
    """Write what was asked for of an image, each file completely or not at all.

    Args:
        prediction: of the image.
        trained: gives classes and colours.
        out: the folder that has a folder for each kind.
        kinds: of `KINDS`.

    Raises:
        StorageError: a file cannot be written.
    """
    content: dict[str, Callable[[], bytes]] = {
        "masks": lambda: label_png(prediction.classes, trained.colors),
        "color": lambda: _drawn("PNG", prediction, lambda image, classes: colourise(classes, trained.colors)),
        "overlay": lambda: _drawn(
            "JPEG", prediction, lambda image, classes: overlay(image, classes, trained.colors), quality=QUALITY
        ),
        "probabilities": lambda: _npz(prediction, trained.classes),
    }
    for kind in kinds:
        file, fix = _file(out, kind, prediction.name), "free space, or choose another --out"
        write_atomic(file, content[kind](), fix=fix, replaces_links=True)  # see `refuse_existing`


def _drawn(kind: str, prediction: Prediction, draw: Callable[[RGB, Labels], RGB], **options: int) -> bytes:
    """A picture file of an image and its classes, drawn band by band: of a large one, no array is held besides."""
    height, width = prediction.classes.shape
    picture, file = Image.new("RGB", (width, height)), io.BytesIO()
    for top in range(0, height, BAND):
        band = slice(top, top + BAND)
        picture.paste(Image.fromarray(draw(prediction.image[band], prediction.classes[band])), (0, top))
    picture.save(file, kind, **options)
    return file.getvalue()


def _npz(prediction: Prediction, classes: Sequence[str]) -> bytes:
    assert prediction.probabilities is not None
    file = io.BytesIO()
    np.savez_compressed(file, probabilities=prediction.probabilities, classes=np.array(classes))
    return file.getvalue()
