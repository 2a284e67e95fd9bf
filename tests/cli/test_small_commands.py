"""Commands that train nothing start fast: they import neither torch nor matplotlib."""

from pathlib import Path

import numpy as np
import pytest
from command import check_small

from kd.files.storage import write_json
from kd.runs import Result, SplitResult, write_result

NAME = "shapes/mobilenetv3_kl_cwd.yaml"
CALLS = (
    "--help", "--version", "run --help", "list", "clean", "clean --yes", "schema", "components", "components losses",
    "copy", f"copy {NAME}", f"check --imports {NAME}", "diff runs/a-01234567/seed0 runs/b-01234567/seed0",
    f"diff {NAME} shapes/teacher_deeplabv3plus.yaml", "compare runs/a-01234567/seed0 --no-page",
    f"compare {NAME} --no-page", f"compare {NAME} --json", f"compare {NAME} --markdown",
    "schema evaluate", "list --json",
)  # fmt: skip


@pytest.fixture
def runs(folder: Path) -> None:
    """Two finished runs."""
    for name in ("a", "b"):
        run_dir = folder / "runs" / f"{name}-01234567" / "seed0"
        split = SplitResult(np.eye(2, dtype=np.int64), ["sky", "road"], 2)
        result = Result(
            "01234567", name, 0, "baseline", "students.S", None, None, "last", {"val": split}, 5, 1.5, 2.5, 9, {}
        )
        write_json(run_dir / "environment.json", {"command": f"kd run {name}.yaml", "in_channels": 3})
        (run_dir / "recipe.yaml").write_text(
            "student: {use: students.MobileNetV3SmallASPP}\n"
            "data: {use: kd.data.Shapes, size: [64, 64]}\n"
            "supervised: {use: kd.losses.CrossEntropy}\n"
            "optimizer: {use: torch.optim.SGD, args: {lr: 0.1}}\n"
            f"train: {{steps: {len(name) + 1}, batch_size: 2}}\n"
        )
        write_result(run_dir, result)


@pytest.mark.parametrize("call", CALLS)
def test_a_small_command_imports_no_torch_and_takes_little_time(runs: None, call: str) -> None:
    missing_run = call.startswith(f"compare {NAME}")  # nothing has been trained
    check_small(call, exit_status=2 if missing_run else 0)
