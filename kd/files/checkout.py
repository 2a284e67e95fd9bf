"""The commit of a checkout, read from its files.

Git itself would run what the configuration of a stranger's checkout names: hooks, filters, a file system monitor. It is
therefore asked about one checkout only, the one that this code runs from.
"""

import hashlib
import re
import subprocess
from pathlib import Path

from kd.files.reading import MAX_DATA, read_bytes, read_text

CODE = ("kd", "teachers", "students")

_HASH = r"[0-9a-f]{40}(?:[0-9a-f]{24})?"  # SHA-1 or SHA-256
_LINKS = 5  # symbolic references in a row, as in git


class _UnknownError(Exception):
    """A file of the checkout is missing, is not a regular one, or is too large."""


def commit_of(folder: Path) -> str | None:
    """The commit that is checked out around a folder, in hex digits; None without a checkout."""
    try:
        git = next(root / ".git" for root in (folder.resolve(), *folder.resolve().parents) if (root / ".git").exists())
        if git.is_file():  # of a worktree or a submodule: the real folder is elsewhere
            git = git.parent / _text(git).removeprefix("gitdir:").strip()
        common = git / _text(git / "commondir").strip() if (git / "commondir").is_file() else git
        return _resolved(git, common)
    except (_UnknownError, OSError, ValueError, RuntimeError, StopIteration):
        return None


def _resolved(git: Path, common: Path) -> str | None:
    """The commit that HEAD leads to. Whatever the files hold, a hash is all that is taken from them."""
    name = "HEAD"
    for _ in range(_LINKS):
        file = next((file for file in (git / name, common / name) if file.is_file()), None)
        if file is None:
            packed = read_bytes(common / "packed-refs", "a list of references", _UnknownError, limit=MAX_DATA)
            found = re.search(rb"^(%b) %b$" % (_HASH.encode(), re.escape(name.encode())), packed, re.MULTILINE)
            return found[1].decode() if found else None
        text = _text(file).strip()
        if re.fullmatch(_HASH, text):
            return text
        reference = re.fullmatch(r"ref: (refs/\S+)", text)
        if reference is None or ".." in reference[1]:
            return None
        name = reference[1]
    return None


def _text(file: Path) -> str:
    return read_text(file, "a file of git", _UnknownError)


def state_of_kd() -> str | None:
    """`<commit>`, or `<commit> with changes`, of the code that runs; None if it does not run from a checkout."""
    root = Path(__file__).parents[2]
    commit = commit_of(root) if (root / ".git").exists() else None
    if commit is None:
        return None
    listing = ["git", "-C", str(root), "ls-tree", "-r", "-z", commit, "--", *CODE]  # no hook, filter or monitor runs
    try:
        listed = subprocess.run(listing, capture_output=True, timeout=10, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return f"{commit}, perhaps with changes"
    entries = [entry.partition(b"\t") for entry in listed.split(b"\0")[:-1]]
    committed = {root / name.decode(): about.split()[2].decode() for about, _, name in entries}
    return commit + ("" if all(_is(file, blob) for file, blob in committed.items()) else " with changes")


def _is(file: Path, blob: str) -> bool:
    """Whether a file holds what was committed, apart from the ends of its lines."""
    try:
        content = file.read_bytes().replace(b"\r\n", b"\n")
    except OSError:
        return False
    new = hashlib.sha1 if len(blob) == 40 else hashlib.sha256
    return new(b"blob %d\0" % len(content) + content).hexdigest() == blob
