"""Who trains what: teachers first, one failure among many, other processes, and signals."""

import math
import os
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from private import make_private

from kd.errors import StoppedError
from kd.runs import claim, locked, state_of
from kd.study import work as work_module
from kd.study.reader import Run, read_study
from kd.study.work import Ended, Work

TEXT = "base: r.yaml\nseeds: [0, 1]\nvariants: {a: {}, b: {distill.kl.weight: 2}}\n"
RUNS = Path("runs")


class Fake:
    """Ends the oldest of its runs at each look, by the exit status that `ends` gives; 0 finishes it on disk."""

    def __init__(self, slots: float = 1, ends: Callable[[Run], Ended] = lambda run: Ended(0)) -> None:
        self.slots, self.ends = slots, ends
        self.training: list[Run] = []
        self.began: list[str] = []
        self.most = 0
        self.signals: list[int] = []

    def start(self, run: Run) -> None:
        self.training.append(run)
        self.began.append(run.label)
        self.most = max(self.most, len(self.training))

    def ended(self) -> Sequence[tuple[Run, Ended]]:
        if not self.training:
            return []
        run = self.training.pop(0)
        how = self.ends(run)
        if how.status == 0:
            finish(run)
        return [(run, how)]

    def stop(self, number: int) -> None:
        self.signals.append(number)
        self.ends = lambda run: Ended(128 + number, "stopped")


def finish(run: Run) -> None:
    run_dir = run.run_dir(RUNS)
    run_dir.mkdir(parents=True, exist_ok=True)
    (run_dir / "manifest.json").write_text("{}")


def fail(run: Run, why: str) -> None:
    run_dir = run.run_dir(RUNS)
    run_dir.mkdir(parents=True, exist_ok=True)
    (run_dir / "failure.json").write_text(f'{{"status": 4, "why": "{why}"}}')


def set_clock(run: Run, ahead: int) -> None:
    """Date a failure as a machine does whose clock is so many seconds ahead."""
    now = time.time() + ahead
    os.utime(run.run_dir(RUNS) / "failure.json", (now, now))


@pytest.fixture
def runs(readable: Path, monkeypatch: pytest.MonkeyPatch) -> list[Run]:
    monkeypatch.setattr(work_module, "POLL", 0.0)
    (readable / "s.yaml").write_text(TEXT)
    return read_study("s.yaml", runs=RUNS).runs()


def trained(
    runs: list[Run], workers: Fake, stopped: Callable[[], int | None] = lambda: None
) -> tuple[dict[str, str], list[str]]:
    """Why runs failed, by label, and the lines that were printed."""
    lines: list[str] = []
    work = Work(runs, RUNS, workers, lines.append, stopped)
    work.train()
    return {run.label: ended.why for run, ended in work.failed.items()}, lines


ORDER = ["teacher/0", "baseline/0", "baseline/1", "a/0", "a/1", "b/0", "b/1"]


def test_teachers_come_first_and_every_run_is_trained_once(runs: list[Run]) -> None:
    workers = Fake()
    failed, lines = trained(runs, workers)
    assert failed == {}
    assert workers.began == ORDER
    assert lines[-1].endswith("(7 of 7 finished)")
    again = Fake()
    assert trained(runs, again) == ({}, [])
    assert again.began == []


def test_what_needs_no_teacher_trains_beside_it(runs: list[Run]) -> None:
    workers = Fake(slots=3)
    trained(runs, workers)
    assert workers.most == 3
    assert workers.began[:3] == ["teacher/0", "baseline/0", "baseline/1"]
    assert sorted(workers.began) == sorted(ORDER)


def test_one_failure_does_not_end_the_others(runs: list[Run]) -> None:
    workers = Fake(ends=lambda run: Ended(4, "step 3: NaN") if run.label == "a/0" else Ended(0))
    failed, lines = trained(runs, workers)
    assert failed == {"a/0": "step 3: NaN"}
    assert "a/0: failed, status 4: step 3: NaN" in lines
    assert state_of(next(run for run in runs if run.label == "a/0").run_dir(RUNS)).why == "step 3: NaN"
    assert workers.began == ORDER


def test_a_run_that_another_user_keeps_private_fails_alone(runs: list[Run], monkeypatch: pytest.MonkeyPatch) -> None:
    private = next(run for run in runs if run.label == "a/0").run_dir(RUNS)
    private.mkdir(parents=True)
    make_private(monkeypatch, private)
    why = f"{private}/recipe.yaml: cannot be read (Permission denied)"
    assert str(state_of(private)) == f"failed: {why}"
    failed, _ = trained(runs, Fake())
    assert failed == {"a/0": f"{private}: cannot be written (Permission denied); choose --runs DIR"}


def test_students_of_a_teacher_that_failed_are_failed_too(runs: list[Run]) -> None:
    failed, _ = trained(runs, Fake(ends=lambda run: Ended(3, "no image") if run.role == "teacher" else Ended(0)))
    assert failed == {
        "teacher/0": "no image",
        **dict.fromkeys(["a/0", "a/1", "b/0", "b/1"], "its teacher teacher/0 failed"),
    }


def test_a_run_of_another_process_is_waited_for_not_trained(runs: list[Run]) -> None:
    by_label = {run.label: run for run in runs}
    other = locked(by_label["a/0"].run_dir(RUNS))
    other.__enter__()

    def end(run: Run) -> Ended:
        if run.label == "b/1":  # meanwhile the other process finishes
            finish(by_label["a/0"])
            other.__exit__(None, None, None)
        return Ended(0)

    workers = Fake(ends=end)
    failed, lines = trained(runs, workers)
    assert failed == {}
    assert workers.began == [label for label in ORDER if label != "a/0"]
    assert "a/0: finished by another process (7 of 7 finished)" in lines


def test_the_run_of_a_process_that_died_is_taken_over(runs: list[Run]) -> None:
    by_label = {run.label: run for run in runs}
    other = locked(by_label["a/0"].run_dir(RUNS))
    other.__enter__()

    def end(run: Run) -> Ended:
        if run.label == "b/1":
            other.__exit__(None, None, None)  # its lock is gone, its run is not finished
        return Ended(0)

    workers = Fake(ends=end)
    assert trained(runs, workers)[0] == {}
    assert workers.began == [*(label for label in ORDER if label != "a/0"), "a/0"]


def test_a_run_that_another_process_locked_first_is_looked_at_again(runs: list[Run]) -> None:
    refused = {"a/0"}

    def end(run: Run) -> Ended:
        if run.label in refused:
            refused.remove(run.label)
            return Ended(7, "in use")
        return Ended(0)

    workers = Fake(ends=end)
    assert trained(runs, workers)[0] == {}
    assert workers.began == [*ORDER, "a/0"]


def test_a_run_that_another_process_has_claimed_is_left_to_it(runs: list[Run]) -> None:
    by_label = {run.label: run for run in runs}
    theirs = claim(by_label["baseline/0"].run_dir(RUNS))
    assert theirs is not None

    def end(run: Run) -> Ended:
        if run.label == "b/1":
            finish(by_label["baseline/0"])
            theirs.release()
        return Ended(0)

    workers = Fake(slots=4, ends=end)
    assert trained(runs, workers)[0] == {}
    assert sorted(workers.began) == sorted(label for label in ORDER if label != "baseline/0")


@pytest.mark.parametrize("ahead", [-86400, 0, 86400])
def test_a_failure_of_another_process_is_not_repeated_and_an_old_one_is(runs: list[Run], ahead: int) -> None:
    """Whatever the clock of the machine shows on which the other process runs."""
    by_label = {run.label: run for run in runs}
    fail(by_label["b/0"], "of yesterday")
    set_clock(by_label["b/0"], -ahead)

    def end(run: Run) -> Ended:
        if run.label == "baseline/0":
            fail(by_label["a/1"], "of another process")
            set_clock(by_label["a/1"], ahead)
        return Ended(0)

    workers = Fake(ends=end)
    failed, _ = trained(runs, workers)
    assert failed == {"a/1": "in another process: of another process"}
    assert workers.began == [label for label in ORDER if label != "a/1"]


def test_a_folder_that_cannot_be_written_fails_its_run_alone(runs: list[Run]) -> None:
    by_label = {run.label: run for run in runs}
    place = by_label["a/0"].run_dir(RUNS)
    place.parent.mkdir(parents=True)
    place.write_text("a file where the run directory belongs")
    failed, _ = trained(runs, Fake())
    assert failed == {"a/0": f"{place}: cannot be written (File exists); choose --runs DIR"}


def test_a_signal_is_passed_on_and_nothing_else_begins(runs: list[Run]) -> None:
    arrived: list[int] = []

    def end(run: Run) -> Ended:
        arrived.append(signal.SIGTERM)
        return Ended(0)

    workers = Fake(slots=2, ends=end)
    with pytest.raises(StoppedError, match="stopped by SIGTERM; the same command resumes"):
        trained(runs, workers, lambda: next(iter(arrived), None))
    assert workers.signals == [signal.SIGTERM]
    assert workers.began == ["teacher/0", "baseline/0"]


@pytest.mark.parametrize(
    ("slots", "left"),
    [
        (1, "; about 3 h 00 min left"),
        (2, "; about 2 h 00 min left"),  # the last run needs its hour, however many could train beside it
        (10, "; about 60 min left"),
        (math.inf, ""),  # a cluster trains as many as it has places for
    ],
)
def test_the_time_that_is_left_is_of_whole_runs(runs: list[Run], slots: float, left: str) -> None:
    work = Work(runs, RUNS, Fake(slots), lambda line: None, lambda: None)
    assert work._progress().endswith("; training: elsewhere")
    work._durations.append(3600.0)
    del work._pending[3:]
    assert work._progress().endswith(f"; training: elsewhere{left}")
