"""The arrays of a run, whoever wrote them: whatever NumPy and zipfile raise is one line."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from kd.errors import StorageError
from kd.runs import read_predictions
from kd.runs.arrays import read_arrays, write_arrays
from kd.runs.counts import counts_in

COUNTS = np.zeros((1, 2, 3), np.int64)
NAMES, NONE = np.array(["a"]), np.array([], np.str_)


def saved(**arrays: object) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)  # type: ignore[arg-type]
    return file.getvalue()


def plain() -> bytes:
    file = io.BytesIO()
    np.save(file, COUNTS)
    return file.getvalue()


def in_zip(offset: int, value: int) -> bytes:
    """An .npz file with a number of two bytes changed in the header of its one entry, and in the directory's."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("val.npy", plain())
    content = bytearray(file.getvalue())
    for start, further in ((b"PK\x03\x04", 0), (b"PK\x01\x02", 2)):  # the directory states a version more
        place = content.index(start) + offset + further
        content[place : place + 2] = value.to_bytes(2, "little")
    return bytes(content)


def test_arrays_survive_their_file_and_equal_ones_are_equal_bytes(tmp_path: Path) -> None:
    arrays = {"b": COUNTS, "é/names": NAMES}
    content = write_arrays(tmp_path / "a.npz", arrays)
    assert content == (tmp_path / "a.npz").read_bytes() == write_arrays(tmp_path / "b.npz", arrays)
    found = read_arrays(tmp_path, "a.npz", dict, limit=1000)
    assert {name: array.tolist() for name, array in found.items()} == {"b": COUNTS.tolist(), "é/names": ["a"]}


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "File is not a zip file"),
        (plain(), "File is not a zip file"),
        (in_zip(6, 1), "File 'val.npy' is encrypted, password required for extraction"),
        (in_zip(8, 99), "That compression method is not supported"),
        (saved(val=np.array([None])), "Object arrays cannot be loaded when allow_pickle=False"),
    ],
)  # fmt: skip
def test_what_is_no_npz_file_is_one_line(tmp_path: Path, content: bytes, why: str) -> None:
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(StorageError) as caught:
        read_arrays(tmp_path, "a.npz", dict, limit=1000)
    assert str(caught.value) == (
        f"{tmp_path}/a.npz: cannot be read ({why}); "
        f"mv {tmp_path} {tmp_path}-damaged, then the same kd run, trains it again"
    )


def test_a_reader_without_memory_names_what_it_lacks(tmp_path: Path) -> None:
    def fails(arrays: object) -> None:
        raise MemoryError

    write_arrays(tmp_path / "a.npz", {"a": NAMES})
    with pytest.raises(StorageError, match=r"a\.npz: cannot be read \(MemoryError\); mv "):
        read_arrays(tmp_path, "a.npz", fails, limit=1000)
    with pytest.raises(StorageError, match=r"a\.npz: cannot be read \(unpacks to 132 bytes\); mv "):
        read_arrays(tmp_path, "a.npz", dict, limit=131)


@pytest.mark.parametrize(
    ("names", "what"),
    [
        (np.array("a"), r"<U1 \(\) is no row of names"),
        (np.array([["a"]]), r"<U1 \(1, 1\) is no row of names"),
        (np.array([1]), r"int64 \(1,\) is no row of names"),
    ],
)
def test_names_that_are_no_row_of_texts_are_refused(tmp_path: Path, names: np.ndarray, what: str) -> None:
    with pytest.raises(ValueError, match=what):
        counts_in({"val": COUNTS, "val/names": names})
    with pytest.raises(ValueError, match=rf"{what}|are not the groups of 1 images"):
        counts_in({"val": COUNTS, "val/names": NAMES, "val/groups": names})
    (tmp_path / "predictions.npz").write_bytes(saved(**{"own/names": names, "teacher/names": NONE}))
    with pytest.raises(StorageError, match=rf"predictions\.npz: cannot be read \({what}\); mv "):
        read_predictions(tmp_path)
