"""A user's file as a module, under a name that every process can import."""

import importlib
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from recipe_text import ALONE

from kd.components import Maker
from kd.components.user_files import importable, load
from kd.data.loader import training_batches
from kd.data.split import Split
from kd.recipe import read_recipe
from kd.recipe.schema import Use

ROOT = Path(__file__).parents[2]
DATASET = """\
import os
from typing import NamedTuple

import torch

from kd.types import Sample


class Ramp:
    class_names, colors, in_channels = ("a", "b"), ((0, 0, 0), (255, 255, 255)), 3

    def __init__(self, n: int, *, split: str) -> None:
        self.n, self.main = n, os.getpid()

    def __len__(self):
        return self.n

    def __getitem__(self, key):
        assert os.getpid() != self.main  # read in a worker
        return Sample(torch.full((3, 32, 32), key[0], dtype=torch.uint8), torch.ones(32, 32, dtype=torch.uint8), "x")


class Plus:
    def __call__(self, image, mask):
        return type(image)(image + 100), mask
"""


@pytest.mark.parametrize("context", ["spawn", "forkserver"])
def test_a_dataset_of_a_users_file_is_read_in_workers(tmp_path: Path, context: str) -> None:
    folder = tmp_path / "a folder.of 100%"
    folder.mkdir()
    (folder / "my-data.py").write_text(DATASET)
    dataset = maker_in(folder).build(Use(use="my-data.py:Ramp", args={"n": 6}), split="train")
    plus = maker_in(folder).build(Use(use="my-data.py:Plus"))
    split = Split(dataset, (32, 32), augment=(plus,))
    batches = list(training_batches(split, steps=2, batch_size=3, workers=1, context=context))
    seen = sorted(int(value) for batch in batches for value in batch.images[:, 0, 0, 0])
    assert seen == [100, 101, 102, 103, 104, 105]  # one epoch, each image once


def maker_in(folder: Path) -> Maker:
    """Bound to a recipe in a folder."""
    (folder / "recipe.yaml").write_text(ALONE)
    return Maker(read_recipe(folder / "recipe.yaml", trust=True))


def test_an_object_of_a_users_file_unpickles_in_a_fresh_process(tmp_path: Path) -> None:
    (tmp_path / "small.py").write_text("class Small:\n    def __init__(self, size):\n        self.size = size\n")
    pickled = pickle.dumps(maker_in(tmp_path).build(Use(use="small.py:Small", args={"size": 7})))
    code = f"import pickle; print(pickle.loads({pickled!r}).size)"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd="/", env=environment, capture_output=True, text=True, check=False)
    assert done.stdout == "7\n", done.stderr


def test_the_name_of_a_file_as_a_module(tmp_path: Path) -> None:
    odd = tmp_path / "a.b%2E"
    odd.mkdir()
    (odd / "c d.py").write_text("value = 1")
    name = importable(odd / "c d.py")
    assert name.startswith("kd.components.user_files.")
    assert name.count(".") == 3
    assert load(odd / "c d.py").value == 1
    assert importlib.import_module(name) is load(odd / "../a.b%2E/c d.py")
    assert str(tmp_path) not in sys.path
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "none.py")
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("kd.nothing")
