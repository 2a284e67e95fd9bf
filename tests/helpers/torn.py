"""Faults between the toolkit and the disk: every write, fsync and rename is counted, and may fail."""

import os
from io import FileIO
from pathlib import Path

from kd.files import storage

CALLS = ("fsync", "replace", "unlink", "open", "close", "chmod", "mkdir")  # of `os`, beside a file's `write`


class _File:
    """A binary file that calls `count` at every write: after half of the data if `torn`, otherwise before."""

    def __init__(self, file, count, torn=True):
        self.file, self.count, self.torn = file, count, torn

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()

    def __getattr__(self, name):
        return getattr(self.file, name)

    def write(self, data):
        half = len(data) // 2 if self.torn else 0
        self.file.write(data[:half])
        self.file.flush()
        self.count("write")
        return half + self.file.write(data[half:])


def count_writes(monkeypatch, before, calls=("fsync", "replace")):
    """Call `before(n)` before the n-th write to a run's files, from 1; the write raises what it raises.

    Args:
        monkeypatch: pytest's.
        before: gets the number.
        calls: functions of `os` that count as writes.

    Returns:
        The calls so far.
    """
    writes = []

    def count(name):
        writes.append(name)
        before(len(writes))

    def counted(name):
        ordinary = getattr(os, name)

        def call(*arguments, **options):
            count(name)
            return ordinary(*arguments, **options)

        return call

    for name in calls:
        monkeypatch.setattr(os, name, counted(name))
    monkeypatch.setattr(storage, "open", lambda *arguments: _File(os.fdopen(*arguments), count), raising=False)
    ordinary = Path.open

    def opened(path, *arguments, **options):
        file = ordinary(path, *arguments, **options)
        return _File(file, count, torn=False) if isinstance(file, FileIO) else file  # a raw write returns its length

    monkeypatch.setattr(Path, "open", opened)
    return writes
