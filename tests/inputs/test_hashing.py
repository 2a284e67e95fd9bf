"""Files as a record has them: which of them are read."""

import hashlib
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from kd.files.fingerprint import stamp
from kd.inputs import InputFile, Listed, hashing, rows_of


@pytest.fixture
def files(tmp_path):
    for number in range(5):
        (tmp_path / f"{number}.png").write_bytes(bytes(number))
    (tmp_path / "4.png").unlink()
    paths = [tmp_path / f"{number}.png" for number in range(5)]
    return [Listed(path.name, str(path), stamp(path)) for path in paths]


def recorded(listed, digest):
    found = listed.stamp
    return InputFile(listed.name, found.size, (found.mtime, found.ctime, found.inode), digest)


def test_only_what_no_stamp_shows_is_hashed(files, monkeypatch):
    monkeypatch.setattr(hashing, "_PART", 2)
    known, changed = recorded(files[0], "a" * 64), recorded(files[1], "b" * 64)._replace(stamp=(1, 2, 3))
    rows = rows_of(files, (known, changed, recorded(files[2], None)))
    assert rows.unknown == [1, 2, 3]
    done = []
    hashed = rows.hashed(lambda: done.append(1))
    assert len(done) == 3
    own = [hashlib.sha256(bytes(number)).hexdigest() for number in range(4)]
    assert [file.sha256 for file in hashed] == ["a" * 64, *own[1:], None]
    assert hashed[4] == InputFile("4.png", -1, None, None)
    assert rows_of(files, (known, changed), all_files=False).unknown == [1]


def test_hashing_that_is_stopped_leaves_the_other_files(files, monkeypatch):
    stopped, hashed = threading.Event(), []

    class Pool(ThreadPoolExecutor):
        def __exit__(self, *raised):
            stopped.set()
            return super().__exit__(*raised)

    def stop():
        raise KeyboardInterrupt

    def first_is_fast(path):
        hashed.append(path)
        if path != "0":
            stopped.wait()
        return "a" * 64

    monkeypatch.setattr(hashing, "ThreadPoolExecutor", Pool)
    monkeypatch.setattr(hashing, "_PART", 1)
    monkeypatch.setattr(hashing, "sha256", first_is_fast)
    with pytest.raises(KeyboardInterrupt):
        rows_of([files[0]._replace(path=str(number)) for number in range(400)]).hashed(stop)
    assert len(hashed) <= 1 + hashing.THREADS
