"""`kd clean`."""

import os
from pathlib import Path

import numpy as np
import pytest
from private import make_private

from kd.cli import main
from kd.diagnose.clean import removals
from kd.runs import Result, SplitResult, locked, write_result

RESULT = Result(
    "01234567", "r", 0, "baseline", "students.S", None, None, "last",
    {"val": SplitResult(np.eye(2, dtype=np.int64), ["sky", "road"], 2)}, 5, 1.5, 2.5, 9, {},
)  # fmt: skip
CHECKPOINTS = ("step-5-0123abcd.pt", "step-9-4567cdef.pt")


def write(run_dir: Path, *, finished: bool = True, train: str = "{steps: 9}") -> Path:
    """A run directory with two checkpoints of 1,000 bytes."""
    (run_dir / "checkpoints").mkdir(parents=True)
    for name in CHECKPOINTS:
        (run_dir / "checkpoints" / name).write_bytes(bytes(1000))
    (run_dir / "checkpoints/index.jsonl").write_text("")
    (run_dir / "recipe.yaml").write_text(f"train: {train}\n")
    (run_dir / "metrics.jsonl").write_text("")
    if finished:
        (run_dir / "student.safetensors").write_bytes(b"weights")
        write_result(run_dir, RESULT)
    return run_dir


def left(run_dir: Path, name: str, *, hours: float) -> Path:
    """A temporary file, last written some hours ago."""
    file = run_dir / name
    file.write_bytes(bytes(500))
    when = file.stat().st_mtime - 3600 * hours
    os.utime(file, (when, when))
    return file


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_files_are_listed_and_removed_only_with_yes(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    finished = write(Path("runs/a-01234567/seed0"))
    aside = write(Path("runs/a-01234567/seed0-before-20250102-030405"), finished=False)
    unfinished = write(Path("runs/b-01234567/seed0"), finished=False)
    stale = left(unfinished / "checkpoints", ".tmp-x", hours=2)
    before = files(Path())
    assert main(["clean"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "size       what                                          why",
        "2 kB       runs/a-01234567/seed0/checkpoints             checkpoints of a finished run",
        "2.02 kB    runs/a-01234567/seed0-before-20250102-030405  moved aside by --fresh, without a result",
        "500 bytes  runs/b-01234567/seed0/checkpoints/.tmp-x      left by a killed process",
        "4.52 kB in all; kd clean runs --yes frees it",
    ]
    assert files(Path()) == before
    assert main(["clean", "runs", "--yes"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "freed 4.52 kB"
    assert not aside.exists()
    assert not stale.exists()
    assert {path.name for path in finished.iterdir()} == {
        "recipe.yaml", "metrics.jsonl", "result.json", "manifest.json", "student.safetensors", ".lock",
    }  # fmt: skip
    assert {path.name for path in (unfinished / "checkpoints").iterdir()} == {*CHECKPOINTS, "index.jsonl"}
    assert main(["clean", "--yes"]) == 0
    assert capsys.readouterr().out == "runs: nothing to free\n"


def test_a_run_of_another_user_is_left_out_with_a_line(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write(Path("runs/a-01234567/seed0"))
    private = write(Path("runs/a-01234567/seed0-before-20250102-030405"))
    make_private(monkeypatch, private)
    assert main(["clean", "--yes"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0] == f"{private}: cannot be read (Permission denied); it is left out"
    assert out[-1] == "freed 2 kB"
    monkeypatch.undo()
    monkeypatch.chdir(folder)
    assert (private / "checkpoints" / CHECKPOINTS[0]).exists()


def test_a_run_moved_aside_keeps_its_result(folder: Path) -> None:
    aside = write(Path("runs/a-01234567/seed0-before-20250102-030405"))
    assert [(removal.path, removal.why) for removal in removals(Path("runs"))] == [
        (aside / "checkpoints", "checkpoints of a finished run that was moved aside")
    ]


@pytest.mark.parametrize("train", ["{steps: 9, checkpoints: all}", "{steps: 9, checkpoints: &a all}", "[]"])
def test_a_recipe_that_keeps_its_checkpoints_or_cannot_be_read_is_respected(folder: Path, train: str) -> None:
    write(Path("runs/a-01234567/seed0"), train=train)
    assert removals(Path("runs")) == []


@pytest.mark.parametrize("train", ["{steps: 9, checkpoints: last}", "{steps: 9}"])
def test_other_recipes_do_not_keep_them(folder: Path, train: str) -> None:
    write(Path("runs/a-01234567/seed0"), train=train)
    assert len(removals(Path("runs"))) == 1


def test_checkpoints_stay_while_they_may_be_needed(folder: Path) -> None:
    run_dir = write(Path("runs/a-01234567/seed0"))
    (run_dir / "student.safetensors").unlink()  # `kd run` would resume and write it again
    assert removals(Path("runs")) == []
    (run_dir / "student.safetensors").write_bytes(b"weighty")
    assert removals(Path("runs")) == []
    (run_dir / "student.safetensors").write_bytes(b"weights")
    assert len(removals(Path("runs"))) == 1
    (run_dir / "result.json").write_text("{")
    assert removals(Path("runs")) == []


def test_files_that_are_not_kds_stay(folder: Path) -> None:
    run_dir = write(Path("runs/a-01234567/seed0"))
    (run_dir / "checkpoints/mine.pt").write_text("")
    write(Path("runs/a-01234567/copy of seed0"))
    write(Path("runs/seed0"))
    write(Path("elsewhere/seed0"), finished=False)
    Path("runs/a-01234567/seed1-before-20250102-030405").symlink_to(Path("elsewhere/seed0").resolve())
    left(run_dir, ".tmp-new", hours=0)
    assert removals(Path("runs")) == []
    assert removals(Path("nowhere")) == []


def test_a_run_in_use_is_left_alone(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_dir = write(Path("runs/a-01234567/seed0"))
    with locked(run_dir):
        assert main(["clean", "--yes"]) == 0
    *_, used, freed = capsys.readouterr().out.splitlines()
    assert used.startswith("runs/a-01234567/seed0: in use by process ")
    assert freed == "freed 0 bytes"
    assert (run_dir / "checkpoints").is_dir()
