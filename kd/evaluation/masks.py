"""Predictions as files: PNG masks that hold class indices, under the names of their images."""

import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from posixpath import commonpath

import torch
from torch import Tensor

from kd.data.dataset import sample_name
from kd.errors import RecipeError
from kd.files.storage import write_atomic
from kd.pictures import label_png
from kd.types import SegmentationDataset

FIX = "free space or choose another folder with --predictions DIR"


class Masks:
    """Writes the predictions of a dataset's images one after another, in the order of the dataset.

    Args:
        folder: receives the masks.
        dataset: gives names and colours.
        overwrite: whether files that are already there are replaced.

    Raises:
        RecipeError: a file is already there: the dataset's own masks may have the same names.
    """

    def __init__(self, folder: Path, dataset: SegmentationDataset, *, overwrite: bool = False) -> None:
        files = [folder / name for name in mask_names([sample_name(dataset, index) for index in range(len(dataset))])]
        existing = [] if overwrite else [file for file in files if os.path.lexists(file)]
        if existing:
            more = f" and {len(existing) - 1} more" if len(existing) > 1 else ""
            fix = "choose another --predictions DIR, or replace them with --overwrite"
            raise RecipeError(f"{existing[0]}{more}: already there; {fix}")
        self._files, self._colors = iter(files), dataset.colors

    def write(self, predictions: Tensor) -> None:
        """Write the next mask.

        Args:
            predictions: classes (H, W), at the size of the image's file.

        Raises:
            StorageError: it cannot be written.
        """
        mask = predictions.to("cpu", torch.uint8).numpy()
        write_atomic(next(self._files), label_png(mask, self._colors), fix=FIX, replaces_links=True)


def mask_names(images: Sequence[str]) -> list[PurePosixPath]:
    """The file of each image's mask, relative to their folder: `7.png` for `data/images/7.jpg`.

    Folders that all images share are left out. Where two names would be equal, the image's suffix stays (`7.jpg.png`),
    and where that is not enough, its number is added. No name leads out of the folder.
    """
    paths = [_safe(name) for name in images]
    shared = commonpath([path.parent for path in paths]) if paths else ""
    paths = [path.relative_to(shared) for path in paths]
    files = [path.with_name(f"{path.stem}.png") for path in paths]
    for longer in (
        [path.with_name(f"{path.name}.png") for path in paths],
        [path.with_name(f"{path.name}-{index}.png") for index, path in enumerate(paths)],
    ):
        counts = Counter(str(file).casefold() for file in files)  # some systems do not distinguish case
        files = [other if counts[str(file).casefold()] > 1 else file for file, other in zip(files, longer, strict=True)]
    return files


def _safe(name: str) -> PurePosixPath:
    """A name as a relative path, without what leads out of a folder or what a system does not take."""
    parts = [re.sub(r'[<>:"|?*\x00-\x1f]', "_", part) for part in re.split(r"[/\\]", name)]
    kept = [part for part in parts if part.strip(". ")]
    return PurePosixPath(*kept) if kept else PurePosixPath("image")
