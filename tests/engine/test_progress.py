import io
import json

import pytest
from rich.console import Console
from tiny import read, write_recipes

from kd.engine.progress import JsonLines, Progress, Terminal, duration, make_progress
from kd.runs import read_metrics


class Fails:
    def scalars(self, step, values):
        raise OSError("No space left on device")

    image = scalars

    def close(self):
        raise OSError("still none")


class Keeps:
    def __init__(self):
        self.seen = []

    def scalars(self, step, values):
        self.seen.append((step, dict(values)))

    def image(self, step, name, picture): ...

    def close(self): ...


def test_a_sink_that_fails_is_dropped_with_one_warning_and_the_others_go_on():
    keeps = Keeps()
    progress = Progress({"disk": Fails(), "memory": keeps})
    with pytest.warns(UserWarning, match=r"disk: stopped \(OSError: No space left on device\); training goes on"):
        progress.scalars(1, {"a": 1.0})
    progress.scalars(2, {"a": 2.0})
    progress.close()
    assert keeps.seen == [(1, {"a": 1.0}), (2, {"a": 2.0})]


def test_lines_after_the_resumed_step_are_cut(tmp_path):
    first = JsonLines(tmp_path, 0)
    for step in (1, 2, 3):
        first.scalars(step, {"loss": step / 2})
    first.close()
    again = JsonLines(tmp_path, 2)
    again.scalars(3, {"loss": 9.0})
    again.close()
    assert read_metrics(tmp_path) == [{"step": 1, "loss": 0.5}, {"step": 2, "loss": 1.0}, {"step": 3, "loss": 9.0}]


def test_times_are_not_metrics(tmp_path):
    sink = JsonLines(tmp_path, 0)
    sink.scalars(1, {"loss/total": 1.0, "speed/images_per_second": 5.0})
    sink.scalars(2, {"speed/images_per_second": 5.0})
    sink.close()
    assert [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()] == [
        {"step": 1, "loss/total": 1.0}
    ]


def test_a_pipe_gets_plain_lines(tmp_path):
    out = io.StringIO()
    terminal = Terminal("run", 10, console=Console(file=out, width=200))
    terminal.scalars(5, {"loss/total": 0.5, "speed/images_per_second": 12.0})
    terminal.scalars(10, {"loss/total": 0.25, "val/miou": 0.613})
    terminal.close()
    assert out.getvalue() == "run 10/10 · total 0.250 · val mIoU 61.3 % · 12 images/s · 0 s left\n"


@pytest.mark.parametrize(("seconds", "text"), [(45, "45 s"), (720, "12 min"), (11100, "3 h 05 min")])
def test_durations_read_like_speech(seconds, text):
    assert duration(seconds) == text


def test_tensorboard_gets_scalars_and_pictures(tmp_path):
    import numpy as np

    recipe = read(write_recipes(tmp_path / "recipes"), "log.tensorboard=true")
    progress = make_progress(tmp_path, recipe, seed=0, steps=2, start=0, quiet=True)
    progress.scalars(1, {"loss/total": 1.0})
    progress.image(1, "val/0", np.zeros((4, 4, 3), dtype=np.uint8))
    progress.close()
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path)).Reload()
    assert events.Tags()["scalars"] == ["loss/total"]
    assert events.Tags()["images"] == ["val/0"]
