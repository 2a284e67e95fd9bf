"""The leaderboard of a study that was trained, and of what a study has before it is finished."""

import json
from pathlib import Path

import pytest
from command import kd
from small_study import Here

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
    assert study_command(plan, runs=RUNS, workers=Here(plan)) == 0
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


def test_the_reason_of_a_failure_is_what_the_process_printed() -> None:
    printed = "warning: slow\nr.yaml:3:1: data: wrong\nr.yaml:4:1: also wrong\n"
    assert why(2, printed) == "r.yaml:3:1: data: wrong · r.yaml:4:1: also wrong"
    assert why(-9, "") == "killed by SIGKILL (out of memory?)"
    assert why(3, "") == "it printed no reason"
    assert why(0, "warning: slow\n") == ""
