"""What every dataset that `kd.data` exports must keep; a new one needs a line in `EXAMPLES` or the first test fails."""

import inspect
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import kd.data
from kd.data import CamVid, Folders, Shapes
from kd.data.loader import evaluation_batches, training_batches
from kd.data.split import Split
from kd.data.survey import survey
from kd.types import IGNORE, Sample, SegmentationDataset

SPLITS = ("train", "val", "test")


def shapes(root: Path):
    return {"count": 9, "size": 32}


def camvid(root: Path):
    for split in SPLITS:
        write(root / split, root / f"{split}annot", np.arange(12))
    return {"root": str(root)}


def folders(root: Path):
    write(root / "images", root / "masks", np.array([0, 1, 2, 255]))
    return {"root": str(root), "classes": ["a", "b", "c"], "val": 0.25, "test": 0.25}


EXAMPLES = {Shapes: shapes, CamVid: camvid, Folders: folders}


def write(images: Path, masks: Path, values) -> None:
    images.mkdir(parents=True)
    masks.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i in range(8):
        Image.fromarray(rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)).save(images / f"{i}.png")
        Image.fromarray(rng.choice(values, (20, 30)).astype(np.uint8)).save(masks / f"{i}.png")


def exported():
    found = [getattr(kd.data, name) for name in kd.data.__all__]
    return [one for one in found if "split" in inspect.signature(one).parameters]


def test_every_exported_dataset_has_an_example():
    assert set(exported()) == set(EXAMPLES)


@pytest.fixture(params=EXAMPLES, ids=lambda dataset: dataset.__name__)
def made(request, tmp_path):
    args = EXAMPLES[request.param](tmp_path)
    return {split: request.param(**args, split=split) for split in SPLITS}


def test_names_colours_and_channels(made):
    for data in made.values():
        assert len(data) > 0
        assert isinstance(data.class_names, tuple)
        assert all(isinstance(name, str) for name in data.class_names)
        assert len(set(data.class_names)) == len(data.class_names) == len(data.colors) >= 2
        assert all(len(color) == 3 and all(type(v) is int and 0 <= v <= 255 for v in color) for color in data.colors)
        assert data.in_channels in (1, 3)
        assert data.class_names == made["train"].class_names


def test_samples(made):
    for data in made.values():
        for index in range(min(len(data), 4)):
            sample = data[index, 0]
            assert isinstance(sample, Sample)
            assert sample.image.dtype == torch.uint8
            assert sample.image.shape[0] == data.in_channels
            assert sample.labels.dtype == torch.uint8
            assert sample.labels.shape == sample.image.shape[1:]
            assert set(sample.labels.unique().tolist()) <= {*range(len(data.class_names)), IGNORE}
            assert sample.image.is_contiguous()
            assert sample.labels.is_contiguous()
            assert sample.name


def test_splits_share_no_image(made):
    names = [data[i, 0].name for data in made.values() for i in range(len(data))]
    assert len(set(names)) == len(names)


def test_reading_is_repeatable_and_draws_from_no_global_generator(made):
    data: SegmentationDataset = made["train"]
    np.random.seed(3)  # noqa: NPY002
    torch.manual_seed(3)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()  # noqa: NPY002
    one, again = data[1, 0], data[1, 0]
    assert torch.equal(one.image, again.image)
    assert torch.equal(one.labels, again.labels)
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == np.random.get_state()[1].tolist()  # noqa: NPY002


def test_a_copy_in_another_process_would_be_the_same(made):
    data = made["train"]
    copy = pickle.loads(pickle.dumps(data))
    assert len(copy) == len(data)
    assert torch.equal(copy[2, 0].image, data[2, 0].image)


def test_training_evaluation_and_survey_take_it(made):
    batch = next(training_batches(Split(made["train"], (16, 24), crop=(12, 12)), steps=1, batch_size=2))
    assert batch.images.shape == (2, made["train"].in_channels, 12, 12)
    assert batch.labels.dtype == torch.int64
    count = sum(len(batch.names) for batch in evaluation_batches(made["val"], (16, 24), batch_size=64))
    assert count == len(made["val"])
    seen = survey(made["train"])
    assert sum(seen.counts) == round(seen.pixels * (1 - seen.ignored))


def test_every_dataset_documents_itself():
    for dataset in exported():
        text = inspect.getdoc(dataset)
        assert "Args:" in text
        assert "Raises:" in text
        for name in inspect.signature(dataset).parameters:
            assert f"{name}: " in text, f"{dataset.__name__} does not document '{name}'"
