"""Predict images that belong to no dataset: `kd predict` and `kd.predict`."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import chain, groupby, islice
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from torch import nn

from kd.console import print_errors, print_line, progress
from kd.data.dataset import resize_image
from kd.data.images.decode import size_text
from kd.data.images.ranges import read_in_ranges
from kd.data.images.read import read_image
from kd.deploy.ensemble import together
from kd.deploy.photos import Photo, find_photos, ranges_of
from kd.deploy.tiles import ALIGNED, Predict, differing, predict_tiles, tile_size
from kd.deploy.video import count_frames, read_frames
from kd.deploy.written import KINDS, Prediction, refuse_existing, write
from kd.errors import DataError, RecipeError
from kd.evaluation.trained import Trained, open_trained
from kd.machine import cores
from kd.parts.assemble import precision_of
from kd.pictures import as_rgb
from kd.runtimes import FileNetwork
from kd.scoring import at_size, full_size, predict

Run = str | os.PathLike[str]
T = TypeVar("T")
R = TypeVar("R")

LARGEST = 160 * 2**20  # pixels of an image in tiles; Pillow's own limit is a little higher
BATCH = 8  # images at a time, at most
THREADS = min(cores(), 4)  # that read, and as many that write, while the network runs
WAITING = BATCH + THREADS  # images to be written, at most: the network need not wait for those of its last batch


class _Read(NamedTuple):
    name: str
    image: torch.Tensor  # uint8 (C, H, W)
    resized: torch.Tensor  # uint8 (C, h, w), as the network takes it; in tiles, `image`


class Output(NamedTuple):
    """What a network returns for an image."""

    name: str
    image: torch.Tensor  # uint8 (C, H, W), upright
    logits: torch.Tensor  # (K, h, w), on the network's device


def open_all(runs_named: Run | Sequence[Run], overrides: Iterable[str], **options: Any) -> tuple[Trained, list[str]]:
    """A network, or several that predict together; and a line for the user on each."""
    named = [runs_named] if isinstance(runs_named, str | os.PathLike) else list(runs_named)
    members = [open_trained(run, list(overrides), **options) for run in named]
    return together(members) if len(members) > 1 else members[0], list(map(str, members))


def predicted(
    run: Run | Sequence[Run],
    images: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    overrides: Iterable[str] = (),
    *,
    recipe: str | os.PathLike[str] | None = None,
    runs: str | os.PathLike[str] = "runs",
    trust: bool = False,
    probabilities: bool = False,
    tiles: tuple[int, int] | None = None,
) -> Iterator[Prediction]:
    """As `kd.predict`."""
    trained, _ = open_all(run, tuple(overrides), recipe=recipe, runs=runs, trust=trust)
    ranges = ranges_of(trained)
    named = [images] if isinstance(images, str | os.PathLike) else images
    photos = find_photos(named, arrays=ranges is not None, videos=ranges is None)

    def stop(error: DataError) -> None:
        raise error

    if tiles is None:
        return map(partial(_prediction, probabilities=probabilities), outputs(trained, photos, bad=stop))
    return _in_tiles(trained, photos, _tile(trained, tiles), bad=stop, probabilities=probabilities)


def predict_command(
    target: Run | Sequence[Run],
    inputs: Sequence[str],
    out: Path,
    overrides: Sequence[str] = (),
    *,
    recipe: Path | None = None,
    runs: Path,
    trust: bool,
    kinds: Sequence[str],
    overwrite: bool,
    tiles: tuple[int, int] | None = None,
) -> int:
    """`kd predict`: write the predictions of images, file by file; a bad image is skipped and listed at the end.

    Args:
        target: as `run` of `kd.predict`.
        inputs: image files, folders and patterns.
        out: the folder that gets a folder for each kind.
        overrides: as of `kd.predict`.
        recipe: as of `kd.predict`.
        runs: where the runs of a recipe are.
        trust: whether the run's recipe may import components from outside kd.
        kinds: of `KINDS`.
        overwrite: whether files that are already there are replaced.
        tiles: as of `kd.predict`.

    Returns:
        The exit status: 0, or 3 if an image could not be read.

    Raises:
        RecipeError, DataError, WeightsError, StorageError: as `kd.predict`; nothing is written.
        StorageError: a prediction cannot be written; those of earlier images are complete.
    """
    trained, lines = open_all(target, overrides, recipe=recipe, runs=runs, trust=trust)
    ranges = ranges_of(trained)
    if not inputs:
        raise RecipeError("no images: name files, folders or patterns after the run")
    photos = find_photos(
        inputs, without=[out / kind for kind in KINDS], arrays=ranges is not None, videos=ranges is None
    )
    refuse_existing(photos, out, kinds, overwrite=overwrite)
    for line in lines:
        print_line(line)
    problems: list[DataError] = []
    total = sum(count_frames(photo.path) if photo.video else 1 for photo in photos)
    done, wanted = 0, "probabilities" in kinds
    tile = None if tiles is None else _tile(trained, tiles)

    def finish(prediction: Prediction) -> None:
        write(prediction, trained, out, kinds)

    with ThreadPoolExecutor(THREADS) as pool, progress("predicted", total) as advance:
        if tile is None:
            found = outputs(trained, photos, bad=problems.append)
            written = ahead(pool, lambda output: finish(_prediction(output, probabilities=wanted)), found, WAITING)
        else:
            compared = _compared(tile)
            predictions = _in_tiles(trained, photos, tile, bad=problems.append, probabilities=wanted, compared=compared)
            written = ahead(pool, finish, predictions, 1)
        for _ in written:
            done += 1
            advance(done + len(problems))
    print_line(f"{done} of {done + len(problems)} images predicted: {', '.join(str(out / kind) for kind in kinds)}")
    print_errors(line for problem in problems for line in problem.mistakes)
    return DataError.exit_status if problems else 0


def _prediction(output: Output, *, probabilities: bool) -> Prediction:
    """The classes of an image at its own size; without probabilities, no map of its size is held for each class."""
    name, image, logits = output
    shares = None
    if probabilities:
        shares = at_size(logits, image.shape[1:]).softmax(0).to("cpu", torch.float16).numpy()
    classes = full_size(logits, image.shape[1:]).to("cpu", torch.uint8).numpy()
    return Prediction(name, as_rgb(image.numpy()), classes, shares)


def outputs(trained: Trained, photos: Sequence[Photo], *, bad: Callable[[DataError], None]) -> Iterator[Output]:
    """What a network returns for images, in order, as its recipe scores them; the next ones are read meanwhile.

    Args:
        trained: the network, which is moved to the device of its recipe.
        photos: the images.
        bad: gets the error of each that cannot be read.
    """
    recipe, compute = trained.recipe, _computing(trained)
    size = min(recipe.train.batch_size, BATCH)
    samples = _read_ahead(trained, photos, bad, size, resized=recipe.scored_size)
    while batch := list(islice(samples, size)):
        for item, logits in zip(batch, compute(torch.stack([item.resized for item in batch])), strict=True):
            yield Output(item.name, item.image, logits)


def _computing(trained: Trained, **how: Any) -> Predict:
    """What calls the network as its recipe scores, with these keys of `evaluate` changed."""
    precision = precision_of(trained.recipe)
    network = trained.network.to(precision.device).to(memory_format=precision.memory_format)
    return partial(predict, network, precision=precision, how=trained.recipe.evaluate.model_copy(update=how))


def _read_ahead(
    trained: Trained,
    photos: Sequence[Photo],
    bad: Callable[[DataError], None],
    count: int,
    *,
    limit: int | None = None,
    resized: tuple[int, int] | None = None,
) -> Iterator[_Read]:
    """The images in order, with at most `count` of them read, and resized if a size is given, ahead."""
    ranges = ranges_of(trained)

    def item_of(name: str, image: torch.Tensor) -> _Read:
        return _Read(name, image, image if resized is None else resize_image(image, resized))

    def read(photo: Photo) -> _Read | DataError:
        try:
            image = (
                read_in_ranges(photo.path, ranges)
                if ranges
                else read_image(photo.path, trained.in_channels, limit=limit)
            )
        except DataError as error:
            return error
        return item_of(photo.name, image)

    def frames(photo: Photo) -> Iterator[_Read | DataError]:
        try:
            for number, image in enumerate(read_frames(photo.path, trained.in_channels)):
                yield item_of(frame_name(photo, number), image)
        except DataError as error:
            yield error

    with ThreadPoolExecutor(THREADS) as pool:
        for of_videos, group in groupby(photos, lambda photo: photo.video):
            alike = list(group)
            items = chain.from_iterable(map(frames, alike)) if of_videos else ahead(pool, read, alike, count)
            for item in items:
                if isinstance(item, DataError):
                    bad(item)
                else:
                    yield item


def frame_name(photo: Photo, number: int) -> str:
    """The name of a frame's predictions, in a folder of its video."""
    return f"{photo.name}/{number:06d}"


def _tile(trained: Trained, tiles: tuple[int, int]) -> tuple[int, int]:
    """The size of the tiles.

    Raises:
        RecipeError: it is too small, or the network does not take it.
    """
    if min(tiles) < ALIGNED:
        raise RecipeError(f"--tiles {tiles[0]} {tiles[1]}: at least {ALIGNED} pixels each")
    size, network = tile_size(tiles), trained.network
    own = trained.recipe.scored_size
    if _has_one_size(network) and size != own:
        fix = f"--tiles {own[0]} {own[1]}" if tile_size(own) == own else "a file that was exported with --dynamic"
        raise RecipeError(f"--tiles {tiles[0]} {tiles[1]}: {trained.path} takes {size_text(own)} alone; use {fix}")
    return size


def _has_one_size(network: nn.Module) -> bool:
    return any(isinstance(part, FileNetwork) and part.one_by_one for part in network.modules())


def _in_tiles(
    trained: Trained,
    photos: Sequence[Photo],
    tile: tuple[int, int],
    *,
    bad: Callable[[DataError], None],
    probabilities: bool,
    compared: Callable[[Predict, _Read, int], None] = lambda compute, item, batch: None,
) -> Iterator[Prediction]:
    """Predict images in order, each at its own size; `compared` gets the first one."""
    compute, batch = _computing(trained, window=None), min(trained.recipe.train.batch_size, BATCH)
    for number, item in enumerate(_read_ahead(trained, photos, bad, 1, limit=LARGEST)):
        if number == 0 and not _has_one_size(trained.network):
            compared(compute, item, batch)
        classes, shares = predict_tiles(compute, item.image, tile, batch=batch, probabilities=probabilities)
        yield Prediction(item.name, as_rgb(item.image.numpy()), classes, shares)


def _compared(tile: tuple[int, int]) -> Callable[[Predict, _Read, int], None]:
    """What prints how tiles compare with one pass."""

    def compare(compute: Predict, item: _Read, batch: int) -> None:
        share, size = differing(compute, item.image, tile, batch=batch)
        print_line(
            f"tiles of {size_text(tile)}: {100 * share:.2f} % of the pixels differ from those of one pass, on "
            f"{size_text(size)} pixels of {item.name}"
        )

    return compare


def ahead(pool: ThreadPoolExecutor, call: Callable[[T], R], items: Iterable[T], count: int) -> Iterator[R]:
    """The results of `call` for each item, in order, with at most `count` of them computed ahead."""
    pending: deque[Future[R]] = deque()
    for item in items:
        pending.append(pool.submit(call, item))
        if len(pending) > count:
            yield pending.popleft().result()
    while pending:
        yield pending.popleft().result()
