"""The commit of a checkout is read from its files: a stranger's checkout runs nothing and ends at once."""

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from kd.files import checkout
from kd.files.checkout import commit_of, state_of_kd

A = "0123456789abcdef0123456789abcdef01234567"


def git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), "-c", "user.name=a", "-c", "user.email=a@b", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """With one commit."""
    folder = tmp_path / "repository"
    (folder / "kd").mkdir(parents=True)
    (folder / "kd" / "a.py").write_text("a = 1\n")
    git(folder, "init", "-q", "-b", "main")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "a")
    return folder


def test_the_commit_of_branches_tags_worktrees_and_subfolders(repository: Path, tmp_path: Path) -> None:
    commit = git(repository, "rev-parse", "HEAD")
    assert commit_of(repository) == commit_of(repository / "kd") == commit
    git(repository, "checkout", "-qb", "feature/a#1")
    assert commit_of(repository) == commit
    git(repository, "pack-refs", "--all")
    assert not (repository / ".git" / "refs" / "heads" / "main").exists()
    assert commit_of(repository) == commit
    git(repository, "worktree", "add", "-q", "-b", "other", str(tmp_path / "tree"))
    git(tmp_path / "tree", "commit", "-qm", "b", "--allow-empty")
    assert commit_of(tmp_path / "tree") == git(tmp_path / "tree", "rev-parse", "HEAD") != commit
    git(repository, "checkout", "-q", "--detach")
    assert commit_of(repository) == commit
    assert commit_of(tmp_path) is None
    git(tmp_path, "init", "-q")
    assert commit_of(tmp_path) is None  # no commit yet


def test_the_state_of_kd_notices_changed_and_missing_files(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkout, "__file__", str(repository / "kd" / "files" / "checkout.py"))
    commit, file = git(repository, "rev-parse", "HEAD"), repository / "kd" / "a.py"
    assert state_of_kd() == commit
    (repository / "notes").write_text("not code")
    file.write_bytes(b"a = 1\r\n")
    assert state_of_kd() == commit
    file.write_text("a = 2\n")
    assert state_of_kd() == f"{commit} with changes"
    file.unlink()
    assert state_of_kd() == f"{commit} with changes"
    monkeypatch.setenv("PATH", "")
    assert state_of_kd() == f"{commit}, perhaps with changes"
    monkeypatch.setattr(checkout, "__file__", str(repository / "kd" / "kd" / "files" / "checkout.py"))
    assert state_of_kd() is None  # installed into a folder of some checkout


def _hooks(git_folder: Path, run: Path) -> None:
    for hook in ("post-index-change", "post-checkout", "fsmonitor-watchman", "reference-transaction"):
        (git_folder / "hooks" / hook).write_text(f"#!/bin/sh\n{run}\n")
        (git_folder / "hooks" / hook).chmod(0o755)


def _settings(text: str) -> Callable[[Path, Path], None]:
    """Settings of the checkout; `RUN` in them is the program that must not run."""

    def write(git_folder: Path, run: Path) -> None:
        with (git_folder / "config").open("a") as file:
            file.write(text.replace("RUN", str(run)))

    return write


def _filter(git_folder: Path, run: Path) -> None:
    (git_folder.parent / ".gitattributes").write_text("* filter=evil diff=evil\n")
    text = '[filter "evil"]\nclean = RUN\nsmudge = RUN\nprocess = RUN\nrequired = true\n[diff "evil"]\ntextconv = RUN\n'
    _settings(text)(git_folder, run)
    os.utime(git_folder.parent / "kd" / "a.py", (0, 0))  # git would have to look at its content again


def _included(git_folder: Path, run: Path) -> None:
    (git_folder / "more").write_text(f"[core]\nfsmonitor = {run}\nhooksPath = {git_folder / 'hooks'}\n")
    _settings("[include]\npath = more\n")(git_folder, run)


def _partial(git_folder: Path, run: Path) -> None:
    """Objects are missing, and the place that has them is a program."""
    text = '[core]\nrepositoryformatversion = 1\n[extensions]\npartialClone = o\n[protocol "ext"]\nallow = always\n'
    _settings(text + '[remote "o"]\nurl = ext::RUN\npromisor = true\n')(git_folder, run)
    for file in (git_folder / "objects").rglob("??/*"):
        file.unlink()


HARMLESS = {
    "hooks": _hooks,
    "monitor": _settings("[core]\nfsmonitor = RUN\nsshCommand = RUN\npager = RUN\neditor = RUN\n"),
    "alias": _settings("[alias]\nls-tree = !RUN\nstatus = !RUN\nrev-parse = !RUN\n[pager]\nstatus = RUN\n"),
    "filter": _filter,
    "include": _included,
    "partial clone": _partial,
}


@pytest.mark.parametrize("trap", HARMLESS)
def test_a_strangers_checkout_runs_nothing(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trap: str
) -> None:
    commit, marker, run = git(repository, "rev-parse", "HEAD"), tmp_path / "marker", tmp_path / "run"
    run.write_text(f"#!/bin/sh\necho ran > {marker}\n")
    run.chmod(0o755)
    HARMLESS[trap](repository / ".git", run)
    assert commit_of(repository) == commit
    if trap != "partial clone":  # git may fetch what is missing, and so is asked about kd's own checkout only
        monkeypatch.setattr(checkout, "__file__", str(repository / "kd" / "files" / "checkout.py"))
        assert state_of_kd() == commit
    assert not marker.exists()


def _pipe(folder: Path) -> None:
    os.mkfifo(folder / ".git")


def _pipes(folder: Path) -> None:
    (folder / ".git").mkdir()
    for name in ("HEAD", "packed-refs", "commondir"):
        os.mkfifo(folder / ".git" / name)


def _file(text: str) -> Callable[[Path], None]:
    return lambda folder: (folder / ".git").write_text(text) and None


def _head(text: str, **files: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        for name, content in {"HEAD": text, **files}.items():
            file = folder / ".git" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(content)

    return write


def _huge(folder: Path) -> None:
    _head("ref: refs/heads/main")(folder)
    with (folder / ".git" / "packed-refs").open("wb") as file:
        file.truncate(1 << 40)


def _link(folder: Path) -> None:
    _head("ref: refs/heads/main")(folder)
    (folder / ".git" / "refs" / "heads").mkdir(parents=True)
    (folder / ".git" / "refs" / "heads" / "main").symlink_to("/etc/passwd")


DAMAGED = {
    "pipe": _pipe,
    "pipes": _pipes,
    "points at itself": _file("gitdir: .git"),
    "points nowhere": _file("gitdir: \0"),
    "points at a device": _file("gitdir: /dev/zero"),
    "loop": _head("ref: refs/a", **{"refs/a": "ref: refs/b", "refs/b": "ref: refs/a"}),
    "leads out": _head("ref: refs/../../../../etc/passwd"),
    "private file": _link,
    "huge": _huge,
    "escapes": _head("\x1b[31mref: refs/heads/main", **{"refs/heads/main": f"{A}\n{A}"}),
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_a_damaged_checkout_has_no_commit_and_ends_at_once(tmp_path: Path, kind: str) -> None:
    DAMAGED[kind](tmp_path)
    start = time.process_time()
    assert commit_of(tmp_path) is None
    assert time.process_time() - start < 10  # seconds; a terabyte takes minutes, and a pipe for ever
