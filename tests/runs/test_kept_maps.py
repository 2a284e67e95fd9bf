"""The predictions that a run keeps."""

import io

import numpy as np
import pytest

from kd.errors import StorageError
from kd.runs import read_predictions, spread, write_predictions

OWN = {"val/1.png": np.arange(6, dtype=np.uint8).reshape(2, 3), "é 2.png": np.zeros((4, 1), np.uint8)}


def test_maps_of_several_sizes_are_read_as_they_were_written(tmp_path):
    write_predictions(tmp_path, OWN, {"val/1.png": OWN["val/1.png"] + 1})
    own, teacher = read_predictions(tmp_path)
    assert list(own) == list(OWN)
    assert all(np.array_equal(own[name], OWN[name]) for name in OWN)
    assert teacher["val/1.png"].tolist() == [[1, 2, 3], [4, 5, 6]]


def test_a_run_without_them_has_none(tmp_path):
    assert read_predictions(tmp_path) == ({}, {})


def test_the_same_maps_are_the_same_bytes(tmp_path):
    files = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_predictions(tmp_path / name, OWN, {})
        files.append((tmp_path / name / "predictions.npz").read_bytes())
    assert files[0] == files[1]


def saved(**arrays):
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        b"PK",
        saved(),
        saved(**{"own/names": np.array(["a"]), "teacher/names": np.array([], np.str_)}),  # a map is missing
        saved(**{"own/names": np.array(["a"]), "own/0": np.zeros((2, 2)), "teacher/names": np.array([], np.str_)}),
        saved(**{"own/names": np.array(["a"], object)}),  # would be unpickled
    ],
)
def test_a_damaged_file_is_one_line_with_what_makes_it_anew(tmp_path, content):
    (tmp_path / "predictions.npz").write_bytes(content)
    with pytest.raises(StorageError, match=r"predictions\.npz: cannot be read \(.*\); mv "):
        read_predictions(tmp_path)


def test_positions_are_spread_evenly():
    assert spread(101, 4) == [12, 37, 63, 88]
    assert spread(3, 4) == [0, 1, 2]
