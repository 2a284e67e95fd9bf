"""What every test gets: checked shapes, one thread, fixed seeds, one environment, and the real data if there is."""

import os
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings
from shape_checks import check_shapes

check_shapes("kd.losses", "kd.adapters", "kd.types", "kd.networks.taps", "kd.metrics")  # before they are imported
torch.set_num_threads(1)
# The same examples in each run, however slow the machine is.
settings.register_profile("same", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("same")

# What a user's shell, a git hook or a batch system sets changes neither what is printed nor what is computed.
OF_THE_TERMINAL = ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE")
OF_RUNS = ("KD_TRUST", "KD_JOBS", "RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "TORCHELASTIC_RUN_ID")
for name in [*OF_THE_TERMINAL, *OF_RUNS, *(name for name in os.environ if name.startswith("GIT_"))]:
    os.environ.pop(name, None)
os.environ |= {"TERM": "xterm", "OMP_NUM_THREADS": "1"}  # of the processes that tests start, too


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
