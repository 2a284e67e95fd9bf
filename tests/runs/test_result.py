"""What a run has scored, in its files."""

import dataclasses
import io
import json
import os

import numpy as np
import pytest
from manifests import list_anew

from kd.errors import StorageError
from kd.runs import (
    ImageCounts,
    MetricResult,
    Result,
    SplitResult,
    TeacherResult,
    has_teacher_score,
    read_counts,
    read_result,
    read_teacher_score,
    write_result,
    write_teacher_score,
)


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
    assert json.loads((tmp_path / "result.json").read_text()) == OLD | {"format": 2}
    assert read_counts(tmp_path) == {}


def test_a_result_of_kd_0_2_is_read(tmp_path):
    (tmp_path / "result.json").write_text(json.dumps(OLD))
    assert read_result(tmp_path) == a_result(teacher=None, format=1)


def test_a_teachers_score_survives_its_file(tmp_path):
    split = a_result().splits["val"]
    assert not has_teacher_score(tmp_path)
    assert read_teacher_score(tmp_path, id="01234567", seed=0) is None
    write_teacher_score(tmp_path, split, id="01234567", seed=0)
    assert has_teacher_score(tmp_path)
    assert read_teacher_score(tmp_path, id="01234567", seed=0) == split


@pytest.mark.parametrize("text", ["{}", "", json.dumps(OLD["splits"]["val"])])  # the last is of kd 0.2
def test_a_damaged_score_of_the_teacher_is_taken_again(tmp_path, text):
    (tmp_path / "teacher.json").write_text(text)
    with pytest.warns(UserWarning, match=r"teacher\.json: cut or changed \(.*\); the teacher is scored again"):
        assert read_teacher_score(tmp_path, id="01234567", seed=0) is None


@pytest.mark.parametrize(("id", "seed"), [("01234567", 1), ("76543210", 0)])
def test_a_teachers_score_in_another_run_is_taken_again(tmp_path, id, seed):
    write_teacher_score(tmp_path, a_result().splits["val"], id=id, seed=seed)
    with pytest.warns(UserWarning, match=f"is of run {id}, seed {seed}; the teacher is scored again"):
        assert read_teacher_score(tmp_path, id="01234567", seed=0) is None


def with_counts(run_dir, **changed):
    """A finished run with the counts of three images; `changed` arrays of its file."""
    names = ("a/b.png", "größe.png", "c")
    counts = np.array([[[1, 1, 1], [1, 1, 1]], [[2, 2, 2], [0, 0, 0]], [[0, 0, 1], [3, 4, 3]]])
    split = dataclasses.replace(a_result().splits["val"], images=3, per_image=ImageCounts(names, counts))
    write_result(run_dir, a_result(splits={"val": split}))
    if changed:
        file = io.BytesIO()
        np.savez(file, **({"val": counts, "val/names": np.array(names)} | changed))
        (run_dir / "counts.npz").write_bytes(file.getvalue())
    return names, counts


def test_each_images_counts_survive_their_file(tmp_path):
    names, counts = with_counts(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["counts.npz", "manifest.json", "result.json"]
    ((name, per_image),) = read_counts(tmp_path).items()
    assert (name, per_image.names) == ("val", names)
    assert np.array_equal(per_image.counts, counts)
    assert per_image.counts.dtype == np.int64
    assert read_result(tmp_path).splits["val"].per_image is None
    (tmp_path / "counts.npz").unlink()
    with pytest.raises(StorageError, match=r"counts\.npz: missing; mv "):
        read_counts(tmp_path)


def test_damaged_counts_are_one_line(tmp_path):
    with_counts(tmp_path)
    content = (tmp_path / "counts.npz").read_bytes()
    for damaged in (content[: len(content) // 2], b"", b"x" * 100, content.replace(b"PK", b"pk")):
        (tmp_path / "counts.npz").write_bytes(damaged)
        with pytest.raises(StorageError, match=r"counts\.npz: changed after the run wrote it \("):
            read_counts(tmp_path)
        list_anew(tmp_path)  # as the run wrote them, or of kd 0.2
        with pytest.raises(StorageError, match=r"counts\.npz: cannot be read \(.*\); mv .*trains it again"):
            read_counts(tmp_path)


@pytest.mark.parametrize(
    ("array", "what"),
    [
        (np.zeros((3, 2, 3)), r"float64 \(3, 2, 3\) are not the counts of 3 images"),
        (np.zeros((2, 2, 3), np.int64), r"int64 \(2, 2, 3\) are not the counts of 3 images"),
        (np.zeros((3, 6), np.int64), r"int64 \(3, 6\) are not the counts of 3 images"),
        (np.full((3, 2, 3), -1), "a count is below 0"),
        (np.zeros((3, 5, 3), np.int64), r"on val, its counts do not add up to the score in result\.json"),
        (np.ones((3, 2, 3), np.int64), r"on val, its counts do not add up to the score in result\.json"),
        (np.array([{}]), "Object arrays cannot be loaded"),
    ],
)
def test_wrong_counts_are_one_line(tmp_path, array, what):
    with_counts(tmp_path, val=array)
    list_anew(tmp_path)
    with pytest.raises(StorageError, match=rf"counts\.npz: cannot be read \({what}"):
        read_counts(tmp_path)


def test_counts_that_unpack_to_more_than_the_limit_are_not_unpacked(tmp_path, monkeypatch):
    with_counts(tmp_path)
    list_anew(tmp_path)
    monkeypatch.setattr("kd.runs.result.MAX_OTHER", 300)
    with pytest.raises(StorageError, match=r"counts\.npz: cannot be read \(unpacks to \d{3} bytes\)"):
        read_counts(tmp_path)


def changed(path, value):
    """A result of kd 0.2 with another value at a key."""
    content = json.loads(json.dumps(OLD))
    *sections, last = path.split(".")
    inner = content
    for key in sections:
        inner = inner[key]
    inner[last] = value
    return json.dumps(content)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not valid JSON ("),
        ('{"format": 3}', "has format 3, but this version reads 2; update kd, or mv"),
        ('{"format": 1, "teacher": null}', "id: missing; mv "),
        ("[]", "[] is not an object; mv "),
        (changed("splits.val.confusion", [[1], [2, 3]]), "splits.val.confusion: a row does not have 2 numbers"),
        (changed("splits.val.confusion", [[1, 2]]), "splits.val.confusion: a row does not have 1 numbers"),
        (changed("splits.val.confusion", [[1, 2], [3, -4]]), "splits.val.confusion.1.1: -4 is not greater than"),
        (changed("splits.val.confusion", [[1, 2], [3, 4.5]]), "splits.val.confusion.1.1: 4.5 is not a valid integer"),
        (changed("splits.val.confusion", [[1, 2], [3, 10**30]]), "splits.val.confusion.1.1: "),
        (changed("splits.val.confusion", [[2**53, 2], [3, 4]]), "splits.val.confusion: more than 2^53 pixels"),
        (changed("splits.val.confusion", "ab"), "splits.val.confusion: 'ab' is not a valid array"),
        (changed("splits.val.classes", ["sky"]), "splits.val: the confusion matrix is 2×2, but there are 1 classes"),
        (changed("splits.val.images", -2), "splits.val.images: -2 is not greater than or equal to 0"),
        (changed("splits.val.metrics", {"a": {"values": {}}}), "splits.val.metrics.a.values: "),
        (changed("splits.val.per_image", [1]), "splits.val.per_image: "),
        (changed("splits.val", None), "splits.val: null is not an object"),
        (changed("teacher", 3), "teacher: 3 is not an object"),
        (changed("seconds", "1"), "seconds: '1' is not a valid number"),
        (changed("seconds", float("nan")), "seconds: nan is not a finite number"),
        (changed("peak_memory", float("inf")), "peak_memory: inf is not a valid integer"),
        (changed("id", "../../etc"), "id: '../../etc' is not "),
        (changed("seed", True), "seed: true is not a valid integer"),
        (changed("versions", {"kd": 2}), "versions.kd: 2 is not a valid string"),
        (changed("extra", 1), "extra: unknown key"),
    ],
)
def test_a_damaged_result_is_one_line(tmp_path, text, message):
    (tmp_path / "result.json").write_text(text)
    with pytest.raises(StorageError) as caught:
        read_result(tmp_path)
    assert str(caught.value).startswith(f"{tmp_path / 'result.json'}: {message}")
    assert "\n" not in str(caught.value)


def test_a_missing_result_is_named(tmp_path):
    with pytest.raises(StorageError, match=r"result\.json: missing; mv "):
        read_result(tmp_path)


def test_exchanged_results_are_noticed(tmp_path):
    runs = [tmp_path / "a-01234567" / f"seed{seed}" for seed in (0, 1)]
    for seed, run_dir in enumerate(runs):
        run_dir.mkdir(parents=True)
        write_result(run_dir, a_result(seed=seed))
    first, second = ((run_dir / "result.json").read_bytes() for run_dir in runs)
    for content, run_dir in zip((second, first), runs, strict=True):
        (run_dir / "result.json").write_bytes(content)
        with pytest.raises(StorageError, match=r"result\.json: changed after the run wrote it"):
            read_result(run_dir)
        (run_dir / "manifest.json").unlink()
        (run_dir / "result.json").write_bytes(content.replace(b'"format": 2', b'"format": 1'))  # as kd 0.2 wrote it
        with pytest.raises(StorageError, match=r"result\.json: is of run 01234567, seed \d, but its folder is of"):
            read_result(run_dir)


def test_reading_a_result_does_not_depend_on_the_current_folder(tmp_path, monkeypatch):
    run_dir = tmp_path / "a-01234567" / "seed0"
    run_dir.mkdir(parents=True)
    write_result(run_dir, a_result())
    monkeypatch.chdir(run_dir)
    assert read_result(type(tmp_path)(os.curdir)) == a_result()


@pytest.mark.parametrize("content", [b"", b"PK", None])
def test_a_teacher_whose_counts_are_damaged_is_scored_again(tmp_path, content):
    split = a_result().splits["val"]
    counted = dataclasses.replace(split, per_image=ImageCounts(("a", "b"), np.zeros((2, 2, 3), np.int64)))
    write_teacher_score(tmp_path, counted, id="01234567", seed=0)
    assert read_teacher_score(tmp_path, id="01234567", seed=0) == split
    file = tmp_path / "teacher-counts.npz"
    file.unlink()
    if content is not None:
        file.write_bytes(content)
    with pytest.warns(UserWarning, match=r"teacher-counts\.npz: .*; the teacher is scored again"):
        assert read_teacher_score(tmp_path, id="01234567", seed=0) is None
