"""Whether a network has been trained on images that it is scored on: the score would be no measure."""

import os
from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain
from pathlib import Path

from kd.data.dataset import image_files
from kd.errors import RecipeError
from kd.files.fingerprint import sha256
from kd.files.manifest import WEIGHTS
from kd.inputs import has_inputs, read_inputs
from kd.networks.weight_files import FORMATS
from kd.parts.data import Data
from kd.recipe import Recipe, teachers
from kd.recipe.identity import named_files
from kd.runs import is_finished, run_directory
from kd.types import SegmentationDataset

Seen = list[tuple[int, Callable[[], str]]]  # of each training image: the file's size, and its SHA-256

CONSEQUENCE = {  # of held-out images that a network has seen, and what to do
    "teacher": "so neither its score nor the student's would be a measure; name the teacher by its recipe with the "
    "same data, which takes over the split, or hold out other images",
    "student": "so the score of a student that starts from it would be no measure; start from a run with the same "
    "split, or hold out other images",
}


def refuse_leak(recipe: Recipe, data: Data, *, runs: Path, data_of: Callable[[Recipe], Data]) -> list[str]:
    """Compare what a recipe's teachers and its student's first weights have seen with val and test, by content.

    Args:
        recipe: with or without a teacher.
        data: its splits.
        runs: where run directories are.
        data_of: the splits of another recipe; for a teacher that has not been trained yet.

    Returns:
        A line for the user for each file of weights of which it is not known what images they saw.

    Raises:
        RecipeError: the training images of a teacher, or of the student's weights, are among the val or test images.
        StorageError: the record of a run cannot be read.
        DataError: the data of a teacher cannot be read.
    """
    notes: list[str] = []
    for side, name, seen in chain(_teachers(recipe, runs, data_of), _weights(recipe, notes)):
        for split, dataset in data.held_out(recipe).items():
            if found := _among(dataset, seen):
                number = len(found) if len(found) < len(dataset) else "all"
                raise RecipeError(
                    f"{recipe.at(side)}: {side}: {name} was trained on {number} of the {len(dataset)} {split} "
                    f"images (first {found[0]}), {CONSEQUENCE[side]}"
                )
    return notes


def trained_on(run_dir: Path, dataset: SegmentationDataset) -> list[str]:
    """The names of the images of a dataset that a run was trained on, by content; none if the run recorded none.

    Raises:
        StorageError: the record of the run is damaged.
    """
    return _among(dataset, _of_run(run_dir)) if has_inputs(run_dir) else []


def _teachers(recipe: Recipe, runs: Path, data_of: Callable[[Recipe], Data]) -> Iterator[tuple[str, str, Seen]]:
    """What each teacher with a recipe has seen, or will see, as (side, its name, images)."""
    for teacher in teachers(recipe):
        run_dir = run_directory(teacher, runs, teacher.train.seeds[0])
        if is_finished(run_dir) and has_inputs(run_dir):
            yield "teacher", str(run_dir), _of_run(run_dir)
        else:
            yield "teacher", str(teacher.file), _of_files(data_of(teacher).training(teacher))


def _weights(recipe: Recipe, notes: list[str]) -> Iterator[tuple[str, str, Seen]]:
    """What the weights have seen that a recipe names for its teacher and its student; a note where it is not known."""
    sections = {"teacher": recipe.teacher, "student": recipe.student}
    files = {*recipe.sources.files, recipe.teacher.run if recipe.teacher else None}  # a resumed run states its place
    for side, named in dict.fromkeys(
        (side, text) for side, part in sections.items() if part for text in named_files(part)
    ):
        if not (named in files and (os.path.isdir(named) or Path(named).suffix in FORMATS)):
            continue  # no file, no weights, or torchvision's
        run_dir = Path(named) if os.path.isdir(named) else Path(named).parent
        if os.path.lexists(run_dir / WEIGHTS) and has_inputs(run_dir):  # elsewhere, manifest.json may be anything
            yield side, named, _of_run(run_dir)
            continue
        scores = "its score and the student's are" if side == "teacher" else "its score is"
        notes.append(
            f"{side}: {named} has no record of the images that it was trained on; if they are among those of val, "
            f"{scores} too high"
        )


def _of_run(run_dir: Path) -> Seen:
    splits = read_inputs(run_dir).splits
    images = [image for name in ("train", "unlabelled") if name in splits for image in splits[name].images]
    return [(image.size, partial(str, image.sha256)) for image in images if image.sha256]  # others were never read


def _of_files(train: SegmentationDataset) -> Seen:
    return [(file.stat().st_size, partial(sha256, file)) for file in image_files(train)]


def _among(dataset: SegmentationDataset, seen: Seen) -> list[str]:
    """The names of the images that have been seen; only files of a size that occurs on both sides are read."""
    files = [(file, file.stat().st_size) for file in image_files(dataset)]
    sizes = {size for _, size in files}
    known = {(size, digest()) for size, digest in seen if size in sizes}
    common = {size for size, _ in known}
    return [file.name for file, size in files if size in common and (size, sha256(file)) in known]
