import dataclasses
import errno
import json
import multiprocessing
import os

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from kd.errors import LockedError, StorageError
from kd.parts.trained import write_weights
from kd.recipe import read_recipe
from kd.runs import (
    ImageCounts,
    MetricResult,
    Result,
    SplitResult,
    TeacherResult,
    has_teacher_score,
    locked,
    read_counts,
    read_metrics,
    read_result,
    read_teacher_score,
    run_directory,
    write_result,
    write_teacher_score,
)
from kd.storage import write_atomic

RECIPE = """
student: {use: students.MobileNetV3SmallASPP}
data: {use: kd.data.Shapes, size: [64, 64]}
supervised: {use: kd.losses.CrossEntropy}
optimizer: {use: torch.optim.SGD, args: {lr: 0.1}}
train: {steps: 3, batch_size: 2}
"""


def a_result(**changes):
    split = SplitResult(np.array([[3, 1], [0, 4]]), ["sky", "road"], 2)
    teacher = TeacherResult("t", "teachers.T", "runs/t-1/seed0", 7, {"val": split})
    whole = Result(
        "01234567", "r", 0, "student", "students.S", teacher, "r-89", "last", {"val": split}, 5, 1.5, 2.5, 9, {}
    )
    return dataclasses.replace(whole, **changes)


def test_a_result_survives_its_file(tmp_path):
    metrics = {"BoundaryIoU": MetricResult({"mean": 0.25, "class 1": None}, "%", "higher")}
    further = dataclasses.replace(a_result().splits["val"], metrics=metrics)
    for result in (a_result(), a_result(teacher=None, baseline=None), a_result(splits={"val": further})):
        write_result(tmp_path, result)
        read = read_result(tmp_path)
        assert read == result
        assert read.splits["val"].confusion.dtype == np.int64
    assert read != a_result()
    assert read.splits["val"].metrics["BoundaryIoU"].headline == 0.25


OLD = {
    "id": "01234567", "name": "r", "seed": 0, "role": "student", "network": "students.S", "teacher": None,
    "baseline": "r-89", "select": "last",
    "splits": {"val": {"confusion": [[3, 1], [0, 4]], "classes": ["sky", "road"], "images": 2}},
    "parameters": 5, "seconds": 1.5, "images_per_second": 2.5, "peak_memory": 9, "versions": {}, "format": 1,
}  # fmt: skip


def test_a_result_without_further_metrics_is_written_as_before_they_existed(tmp_path):
    write_result(tmp_path, a_result(teacher=None))
    assert json.loads((tmp_path / "result.json").read_text()) == OLD
    assert read_counts(tmp_path) == {}


def test_a_teachers_score_survives_its_file(tmp_path):
    assert not has_teacher_score(tmp_path)
    write_teacher_score(tmp_path, a_result().splits["val"])
    assert has_teacher_score(tmp_path)
    assert read_teacher_score(tmp_path) == a_result().splits["val"]
    (tmp_path / "teacher.json").write_text("{}")
    with pytest.raises(StorageError, match=r"teacher\.json: is not a score of kd \('confusion'\); delete the file"):
        read_teacher_score(tmp_path)


def test_each_images_counts_survive_their_file(tmp_path):
    names = ("a/b.png", "größe.png", "c")
    counts = np.arange(3 * 2 * 3, dtype=np.int64).reshape(3, 2, 3)
    split = dataclasses.replace(a_result().splits["val"], per_image=ImageCounts(names, counts))
    write_result(tmp_path, a_result(splits={"val": split}))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["counts.npz", "result.json"]
    ((name, per_image),) = read_counts(tmp_path).items()
    assert (name, per_image.names) == ("val", names)
    assert np.array_equal(per_image.counts, counts)
    assert per_image.counts.dtype == np.int64
    assert read_result(tmp_path).splits["val"].per_image is None
    content = (tmp_path / "counts.npz").read_bytes()
    for damaged in (content[: len(content) // 2], b"", b"x" * 100, content.replace(b"PK", b"pk")):
        (tmp_path / "counts.npz").write_bytes(damaged)
        with pytest.raises(StorageError, match=r"counts\.npz: cannot be read \(.*\); run the recipe again with "):
            read_counts(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not valid JSON"),
        ('{"format": 2}', "has format 2, but this version reads 1; update kd"),
        ('{"format": 1, "teacher": null}', "is not a result of kd"),
        ("[]", "is not a result of kd"),
        (json.dumps(OLD | {"splits": {"val": {"confusion": [[1], [2, 3]]}}}), "is not a result of kd"),
    ],
)
def test_a_damaged_result_is_one_line(tmp_path, text, message):
    (tmp_path / "result.json").write_text(text)
    with pytest.raises(StorageError, match=message) as caught:
        read_result(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_missing_result_is_named(tmp_path):
    with pytest.raises(StorageError, match=r"result\.json: no such file$"):
        read_result(tmp_path)


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


def test_a_write_is_complete_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "deep" / "file"
    write_atomic(path, b"old")

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(
        StorageError, match=r"file: cannot be written \(No space left on device\); free space or choose"
    ):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert [file.name for file in path.parent.iterdir()] == ["file"]


def test_a_torn_last_line_of_metrics_is_left_out(tmp_path):
    assert read_metrics(tmp_path) == []
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n{"step": 2}\n{"st')
    assert read_metrics(tmp_path) == [{"step": 1}, {"step": 2}]


DAMAGED = (b"", b'{"step": 2, "loss', b"\x00\xff\xfe", b"[2]", b"7", b'{"loss": 1}', b'{"step": "2"}', b'{"step": 2}}')


@pytest.mark.parametrize("damaged", DAMAGED)
def test_a_damaged_line_of_metrics_is_named_and_left_out(tmp_path, damaged):
    file = tmp_path / "metrics.jsonl"
    file.write_bytes(b'{"step": 1}\n' + damaged + b'\n{"step": 3}\n')
    with pytest.warns(UserWarning, match="metrics") as caught:
        assert read_metrics(tmp_path) == [{"step": 1}, {"step": 3}]
    (warning,) = caught
    assert str(warning.message) == f"{file}:2: not a line of metrics (the file is damaged); line skipped"


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
        message = queue.get(timeout=30)
        child.join()
    assert (
        message
        == f"{tmp_path}: in use by process {os.getpid()} on {os.uname().nodename}; wait for it, or stop it first"
    )
    child = context.Process(target=_try_lock, args=(tmp_path, queue))
    child.start()
    assert queue.get(timeout=30) == "got it"
    child.join()


def test_weights_keep_the_networks_own_keys_and_tied_ones_twice(tmp_path):
    network = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    network[1].weight = network[0].weight
    write_weights(tmp_path, network)
    weights = load_file(tmp_path / "student.safetensors")
    assert set(weights) == {"0.weight", "0.bias", "1.weight", "1.bias"}
    assert torch.equal(weights["0.weight"], weights["1.weight"])
    assert json.loads(json.dumps(list(weights)))  # plain strings
