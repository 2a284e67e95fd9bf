"""The signals of `kd study`, the first of which stops it in order; and what it prints without a leaderboard."""

import json
import math
import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from tiny import in_child

from kd.errors import RecipeError, StudyError
from kd.study import command
from kd.study.reader import Plan, Run, read_study
from kd.study.work import Ended


def test_a_signal_that_arrives_twice_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "ECHO", math.inf)
    with command._signals() as arrived:
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.01)
        assert arrived == [signal.SIGTERM]
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_second_signal_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "ECHO", 0.0)

    def twice() -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run in the background
        with command._signals():
            for number in (signal.SIGINT, signal.SIGTERM):
                os.kill(os.getpid(), number)
                time.sleep(0.01)

    assert in_child(twice) == -signal.SIGTERM


class Failing:
    """Every run fails."""

    slots = 1

    def __init__(self) -> None:
        self._done: list[tuple[Run, Ended]] = []

    def start(self, run: Run) -> None:
        self._done.append((run, Ended(4, "out of memory")))

    def ended(self) -> Sequence[tuple[Run, Ended]]:
        done, self._done = self._done, []
        return done

    def stop(self, number: int) -> None:
        raise AssertionError("no signal arrives")


def test_without_a_leaderboard_the_runs_and_their_failures_are_shown(
    readable: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def unranked(plan: Plan, folder: Path) -> None:
        raise RecipeError("a and b cannot be compared: their val images differ (4 and 9)")

    monkeypatch.setattr(command.board, "board", unranked)
    monkeypatch.setattr("kd.study.work.POLL", 0.0)
    Path("s.yaml").write_text("base: sub/t.yaml\nseeds: [0]\nvariants: {a: {}}\n")
    plan = read_study("s.yaml", runs=Path("runs"))
    for workers, kind, lines in (
        (None, RecipeError, ["a and b cannot be compared: their val images differ (4 and 9)"]),
        (
            Failing(),
            StudyError,
            [
                "a/0 failed, status 4: out of memory",
                "no leaderboard: a and b cannot be compared: their val images differ (4 and 9)",
            ],
        ),
    ):
        with pytest.raises(kind) as caught:
            command.study_command(plan, runs=Path("runs"), workers=workers, as_json=True)
        assert str(caught.value).split("\n") == lines
        printed = json.loads(capsys.readouterr().out)
        assert [run["run"] for run in printed["runs"]] == ["a/0"]
        assert printed["leaderboard"] == []
    assert printed["runs"][0]["why"] == "out of memory"
