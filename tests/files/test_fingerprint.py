"""The SHA-256 of files and their stamps."""

import hashlib
import os
import time

import pytest

from kd.files import fingerprint
from kd.files.fingerprint import Stamp, is_settled, sha256, stamp


def test_the_hash_is_that_of_the_content_and_is_read_once(tmp_path, monkeypatch):
    file = tmp_path / "a.bin"
    file.write_bytes(b"content")
    digest = hashlib.sha256(b"content").hexdigest()
    assert sha256(file) == digest
    monkeypatch.setattr(fingerprint, "_SETTLED", -(10**18))  # as if it had been written long ago
    assert sha256(file) == digest
    monkeypatch.setattr(fingerprint.hashlib, "sha256", None)
    assert sha256(str(file)) == digest  # not read again


@pytest.mark.parametrize("size", [0, 2**16 - 1, 2**16, 2**16 + 1, 10**6])
def test_files_of_any_size_are_hashed_whole(tmp_path, size):
    content = b"abcdefg" * (size // 7 + 1)
    (tmp_path / "a.bin").write_bytes(content[:size])
    assert sha256(tmp_path / "a.bin") == hashlib.sha256(content[:size]).hexdigest()


def test_a_file_that_was_just_written_is_read_again(tmp_path):
    """A second change within the resolution of its times would give it the same stamp."""
    file = tmp_path / "a.bin"
    file.write_bytes(b"1")
    os.utime(file, ns=(0, 0))
    first = sha256(file)
    file.write_bytes(b"2")
    os.utime(file, ns=(0, 0))
    assert sha256(file) != first


def test_a_stamp_shows_each_kind_of_change(tmp_path):
    file, other = tmp_path / "a", tmp_path / "b"
    file.write_bytes(b"1")
    stamps = [stamp(file)]
    os.utime(file, ns=(0, 0))
    stamps.append(stamp(file))
    other.write_bytes(b"1")
    os.replace(other, file)
    stamps.append(stamp(file))
    file.write_bytes(b"12")
    stamps.append(stamp(file))
    assert len(set(stamps)) == 4


def test_a_change_of_the_last_second_may_not_be_the_last(monkeypatch):
    now = 5 * 10**9
    monkeypatch.setattr(time, "time_ns", lambda: now)
    assert not is_settled(Stamp(1, now - 10**9, 0, 7))
    assert not is_settled(Stamp(1, 0, now - 10**9, 7))
    assert is_settled(Stamp(1, now - 10**9 - 1, now - 10**9 - 1, 7))


def test_only_regular_files_have_a_stamp(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", tmp_path / "none", "/dev/zero", "a\0b"):
        assert stamp(path) is None
    with pytest.raises(OSError, match="not a regular file"):
        sha256(tmp_path / "pipe")
