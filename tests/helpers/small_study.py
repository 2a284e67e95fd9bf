"""The runs of a small study in the test's own process: as its workers, and to compare their weights with."""

from collections.abc import Sequence
from pathlib import Path

from tiny import equal, read, run, weights

from kd.study.command import train_only
from kd.study.reader import Plan, Run
from kd.study.work import Ended

RUNS = Path("runs")


class Here:
    """Trains one run at a time in this process."""

    slots = 1

    def __init__(self, plan: Plan) -> None:
        self._plan, self._done = plan, list[tuple[Run, Ended]]()

    def start(self, run: Run) -> None:
        train_only(self._plan, run.label, runs=RUNS)
        self._done.append((run, Ended(0)))

    def ended(self) -> Sequence[tuple[Run, Ended]]:
        done, self._done = self._done, []
        return done

    def stop(self, number: int) -> None:
        raise AssertionError("no signal arrives")


def check_equal(runs: Path) -> None:
    """Train the runs of the study `twelve` in this process; their weights must have the same bits."""
    folder = Path("serial")
    for changes in ((), ("distill.hint=null",), ("distill.kl=null",)):
        run(read("student.yaml", *changes, "train.seeds=[0,1,2]"), folder, baseline=True)
    expected = {path.parent.relative_to(folder): path.parent for path in folder.glob("*/*/student.safetensors")}
    assert len(expected) == 12 + 1
    for name, run_dir in expected.items():
        assert equal(weights(runs / name), weights(run_dir)), name
