"""Kills during a save, and the time of a save. A tenth by default, all with `slow`; a failure names its seed."""

import hashlib
import os
import pickle
import random
import signal
import time
from dataclasses import replace

import pytest
import torch
from tiny import forked, in_child, tenth
from torn import CALLS, count_writes
from toy import toy_run

from kd.adapters import Conv1x1
from kd.parts.roles import Student
from kd.train.between_steps import saving
from kd.train.between_steps.checkpoint import Checkpoints, read_checkpoint
from kd.train.between_steps.watch import Watch
from students import MobileNetV3SmallASPP

pytestmark = pytest.mark.timeout(3600)  # all faults take minutes of an idle core


def save(checkpoints, step, *, best=False, size=5000):
    return checkpoints.save({"step": step, "weights": torch.full((size,), float(step))}, step=step, best=best)


def steps_in(checkpoints):
    """The steps of the existing checkpoints, all of which are valid."""
    return sorted(read_checkpoint(path)["step"] for path in checkpoints.folder.glob("step-*.pt"))


def test_killed_at_every_operation_of_a_save(tmp_path, monkeypatch):
    """Never fewer valid checkpoints than before, the best among them; no temporary files after the next start."""
    for operation in range(1, 100):
        checkpoints = Checkpoints(tmp_path / str(operation))
        for step in (1, 2, 3):
            save(checkpoints, step, best=step == 1)

        def dies(at=operation, checkpoints=checkpoints):
            count_writes(monkeypatch, lambda count: os._exit(9) if count == at else None, CALLS)
            save(checkpoints, 4, best=True)

        status = in_child(dies)
        assert status in (0, 9)
        newest, complaints = checkpoints.newest()
        assert newest["step"] in (3, 4)
        assert complaints == []
        assert not list(checkpoints.folder.glob(".tmp-*"))
        best = read_checkpoint(checkpoints.best())["step"]
        assert best in (1, 4)
        assert {best, newest["step"]} <= set(steps_in(checkpoints))
        assert len(steps_in(checkpoints)) >= (2 if best == 4 else 3)
        save(checkpoints, 5)
        assert steps_in(checkpoints) == sorted({best, newest["step"], 5})
        if status == 0:  # the save has fewer operations
            break
    assert operation > 14


@pytest.mark.parametrize("kills", tenth(500))
def test_killed_at_random_moments_of_saving(tmp_path, kills):
    checkpoints = Checkpoints(tmp_path)
    for step in (1, 2, 3):
        save(checkpoints, step, best=step == 1, size=500_000)
    for seed in range(kills):
        before = steps_in(checkpoints)

        def saves(first=before[-1] + 1):
            for step in range(first, first + 1000):
                save(checkpoints, step, best=step % 3 == 0, size=500_000)

        child = forked(saves)
        time.sleep(random.Random(seed).uniform(0.001, 0.05))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        state, complaints = checkpoints.newest()
        assert state["step"] >= before[-1], seed
        assert complaints == [], seed
        assert not list(tmp_path.glob(".tmp-*")), seed
        assert len(steps_in(checkpoints)) >= 2, seed
        assert checkpoints.best() is not None, seed


def test_a_checkpoint_with_momentum_and_adapters_costs_little_more_than_its_bytes(tmp_path):
    """To copy and to hash them once takes a third of the time of a save."""
    network = MobileNetV3SmallASPP(num_classes=11)
    assert sum(parameter.numel() for parameter in network.parameters()) > 6.8e6
    student = Student(network, {"cwd": "high"}, {"cwd": Conv1x1(network.taps["high"].channels, 2048)}, {})
    optimizer = torch.optim.SGD(student.parameters(), lr=0.1, momentum=0.9)
    for parameter in student.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    watch = Watch(checkpoints=Checkpoints(tmp_path), network="MobileNetV3SmallASPP")
    run, seconds, plain = replace(toy_run(), student=student, optimizer=optimizer), [], []
    for _ in range(3):
        began = time.process_time()  # without the time of other programs
        saving.save(run, watch, best=False, needed=True)
        saved = time.process_time()
        hashlib.sha256(pickle.dumps([value.numpy() for value in student.state_dict().values()] * 2)).digest()
        seconds.append(saved - began)
        plain.append(time.process_time() - saved)
        run.step += 1
    (file, *_) = tmp_path.glob("step-*.pt")
    assert file.stat().st_size > 2 * 4 * 6.8e6  # weights and momentum
    assert min(seconds) < 10 * min(plain), (seconds, plain)
