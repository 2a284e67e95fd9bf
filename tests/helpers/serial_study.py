"""The runs of the small study one after the other, and their weights beside those of a study."""

from pathlib import Path

from tiny import equal, read, run, weights


def check_equal(runs: Path) -> None:
    """Train the same runs in this process; their weights must have the same bits."""
    folder = Path("serial")
    for changes in ((), ("distill.hint=null",)):
        run(read("student.yaml", *changes, "train.seeds=[0,1]"), folder, baseline=True)
    expected = {path.parent.relative_to(folder): path.parent for path in folder.glob("*/*/student.safetensors")}
    assert len(expected) == 7
    for name, run_dir in expected.items():
        assert equal(weights(runs / name), weights(run_dir)), name
