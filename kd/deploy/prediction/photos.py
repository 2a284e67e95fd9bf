"""The images that a command line names, and the name that each one's predictions get."""

import glob
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from kd.console import Say, silent
from kd.data.images.arrays import ARRAY
from kd.data.images.decode import SUFFIXES
from kd.data.images.names import list_images, raise_all
from kd.data.images.ranges import Range, check_ranges
from kd.deploy.prediction.video import check_extra, is_video
from kd.errors import DataError
from kd.evaluation.trained import Trained
from kd.units import counted


class Photo(NamedTuple):
    """An image file."""

    path: Path
    name: str  # below its folder, without suffix: `7`, or `aachen/7`; of a file that is named alone, its stem
    video: bool = False  # whether it is a video, whose frames are the images


def stated_ranges(trained: Trained) -> tuple[Range, ...] | None:
    """The ranges of numbers, one for each channel, that the recipe states; None: of images of 0 … 255."""
    data = trained.recipe.data
    return check_ranges(data.args.get("ranges"), trained.in_channels) if data.use == "kd.data.Folders" else None


def ranges_of(trained: Trained) -> tuple[Range, ...] | None:
    """The ranges of numbers in which the network's images are read; None: shades of 0 … 255.

    Raises:
        DataError: shades, but the network takes neither 1 nor 3 channels, so no image file holds its images.
    """
    given = stated_ranges(trained)
    if given is None:
        check_channels(trained.in_channels, trained.path)
    return given


def find_photos(
    inputs: Iterable[str | os.PathLike[str]],
    *,
    without: Iterable[Path] = (),
    arrays: bool = False,
    videos: bool = False,
    say: Say = silent,
) -> list[Photo]:
    """The images that are named, each once, in order.

    Args:
        inputs: image files, folders, and patterns such as `photos/*.jpg`. A folder stands for its images, or, if it
            holds none itself, for those in the folders below it.
        without: folders whose files are left out: those of earlier predictions.
        arrays: whether a folder's `.npy` files count as images.
        videos: whether video files may be named.
        say: takes a line for each folder that holds images, and folders beside them, which are not read.

    Raises:
        RecipeError: a video, but PyAV is not installed.
        DataError: an input does not exist or holds no image; two images would get one name.
    """
    left_out = [folder.resolve() for folder in without]
    found: dict[Path, Photo] = {}
    problems: list[str] = []
    for text in inputs:
        photos = {photo.path.resolve(): photo for photo in _photos(str(text), arrays, videos)}
        photos = {path: photo for path, photo in photos.items() if not any(map(path.is_relative_to, left_out))}
        if not photos:
            problems.append(f"{text}: {_nothing(str(text))}")
        if os.path.isdir(text) and any("/" not in photo.name for photo in photos.values()):
            below = _folders(Path(text), left_out)
            if below:
                say(f"{text}: not read: {counted(len(below), 'folder')} beside its images, such as {below[0]}")
        for path, photo in photos.items():
            found.setdefault(path, photo)
    by_name: dict[str, Photo] = {}
    for photo in found.values():
        if (other := by_name.setdefault(photo.name, photo)) is not photo:
            problems.append(
                f"{photo.path}: has the same name as {other.path}, and so have their predictions; "
                "predict them one after the other, each with its own --out"
            )
    raise_all(problems)
    return list(found.values())


def _photos(text: str, arrays: bool, videos: bool) -> Iterator[Photo]:
    path = Path(text)
    if os.path.isdir(path):
        suffixes = (*SUFFIXES, ARRAY) if arrays else SUFFIXES
        listed = list_images(path, path, follow_links=True, suffixes=suffixes)  # the user's own folder
        for file in listed.files.values():
            yield Photo(file, file.relative_to(path).with_suffix("").as_posix())
    elif os.path.exists(path):
        of_video = videos and is_video(path)
        if of_video:
            check_extra(path)
        yield Photo(path, path.stem, of_video)
    elif glob.has_magic(text):
        for match in sorted(glob.glob(text, recursive=True)):
            yield from _photos(match, arrays, videos)


def _folders(path: Path, left_out: Iterable[Path]) -> list[str]:
    """The folders in a folder, without hidden ones and those of earlier predictions."""
    return sorted(
        folder.name
        for folder in path.iterdir()
        if folder.is_dir()
        and not folder.name.startswith(".")
        and not any(other.is_relative_to(folder.resolve()) for other in left_out)
    )


def _nothing(text: str) -> str:
    if os.path.isdir(text):
        return "no image in this folder or below it"
    if glob.has_magic(text):
        return "no file matches this pattern"
    return "no such file or folder"


def check_channels(in_channels: int, run_dir: Path) -> None:
    """Refuse a network whose images no image file holds.

    Raises:
        DataError: it takes neither 1 nor 3 channels.
    """
    if in_channels not in (1, 3):
        raise DataError(
            f"{run_dir}: the network takes {in_channels} channels, an image file has 1 or 3; "
            "call kd.load_student and give it your arrays"
        )
