"""SIGKILL where others depend on the process: its data workers, the teacher's cache, a run that waits for it."""

import os
import platform
import signal
import time
from functools import partial

import pytest
import torch
from steps import at_each_step
from tiny import equal, forked, in_child, read, run, tenth, weights, write_recipes

from kd.errors import LockedError
from kd.parts.assemble import assemble
from kd.parts.roles import to_device
from kd.parts.stream import stream
from kd.parts.teacher import cache as teacher_cache
from kd.runs import is_finished, run_directory
from kd.train import session, waiting
from kd.train.fill_cache import fill_cache
from kd.train.start import step_teacher


def kill_me(*_):
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.slow
def test_the_workers_of_a_killed_run_do_not_hold_its_lock(tmp_path):
    """The same command is refused while the run lives, and resumes at once when it is killed."""
    overrides = ("teacher=null", "distill=null", "train.evaluate_every=0", "data.workers=2")
    recipe = read(write_recipes(tmp_path), *overrides)
    reader, writer = os.pipe()

    def works():
        with pytest.MonkeyPatch.context() as patched:
            at_each_step(patched, after=lambda recipe, step: step == 4 and os.write(writer, b"!") and time.sleep(60))
            run(recipe, tmp_path / "runs")

    owner = forked(works)
    os.read(reader, 1)
    with pytest.raises(LockedError, match=f"in use by process {owner} on "):
        run(recipe, tmp_path / "runs")
    os.kill(owner, signal.SIGKILL)
    os.waitpid(owner, 0)
    (resumed,), lines = run(recipe, tmp_path / "runs")
    assert "  resumes at step 4 of 8" in lines
    (whole,), _ = run(read(recipe.file, *overrides, "data.workers=0"), tmp_path / "whole")
    assert equal(weights(resumed), weights(whole))


def cached(folder, workers=0):
    """A recipe whose teacher is kept in float32, trained."""
    path = write_recipes(folder)
    cache = f"cache={{views: 2, dtype: float32, folder: '{folder / 'cache'}'}}"
    recipe = read(path, cache, f"data.workers={workers}")
    run(recipe.teacher_recipe, folder / "runs")
    return recipe


def die_in_write(monkeypatch, number):
    """Kill the process when it has written half of the `number`-th piece of the cache."""
    ordinary, count = teacher_cache._write, []

    def write(file, value, offset):
        count.append(offset)
        if len(count) < number:
            return ordinary(file, value, offset)
        data = teacher_cache._bytes(value)
        os.pwrite(file.fileno(), data[: len(data) // 2], offset)
        return kill_me()

    monkeypatch.setattr(teacher_cache, "_write", write)


@pytest.mark.parametrize("kills", tenth(40))
def test_a_cache_that_is_killed_while_it_is_filled_holds_no_torn_map(tmp_path, monkeypatch, kills):
    """Kill after kill, the same command goes further; the maps are the teacher's in the end."""
    recipe = cached(tmp_path, workers=2 if kills == 40 else 0)
    parts = assemble(recipe, runs=tmp_path / "runs", seed=0)
    for kill in range(kills):
        with monkeypatch.context() as patched:
            die_in_write(patched, 1 + 3 * kill % 7)
            fills = partial(fill_cache, recipe, runs=tmp_path / "runs")
            assert in_child(fills) in (-signal.SIGKILL, 0), kill
    fill_cache(recipe, runs=tmp_path / "runs")
    kept, computed = step_teacher(parts, 0), []
    monkeypatch.setattr(kept, "_computed", lambda *arguments: computed.append(arguments))
    for batch in (to_device(batch, parts.precision) for batch in stream(parts, seed=0, steps=6)):
        output, exact = kept(batch), parts.teacher(batch)
        assert torch.equal(output.logits, exact.logits)
        assert all(torch.equal(output.at[term], exact.at[term]) for term in exact.at)
    assert not computed


def test_a_run_that_waits_takes_over_when_the_owner_of_the_teacher_is_killed(tmp_path, monkeypatch):
    """The second process finishes the teacher from the owner's checkpoint, then its own run."""
    monkeypatch.setattr(waiting, "POLL", 0.05)
    path = write_recipes(tmp_path)
    waits, kills = os.pipe(), os.pipe()

    def owns(workers):
        with pytest.MonkeyPatch.context() as patched:

            def dies(recipe, step):
                if step == 4:
                    os.write(kills[1], b"!")
                    os.read(waits[0], 1)
                    kill_me()

            at_each_step(patched, after=dies)
            run(read(path, f"data.workers={workers}"), tmp_path / "runs")

    owner = forked(partial(owns, 2))
    os.read(kills[0], 1)  # the teacher's run has reached step 4
    recipe, lines = read(path, "optimizer.args.lr=0.05"), []
    teacher = run_directory(recipe.teacher_recipe, tmp_path / "runs", 0)

    def say(line):
        lines.append(line)
        if "waiting for it" in line:
            os.write(waits[1], b"!")

    session.run_recipe(recipe, runs=tmp_path / "runs", say=say, quiet=True)
    assert os.waitstatus_to_exitcode(os.waitpid(owner, 0)[1]) == -signal.SIGKILL
    assert lines[0] == f"{teacher}: in use by process {owner} on {platform.node()}; waiting for it (0 s)"
    assert "  resumes at step 4 of 8" in lines
    assert is_finished(teacher)
    assert is_finished(run_directory(recipe, tmp_path / "runs", 0))
    (alone,), _ = run(recipe.teacher_recipe, tmp_path / "alone")
    assert equal(weights(teacher), weights(alone))
