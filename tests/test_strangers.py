"""A command in a stranger's folder runs nothing of the folder, however its files are called."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kd.study import on_ray
from kd.study.local import itself

ROOT = Path(__file__).resolve().parents[1]
COMMAND = [str(Path(sys.executable).with_name("kd"))]
MODULE = [sys.executable, "-m", "kd"]
PACKAGES = ("kd", "teachers", "students", "PIL", "safetensors")
MODULES = ("yaml", "torch", "torchvision", "numpy", "pydantic", "rich", "filelock", "usercustomize", "sitecustomize")
STANDARD = ("argparse", "multiprocessing", "resource", "statistics", "tempfile", "typing", "zipfile")
RECIPE = """
student: {use: students.MobileNetV3SmallASPPLite, args: {width: 0.25}}
data:
  use: kd.data.Folders
  args: {root: data, classes: [a, b], val: 50%}
  size: [64, 64]
  workers: 0
supervised: {use: kd.losses.CrossEntropy}
optimizer: {use: torch.optim.SGD, args: {lr: 0.01}}
train: {steps: 1, batch_size: 2}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of which every file leaves a marker when it runs."""
    folder = tmp_path / "folder"
    leave = f"open({str(tmp_path / 'marker')!r}, 'a').write(__name__ + '\\n')\n"
    for name in (*MODULES, *STANDARD, "conftest", "setup", "nets", "kd_plugin"):
        _write(folder / f"{name}.py", leave)
    for name in PACKAGES:
        _write(folder / name / "__init__.py", leave)
        _write(folder / name / "__main__.py", leave)
    _write(folder / "evil.pth", f"import os; {leave}")
    _write(folder / "pyproject.toml", '[project.entry-points."kd"]\nevil = "nets:main"\n')
    _write(folder / ".env", "PYTHONPATH=.\nKD_TRUST=1\n")
    _write(folder / "matplotlibrc", "backend: module://nets\n")
    _write(folder / "r.yaml", RECIPE)
    rng = np.random.default_rng(0)
    for index in range(4):
        for kind, pixels in (("images", rng.integers(0, 255, (64, 64, 3))), ("masks", rng.integers(0, 2, (64, 64)))):
            path = folder / "data" / kind / f"{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.astype(np.uint8)).save(path)
    return folder


def _write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def call(folder: Path, *arguments: str, command: Sequence[str] = COMMAND, **environment: str) -> str:
    """What a command that succeeds prints; nothing of the folder has run."""
    settings = {name: value for name, value in os.environ.items() if name not in ("PYTHONSAFEPATH", "KD_TRUST")}
    settings |= {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | environment
    run = subprocess.run([*command, *arguments], cwd=folder, env=settings, capture_output=True, text=True)
    marker = folder.parent / "marker"
    assert not marker.exists(), f"{' '.join(arguments)}: ran {marker.read_text()}"
    assert run.returncode == 0, run.stderr
    return run.stdout


def test_nothing_of_a_strangers_folder_runs(folder: Path) -> None:
    assert "val mIoU" in call(folder, "run", "r.yaml", "log.tensorboard=false")
    (run_dir,) = (folder / "runs").glob("*/seed0")
    assert "finished" in call(folder, "list")
    assert "1 network on the same 2 val images" in call(folder, "compare", str(run_dir), "--no-page")


@pytest.mark.slow
def test_nothing_runs_by_other_commands(folder: Path) -> None:
    trained = call(folder, "run", "r.yaml", "data.workers=2")
    (run_dir,) = (folder / "runs").glob("*/seed0")
    assert "val mIoU" in trained
    assert "report:" in call(folder, "compare", str(run_dir), "--html", "page.html")
    assert "ok: students" in call(folder, "check", "r.yaml")
    assert "no difference" in call(folder, "diff", "r.yaml", "r.yaml")
    call(folder, "inspect", "r.yaml")


@pytest.mark.parametrize("command", [COMMAND, MODULE], ids=["kd", "python -m kd"])
def test_no_installed_package_is_replaced(folder: Path, command: Sequence[str]) -> None:
    """`python -m kd` finds a `kd` and Python's own modules in the current folder before kd's first line runs."""
    for path in [folder / f"{name}.py" for name in STANDARD] + list((folder / "kd").iterdir()):
        path.unlink()
    (folder / "kd").rmdir()
    assert "no difference" in call(folder, "diff", "r.yaml", "r.yaml", command=command)


def test_what_kd_starts_of_itself_looks_in_no_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job of Slurm and a task of Ray begin in the study's folder, without what protects the command's children."""
    assert call(folder, command=itself(["--version"])).startswith("kd ")
    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
    assert on_ray.train(["--version"], str(folder), {"PYTHONPATH": str(ROOT)}) == (0, "")
    assert not (folder.parent / "marker").exists()


def test_what_pythonpath_names_stays_on_the_import_path(tmp_path: Path) -> None:
    """A user's own packages are imported from the current folder if PYTHONPATH names it."""
    show = "import sys, kd.__main__ as m; print(any(p == sys.argv[1] for p in m._without_current_folder(sys.path)))"
    for named, kept in ((f"{ROOT}{os.pathsep}{tmp_path}", "True"), (f"{ROOT}{os.pathsep}", "False")):
        shown = call(tmp_path, show, str(tmp_path), command=[sys.executable, "-c"], PYTHONPATH=named)
        assert shown == f"{kept}\n"


def test_no_child_process_looks_in_the_folder(folder: Path) -> None:
    """A spawned process starts as `python -c`, which would look there first."""
    spawn = "multiprocessing.get_context('spawn').Process(target=print, args=('spawned',), daemon=True)"
    code = (
        "import sys; sys.path.pop(0); import multiprocessing, contextlib; from kd.__main__ import main\n"
        f"with contextlib.suppress(SystemExit): main()\nchild = {spawn}; child.start(); child.join()"
    )
    assert "spawned" in call(folder, code, "--version", command=[sys.executable, "-c"])
