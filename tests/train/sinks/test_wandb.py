"""Weights & Biases: with a stand-in that records its calls; with the package itself, offline, if it is installed."""

import json
import os
import sys
from importlib.machinery import ModuleSpec
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from ranks import kd, start, statuses, the_run, write_plain
from tiny import cut_at, equal, read, run, weights, write_recipes

from kd.cli import main
from kd.components import build
from kd.diagnose.smoke import shortened
from kd.recipe import baseline_of
from kd.recipe.schema import TrackConfig
from kd.runs import read_metrics
from kd.train.sinks.wandb import WeightsAndBiases

TRACK = "track={project: shapes, entity: team}"


class StandIn(ModuleType):
    """The part of `wandb` that is used; it records the arguments and the log of every session."""

    def __init__(self):
        super().__init__("wandb")
        self.__spec__ = ModuleSpec("wandb", None)
        self.sessions, self.broken_at = [], None

    def init(self, **arguments):
        if self.broken_at == "init":
            raise OSError("no route to host")
        session = SimpleNamespace(arguments=arguments, logged=[], metrics={}, finished=False)
        self.sessions.append(session)

        def log(values):
            if self.broken_at == values["step"]:
                raise OSError("no route to host")
            session.logged.append(values)

        def finish():
            session.finished = True

        def define_metric(name, *, step_metric):
            session.metrics[name] = step_metric

        return SimpleNamespace(log=log, finish=finish, define_metric=define_metric)

    @staticmethod
    def Image(picture):  # noqa: N802
        return np.asarray(picture)

    @staticmethod
    def Settings(**settings):  # noqa: N802
        return settings


@pytest.fixture
def wandb(monkeypatch):
    module, ordinary = StandIn(), build.version
    monkeypatch.setitem(sys.modules, "wandb", module)
    monkeypatch.setattr(build, "version", lambda package: "0" if package == "wandb" else ordinary(package))
    for end in ("INIT", "FINISH"):
        monkeypatch.setenv(f"WANDB_{end}_TIMEOUT", "")  # so that what the run sets is gone after the test
        monkeypatch.delenv(f"WANDB_{end}_TIMEOUT")
    return module


@pytest.fixture
def recipe(tmp_path):
    return baseline_of(read(write_recipes(tmp_path), TRACK))


def numbers(*sessions):
    """Every (step, name) that was logged, in order, and its value; without times."""
    return [
        ((line["step"], name), value)
        for session in sessions
        for line in session.logged
        for name, value in line.items()
        if name != "step" and not name.startswith("speed/") and not isinstance(value, np.ndarray)
    ]


def test_a_run_is_logged_with_its_recipe_and_does_not_change(tmp_path, wandb, recipe):
    (run_dir,), _ = run(recipe, tmp_path / "runs")
    (session,) = wandb.sessions
    arguments = session.arguments
    assert (arguments["project"], arguments["entity"], arguments["resume"]) == ("shapes", "team", "allow")
    assert (arguments["name"], arguments["group"]) == (
        f"{run_dir.parent.name}/seed0/baseline",
        run_dir.parent.name,
    )
    assert arguments["dir"] == str(run_dir)
    assert arguments["config"] == recipe.resolved() | {"seed": 0}
    assert "mode" not in arguments  # WANDB_MODE's
    assert (os.environ["WANDB_INIT_TIMEOUT"], os.environ["WANDB_FINISH_TIMEOUT"]) == ("20", "20")
    assert session.metrics == {"*": "step"}
    assert session.finished
    logged = [({"step": step} | {name: value}) for (step, name), value in numbers(session)]
    kept = [
        {"step": line["step"], name: line[name]} for line in read_metrics(run_dir) for name in line if name != "step"
    ]
    assert logged == kept
    assert any("speed/images_per_second" in line for line in session.logged)
    assert json.loads((run_dir / "wandb.json").read_text()) == {"id": arguments["id"], "told": {}}
    untracked = baseline_of(read(tmp_path / "student.yaml"))
    assert untracked.id == recipe.id
    (plain,), _ = run(untracked, tmp_path / "other")
    assert equal(weights(run_dir), weights(plain))
    assert (run_dir / "metrics.jsonl").read_bytes() == (plain / "metrics.jsonl").read_bytes()


def test_a_resumed_run_keeps_its_id_and_logs_no_number_twice(tmp_path, wandb):
    recipe = baseline_of(read(write_recipes(tmp_path), TRACK, "train.save_every=4"))
    run(recipe, tmp_path / "whole")
    whole = wandb.sessions.pop()
    for step in (7, 5):  # the second session dies before it reaches the last step of the first
        cut_at(step, recipe, tmp_path / "cut")
    run(recipe, tmp_path / "cut")
    first, second, third = wandb.sessions
    assert first.arguments["id"] == second.arguments["id"] == third.arguments["id"] != whole.arguments["id"]
    assert second.logged == []  # step 5: logged by the first session
    assert min(line["step"] for line in third.logged) == 8
    assert numbers(first, second, third) == numbers(whole)
    assert all(session.finished for session in wandb.sessions)


def test_an_evaluation_that_a_kill_cut_off_is_logged_later(tmp_path, wandb):
    """Each name continues after its own last step: the report of step 4 was logged, its score was not."""
    (tmp_path / "wandb.json").write_text('{"id": "one", "told": {}}')
    (tmp_path / "metrics.jsonl").write_text('{"step": 2, "val/miou": 0.5}\n{"step": 4, "loss/total": 1.0}\n')
    sink = WeightsAndBiases(tmp_path, TrackConfig(project="shapes"), "student", {})
    picture = np.zeros((2, 2, 3), np.uint8)
    for step in (2, 4):
        sink.scalars(step, {"loss/total": 1.0, "speed/images_per_second": 3.0})
        sink.scalars(step, {"val/miou": 0.5})
        sink.image(step, "val/a", picture)
    (session,) = wandb.sessions
    assert [sorted(line) for line in session.logged] == [["step", "val/miou"], ["step", "val/a"]]
    assert {line["step"] for line in session.logged} == {4}


def test_a_fresh_run_has_another_id(tmp_path, wandb, recipe):
    run(recipe, tmp_path / "runs")
    run(recipe, tmp_path / "runs", fresh=True)
    first, second = wandb.sessions
    assert first.arguments["id"] != second.arguments["id"]
    assert numbers(first) == numbers(second)


@pytest.mark.parametrize("where", ["init", 3])
def test_when_it_fails_training_continues_after_one_warning(tmp_path, wandb, recipe, where):
    wandb.broken_at = where
    outcome = "not written" if where == "init" else "stopped"
    with pytest.warns(UserWarning, match="Weights & Biases") as caught:
        (cut,), _ = run(recipe, tmp_path / "runs")
    (warning,) = caught
    assert str(warning.message) == f"Weights & Biases: {outcome} (OSError: no route to host); training continues"
    (plain,), _ = run(baseline_of(read(tmp_path / "student.yaml")), tmp_path / "other")
    assert equal(weights(cut), weights(plain))
    assert (cut / "metrics.jsonl").read_bytes() == (plain / "metrics.jsonl").read_bytes()


def test_a_teachers_run_is_tracked_by_its_students_recipe_and_a_trial_by_none(tmp_path):
    recipe = read(write_recipes(tmp_path), TRACK)
    assert recipe.teacher_recipe.track == recipe.track == TrackConfig(project="shapes", entity="team")
    assert recipe.teacher_recipe.id == read(tmp_path / "student.yaml").teacher_recipe.id
    assert shortened(recipe).track is None


def test_a_missing_package_is_a_line_before_anything_is_trained(tmp_path, monkeypatch, capsys):
    path = write_recipes(tmp_path)
    (tmp_path / "student.yaml").write_text(path.read_text() + "track: {project: shapes}\n")
    ordinary = build.version

    def missing(package):
        if package == "wandb":
            raise PackageNotFoundError
        return ordinary(package)

    monkeypatch.setattr(build, "version", missing)
    monkeypatch.chdir(tmp_path)
    for command in (["run"], ["check"], ["run", "--smoke"]):
        assert main([*command, str(path), "--trust"]) == 2
        line = path.read_text().splitlines().index("track: {project: shapes}") + 1
        assert capsys.readouterr().err == (
            f"{path}:{line}:1: track: wandb is not installed; pip install 'kd-segmentation[wandb]', or track=null\n"
        )
    assert not (tmp_path / "runs").exists()


def test_of_several_processes_rank_0_alone_tracks(tmp_path, monkeypatch):
    """The stand-in of each forked process creates a file when it is called."""
    write_plain(tmp_path)
    module = StandIn()
    ordinary = module.init

    def init(**arguments):
        (tmp_path / f"asked{os.environ['RANK']}-{arguments['name'].partition('-')[0]}").touch()
        return ordinary(**arguments)

    module.init = init
    monkeypatch.setitem(sys.modules, "wandb", module)
    monkeypatch.setattr(build, "version", lambda package: "1")
    assert statuses(start(2, kd(tmp_path, TRACK))) == [0, 0]
    assert sorted(file.name for file in tmp_path.glob("asked*")) == ["asked0-student", "asked0-teacher"]
    assert (the_run(tmp_path) / "wandb.json").is_file()


def records(folder):
    """The records in the files that `wandb` leaves for `wandb sync`: blocks of 32 KiB as in LevelDB's log."""
    from wandb.proto import wandb_internal_pb2

    for file in sorted(folder.glob("wandb/offline-run-*/run-*.wandb")):
        data, position, whole = file.read_bytes(), 7, b""
        while position + 7 <= len(data):
            if 32768 - position % 32768 < 7:  # a block's tail
                position += 32768 - position % 32768
                continue
            length, kind = int.from_bytes(data[position + 4 : position + 6], "little"), data[position + 6]
            if kind == 0:
                break
            whole += data[position + 7 : position + 7 + length]
            position += 7 + length
            if kind in (1, 4):  # a whole record, or the last part of one
                record = wandb_internal_pb2.Record()
                record.ParseFromString(whole)
                whole = b""
                yield record


def test_the_package_itself_offline_through_a_resume(tmp_path, monkeypatch, capfd):
    pytest.importorskip("wandb", reason="pip install 'kd-segmentation[wandb]'")
    for name, value in {
        "MODE": "offline",
        "SILENT": "true",
        "INIT_TIMEOUT": "20",
        "FINISH_TIMEOUT": "20",
        "_DISABLE_STATS": "true",
    }.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    recipe = baseline_of(read(write_recipes(tmp_path), TRACK, "train.save_every=4", "log.tensorboard=true"))
    cut_at(7, recipe, tmp_path / "runs")
    (run_dir,), _ = run(recipe, tmp_path / "runs")
    written = list(records(run_dir))
    runs = [record.run for record in written if record.WhichOneof("record_type") == "run"]
    assert {run.run_id for run in runs} == {json.loads((run_dir / "wandb.json").read_text())["id"]}
    assert {(run.project, run.entity, run.run_group) for run in runs} == {("shapes", "team", run_dir.parent.name)}
    axes = {r.metric.glob_name: r.metric.step_metric for r in written if r.WhichOneof("record_type") == "metric"}
    assert axes["*"] == "step"
    kept = {(line["step"], name): line[name] for line in read_metrics(run_dir) for name in line if name != "step"}
    logged, names = [], {name for _, name in kept}
    for record in written:
        if record.WhichOneof("record_type") == "history":
            line = {item.key or item.nested_key[0]: json.loads(item.value_json) for item in record.history.item}
            logged += [((line["step"], name), line[name]) for name in line if name in names]
    assert len(logged) == len(kept)  # each once
    assert dict(logged) == kept
    assert len(list(run_dir.glob("wandb/offline-run-*"))) == 2
    assert not [file for file in Path.cwd().glob("wandb") if file.is_dir()]
    (plain,), _ = run(baseline_of(read(tmp_path / "student.yaml", "train.save_every=4")), tmp_path / "other")
    assert equal(weights(run_dir), weights(plain))
