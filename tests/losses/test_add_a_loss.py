"""docs/add-a-loss.md works as written: the files beside a recipe, and the steps that add a loss to the toolkit."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from kd.cli import main

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "add-a-loss.md").read_text(encoding="utf-8")
BLOCKS = dict(re.findall(r"^```\w+\n# (\S+)\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE))
COMMANDS = re.findall(r"^```bash\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
METHOD_PAGE = re.search(r"^````markdown\n(.*?)^````$", PAGE, re.DOTALL | re.MULTILINE)[1]
SHORT = ("train.steps=2", "train.epochs=null", "train.batch_size=2", "data.args.count=4")


def test_the_file_beside_a_recipe_is_a_loss() -> None:
    student, teacher = torch.randn(2, 2, 3, 4, 4)
    student.requires_grad_()
    teacher.requires_grad_()
    labels = torch.zeros(2, 4, 4, dtype=torch.long)
    labels[0, :, :2] = 255
    names: dict = {}
    exec(BLOCKS["l1.py"], names)
    loss = names["L1"]()
    assert loss.compares == "features"
    result = loss(student, teacher, labels)
    valid = (labels != 255)[:, None].expand_as(student)
    torch.testing.assert_close(result, (student - teacher).abs()[valid].mean())
    result.backward()
    assert teacher.grad is None
    assert not student.grad[~valid].any()
    torch.testing.assert_close(loss(student, teacher, None), (student - teacher).abs().mean())
    assert loss(student, teacher, torch.full_like(labels, 255)) == 0


def test_the_recipe_runs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("l1.py", "l1.yaml"):
        (folder / name).write_text(BLOCKS[name], encoding="utf-8")
    copy, rest = COMMANDS
    assert main(shlex.split(copy)[1:]) == 0
    teacher = folder / "shapes" / "teacher_deeplabv3plus.yaml"  # overrides do not reach it: it is another recipe
    text = re.sub(r"steps: \d+, batch_size: \d+", "steps: 2, batch_size: 2", teacher.read_text(encoding="utf-8"))
    teacher.write_text(text.replace("count: 2000", "count: 4"), encoding="utf-8")
    for line in rest.splitlines():
        assert main([*shlex.split(line)[1:], *SHORT]) == 0, line
    out = capsys.readouterr().out
    assert "l1.yaml: ok: " in out
    assert "distilled, seed 0" in out


def test_the_steps_add_a_loss_to_the_toolkit(tmp_path: Path) -> None:
    for name in ("kd", "teachers", "students", "tests", "docs"):
        ignored = shutil.ignore_patterns("__pycache__", "oracles", "*.png")
        shutil.copytree(ROOT / name, tmp_path / name, ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for name in ("kd/losses/feature/l1.py", "tests/losses/test_l1.py"):
        (tmp_path / name).write_text(BLOCKS[name], encoding="utf-8")
    (tmp_path / "docs/methods/l1.md").write_text(METHOD_PAGE, encoding="utf-8")
    index = tmp_path / "kd/losses/__init__.py"
    text = index.read_text(encoding="utf-8")
    text = text.replace("from kd.losses.feature.mgd", BLOCKS["kd/losses/__init__.py"] + "from kd.losses.feature.mgd")
    index.write_text(text.replace('    "MGD",\n', '    "L1",\n    "MGD",\n'), encoding="utf-8")
    files = ["tests/contracts/test_losses.py", "tests/losses/test_l1.py", "tests/losses/test_table.py"]
    pytest_command = ["-m", "pytest", "-q", "-n", "0", *files, "tests/test_methods.py", "-k", "l1 or index or table"]
    for command in (["docs/losses_table.py"], pytest_command):
        environment = os.environ | {"PYTHONPATH": str(tmp_path)}
        done = subprocess.run(
            [sys.executable, *command], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
    passed = int(re.search(r"(\d+) passed", done.stdout)[1])
    assert passed >= 25  # the contract, the test by hand, the page, its fragment, the index and the table
    assert "| [L1](methods/l1.md) | feature | Absolute difference" in (tmp_path / "docs/losses.md").read_text("utf-8")
