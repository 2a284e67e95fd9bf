import pytest
import torch
from samples import Fixed, sample

from kd.data import RandomFlip, RandomScale, Shapes, kept
from kd.data.kept import keep, kept_bytes
from kd.data.loader import training_batches
from kd.data.split import Split

AUGMENT = (RandomScale(0.5, 2), RandomFlip())


def split_of(dataset, held):
    return Split(dataset, (40, 48), crop=(32, 32), augment=AUGMENT, kept=held)


@pytest.mark.parametrize("workers", [0, 2])
def test_held_images_give_the_same_batches(workers):
    dataset = Shapes("train", count=6)
    held = keep(dataset, (40, 48))
    batches = [
        list(training_batches(split_of(dataset, kept), steps=6, batch_size=3, workers=workers)) for kept in (None, held)
    ]
    for plain, from_memory in zip(*batches, strict=True):
        assert all(torch.equal(part, other) for part, other in zip(plain, from_memory, strict=True))
    assert all(held.get(index) is not None for index in range(6))  # workers have filled the memory of this process


def test_an_image_is_decoded_once(monkeypatch):
    reads = []
    ordinary = Shapes.__getitem__
    monkeypatch.setattr(Shapes, "__getitem__", lambda self, key: reads.append(key[0]) or ordinary(self, key))
    split = split_of(Shapes("train", count=4), keep(Shapes("train", count=4), (40, 48)))
    for view in range(3):
        for index in range(4):
            split[index, view]
    assert sorted(reads) == [0, 1, 2, 3]


def test_a_transform_that_writes_in_place_does_not_reach_what_is_held():
    def paint(image, mask):
        image.fill_(9)
        mask.fill_(0)
        return image, mask

    dataset = Shapes("train", count=1)
    held = keep(dataset, (40, 48))
    split = Split(dataset, (40, 48), augment=(paint,), kept=held)
    plain = Split(dataset, (40, 48))[0, 0].image
    for view in range(2):
        assert (split[0, view].image == 9).all()
        assert torch.equal(held.get(0)[0], plain)


def test_a_users_dataset_is_read_every_time():
    assert keep(Fixed(sample([[0, 1]])), (32, 32)) is None


@pytest.mark.parametrize(("free", "fits"), [(2.0, True), (1.9, False)])
def test_at_most_half_of_the_free_memory_is_used(monkeypatch, free, fits):
    dataset = Shapes("train", count=5)
    assert kept_bytes(dataset, (40, 48)) == 5 * (4 * 40 * 48 + 1)
    monkeypatch.setattr(kept, "free_shared", lambda: int(free * kept_bytes(dataset, (40, 48))))
    assert (keep(dataset, (40, 48)) is not None) == fits


def test_memory_that_the_system_does_not_give_is_done_without(monkeypatch):
    def full(*shape):
        raise RuntimeError("unable to allocate shared memory(shm) for file </torch_1>: No space left on device (28)")

    monkeypatch.setattr(kept, "_shared", full)
    assert keep(Shapes("train", count=2), (40, 48)) is None
