from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from samples import Fixed, sample

from kd.data import Folders, HuggingFace, RandomFlip, RandomScale, Shapes
from kd.data.dataset import FirstImages
from kd.data.datasets import huggingface
from kd.data.images import kept
from kd.data.images.kept import keep, kept_bytes
from kd.data.loader import training_batches
from kd.data.splits.split import Split
from kd.data.splits.unlabelled import Joined, OtherImages
from kd.data.transforms.crop import Crop

AUGMENT = (RandomScale(0.5, 2), RandomFlip())


def split_of(dataset, held):
    return Split(dataset, (40, 48), crop=Crop((32, 32)), augment=AUGMENT, kept=held, teacher_size=(40, 40))


@pytest.mark.parametrize("workers", [0, 2])
def test_held_images_give_the_same_batches(workers):
    dataset = Shapes("train", count=6)
    held = keep(dataset)
    batches = [
        list(training_batches(split_of(dataset, kept), steps=6, batch_size=3, workers=workers)) for kept in (None, held)
    ]
    for plain, from_memory in zip(*batches, strict=True):
        assert all(torch.equal(part, other) for part, other in zip(plain, from_memory, strict=True))
    assert all(held.get(index) is not None for index in range(6))  # workers have filled the memory of this process


def test_an_image_is_decoded_once(monkeypatch):
    held = keep(Shapes("train", count=4))
    reads = []
    ordinary = Shapes.__getitem__
    monkeypatch.setattr(Shapes, "__getitem__", lambda self, key: reads.append(key[0]) or ordinary(self, key))
    split = split_of(Shapes("train", count=4), held)
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
    held = keep(dataset)
    split = Split(dataset, (40, 48), augment=(paint,), kept=held)
    plain = dataset[0, 0].image
    for view in range(2):
        assert (split[0, view].image == 9).all()
        assert torch.equal(held.get(0)[0], plain)


def test_a_users_dataset_is_read_every_time():
    assert keep(Fixed(sample([[0, 1]]))) is None


@pytest.mark.parametrize(("free", "fits"), [(2.0, True), (1.9, False)])
def test_at_most_half_of_the_free_memory_is_used(monkeypatch, free, fits):
    dataset = Shapes("train", count=5, size=40)
    needed = kept_bytes(3, [(40, 40)] * 5)
    assert needed == 5 * (4 * 40 * 40 + 1)
    monkeypatch.setattr(kept, "free_shared", lambda: int(free * needed))
    lines = []
    assert (keep(dataset, lines.append) is not None) == fits
    assert lines == [
        "  data.decoded: 32 kB of decoded images held in memory"
        if fits
        else "  data.decoded: not held: 32 kB are more than half of the 60.8 kB that are free"
    ]


@pytest.mark.parametrize("parts", [1, 2])
def test_sizes_are_read_until_it_is_clear_that_the_images_do_not_fit(monkeypatch, parts):
    dataset = Shapes("train", count=1000, size=40)
    whole = Joined(dataset, dataset) if parts == 2 else dataset
    monkeypatch.setattr(kept, "free_shared", lambda: int(6 * kept_bytes(3, [(40, 40)])))
    read, lines = [], []
    monkeypatch.setattr(Shapes, "image_size", lambda self, index: read.append(index) or (40, 40))
    assert keep(whole, lines.append) is None
    assert read == [0, 1, 2, 3]
    total = ["6.4 MB", "12.8 MB"][parts - 1]
    assert lines == [f"  data.decoded: not held: about {total} are more than half of the 38.4 kB that are free"]


@pytest.mark.parametrize(("free", "fits"), [(8.0, True), (7.9, False)])
def test_the_copies_of_all_processes_fit_together(monkeypatch, free, fits):
    dataset = Shapes("train", count=5, size=40)
    monkeypatch.setattr(kept, "free_shared", lambda: int(free * kept_bytes(3, [(40, 40)] * 5)))
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    monkeypatch.setenv("KD_JOBS", "2")
    lines = []
    assert (keep(dataset, lines.append) is not None) == fits
    assert lines == [
        "  data.decoded: 32 kB of decoded images held in memory in each of 4 processes"
        if fits
        else "  data.decoded: not held: 32 kB in each of 4 processes are more than half of the 253 kB that are free"
    ]


def test_memory_that_the_system_does_not_give_is_done_without(monkeypatch):
    def full(*shape):
        raise RuntimeError("unable to allocate shared memory(shm) for file </torch_1>: No space left on device (28)")

    monkeypatch.setattr(kept, "_shared", full)
    lines = []
    assert keep(Shapes("train", count=2, size=40), lines.append) is None
    assert lines == ["  data.decoded: not held: the system does not give 12.8 kB of memory"]


SEVERAL = [(40, 30), (30, 50), (36, 36)]  # sizes of three images


def assert_held_as_in_their_files(dataset):
    held = keep(dataset)
    split = split_of(dataset, held)
    for index, size in enumerate(SEVERAL):
        split[index, 0]
        image, labels = held.get(index)
        assert tuple(labels.shape) == size
        assert torch.equal(image, dataset[index, 0].image)
        assert torch.equal(labels, dataset[index, 0].labels)


def test_images_of_several_sizes_are_held_as_in_their_files(tmp_path):
    for number, size in enumerate(SEVERAL):
        write_pair(tmp_path / "train", number, size)
    dataset = Folders(str(tmp_path), "train", classes=["a", "b"], images="{split}/images", masks="{split}/masks")
    assert_held_as_in_their_files(dataset)


def test_images_in_cells_are_held_each_at_its_own_size(tmp_path, monkeypatch):
    for number, size in enumerate(SEVERAL):
        write_pair(tmp_path, number, size)
    columns = {"image": "images", "label": "masks"}
    rows = [
        {column: {"bytes": (tmp_path / folder / f"{number}.png").read_bytes()} for column, folder in columns.items()}
        for number in range(len(SEVERAL))
    ]
    monkeypatch.setattr(huggingface, "_saved", lambda root: {"train": SimpleNamespace(cache_files=[])})
    monkeypatch.setattr(huggingface, "_undecoded", lambda *arguments: rows)
    dataset = HuggingFace(str(tmp_path), "train", classes=["a", "b"])
    assert_held_as_in_their_files(dataset)
    assert keep(OtherImages(dataset, {"val": FirstImages(dataset, 1)}))._sizes == SEVERAL[1:]


def test_images_of_unknown_sizes_are_not_held(monkeypatch):
    monkeypatch.setattr(Fixed, "__module__", "kd.data.fixed")
    lines = []
    assert keep(Fixed(sample([[0, 1]])), lines.append) is None
    assert lines == []


def test_a_file_that_changed_its_size_is_read_every_time(tmp_path):
    write_pair(tmp_path / "train", 0, (40, 30))
    dataset = Folders(str(tmp_path), "train", classes=["a", "b"], images="{split}/images", masks="{split}/masks")
    held = keep(dataset)
    write_pair(tmp_path / "train", 0, (30, 50))
    assert split_of(dataset, held)[0, 0].image.shape == (3, 32, 32)
    assert held.get(0) is None


def test_a_damaged_file_is_reported_by_the_one_who_reads_it(tmp_path):
    write_pair(tmp_path / "train", 0, (40, 30))
    dataset = Folders(str(tmp_path), "train", classes=["a", "b"], images="{split}/images", masks="{split}/masks")
    (tmp_path / "train/images/0.png").write_bytes(b"no image")
    assert keep(dataset) is None


def write_pair(root, number, size):
    random = np.random.default_rng(number)
    for folder, shape, most in (("images", (*size, 3), 256), ("masks", size, 2)):
        (root / folder).mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, most, shape, dtype=np.uint8)).save(root / folder / f"{number}.png")
