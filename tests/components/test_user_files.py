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
from kd.data.splits.split import Split
from kd.errors import RecipeError
from kd.recipe import Recipe, read_recipe
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
    assert name.count(".") == 4
    module = load(odd / "c d.py")
    assert module.value == 1
    assert module.__file__ == str(odd / "c d.py")  # what it reads beside itself is beside the original
    assert importlib.import_module(name) is load(odd / "../a.b%2E/c d.py") is module
    assert str(tmp_path) not in sys.path
    assert [path.name for path in odd.iterdir()] == ["c d.py"]  # no bytecode
    with pytest.raises(RecipeError, match=r"none\.py: no such file"):
        load(tmp_path / "none.py")
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("kd.nothing")


def test_code_runs_as_it_was_when_the_recipe_was_read(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("import part\n\ndef value():\n    return part.number\n")
    (tmp_path / "part.py").write_text("number = 1\n")
    (tmp_path / "r.yaml").write_text(ALONE.replace("kd.losses.CrossEntropy", "mine.py:value"))
    before = read_recipe(tmp_path / "r.yaml", trust=True)
    (tmp_path / "part.py").write_text("number = 2\n")
    after = read_recipe(tmp_path / "r.yaml", trust=True)
    file.unlink()
    (tmp_path / "part.py").unlink()
    values = [Maker(recipe).find(recipe.supervised.loss)() for recipe in (before, after, before)]
    assert values == [1, 2, 1]
    assert before.id != after.id


SIBLINGS = """\
from __future__ import annotations

import random  # Python's, although there is a random.py here
import lib.deep
import lib.deep as deep
import part as renamed, math
from lib import deep as also
from lib.deep import number
from . import part


def values():
    import part as late

    same = lib.deep is deep is also and renamed is part is late
    return same, number, part.doubled, random.random() < 1, math.pi > 3, late.__file__
"""


def test_a_folder_beside_a_file_is_a_package_without_more(tmp_path: Path) -> None:
    """As in Python; the folder's modules import each other, and those beside it."""
    (tmp_path / "parts/sub").mkdir(parents=True)
    (tmp_path / "mine.py").write_text(
        "import parts.head\nfrom parts import tail\nfrom parts.sub.deep import deep\n\n"
        "def values():\n    return parts.head.number, tail.number, deep, parts.head.__file__\n"
    )
    (tmp_path / "parts/head.py").write_text("from .tail import number\nimport part\nnumber = number + part.number\n")
    (tmp_path / "parts/tail.py").write_text("number = 1\n")
    (tmp_path / "parts/sub/deep.py").write_text("from ..tail import number\ndeep = 10 * number\n")
    (tmp_path / "part.py").write_text("number = 1\n")
    found = Maker(_naming(tmp_path, "mine.py:values")).find(Use(use="mine.py:values"))
    assert found() == (2, 1, 10, str(tmp_path / "parts/head.py"))
    assert str(tmp_path) not in sys.path


def _naming(folder: Path, use: str) -> Recipe:
    (folder / "r.yaml").write_text(ALONE.replace("kd.losses.CrossEntropy", use))
    return read_recipe(folder / "r.yaml", trust=True)


def test_a_file_imports_those_beside_it(tmp_path: Path) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / "mine.py").write_text(SIBLINGS)
    (tmp_path / "random.py").write_text("raise RuntimeError")
    (tmp_path / "part.py").write_text("from lib.deep import number\n\ndoubled = 2 * number\n")
    (tmp_path / "lib/__init__.py").write_text("")
    (tmp_path / "lib/deep.py").write_text("from .other import number\nimport part\n")
    (tmp_path / "lib/other.py").write_text("number = 3\n")
    module = load(tmp_path / "mine.py")
    assert module.values() == (True, 3, 6, True, True, str(tmp_path / "part.py"))
    assert not {"part", "lib"} & sys.modules.keys()
    assert module.__name__ == importable(tmp_path / "mine.py")


def test_two_folders_have_modules_of_the_same_name(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "part.py").write_text(f"name = {name!r}")
        (tmp_path / name / "mine.py").write_text("from part import name")
    assert [load(tmp_path / name / "mine.py").name for name in ("a", "b")] == ["a", "b"]
