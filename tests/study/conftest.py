"""Small studies: of recipes that only have to be read, and of recipes that train in a second."""

from pathlib import Path

import pytest
from recipe_text import ALONE, WITH_TEACHER
from tiny import write_recipes

STUDY = """\
base: student.yaml
seeds: [0, 1]
variants:
  both: {}
  kl: {distill.hint: null}
"""


@pytest.fixture
def readable(folder: Path) -> Path:
    """`r.yaml`, which `sub/t.yaml` teaches."""
    (folder / "sub").mkdir()
    (folder / "r.yaml").write_text(WITH_TEACHER)
    (folder / "sub" / "t.yaml").write_text(ALONE.replace("batch_size: 4", "batch_size: 8"))
    return folder


@pytest.fixture
def trainable(folder: Path) -> Path:
    """`s.yaml`: two variants of `student.yaml`, two seeds each."""
    write_recipes(folder)
    (folder / "s.yaml").write_text(STUDY)
    return folder / "s.yaml"


@pytest.fixture
def twelve(trainable: Path) -> Path:
    """`s.yaml`: three variants and their baseline, three seeds each, and one teacher."""
    trainable.write_text(STUDY.replace("[0, 1]", "[0, 1, 2]") + "  hint: {distill.kl: null}\n")
    return trainable
