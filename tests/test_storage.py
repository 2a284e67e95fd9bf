"""Files are written whole, with the mode that the user's umask gives."""

import errno
import os
import stat
from pathlib import Path

import pytest

from kd.errors import StorageError
from kd.storage import sweep, write_atomic


@pytest.mark.parametrize(("umask", "file_mode", "folder_mode"), [(0o022, 0o644, 0o755), (0o077, 0o600, 0o700)])
def test_new_files_and_folders_keep_the_umask(tmp_path: Path, umask: int, file_mode: int, folder_mode: int) -> None:
    before = os.umask(umask)
    try:
        write_atomic(tmp_path / "run" / "a", b"1")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "run" / "a").stat().st_mode) == file_mode
    assert stat.S_IMODE((tmp_path / "run").stat().st_mode) == folder_mode


def test_a_file_keeps_its_mode_when_it_is_written_again(tmp_path: Path) -> None:
    file = tmp_path / "a"
    write_atomic(file, b"1")
    file.chmod(0o640)
    write_atomic(file, b"2")
    assert file.read_bytes() == b"2"
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    assert list(tmp_path.iterdir()) == [file]


def test_a_link_is_replaced_and_its_target_left_alone(tmp_path: Path) -> None:
    private = tmp_path / "private"
    private.write_bytes(b"mine")
    (tmp_path / "a").symlink_to(private)
    write_atomic(tmp_path / "a", b"1")
    assert private.read_bytes() == b"mine"
    assert not (tmp_path / "a").is_symlink()


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


def test_the_temporary_files_of_killed_writers_are_removed_at_any_depth(tmp_path: Path) -> None:
    for name in (".tmp-1", "sources/.tmp-2", "checkpoints/.tmp-3", "result.json", "sources/nets.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    sweep(tmp_path)
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == ["nets.py", "result.json"]
