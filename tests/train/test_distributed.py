"""Two processes over Gloo, forked from this process as torchrun would start them; a real torchrun with `slow`."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from ranks import kd, start, statuses, the_run, write_plain
from steps import at_each_step
from tiny import equal, read, run, weights, write_recipes

from kd import distributed
from kd.errors import RecipeError, StoppedError
from kd.recipe import baseline_of
from kd.runs import read_metrics, read_result


def errors(folder):
    return [(folder / f"err{rank}").read_text() for rank in range(2)]


def distance(state, other):
    return max((state[key] - other[key]).abs().max().item() for key in state)


def test_two_processes_equal_one_with_the_same_batch_through_a_stop_too(tmp_path, monkeypatch):
    path = write_plain(tmp_path / "one")
    (alone,), _ = run(read(path), tmp_path / "one" / "runs")
    write_plain(tmp_path / "two")
    assert statuses(start(2, kd(tmp_path / "two"))) == [0, 0]
    two = the_run(tmp_path / "two")
    assert distance(weights(two), weights(alone)) < 1e-5
    assert read_result(two).splits["val"].images == 12
    for line, expected in zip(read_metrics(two), read_metrics(alone), strict=True):
        assert line == pytest.approx(expected, abs=1e-4)

    cut = tmp_path / "cut"
    write_plain(cut)

    def signalled(recipe, step):  # only one rank receives the signal; both must stop, at the same step
        if step == 5 and distributed.rank() == 1 and recipe.stem == "student":
            os.kill(os.getpid(), signal.SIGUSR1)

    with monkeypatch.context() as patched:
        at_each_step(patched, before=signalled)
        children = start(2, kd(cut))
    assert statuses(children) == [138, 138]
    assert errors(cut)[0].startswith("stopped by SIGUSR1; the same command resumes the run: ")
    assert errors(cut)[1] == ""
    assert statuses(start(2, kd(cut))) == [0, 0]
    assert equal(weights(the_run(cut)), weights(two))
    assert (the_run(cut) / "metrics.jsonl").read_bytes() == (two / "metrics.jsonl").read_bytes()
    assert "resumes at step 5 of 8" in (cut / "out0").read_text()
    assert (cut / "out1").read_text() == ""


def phased(start_from):
    """Overrides: the first half of the steps trains only the head; then everything trains, at another rate."""
    return (
        "phases=[{until: 50%, freeze: [conv, norm]}, {lr: 0.05}]",
        f"student.weights={start_from}",
        "teacher={use: 'nets.py:Net', args: {channels: 8}}",
        "train.evaluate_every=0",
    )


def start_weights(folder):
    """The run directory of a student to start from: frozen modules must have been trained."""
    (run_dir,), _ = run(baseline_of(read(write_plain(folder))), folder / "runs")
    return run_dir


def test_a_phase_that_unfreezes_is_shared_by_two_processes_through_a_kill_too(tmp_path, monkeypatch):
    """DDP reads `requires_grad` when it wraps: if it did not wrap again, the ranks would not average all gradients."""
    first = start_weights(tmp_path / "first")
    overrides = (*phased(first), "train.save_every=3")
    (alone,), _ = run(read(write_plain(tmp_path / "one"), *overrides), tmp_path / "one" / "runs")
    write_plain(tmp_path / "two")
    assert statuses(start(2, kd(tmp_path / "two", *overrides))) == [0, 0]
    two = the_run(tmp_path / "two")
    assert not torch.equal(weights(two)["conv.weight"], weights(first)["conv.weight"])
    assert distance(weights(two), weights(alone)) < 1e-5

    write_plain(tmp_path / "cut")

    def dies(recipe, step):
        if step == 5:  # step 3 is saved; all trains from step 4 on
            os._exit(9)

    with monkeypatch.context() as patched:
        at_each_step(patched, after=dies)
        assert statuses(start(2, kd(tmp_path / "cut", *overrides))) == [9, 9]
    assert statuses(start(2, kd(tmp_path / "cut", *overrides))) == [0, 0]
    assert "resumes at step 3 of 8" in (tmp_path / "cut" / "out0").read_text()
    assert equal(weights(the_run(tmp_path / "cut")), weights(two))
    assert (the_run(tmp_path / "cut") / "metrics.jsonl").read_bytes() == (two / "metrics.jsonl").read_bytes()


def test_another_number_of_processes_is_reported_as_not_bit_identical(tmp_path, monkeypatch):
    path = write_plain(tmp_path)

    def dies(recipe, step):
        if step == 4 and recipe.stem == "student":
            os._exit(9)

    with monkeypatch.context() as patched:
        at_each_step(patched, after=dies)
        assert statuses(start(2, kd(tmp_path))) == [9, 9]
    _, lines = run(read(path), tmp_path / "runs")
    assert "  saved by 2 processes, resumed by 1: not bit-identical to an uninterrupted run" in lines


def test_a_process_that_dies_ends_the_others_with_a_message(tmp_path, monkeypatch):
    write_plain(tmp_path)

    def dies(recipe, step):
        if step == 3 and distributed.rank() == 1:
            os.kill(os.getpid(), signal.SIGKILL)

    at_each_step(monkeypatch, after=dies)
    children = start(2, kd(tmp_path))
    os.waitpid(children[1], 0)
    assert statuses(children[:1]) == [8]  # soon: torch's own patience is half an hour
    assert errors(tmp_path)[0] == (
        "process 0 of 2: another process of this run has died (see its message); "
        "the same command resumes from the last checkpoint\n"
    )


def test_a_mistake_is_reported_once(tmp_path):
    write_plain(tmp_path)
    assert statuses(start(2, kd(tmp_path, "train.batch_size=5", "teacher=null", "distill=null"))) == [2, 2]
    assert errors(tmp_path) == [
        "<train.batch_size=5>: train.batch_size: 5 is not divisible by 2 processes × 1 micro-batches; "
        "the nearest multiples: 4 and 6\n",
        "",
    ]


def test_synchronized_batchnorm_is_for_gpus(tmp_path):
    write_recipes(tmp_path)
    arguments = ("train.sync_batchnorm=true", "teacher=null", "distill=null", "device=cpu")
    assert statuses(start(2, kd(tmp_path, *arguments))) == [2, 2]
    assert errors(tmp_path)[0] == (
        "<train.sync_batchnorm=true>: train.sync_batchnorm: torch synchronizes BatchNorm on GPUs only, and this run "
        "is on the CPU; set it to false\n"
    )


def test_every_rank_raises_what_rank_0_raises(tmp_path):
    def work(rank):
        with distributed.joined("cpu"):
            assert distributed.gathered(rank) == [0, 1]
            assert distributed.largest(rank) == 1
            assert distributed.summed(torch.tensor([rank, 1])).tolist() == [1, 2]
            assert distributed.first(lambda: rank) == 0
            with contextlib.suppress(RecipeError):
                distributed.first(lambda: fail(RecipeError(["a: b"])))
                return 1
            with pytest.raises(StoppedError, match="stopped by SIGTERM") as stopped:
                distributed.first(lambda: fail(StoppedError(signal.SIGTERM)))
            assert stopped.value.exit_status == 143
            with pytest.raises(UsersError if rank == 0 else RuntimeError, match="of a user"):
                distributed.first(lambda: fail(UsersError("of a", "user")))
        return 0

    assert statuses(start(2, work)) == [0, 0]


class UsersError(Exception):
    """An exception that pickle cannot make again: it takes other arguments than it keeps."""

    def __init__(self, first, second):
        super().__init__(f"{first} {second}")


def fail(error):
    raise error


def test_more_processes_than_devices_is_a_line(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    text = "torchrun: no CUDA device for process 1: this machine has 1; use --nproc-per-node 1, or device=cpu"
    with pytest.raises(ValueError, match=re.escape(text)), distributed.joined("auto"):
        pass


def torchrun(folder, *arguments):
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    command += [
        "--no-python",
        sys.executable,
        "-m",
        "kd",
        "run",
        str(folder / "student.yaml"),
        "--trust",
        "--runs",
        str(folder / "runs"),
        *arguments,
    ]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment, cwd=folder)


def ended(job):
    """The exit status of a job, after it ends."""
    job.communicate(timeout=200)
    return job.returncode


def uncut(folder, *arguments):
    """The student's weights after a run from start to end."""
    write_plain(folder)
    assert ended(torchrun(folder, *arguments)) == 0
    return weights(the_run(folder))


def at_step(folder, step):
    """Wait until the student's run has reached step `step`."""
    deadline = time.monotonic() + 100
    while time.monotonic() < deadline:
        files = (folder / "runs").glob("student-*/seed0/metrics.jsonl")
        if sum(file.read_text().count("\n") for file in files) >= step:
            return
        time.sleep(0.05)
    raise AssertionError(f"no step {step} within 100 s")


def signal_rank_1(job, number):
    """Send a signal to rank 1, which is not always the second child of torchrun."""
    children = Path(f"/proc/{job.pid}/task/{job.pid}/children").read_text().split()
    (rank_1,) = [child for child in children if b"RANK=1" in Path(f"/proc/{child}/environ").read_bytes().split(b"\0")]
    os.kill(int(rank_1), number)


def stopped_and_resumed(folder, step, *arguments):
    """The student's weights after a run that torchrun stops at `step` and that another call resumes."""
    job = torchrun(folder, *arguments)
    at_step(folder, step)
    job.send_signal(signal.SIGTERM)
    _, err = job.communicate(timeout=60)
    assert "stopped by SIGTERM" in err
    assert ended(torchrun(folder, *arguments)) == 0
    return weights(the_run(folder))


@pytest.mark.slow
def test_a_real_torchrun_stops_and_resumes(tmp_path):
    """One rank receives the signal, and later torchrun; after the third call, the weights are those of an uncut run."""
    long = ("train.steps=600", "train.evaluate_every=0", "train.save_every=0")
    whole = uncut(tmp_path / "whole", *long)
    write_plain(tmp_path / "cut")
    job = torchrun(tmp_path / "cut", *long)
    at_step(tmp_path / "cut", 20)
    signal_rank_1(job, signal.SIGUSR2)
    _, err = job.communicate(timeout=60)
    command = "torchrun --standalone --nproc-per-node 2 --no-python kd run"
    assert f"stopped by SIGUSR2; the same command resumes the run: {command}" in err
    assert equal(stopped_and_resumed(tmp_path / "cut", 100, *long), whole)


@pytest.mark.slow
def test_a_real_torchrun_goes_through_phases_and_a_stop_in_the_second(tmp_path):
    """It resumes in the phase in which it was stopped, and ends with the weights of an uncut run."""
    long = (*phased(start_weights(tmp_path / "first")), "train.steps=600", "train.save_every=0")
    whole = uncut(tmp_path / "whole", *long)
    write_plain(tmp_path / "cut")
    assert equal(stopped_and_resumed(tmp_path / "cut", 320, *long), whole)


@pytest.mark.slow
def test_a_real_torchrun_ends_within_30_s_of_a_death(tmp_path):
    write_plain(tmp_path)
    job = torchrun(tmp_path, "train.steps=100000", "train.save_every=10")
    at_step(tmp_path, 20)
    signal_rank_1(job, signal.SIGKILL)
    began = time.monotonic()
    _, err = job.communicate(timeout=60)
    assert time.monotonic() - began < 30
    assert job.returncode != 0
    assert "another process of this run has died" in err or "Signal 9 (SIGKILL)" in err


@pytest.mark.slow
def test_the_slurm_block_saves_and_asks_to_be_queued_again(tmp_path):
    """The documented script under a stub Slurm: USR1 to the batch shell only, as `--signal=B:USR1` sends it."""
    write_plain(tmp_path)
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    script = re.search(r"```bash\n(#!/bin/bash\n.*?)```", readme, re.DOTALL)[1]
    script = script.replace("kd run shapes/mobilenetv3_kl_cwd.yaml", "kd run student.yaml --trust train.steps=600")
    stubs = tmp_path / "bin"
    stubs.mkdir()
    (stubs / "scontrol").write_text(
        '#!/bin/bash\nif [ "$1" = show ]; then echo localhost; else echo "$@" >> requeued; fi\n'
    )
    (stubs / "srun").write_text('#!/bin/bash\nexec "$@"\n')
    (stubs / "torchrun").write_text(f'#!/bin/bash\nexec {sys.executable} -m torch.distributed.run "$@"\n')
    (stubs / "kd").write_text(f'#!/bin/bash\nexec {sys.executable} -m kd "$@"\n')
    for stub in stubs.iterdir():
        stub.chmod(0o755)
    (tmp_path / "job.sh").write_text(script)
    environment = os.environ | {"PATH": f"{stubs}:{os.environ['PATH']}", "PYTHONPATH": str(Path(__file__).parents[2])}
    environment |= {"SLURM_JOB_ID": "41", "SLURM_NNODES": "1", "SLURM_GPUS_ON_NODE": "2", "SLURM_JOB_NODELIST": "n1"}
    environment |= {"OMP_NUM_THREADS": "1"}

    def submit():
        return subprocess.Popen(["bash", "job.sh"], cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True)

    job = submit()
    at_step(tmp_path, 20)
    job.send_signal(signal.SIGUSR1)
    _, err = job.communicate(timeout=60)
    assert "the same command resumes the run" in err
    assert (tmp_path / "requeued").read_text() == "requeue 41\n"
    assert not (the_run(tmp_path) / "result.json").exists()
    assert ended(submit()) == 0
    assert (the_run(tmp_path) / "result.json").exists()
    assert (tmp_path / "requeued").read_text() == "requeue 41\n"  # once: the second job finished
