"""The contract of every dataset that `kd.data` exports; the test file of each has an `example` to build it."""

import inspect
import pickle
import runpy
from pathlib import Path

import numpy as np
import pytest
import torch

import kd.data
from kd.data.datasets.published import Published
from kd.data.loader import evaluation_batches, training_batches
from kd.data.splits.split import Split
from kd.data.splits.survey import survey
from kd.data.transforms.crop import Crop
from kd.errors import DataError
from kd.types import IGNORE, Sample, SegmentationDataset

ROOT = Path(__file__).resolve().parents[2]


def exported():
    components = [getattr(kd.data, name) for name in kd.data.__all__]
    return [component for component in components if "split" in inspect.signature(component).parameters]


def module(dataset):
    return dataset.__module__.rpartition(".")[2]


MODULES = {dataset.__name__: module(dataset) for dataset in exported()}
every_dataset = pytest.mark.parametrize("dataset", exported(), ids=lambda dataset: dataset.__name__)


def example(dataset, folder):
    """The arguments that read the files which the `example` in a dataset's test file writes."""
    return runpy.run_path(str(ROOT / f"tests/data/datasets/test_{module(dataset)}.py"))["example"](folder)


@pytest.fixture(params=exported(), ids=lambda dataset: dataset.__name__)
def made(request, tmp_path):
    """The splits of a dataset, from the files of its example; some have no "test"."""
    args = example(request.param, tmp_path)
    splits = {split: request.param(**args, split=split) for split in ("train", "val")}
    try:
        return splits | {"test": request.param(**args, split="test")}
    except DataError as error:
        if "no public test labels" not in str(error):
            raise
        return splits


def test_names_colours_and_channels(made):
    for data in made.values():
        assert len(data) > 0
        assert isinstance(data.class_names, tuple)
        assert all(isinstance(name, str) for name in data.class_names)
        assert len(set(data.class_names)) == len(data.class_names) == len(data.colors) >= 2
        assert all(len(color) == 3 and all(type(v) is int and 0 <= v <= 255 for v in color) for color in data.colors)
        assert data.in_channels in (1, 3)
        assert data.class_names == made["train"].class_names


def test_the_page_of_a_published_dataset_has_every_class(made):
    if isinstance(made["train"], Published):
        page = (ROOT / f"docs/data/{MODULES[made['train'].__name__]}.md").read_text(encoding="utf-8")
        assert [name for name in made["train"].class_names if name not in " ".join(page.split())] == []


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
    first, again = data[1, 0], data[1, 0]
    assert torch.equal(first.image, again.image)
    assert torch.equal(first.labels, again.labels)
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == np.random.get_state()[1].tolist()  # noqa: NPY002


def test_a_copy_in_another_process_would_be_the_same(made):
    data = made["train"]
    copy = pickle.loads(pickle.dumps(data))
    assert len(copy) == len(data)
    assert torch.equal(copy[2, 0].image, data[2, 0].image)


def test_training_evaluation_and_survey_take_it(made):
    batch = next(training_batches(Split(made["train"], (16, 24), crop=Crop((12, 12))), steps=1, batch_size=2))
    assert batch.images.shape == (2, made["train"].in_channels, 12, 12)
    assert batch.labels.dtype == torch.uint8
    count = sum(len(batch.names) for batch in evaluation_batches(made["val"], (16, 24), batch_size=64))
    assert count == len(made["val"])
    labels = survey(made["train"])
    assert sum(labels.counts) == round(labels.pixels * (1 - labels.ignored))


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def replaced_by_a_folder(path):
    path.unlink()
    path.mkdir()


def linked_out_of_the_root(path):
    beside_root = next(folder.parent for folder in path.parents if folder.name == "root")
    outside = path.rename(beside_root / f"outside{path.suffix}")
    path.symlink_to(outside)


HARMS = (
    cut,
    lambda path: path.write_bytes(b""),
    lambda path: path.write_text("<html>not found</html>"),
    Path.unlink,
    replaced_by_a_folder,
    linked_out_of_the_root,
)


@every_dataset
def test_a_harmed_file_is_one_line_that_names_it(dataset, tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    args = example(dataset, root)
    if not hasattr(dataset(**args, split="train"), "files"):
        pytest.skip("it lists no files")
    files = dataset(**args, split="train").files(1)[:2]
    for path in files:
        content = path.read_bytes()
        for harm in HARMS:
            harm(path)
            with pytest.raises(DataError) as error:
                dataset(**args, split="train")[1, 0]
            assert any(file.stem in str(error.value) for file in files), harm
            assert "\n" not in str(error.value)
            if path.is_dir():
                path.rmdir()
            path.unlink(missing_ok=True)
            path.write_bytes(content)
        assert dataset(**args, split="train")[1, 0].image.shape[0] in (1, 3)


@every_dataset
def test_the_docstring_has_every_argument(dataset):
    text = inspect.getdoc(dataset)
    assert "Args:" in text
    assert "Raises:" in text
    for name in inspect.signature(dataset).parameters:
        assert f"{name}: " in text, name


@every_dataset
def test_its_page_has_every_argument_and_class(dataset):
    page = (ROOT / f"docs/data/{module(dataset)}.md").read_text(encoding="utf-8")
    assert f"`kd.data.{dataset.__name__}`" in page
    for name in inspect.signature(dataset).parameters.keys() - {"split"}:
        assert f"| `{name}` | " in page, name
    for name in getattr(dataset, "class_names", ()):
        assert name in page
    assert "Source" in page or "license" in page
