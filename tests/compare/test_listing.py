import os
from pathlib import Path

import pytest

from kd.compare.listing import list_runs


def test_runs_are_listed_finished_and_unfinished(made, trio):
    trio()
    half = made.folder / "small_kl-cccccccc" / "seed1"
    half.mkdir()
    (half / "teacher.json").write_text("{}")
    (half / "metrics.jsonl").write_text('{"step": 20, "val/miou": 0.25}\n{"step": 1130, "lr": 0.1}\n{"step": 11')
    broken = made.write("odd-ffffffff", 80)
    (broken / "result.json").write_text("{")
    (made.folder / "small_kl-cccccccc" / "seed0-before-20260101-000000").mkdir()
    os.utime(made.folder / "big-aaaaaaaa" / "seed0" / "result.json", (0, 86_400 * 365))
    lines = list_runs(made.folder)
    assert [(line.name, line.id, line.seed, line.role, line.state) for line in lines] == [
        ("big", "aaaaaaaa", 0, "teacher", "finished"),
        ("odd", "ffffffff", 0, "alone", "result.json cannot be read"),
        ("small_kl", "bbbbbbbb", 0, "baseline", "finished"),
        ("small_kl", "cccccccc", 0, "student", "finished"),
        ("small_kl", "cccccccc", 1, "student", "unfinished, step 1,130"),
    ]
    assert lines[0].changed.year in (1970, 1971)
    assert lines[0].miou == pytest.approx(95 / 105)
    assert lines[1].miou is None
    assert lines[4].miou == 0.25
    assert list_runs(Path(made.folder, "none")) == []
