"""The leaderboard of a study that was trained, and of what a study has before it is finished."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import kd
from small_study import Here

from kd.compare.comparison import Comparison, Entry, Role
from kd.recipe import read_recipe
from kd.runs import SplitResult
from kd.study import board
from kd.study.command import study_command
from kd.study.local import why
from kd.study.output import StudyOutput
from kd.study.reader import read_study

RUNS = Path("runs")


def test_a_study_is_trained_ranked_and_printed(
    trainable: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kd.study.work.POLL", 0.0)
    plan = read_study(trainable, trust=True, runs=RUNS)
    assert board.board(plan, RUNS) is None
    study_command(plan, runs=RUNS, workers=Here(plan))
    out = capsys.readouterr().out
    assert "7 runs: 7 missing" in out
    assert "kl/1: mIoU " in out
    found = board.board(plan, RUNS)
    assert found is not None
    header, rows = board.table(found)
    assert header == [
        "variant", "network", "mIoU %", "vs baseline", "seeds", "params", "min", "memory", "front",
    ]  # fmt: skip
    assert {row[0]: row[4] for row in rows} == {"teacher": "1", "baseline": "2", "both": "2", "kl": "2"}
    scores = [float(row[2].partition(" ")[0]) for row in rows]
    assert scores == sorted(scores, reverse=True)
    assert all(row[3] == "–" for row in rows if row[0] in ("teacher", "baseline"))
    assert all("±" in row[3] for row in rows if row[0] in ("both", "kl"))
    assert rows[0][-1] == "●"  # the highest score is on the front
    # all of it again, from the finished runs: as JSON, with one run gone
    (plan.runs()[-1].run_dir(RUNS) / "manifest.json").unlink()
    assert kd("study", trainable, "--trust", "--list", "--json") == 0
    content = json.loads(capsys.readouterr().out)
    assert [run["state"] for run in content["runs"]] == ["finished"] * 6 + ["stopped"]
    StudyOutput.model_validate(content)
    by_name = {row["variant"]: row["network"] for row in content["leaderboard"]}
    assert by_name["kl"]["seeds"] == [0]
    assert by_name["both"]["vs_baseline"]["seeds"] == [0, 1]
    partial = board.board(plan, RUNS)
    assert partial is not None
    assert {row[0]: row[4] for row in board.table(partial)[1]}["kl"] == "1 of 2"


def entry(key: str, role: Role, *right: int, run: str | None = None, **changed: Any) -> Entry:
    """A network with a seed for each number of right pixels, of 100 of each class."""
    splits = [SplitResult(np.array([[n, 100 - n], [100 - n, n]]), ["sky", "road"], 4) for n in right]
    settings: dict[str, Any] = {"name": "asst", "network": "students.Mid", "parameters": 10, **changed}
    run_dirs = tuple(RUNS / run / f"seed{seed}" for seed in range(len(right))) if run else ()
    return Entry(
        key=key, role=role, splits=tuple(splits), run_dirs=run_dirs, seeds=tuple(range(len(right))), **settings
    )


def test_a_variant_that_teaches_does_not_compete_with_itself(readable: Path) -> None:
    """The seed that teaches is one run, better or worse than the variant's mean."""
    recipe = read_recipe("r.yaml").changed(train=read_recipe("r.yaml").train.model_copy(update={"seeds": (0, 1, 2)}))
    folder = f"asst-{recipe.id}"
    student = entry(folder, "student", 90, 80, 70, run=folder)
    teacher = entry(f"{folder} as teacher", "teacher", 90, run=folder)
    small = entry("small-aaaaaaaa", "student", 60, run="small-aaaaaaaa", parameters=10)
    entries = [teacher, student, small]
    assert [board._on_front(each, entries) for each in entries] == [True, True, False]
    assert [board._asked(each, [recipe]) for each in entries] == [1, 3, 1]


def test_a_teacher_without_a_run_has_no_seeds() -> None:
    teacher = entry("big", "teacher", 90)
    comparison = Comparison((teacher,), ("sky", "road"), 4, ())
    header, (row,) = board.table(board.Board(comparison, [board.Row(teacher, 1, True)]))
    assert dict(zip(header, row, strict=True))["seeds"] == "–"


def test_the_reason_of_a_failure_is_what_the_process_printed() -> None:
    printed = "warning: slow\nr.yaml:3:1: data: wrong\nr.yaml:4:1: also wrong\n"
    assert why(2, printed) == "r.yaml:3:1: data: wrong · r.yaml:4:1: also wrong"
    assert why(-9, "") == "killed by SIGKILL (out of memory?)"
    assert why(3, "") == "it printed no reason"
    assert why(0, "warning: slow\n") == ""
