"""A recipe of the smallest networks, in the current folder."""

from pathlib import Path

import pytest
from tiny import write_recipes


@pytest.fixture
def recipe(folder: Path) -> Path:
    return write_recipes(folder)
