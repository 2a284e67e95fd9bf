"""A small real file system, to be filled."""

import contextlib
import os
import subprocess

import pytest


@contextlib.contextmanager
def small_disk(folder, kilobytes):
    """Mount a tmpfs of this size at `folder`, which is created; skip the test where this is not allowed."""
    folder.mkdir(parents=True, exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "none", str(folder)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"mounting a small file system is not allowed here ({error})")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder):
    """Fill the file system to its last page."""
    with contextlib.suppress(OSError), open(folder / "filler", "ab", buffering=0) as file:
        while file.write(bytes(4096)):
            os.fsync(file.fileno())


def make_read_only(folder):
    """Mount a `small_disk` again so that nobody, root included, can write to it."""
    subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
