"""Predict images that belong to no dataset: `kd predict` and `kd.predict`."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from kd.console import print_errors, progress, say
from kd.data.images.decode import Limit, size_text
from kd.deploy.prediction.ensemble import together
from kd.deploy.prediction.photos import Photo, find_photos, ranges_of
from kd.deploy.prediction.pipeline import (
    THREADS,
    WAITING,
    Output,
    Read,
    a_core_for_each_batch,
    ahead,
    batch_size,
    computing,
    outputs,
    read_ahead,
)
from kd.deploy.prediction.tiles import ALIGNED, Predict, differing, predict_tiles, tile_size
from kd.deploy.prediction.video import count_frames
from kd.deploy.prediction.written import KINDS, Prediction, refuse_existing, write
from kd.errors import DataError, RecipeError
from kd.evaluation.targets import is_file, refuse_idle_recipe
from kd.evaluation.trained import Trained, open_trained
from kd.pictures import as_rgb
from kd.recipe.overrides import listed
from kd.runs import refuse_inside
from kd.runtimes.exported import FileNetwork
from kd.scoring import at_size, full_size

Run = str | os.PathLike[str]
LARGEST = 160 * 2**20  # pixels of an image in tiles; Pillow's own limit is a little higher
TOO_LARGE = "cut it with kd tiles, and predict the tiles"


def open_all(
    runs_named: Run | Sequence[Run], overrides: Iterable[str], *, recipe: Run | None, **options: Any
) -> tuple[Trained, list[str]]:
    """A network, or several that predict together; and a line for the user on each. `recipe` is that of the files."""
    named = [runs_named] if isinstance(runs_named, str | os.PathLike) else list(runs_named)
    if not named:
        raise RecipeError("no run is named")
    refuse_idle_recipe(recipe, named)
    overrides = listed(overrides)  # which may be read once
    members = [open_trained(run, overrides, recipe=recipe if is_file(run) else None, **options) for run in named]
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
    trained, _ = open_all(run, overrides, recipe=recipe, runs=runs, trust=trust)
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
        RecipeError: `out` is in a run directory.
        StorageError: a prediction cannot be written; those of earlier images are complete.
    """
    trained, lines = open_all(target, overrides, recipe=recipe, runs=runs, trust=trust)
    ranges = ranges_of(trained)
    if not inputs:
        raise RecipeError("no images: name files, folders or patterns after the run")
    photos = find_photos(
        inputs, without=[out / kind for kind in KINDS], arrays=ranges is not None, videos=ranges is None, say=say
    )
    refuse_inside("--out", out)
    refuse_existing(photos, out, kinds, overwrite=overwrite)
    for line in lines:
        say(line)
    problems: list[DataError] = []
    total = sum(count_frames(photo.path) if photo.video else 1 for photo in photos)
    done, wanted = 0, "probabilities" in kinds
    tile = None if tiles is None else _tile(trained, tiles)

    def finish(prediction: Prediction) -> None:
        write(prediction, trained, out, kinds)

    share = nullcontext() if tile else a_core_for_each_batch(trained, total)
    with share, ThreadPoolExecutor(THREADS) as pool, progress("predicted", total) as advance:
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
    say(f"{done} of {done + len(problems)} images predicted: {', '.join(str(out / kind) for kind in kinds)}")
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
    compared: Callable[[Predict, Read, int], None] = lambda compute, item, batch: None,
) -> Iterator[Prediction]:
    """Predict images in order, each at its own size; `compared` gets the first one."""
    compute, batch = computing(trained, window=None), batch_size(trained)
    for number, item in enumerate(read_ahead(trained, photos, bad, 1, limit=Limit(LARGEST, TOO_LARGE))):
        if number == 0 and not _has_one_size(trained.network):
            compared(compute, item, batch)
        classes, shares = predict_tiles(compute, item.image, tile, batch=batch, probabilities=probabilities)
        yield Prediction(item.name, as_rgb(item.image.numpy()), classes, shares)


def _compared(tile: tuple[int, int]) -> Callable[[Predict, Read, int], None]:
    """What prints how tiles compare with one pass."""

    def compare(compute: Predict, item: Read, batch: int) -> None:
        share, size = differing(compute, item.image, tile, batch=batch)
        say(
            f"tiles of {size_text(tile)}: {100 * share:.2f} % of the pixels differ from those of one pass, on "
            f"{size_text(size)} pixels of {item.name}"
        )

    return compare
