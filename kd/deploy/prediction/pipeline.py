"""Many images through a network: some are read while others are computed and written, in order."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, suppress
from copy import deepcopy
from itertools import chain, groupby, islice
from queue import SimpleQueue
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from kd.data.dataset import resize_image
from kd.data.images.decode import Limit
from kd.data.images.ranges import read_in_ranges
from kd.data.images.read import read_image
from kd.deploy.prediction.photos import Photo, ranges_of
from kd.deploy.prediction.video import read_frames
from kd.errors import DataError
from kd.evaluation.trained import Trained
from kd.machine import cores, torch_threads
from kd.parts.assemble import precision_of
from kd.runtimes.exported import FileNetwork
from kd.scoring import predict

T = TypeVar("T")
R = TypeVar("R")

BATCH = 8  # images at a time, at most
IN_NETWORKS = 16  # images in all batches that are computed side by side, at most
THREADS = min(cores(), 4)  # that read, and as many that write, while networks compute
WAITING = BATCH + THREADS  # images to be written, at most: a network need not wait for those of its last batch


class Read(NamedTuple):
    """An image that has been read."""

    name: str
    image: torch.Tensor  # uint8 (C, H, W)
    resized: torch.Tensor  # uint8 (C, h, w), as the network takes it; in tiles, `image`


class Output(NamedTuple):
    """What a network returns for an image."""

    name: str
    image: torch.Tensor  # uint8 (C, H, W), upright
    logits: torch.Tensor  # (K, h, w), on the network's device


def outputs(trained: Trained, photos: Sequence[Photo], *, bad: Callable[[DataError], None]) -> Iterator[Output]:
    """What a network returns for images, in order, as its recipe scores them; the next ones are computed meanwhile.

    Args:
        trained: the network, which is moved to the device of its recipe.
        photos: the images.
        bad: gets the error of each that cannot be read.
    """
    recipe, size = trained.recipe, batch_size(trained)
    count = side_by_side(trained, cores() // torch.get_num_threads())
    compute = computing(trained, count)
    samples = read_ahead(trained, photos, bad, size, resized=recipe.scored_size)

    def of_batch(batch: Sequence[Read]) -> list[Output]:
        found = compute(torch.stack([item.resized for item in batch]))
        return [Output(item.name, item.image, logits) for item, logits in zip(batch, found, strict=True)]

    with ThreadPoolExecutor(count) as pool:
        batches = iter(lambda: list(islice(samples, size)), [])
        yield from chain.from_iterable(ahead(pool, of_batch, batches, count - 1))


def batch_size(trained: Trained) -> int:
    """Images, or tiles, that a network computes at a time."""
    return min(trained.recipe.train.batch_size, BATCH)


def side_by_side(trained: Trained, most: int) -> int:
    """How many batches are computed at a time, at most `most`.

    On a GPU, and of a file, whose runtime shares out the cores by itself, it is one. So it is of a network with hooks:
    in a copy, they may fill the store of the original.
    """
    alone = any(
        isinstance(part, FileNetwork) or part._forward_hooks or part._forward_pre_hooks
        for part in trained.network.modules()
    )
    if alone or precision_of(trained.recipe).device.type != "cpu":
        return 1
    return max(min(most, IN_NETWORKS // batch_size(trained)), 1)


def a_core_for_each_batch(trained: Trained, images: int) -> AbstractContextManager[None]:
    """In the block, torch computes on as many cores as leave one for each batch that `outputs` computes at a time.

    A batch on each core takes less time than one batch after the other on all cores: nobody waits for anybody.
    """
    batches = min(-(-images // batch_size(trained)), cores())
    return torch_threads(min(torch.get_num_threads(), cores() // side_by_side(trained, batches)))


def computing(trained: Trained, count: int = 1, **how: Any) -> Callable[[Tensor], Tensor]:
    """What calls the network as its recipe scores; `count` threads may call it at a time.

    Args:
        trained: the network, which is moved to the device of its recipe.
        count: of the threads.
        how: keys of the recipe's `evaluate` that are changed.
    """
    precision = precision_of(trained.recipe)
    network = trained.network.to(precision.device).to(memory_format=precision.memory_format)
    changed = trained.recipe.evaluate.model_copy(update=how)
    free: SimpleQueue[nn.Module] = SimpleQueue()
    for _ in range(count - 1):  # a network may keep something while it computes: each thread has its own modules
        weights = {id(tensor): tensor for tensor in chain(network.parameters(), network.buffers())}
        with suppress(TypeError, RuntimeError):  # one that cannot be copied computes one batch after the other
            free.put(deepcopy(network, weights))  # the weights are shared
    free.put(network)

    def compute(images: Tensor) -> Tensor:
        taken = free.get()
        try:
            return predict(taken, images, precision, changed)
        finally:
            free.put(taken)

    return compute


def read_ahead(
    trained: Trained,
    photos: Sequence[Photo],
    bad: Callable[[DataError], None],
    count: int,
    *,
    limit: Limit | None = None,
    resized: tuple[int, int] | None = None,
) -> Iterator[Read]:
    """The images in order, with at most `count` of them read, and resized if a size is given, ahead."""
    ranges = ranges_of(trained)

    def item_of(name: str, image: torch.Tensor) -> Read:
        return Read(name, image, image if resized is None else resize_image(image, resized))

    def read(photo: Photo) -> Read | DataError:
        try:
            image = (
                read_in_ranges(photo.path, ranges)
                if ranges
                else read_image(photo.path, trained.in_channels, limit=limit)
            )
        except DataError as error:
            return error
        return item_of(photo.name, image)

    def frames(photo: Photo) -> Iterator[Read | DataError]:
        try:
            for number, image in enumerate(read_frames(photo.path, trained.in_channels)):
                yield item_of(f"{photo.name}/{number:06d}", image)
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


def ahead(pool: ThreadPoolExecutor, call: Callable[[T], R], items: Iterable[T], count: int) -> Iterator[R]:
    """The results of `call` for each item, in order, with at most `count` of them computed ahead."""
    pending: deque[Future[R]] = deque()
    for item in items:
        pending.append(pool.submit(call, item))
        if len(pending) > count:
            yield pending.popleft().result()
    while pending:
        yield pending.popleft().result()
