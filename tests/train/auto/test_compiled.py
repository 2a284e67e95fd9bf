"""`train.compile: auto` with a compiler and steps of known durations."""

import pytest
import torch
from tiny import read, run, write_recipes

from kd.parts.assemble import assemble
from kd.parts.compiling import is_compiled
from kd.runs import read_environment
from kd.train import start
from kd.train.auto import compiled
from kd.train.auto.compiled import found_compile

TIMES = {"off": 1.0, "teacher": 0.9, "student": 0.5, "all": 0.4}  # seconds of a step


@pytest.fixture
def clock(monkeypatch):
    """A clock that only the compiler moves, by a minute a network, and steps that take `TIMES`."""
    now = [0.0]

    def compile_roles(roles, batch, precision, backend):
        for role in roles:
            role.taps.run = lambda images, network=role.network: network(images)
            now[0] += 60

    def step_seconds(run, parts, seconds):
        roles = (parts.teaching, parts.student)
        done = tuple(role is not None and is_compiled(role) for role in roles)
        return TIMES[{(False, False): "off", (True, False): "teacher", (False, True): "student"}.get(done, "all")]

    monkeypatch.setattr(start, "compile_roles", compile_roles)
    monkeypatch.setattr(compiled.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(compiled, "time_steps", step_seconds)
    return now


def parts_of(folder, *overrides):
    return assemble(read(write_recipes(folder), "train.compile=auto", *overrides), runs=folder, seed=0, trained=False)


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize(
    ("steps", "best", "times"),
    [
        (599, "off", {}),  # shorter than ten minutes
        (650, "student", {"all": 0.42}),  # 60 + 325 s, both 120 + 273 s
        (2000, "all", {}),  # 120 + 800 s, the student alone 60 + 1000 s
        (2000, "teacher", {"teacher": 0.5, "student": 0.9, "all": 0.49}),  # 60 + 1000 s, both 120 + 980 s
    ],
)
def test_the_time_to_compile_is_weighed_against_the_run(tmp_path, steps, best, times, monkeypatch):
    for choice, seconds in times.items():
        monkeypatch.setitem(TIMES, choice, seconds)
    parts = parts_of(tmp_path, f"train.steps={steps}")
    choice, line = found_compile(parts)
    assert choice == best
    assert line == (
        "train.compile: auto: off, as the run takes about 10 min"
        if best == "off"
        else f"train.compile: auto: {best} (seconds a step: off 1, teacher {TIMES['teacher']}, student "
        f"{TIMES['student']}, all {TIMES['all']}, after 2 min of compiling)"
    )
    assert is_compiled(parts.student) == (best in ("student", "all"))
    assert is_compiled(parts.teaching) == (best in ("teacher", "all"))


@pytest.mark.parametrize(("fails", "line"), [("student", "off 1, teacher 0.9"), ("teacher", "off 1, student 0.5")])
def test_a_network_that_cannot_be_compiled_is_not_timed_as_compiled(tmp_path, clock, monkeypatch, fails, line):
    compile_roles = start.compile_roles

    def compile_some(roles, *given):
        compile_roles([role for role in roles if type(role).__name__.lower() != fails], *given)

    monkeypatch.setattr(start, "compile_roles", compile_some)
    parts = parts_of(tmp_path, "train.steps=5000")
    choice, stated = found_compile(parts)
    assert choice == ("teacher" if fails == "student" else "student")
    assert f"(seconds a step: {line}, after 60 s of compiling)" in stated


@pytest.mark.usefixtures("clock")
def test_a_compiler_that_slows_steps_down_is_not_used(tmp_path, monkeypatch):
    monkeypatch.setitem(TIMES, "teacher", 1.05)
    monkeypatch.setitem(TIMES, "student", 1.1)
    monkeypatch.setitem(TIMES, "all", 1.2)
    parts = parts_of(tmp_path, "train.steps=5000")
    assert found_compile(parts)[0] == "off"
    assert parts.student.taps.run is parts.student.network
    assert parts.teaching.taps.run is parts.teaching.network


@pytest.mark.usefixtures("clock")
def test_a_cached_teacher_is_not_compiled(tmp_path):
    choice, line = found_compile(parts_of(tmp_path, "train.steps=5000", "cache={views: 1}"))
    assert choice == "student"
    assert "(seconds a step: off 1, student 0.5, after" in line


def test_a_run_records_the_choice_and_keeps_its_id(tmp_path, monkeypatch):
    alone = ("teacher=null", "distill={}")
    recipe = read(write_recipes(tmp_path), *alone, "train.compile=auto")
    assert recipe.id == read(tmp_path / "student.yaml", *alone).id
    assert recipe.id == read(tmp_path / "student.yaml", *alone, "train.compile=student").id
    (run_dir,), lines = run(recipe, tmp_path / "runs")
    assert any(line.startswith("  train.compile: auto: off, as the run takes about ") for line in lines)
    assert read_environment(run_dir).found == {"compile": "off"}


def test_measuring_changes_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(compiled, "WORTH", 0.0)
    monkeypatch.setattr(compiled, "MEASURED", 0.1)
    eager = start.compile_roles
    monkeypatch.setattr(start, "compile_roles", lambda *given: eager(*given[:3], "eager"))
    parts = parts_of(tmp_path)
    before, random = {name: value.clone() for name, value in parts.student.state_dict().items()}, torch.get_rng_state()
    choice, line = found_compile(parts)
    assert line.startswith(f"train.compile: auto: {choice} (seconds a step: off ")
    after = parts.student.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert torch.equal(random, torch.get_rng_state())
