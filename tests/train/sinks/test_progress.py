import io
import json

import numpy as np
import pytest
from rich.console import Console
from tiny import read, run, write_recipes

from kd.recipe import baseline_of
from kd.runs import read_metrics
from kd.train.sinks.jsonl import JsonLines
from kd.train.sinks.progress import Progress
from kd.train.sinks.terminal import Terminal


class Fails:
    def scalars(self, step, values):
        raise OSError("No space\n  left on device")

    def image(self, step, name, picture):
        raise AssertionError("a sink that failed is gone")

    def close(self):
        raise OSError("still none")


class Keeps:
    def __init__(self):
        self.seen = []

    def scalars(self, step, values):
        self.seen.append((step, dict(values)))

    def close(self): ...


class Shown(Keeps):
    def image(self, step, name, picture):
        self.seen.append((step, name, picture.shape))


def test_a_sink_that_fails_is_dropped_with_one_warning_and_the_others_continue():
    keeps = Keeps()
    progress = Progress({"disk": Fails(), "memory": keeps})
    with pytest.warns(UserWarning, match=r"disk: stopped \(OSError: No space left on device\); training continues"):
        progress.scalars(1, {"a": 1.0})
    progress.scalars(2, {"a": 2.0})
    progress.close()
    assert keeps.seen == [(1, {"a": 1.0}), (2, {"a": 2.0})]


def test_numbers_that_are_not_finite_are_left_out():
    """A term's gradient relative to a supervised one of 0, say: JSON has no such number."""
    keeps = Keeps()
    progress = Progress({"memory": keeps})
    progress.scalars(1, {"gradient_ratio/kl": float("inf"), "gradient/kl": 2.0})
    progress.scalars(2, {"val/miou": float("nan")})
    assert keeps.seen == [(1, {"gradient/kl": 2.0})]


def test_pictures_are_drawn_only_for_sinks_that_take_them():
    picture = np.zeros((2, 3, 3), np.uint8)
    Progress({"lines": Keeps()}).pictures(1, lambda: 1 / 0)
    shows, keeps = Shown(), Keeps()
    progress = Progress({"lines": keeps, "window": shows})
    progress.pictures(1, lambda: iter([("a", picture), ("b", picture)]))
    assert (keeps.seen, shows.seen) == ([], [(1, "a", (2, 3, 3)), (1, "b", (2, 3, 3))])


def test_a_picture_that_cannot_be_drawn_costs_no_numbers():
    shows = Shown()
    progress = Progress({"window": shows})
    with pytest.warns(UserWarning, match=r"pictures: not drawn \(ZeroDivisionError: .*\); training continues"):
        progress.pictures(1, lambda: 1 / 0)
    progress.pictures(2, lambda: 1 / 0)
    progress.scalars(2, {"a": 1.0})
    assert shows.seen == [(2, {"a": 1.0})]


def test_a_sink_that_fails_at_a_picture_is_dropped_too():
    class Full(Shown):
        def image(self, step, name, picture):
            raise OSError("No space left on device")

    full = Full()
    progress = Progress({"disk": full})
    with pytest.warns(UserWarning, match=r"disk: stopped \(OSError: No space left on device\); training continues"):
        progress.pictures(1, lambda: [("a", np.zeros((2, 3, 3), np.uint8))])
    progress.scalars(2, {"a": 2.0})
    assert full.seen == []


def test_lines_after_the_resumed_step_are_cut(tmp_path):
    first = JsonLines(tmp_path, 0)
    for step in (1, 2, 3):
        first.scalars(step, {"loss": step / 2})
    first.close()
    again = JsonLines(tmp_path, 2)
    again.scalars(3, {"loss": 9.0})
    again.scalars(3, {"final/miou": 0.5})
    again.close()
    JsonLines(tmp_path, 3).close()  # a kill came before the result was written: the score is taken again
    assert read_metrics(tmp_path) == [{"step": 1, "loss": 0.5}, {"step": 2, "loss": 1.0}, {"step": 3, "loss": 9.0}]


def test_a_run_resumes_after_a_damaged_line_and_writes_the_file_without_it(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n{"st\n{"step": 2}\n')
    with pytest.warns(
        UserWarning, match=r"metrics\.jsonl:2: not a line of metrics \(the file is damaged\); line skipped"
    ):
        JsonLines(tmp_path, 2).close()
    assert (tmp_path / "metrics.jsonl").read_text() == '{"step": 1}\n{"step": 2}\n'


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
    terminal.scalars(10, {"loss/total": 0.25, "speed/images_per_second": 0.456})
    terminal.scalars(10, {"val/miou": 0.613})
    terminal.scalars(10, {"final/miou": 0.613})
    terminal.close()
    assert out.getvalue() == "run 10/10 · val mIoU 61.3 % · 0.456 images/s · 0 s left · total 0.250\n"


def live(terminal, step):
    """The live line as the terminal shows it."""
    return terminal._fitted(step).plain


def test_a_narrow_terminal_keeps_the_score_the_speed_and_the_time():
    terminal = Terminal("mobilenetv3_of_a_long_name_kl_cwd", 3000, console=Console(file=io.StringIO(), width=80))
    terminal.scalars(
        1200,
        {"loss/supervised": 0.5, "loss/kl": 1.0, "val/miou": 0.613, "speed/images_per_second": 29.1},
    )
    assert live(terminal, 1200) == "mobilenetv3_of_a_long_na… 1200/3000 · val mIoU 61.3 % · 29.1 images/s · 0 s left"
    wide = Terminal("run", 10, console=Console(file=io.StringIO(), width=52))
    wide.scalars(5, {"loss/supervised": 0.5, "loss/kl": 1.0, "val/miou": 0.613})
    assert live(wide, 5) == "run 5/10 · val mIoU 61.3 % · 0 s left"  # a loss is shown whole or not at all
    assert len(live(wide, 5) + " · supervised 0.500") > 52


def events(run_dir, role="student"):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    return EventAccumulator(str(run_dir / role), size_guidance={"images": 0, "scalars": 0}).Reload()


def test_tensorboard_gets_all_numbers_and_pictures(tmp_path):
    overrides = (
        "log.tensorboard=true",
        "log.gradients=4",
        "optimizer.groups=[{match: '*.head.*', lr: 10}]",
        "data.args={count: 5}",
    )
    recipe = read(write_recipes(tmp_path), *overrides)
    (run_dir,), _ = run(recipe, tmp_path / "runs")
    written, lines = events(run_dir), read_metrics(run_dir)
    tags = written.Tags()
    kept = {name for line in lines for name in line} - {"step"}
    assert set(tags["scalars"]) == kept | {"speed/images_per_second"}
    assert kept >= {"loss/supervised", "loss/kl", "loss/hint", "loss/total", "gradient_norm", "lr", "lr/1"}
    assert kept >= {"val/miou", "agreement/miou", "final/miou"}
    assert {name for name in kept if "kl" in name} > {"loss/kl"}  # log.gradients
    for name in kept:
        logged = [(event.step, event.value) for event in written.Scalars(name)]
        assert logged == [(line["step"], pytest.approx(line[name], rel=1e-6)) for line in lines if name in line], name
    rates = {name: [event.value for event in written.Scalars(name)] for name in ("lr", "lr/1")}
    assert rates["lr/1"] == pytest.approx([10 * rate for rate in rates["lr"]])
    panels = [f"{when}/stripes {index}" for when in ("final", "val") for index in range(4)]
    assert sorted(tags["images"]) == sorted([*panels, "val/confusion", "final/confusion"])
    assert [event.step for event in written.Images("val/confusion")] == [4, 8]
    first = written.Images("val/stripes 0")[0]
    assert (first.height, first.width) == (32, 96)  # image, labels, prediction


def test_tensorboards_hparams_are_the_recipe_beside_the_final_score(tmp_path):
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    recipe = baseline_of(read(write_recipes(tmp_path), "log.tensorboard=true", "log.panels=0", "train.seeds=[3]"))
    (run_dir,), _ = run(recipe, tmp_path / "runs")
    written = events(run_dir, "baseline")
    plugin = written.summary_metadata["_hparams_/session_start_info"].plugin_data
    chosen = HParamsPluginData.FromString(plugin.content).session_start_info.hparams
    assert (chosen["seed"].number_value, chosen["train.batch_size"].number_value) == (3, 4)
    assert chosen["student.use"].string_value.endswith("nets.py:Net")
    assert chosen["data.size"].string_value == "[32, 32]"
    assert "teacher" not in chosen
    experiment = written.summary_metadata["_hparams_/experiment"].plugin_data
    (metric,) = HParamsPluginData.FromString(experiment.content).experiment.metric_infos
    assert metric.name.tag == "final/miou"
    (score,) = written.Scalars("final/miou")
    assert (score.step, score.value) == (8, pytest.approx(read_metrics(run_dir)[-1]["final/miou"]))
