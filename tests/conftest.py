"""What every test gets: checked shapes, one thread, fixed seeds, and the real data where it is available."""

from pathlib import Path

import pytest
import torch
from shape_checks import check_shapes

check_shapes("kd.losses", "kd.adapters", "kd.types", "kd.networks.taps", "kd.metrics")  # before they are imported
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder, so that messages name files without a path."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real images and weights next to the checkout; without it, tests that need it are skipped."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no real data: {folder} does not exist")
    return folder
