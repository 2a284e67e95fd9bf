"""The path of a run directory, its lock and its state."""

import multiprocessing
import os

import pytest
from disk import fill, small_disk

from kd.errors import LockedError, StorageError
from kd.recipe import read_recipe
from kd.runs import is_finished, locked, run_directory

RECIPE = """
student: {use: students.MobileNetV3SmallASPP}
data: {use: kd.data.Shapes, size: [64, 64]}
supervised: {use: kd.losses.CrossEntropy}
optimizer: {use: torch.optim.SGD, args: {lr: 0.1}}
train: {steps: 3, batch_size: 2}
"""


def test_recipes_of_equal_meaning_share_their_runs(tmp_path):
    for name in ("a.yaml", "b.yaml"):
        (tmp_path / name).write_text(RECIPE)
    a, b = (read_recipe(tmp_path / name) for name in ("a.yaml", "b.yaml"))
    runs = tmp_path / "runs"
    assert run_directory(a, runs, 3) == runs / f"a-{a.id}" / "seed3"
    run_directory(a, runs, 3).mkdir(parents=True)
    assert run_directory(b, runs, 3) == runs / f"a-{a.id}" / "seed3"
    (tmp_path / "b.yaml").write_text(RECIPE.replace("steps: 3", "steps: 4"))
    changed = read_recipe(tmp_path / "b.yaml")
    assert run_directory(changed, runs, 3) == runs / f"b-{changed.id}" / "seed3"


def _try_lock(path, queue):
    try:
        with locked(path):
            queue.put("got it")
    except LockedError as error:
        queue.put(str(error))


def test_a_directory_has_one_owner(tmp_path):
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    with locked(tmp_path):
        child = context.Process(target=_try_lock, args=(tmp_path, queue))
        child.start()
        message = queue.get()
        child.join()
    assert (
        message
        == f"{tmp_path}: in use by process {os.getpid()} on {os.uname().nodename}; wait for it, or stop it first"
    )
    child = context.Process(target=_try_lock, args=(tmp_path, queue))
    child.start()
    assert queue.get() == "got it"
    child.join()


def test_a_result_without_its_manifest_is_finished_again_while_it_can_be(tmp_path):
    (tmp_path / "result.json").write_text('{"format": 2}')
    assert is_finished(tmp_path)  # reading it reports what is missing
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints/step-9-0123abcd.pt").touch()
    assert not is_finished(tmp_path)  # killed between the two files
    (tmp_path / "result.json").write_text('{"format": 1}')
    assert is_finished(tmp_path)  # of kd 0.2, which wrote no manifest
    (tmp_path / "manifest.json").touch()
    assert is_finished(tmp_path)


def test_a_full_disk_is_one_line_and_leaves_the_run_unlocked(tmp_path):
    with small_disk(tmp_path / "disk", 16) as disk:
        run_dir = disk / "x-1234abcd" / "seed0"
        run_dir.mkdir(parents=True)
        fill(disk)
        with pytest.raises(StorageError) as caught, locked(run_dir):
            pass
        assert str(caught.value) == f"{run_dir}: cannot be written (No space left on device); choose --runs DIR"
        (disk / "filler").unlink()
        with locked(run_dir):
            pass
