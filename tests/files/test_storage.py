"""Files are written whole, with the mode that the user's umask gives."""

import errno
import os
import stat
from pathlib import Path

import pytest

from kd.errors import StorageError
from kd.files.storage import sweep, write_atomic


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


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (lambda path: path.symlink_to(path.with_name("private")), "a link"),
        (lambda path: path.symlink_to("none"), "a link"),
        (lambda path: path.symlink_to("/dev"), "a link"),
        (os.mkfifo, "a pipe"),
    ],
)
def test_only_regular_files_are_replaced(tmp_path, make, kind):
    """As root, `--csv /dev/null` made `/dev/null` a regular file."""
    private, file = tmp_path / "private", tmp_path / "a"
    private.write_bytes(b"mine")
    make(file)
    before = file.lstat()
    with pytest.raises(StorageError) as caught:
        write_atomic(file, b"1", fix="choose another file")
    assert str(caught.value) == f"{file}: {kind}, and kd writes regular files only; choose another file"
    assert (file.lstat().st_ino, file.lstat().st_mode) == (before.st_ino, before.st_mode)
    assert private.read_bytes() == b"mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "private"]


def test_a_link_is_replaced_if_the_user_asks_and_its_target_left_alone(tmp_path):
    private, file = tmp_path / "private", tmp_path / "a"
    private.write_bytes(b"mine")
    file.symlink_to(private)
    write_atomic(file, b"1", replaces_links=True)
    assert private.read_bytes() == b"mine"
    assert not file.is_symlink()
    file.unlink()
    os.mkfifo(file)
    with pytest.raises(StorageError, match="a: a pipe, and kd writes regular files only"):
        write_atomic(file, b"1", replaces_links=True)


@pytest.mark.skipif(os.getuid() != 0, reason="only root makes a device")
def test_a_device_is_not_replaced(tmp_path):
    file = tmp_path / "null"
    try:
        os.mknod(file, stat.S_IFCHR | 0o666, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("this container makes no devices")
    with pytest.raises(StorageError, match=r"null: a device, and kd writes regular files only; free space or choose"):
        write_atomic(file, b"1")
    assert stat.S_ISCHR(file.lstat().st_mode)


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


def test_the_temporary_files_of_killed_writers_are_removed(tmp_path: Path) -> None:
    for name in (".tmp-1", "result.json", "elsewhere/.tmp-2"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / ".tmp-folder").mkdir()
    sweep(tmp_path)
    left = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*"))
    assert left == [".tmp-folder", "elsewhere", "elsewhere/.tmp-2", "result.json"]
