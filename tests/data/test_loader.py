import errno
import math
import multiprocessing
import os
import signal
import time
from functools import partial

import pytest
import torch
from torch.utils.data import default_collate

from kd.components.user_files import load
from kd.data import ColorJitter, RandomFlip, RandomScale, Shapes
from kd.data.loader import WITHOUT_LABELS, evaluation_batches, order, training_batches
from kd.data.splits.split import Split
from kd.data.transforms.crop import Crop
from kd.errors import DataError, RecipeError, StorageError
from kd.types import Batch, Sample

AUGMENT = (RandomScale(0.5, 2), RandomFlip(), ColorJitter())


class Numbered:
    """Image i is filled with i; reading image `at` calls `what`."""

    class_names = ("a", "b")
    colors = ((0, 0, 0), (1, 1, 1))
    in_channels = 1

    def __init__(self, length, at=-1, what=None):
        self.length, self.at, self.what = length, at, what
        self.names = tuple(f"image {i}" for i in range(length))

    def __len__(self):
        return self.length

    def __getitem__(self, key):
        index, _ = key
        if index == self.at:
            self.what()
        image = torch.full((1, 4, 4), index, dtype=torch.uint8)
        return Sample(image, torch.zeros(4, 4, dtype=torch.uint8), self.names[index])


def fail():
    raise DataError("image 3: broken")


def misbehave():
    raise KeyError("a bug of the user's")


def hang(started):
    started.touch()
    time.sleep(3600)


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def keys(batches):
    return [[tuple(key) for key in batch.keys.tolist()] for batch in batches]


def numbers(length, **options):
    return keys(training_batches(Split(Numbered(length), (4, 4)), **options))


def test_order_is_a_permutation_of_seed_and_epoch():
    torch.manual_seed(1)
    one = order(0, 0, 50)
    torch.manual_seed(2)
    assert torch.equal(order(0, 0, 50), one)
    assert sorted(one.tolist()) == list(range(50))
    assert not torch.equal(order(0, 1, 50), one)
    assert not torch.equal(order(1, 0, 50), one)


def test_position_p_is_image_order_seed_epoch():
    stream = [key for batch in numbers(7, steps=10, batch_size=3, seed=4) for key in batch]
    assert stream == [(int(order(4, p // 7, 7)[p % 7]), p // 7) for p in range(30)]


def test_no_image_is_dropped_and_no_batch_is_short():
    batches = numbers(7, steps=14, batch_size=3)
    assert {len(batch) for batch in batches} == {3}
    stream = [key for batch in batches for key in batch]
    assert sorted(stream) == [(index, epoch) for index in range(7) for epoch in range(6)]


def test_a_batch_larger_than_the_set():
    assert sorted(index for index, _ in numbers(3, steps=1, batch_size=6)[0]) == [0, 0, 1, 1, 2, 2]


def test_views_repeat():
    stream = [key for batch in numbers(4, steps=6, batch_size=4, views=2) for key in batch]
    assert [view for _, view in stream[::4]] == [0, 1, 0, 1, 0, 1]
    assert [index for index, _ in stream[:4]] != [index for index, _ in stream[8:12]]  # the order is still the epoch's


def test_ranks_and_micro_batches_are_consecutive_slices():
    whole = numbers(10, steps=5, batch_size=8)
    parts = {rank: numbers(10, steps=5, batch_size=8, accumulate=2, rank=rank, world=2) for rank in range(2)}
    for step, batch in enumerate(whole):
        sliced = [key for rank in range(2) for micro in parts[rank][2 * step : 2 * step + 2] for key in micro]
        assert sliced == batch
    assert {len(micro) for micro in parts[0]} == {2}


def test_the_step_determines_where_to_resume():
    whole = numbers(7, steps=12, batch_size=4, accumulate=2)
    for start in (0, 1, 5, 11, 12):
        assert numbers(7, steps=12, start=start, batch_size=4, accumulate=2) == whole[2 * start :]


def test_images_without_labels_are_a_stream_of_their_own_after_those_with_labels():
    joined = {"labelled": 4, "unlabelled_size": 4, "batch_size": 2, "seed": 4}
    batches = numbers(11, steps=14, **joined)
    assert [batch[:2] for batch in batches] == numbers(4, steps=14, batch_size=2, seed=4)  # as without the others
    others = [key for batch in batches for key in batch[2:]]
    assert sorted(others) == [(index, epoch) for index in range(4, 11) for epoch in range(8)]
    assert [index for index, _ in others[:7]] == [4 + int(index) for index in order(4, 0, 7, WITHOUT_LABELS)]
    assert numbers(11, steps=14, start=9, **joined) == batches[9:]
    views = [key for batch in numbers(11, steps=14, views=2, **joined) for key in batch[2:]]
    assert [view for _, view in views] == [epoch % 2 for _, epoch in others]


def test_every_micro_batch_has_its_share_of_both():
    joined = {"labelled": 6, "unlabelled_size": 8, "batch_size": 4}
    whole = numbers(11, steps=5, **joined)
    parts = [numbers(11, steps=5, accumulate=2, rank=rank, world=2, **joined) for rank in range(2)]
    for step, batch in enumerate(whole):
        micros = [micro for part in parts for micro in part[2 * step : 2 * step + 2]]
        assert [key for micro in micros for key in micro[:1]] == batch[:4]
        assert [key for micro in micros for key in micro[1:]] == batch[4:]
    with pytest.raises(ValueError, match=r"^unlabelled_size 3 is not divisible by 1 processes × 2 micro-batches"):
        numbers(11, steps=5, accumulate=2, labelled=6, unlabelled_size=3, batch_size=4)


def same(one, other):
    return all(a is b is None or torch.equal(a, b) for a, b in zip(one, other, strict=True))


def stream(teacher_size=None, **options):
    dataset = Shapes("train", count=11, size=32)
    split = Split(dataset, (32, 32), crop=Crop((24, 24)), augment=AUGMENT, seed=2, teacher_size=teacher_size)
    return list(training_batches(split, steps=5, batch_size=4, seed=3, **options))


def test_workers_change_nothing():
    torch.manual_seed(9)
    before = torch.get_rng_state()
    expected = stream()
    for workers in (1, 2):
        assert all(map(same, stream(workers=workers), expected))
    assert torch.equal(torch.get_rng_state(), before)  # no base seed is drawn from the training's generator
    assert isinstance(expected[0], Batch)
    assert all(map(same, stream(start=3, workers=2), expected[3:]))


def test_the_teachers_images_come_in_the_same_batch_and_change_nothing_else():
    expected, finer = stream(), stream((36, 36))
    assert all(batch.teacher_images.shape == (4, 3, 36, 36) for batch in finer)
    assert all(map(same, stream((36, 36), workers=1), finer))
    assert all(map(same, [batch._replace(teacher_images=None) for batch in finer], expected))


OWN = """
import torch
from kd.types import Sample

class Mine:
    class_names = ("a", "b")
    colors = ((0, 0, 0), (1, 1, 1))
    in_channels = 3

    def __init__(self, split):
        self.split = split

    def __len__(self):
        return 6

    def __getitem__(self, key):
        image = torch.full((3, 8, 8), 10 * key[0], dtype=torch.uint8)
        return Sample(image, torch.ones(8, 8, dtype=torch.uint8), f"mine {key[0]}")

class Brighter:
    def __init__(self, by):
        self.by = by

    def __call__(self, image, mask):
        return image + self.by + torch.randint(0, 3, ()).to(torch.uint8), mask
"""


@pytest.mark.parametrize("context", ["spawn", "forkserver"])
def test_components_of_a_users_file_work_in_fresh_processes(tmp_path, context):
    file = tmp_path / "my.own data.py"
    file.write_text(OWN)
    own = load(file)
    split = Split(own.Mine("train"), (8, 8), augment=[own.Brighter(5)])
    expected = list(training_batches(split, steps=3, batch_size=2))  # one epoch
    found = list(training_batches(split, steps=3, batch_size=2, workers=1, context=context))
    assert all(map(same, found, expected))
    assert sorted(int(b) for batch in found for b in batch.keys[:, 0]) == list(range(6))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_sample_that_cannot_be_read_is_one_line(workers):
    with pytest.raises(DataError, match=r"^image 3: broken$"):
        list(training_batches(Split(Numbered(8, 3, fail), (4, 4)), steps=4, batch_size=2, workers=workers))


@pytest.mark.parametrize("workers", [0, 1])
def test_a_bug_in_a_users_dataset_is_one_line(workers):
    with pytest.raises(RecipeError) as error:
        list(training_batches(Split(Numbered(8, 3, misbehave), (4, 4)), steps=4, batch_size=2, workers=workers))
    line = misbehave.__code__.co_firstlineno + 1
    assert str(error.value) == (
        f'Numbered: sample 3 cannot be read: KeyError: "a bug of the user\'s" (test_loader.py:{line})'
    )


@pytest.fixture
def children():
    """The processes that were started since the test began and still live."""
    before = set(multiprocessing.active_children())
    return lambda: set(multiprocessing.active_children()) - before


def test_a_dead_worker_is_named_and_leaves_nothing_behind(children):
    with pytest.raises(DataError) as error:
        list(training_batches(Split(Numbered(8, 3, die), (4, 4)), steps=4, batch_size=2, workers=2))
    assert str(error.value).startswith("a data worker died while reading image 3: ")
    assert "\n" not in str(error.value)
    assert not children()


def test_a_worker_that_hangs_is_named(children, tmp_path):
    """One worker, and its first image: on a slow machine, another might not be ready in time either."""
    started = tmp_path / "started"

    def until_it_hangs():
        while not started.exists():
            time.sleep(0.01)

    first = numbers(8, steps=1, batch_size=2)[0][0][0]
    split = Split(Numbered(8, first, partial(hang, started)), (4, 4))
    with pytest.raises(DataError) as error:
        list(training_batches(split, steps=4, batch_size=2, workers=1, timeout=1, waiting=until_it_hangs))
    assert str(error.value) == f"no batch within 1 s: the data workers hang while reading image {first}"
    assert not children()


NO_SHARED_MEMORY = (
    "/dev/shm: No space left on device, and data workers need it for their batches; "
    "give it more (docker run --shm-size=8g), or set data.workers=0"
)


def no_shared_memory(*_, **__):
    raise RuntimeError("unable to allocate shared memory(shm) for file </torch_1>: No space left on device (28)")


def test_too_little_shared_memory_for_a_batch_is_one_line(children, monkeypatch):
    monkeypatch.setattr("kd.data.loader.default_collate", no_shared_memory)  # which makes a batch in shared memory
    with pytest.raises(StorageError) as error:
        list(training_batches(Split(Numbered(8), (4, 4)), steps=4, batch_size=2, workers=1))
    assert str(error.value) == NO_SHARED_MEMORY
    assert not children()


def test_a_batch_is_in_shared_memory_before_torch_would_drop_it(children, monkeypatch):
    """The thread that sends batches prints a traceback, and its process waits for the batch in vain."""
    share = torch.Tensor.share_memory_
    monkeypatch.setattr(
        torch.Tensor, "share_memory_", lambda part: share(part) if part.dtype == torch.int64 else no_shared_memory()
    )
    with pytest.raises(StorageError) as error:
        list(evaluation_batches(Numbered(8), (4, 4), batch_size=2, workers=1))
    assert str(error.value) == NO_SHARED_MEMORY
    assert not children()


def test_too_little_shared_memory_for_the_workers_themselves_is_one_line(monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")  # of a queue's semaphores

    with monkeypatch.context() as patch:
        patch.setattr(torch.Tensor, "share_memory_", no_shared_memory)
        with pytest.raises(StorageError) as error:
            training_batches(Split(Numbered(8), (4, 4)), steps=4, batch_size=2, workers=1)
    assert str(error.value) == NO_SHARED_MEMORY
    monkeypatch.setattr("kd.data.workers.DataLoader.__iter__", full)
    with pytest.raises(StorageError) as error:
        training_batches(Split(Numbered(8), (4, 4)), steps=4, batch_size=2, workers=1)
    assert str(error.value) == NO_SHARED_MEMORY


def test_a_bug_in_a_worker_is_no_dead_worker(monkeypatch):
    def stack(values):
        raise RuntimeError("stack expects each tensor to be equal size")

    monkeypatch.setattr("kd.data.loader.default_collate", stack)
    with pytest.raises(RuntimeError, match=r"^Caught RuntimeError in DataLoader worker process 0"):
        list(training_batches(Split(Numbered(8), (4, 4)), steps=4, batch_size=2, workers=1))


def test_closing_stops_the_workers(children):
    batches = training_batches(Split(Numbered(8), (4, 4)), steps=1000, batch_size=2, workers=2)
    next(batches)
    assert len(children()) == 2
    batches.close()
    assert not children()


def test_a_workers_death_does_not_raise_elsewhere(children):
    batches = training_batches(Split(Numbered(8), (4, 4)), steps=1000, batch_size=2, workers=1)
    next(batches)
    (worker,) = children()
    os.kill(worker.pid, signal.SIGKILL)
    worker.join()
    sum(math.sqrt(i) for i in range(100_000))  # the training step, which must not be interrupted
    with pytest.raises(DataError, match=r"^a data worker died while reading (nothing yet|image [0-7]): "):
        list(batches)


@pytest.mark.parametrize(("world", "accumulate"), [(1, 3), (2, 2), (3, 1)])
def test_a_batch_that_does_not_divide(world, accumulate):
    with pytest.raises(ValueError, match=r"^batch_size 10 is not divisible") as error:
        training_batches(Split(Numbered(8), (4, 4)), steps=1, batch_size=10, world=world, accumulate=accumulate)
    assert str(error.value) == (
        f"batch_size 10 is not divisible by {world} processes × {accumulate} micro-batches; "
        f"use a multiple of {world * accumulate}"
    )


def test_an_empty_split():
    with pytest.raises(DataError, match=r"^the training split is empty$"):
        training_batches(Split(Numbered(0), (4, 4)), steps=1, batch_size=2)


class Uneven:
    """Images of different sizes, the second without labels."""

    class_names = ("a", "b")
    colors = ((0, 0, 0), (1, 1, 1))
    in_channels = 3

    def __len__(self):
        return 5

    def __getitem__(self, key):
        size = (6 + key[0], 8)
        labels = None if key[0] == 1 else torch.full(size, key[0] % 2, dtype=torch.uint8)
        return Sample(torch.full((3, *size), 50, dtype=torch.uint8), labels, f"{key[0]}.png")


@pytest.mark.parametrize("workers", [0, 1])
def test_an_evaluation_sees_every_image_once_with_the_files_own_labels(workers):
    batches = list(evaluation_batches(Uneven(), (12, 16), batch_size=2, workers=workers))
    assert [tuple(batch.images.shape) for batch in batches] == [(2, 3, 12, 16), (2, 3, 12, 16), (1, 3, 12, 16)]
    assert [name for batch in batches for name in batch.names] == [f"{i}.png" for i in range(5)]
    labels = [one for batch in batches for one in batch.labels]
    assert [tuple(one.shape) for one in labels] == [(6 + i, 8) for i in range(5)]
    assert [one.unique().tolist() for one in labels] == [[0], [255], [0], [1], [0]]
    assert batches[0].images.dtype == torch.uint8


def test_batches_are_what_default_collate_gives():
    split = Split(Shapes("train", size=32), (32, 32), seed=1)
    batch = next(training_batches(split, steps=1, batch_size=3))
    expected = default_collate([tuple(split[tuple(key)][:4]) for key in batch.keys.tolist()])
    assert all(torch.equal(one, other) for one, other in zip(batch[:4], expected, strict=True))
    assert batch.teacher_images is None
