import errno
import hashlib
import io
import os
import pickle
import re

import pytest
import torch

from kd.errors import NoCheckpointError, StorageError
from kd.train.between_steps.checkpoint import Checkpoints
from kd.train.between_steps.saving import load_best


def save(checkpoints, step, *, best=False):
    return checkpoints.save({"step": step, "weights": torch.full((64,), float(step))}, step=step, best=best)


def names(folder):
    return sorted(int(path.name.split("-")[1]) for path in folder.glob("step-*.pt"))


def test_the_newest_two_and_the_best_are_kept(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    for step in range(1, 7):
        save(checkpoints, step, best=step == 2)
    assert names(tmp_path) == [2, 5, 6]
    state, complaints = checkpoints.newest()
    assert (state["step"], complaints) == (6, [])
    assert checkpoints.best().name.startswith("step-2-")


def test_no_checkpoint_is_none(tmp_path):
    assert Checkpoints(tmp_path / "nowhere").newest() is None


@pytest.mark.parametrize("damage", ["flip", "cut", "zero"])
def test_a_damaged_checkpoint_is_detected_and_the_previous_one_used(tmp_path, damage):
    checkpoints = Checkpoints(tmp_path)
    save(checkpoints, 1)
    path = save(checkpoints, 2)
    data = bytearray(path.read_bytes())
    if damage == "flip":
        data[len(data) // 2] ^= 1
    elif damage == "cut":
        del data[-100:]
    else:
        data[:200] = bytes(200)
    path.write_bytes(data)
    state, complaints = checkpoints.newest()
    assert state["step"] == 1
    digest = path.stem.split("-")[-1]
    assert re.fullmatch(
        rf"{re.escape(str(path))}: damaged \(its SHA-256 begins with [0-9a-f]{{8}}, its name has {digest}\)",
        complaints[0],
    )


def test_damage_to_all_checkpoints_is_an_error(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    save(checkpoints, 1).write_bytes(b"")
    with pytest.raises(NoCheckpointError, match=r"no valid checkpoint among 1: .*; start over with --fresh"):
        checkpoints.newest()


def test_a_full_disk_leaves_the_old_checkpoint_and_no_temporary_file(tmp_path, monkeypatch):
    checkpoints = Checkpoints(tmp_path)
    save(checkpoints, 1)

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="No space left on device"):
        save(checkpoints, 2)
    assert [path.name.split("-")[1] for path in tmp_path.iterdir()] == ["1"]


def test_temporary_files_of_a_killed_save_are_removed(tmp_path):
    (tmp_path / ".tmp-abc").write_bytes(b"half")
    save(Checkpoints(tmp_path), 1)
    Checkpoints(tmp_path).newest()
    assert names(tmp_path) == [1]
    assert not list(tmp_path.glob(".tmp-*"))


def test_code_in_a_checkpoint_does_not_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "ran"),))

    data = pickle.dumps(Evil(), protocol=2)
    path = tmp_path / f"step-1-{hashlib.sha256(data).hexdigest()[:8]}.pt"
    path.write_bytes(data)
    with pytest.raises(NoCheckpointError, match=r"not a checkpoint of kd \(UnpicklingError\)"):
        Checkpoints(tmp_path).newest()
    assert not (tmp_path / "ran").exists()


def test_a_checkpoint_of_another_run_is_not_loaded(tmp_path):
    own, other = (Checkpoints(tmp_path / name, name) for name in ("0123abcd/seed0", "0123abcd/seed1"))
    save(own, 1)
    path = save(other, 2)
    os.rename(path, own.folder / path.name)
    state, complaints = own.newest()
    assert state["step"] == 1
    assert complaints == [f"{own.folder / path.name}: of run 0123abcd/seed1, not of run 0123abcd/seed0"]


def test_a_checkpoint_of_kd_0_2_states_no_run(tmp_path):
    data = io.BytesIO()
    torch.save({"step": 3}, data)
    (tmp_path / f"step-3-{hashlib.sha256(data.getvalue()).hexdigest()[:8]}.pt").write_bytes(data.getvalue())
    assert Checkpoints(tmp_path, "0123abcd/seed0").newest() == ({"step": 3}, [])


@pytest.mark.parametrize("damage", [lambda text: text[:-9], lambda text: b"", lambda text: text.replace(b"-", b"+")])
def test_the_best_is_named_again_after_damage_to_the_index(tmp_path, damage):
    checkpoints = Checkpoints(tmp_path)
    for step in (1, 2, 3):
        state = {"step": step, "best": {"step": min(step, 2), "miou": 0.5}}
        checkpoints.save(state, step=step, best=step <= 2)
    index = tmp_path / "index.jsonl"
    index.write_bytes(damage(index.read_bytes()))
    checkpoints.newest()
    assert checkpoints.best().name.startswith("step-2-")
    assert load_best(checkpoints, 2)["step"] == 2


def test_another_checkpoint_than_the_best_is_not_taken_for_it(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    with pytest.raises(NoCheckpointError, match=r"the best checkpoint, of step 4, is missing, and the run has no "):
        load_best(checkpoints, 4)
    path = save(checkpoints, 3, best=True)
    with pytest.raises(NoCheckpointError, match="the best checkpoint, of step 4, is missing"):
        load_best(checkpoints, 4)
    path.write_bytes(b"")
    with pytest.raises(NoCheckpointError, match=r"step-3-.*: damaged \(.*; start over with --fresh"):
        load_best(checkpoints, 3)
