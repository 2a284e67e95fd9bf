"""Stands between the toolkit and the disk: every write, fsync and rename is counted, and may fail."""

import os
from io import FileIO
from pathlib import Path

from kd import storage

CALLS = ("fsync", "replace", "unlink", "open", "close", "chmod", "mkdir")  # of `os`, beside a file's `write`


class _File:
    """A binary file whose writes ask; where it is `torn`, when half is written, otherwise first."""

    def __init__(self, file, ask, torn=True):
        self.file, self.ask, self.torn = file, ask, torn

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
        self.ask("write")
        return half + self.file.write(data[half:])


def count_writes(monkeypatch, before, calls=("fsync", "replace")):
    """Call `before(n)` ahead of the n-th write of a run's files, from 1; what it raises, the write raises.

    Args:
        monkeypatch: pytest's.
        before: gets the number.
        calls: functions of `os` that count as writes.

    Returns:
        What was asked for so far.
    """
    asked = []

    def ask(name):
        asked.append(name)
        before(len(asked))

    def asking(name):
        ordinary = getattr(os, name)

        def call(*arguments, **options):
            ask(name)
            return ordinary(*arguments, **options)

        return call

    for name in calls:
        monkeypatch.setattr(os, name, asking(name))
    monkeypatch.setattr(storage, "open", lambda *arguments: _File(os.fdopen(*arguments), ask), raising=False)
    ordinary = Path.open

    def opened(path, *arguments, **options):
        file = ordinary(path, *arguments, **options)
        return _File(file, ask, torn=False) if isinstance(file, FileIO) else file  # a raw write says what it has done

    monkeypatch.setattr(Path, "open", opened)
    return asked
