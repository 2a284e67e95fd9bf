"""What has become of a run: its state on disk, while it trains, after it failed, and after it is trained again."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from tiny import cut_at, read, run, write_recipes

from kd.compare.listing import list_runs
from kd.errors import DivergedError, StoppedError, StorageError
from kd.runs import claim, failure_noted, is_locked, locked, read_failure, run_directory, state_of


def test_a_run_that_never_began_is_missing(tmp_path: Path) -> None:
    assert str(state_of(tmp_path / "a-01234567" / "seed0")) == "missing"
    assert not is_locked(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_locked_run_is_running_and_looking_does_not_take_the_lock(tmp_path: Path) -> None:
    with locked(tmp_path):
        (tmp_path / "recipe.yaml").write_text("")
        assert state_of(tmp_path).kind == "running"
    assert state_of(tmp_path).kind == "stopped"
    with locked(tmp_path):
        pass


def test_looking_at_a_lock_follows_no_link_and_changes_no_file(tmp_path: Path) -> None:
    private = tmp_path / "private"
    private.write_text("secret")
    for name in (".lock", ".claim"):
        (tmp_path / name).symlink_to(private)
    with FileLock(private):
        assert not is_locked(tmp_path)
    private.write_text("secret")  # FileLock itself empties what it locks
    assert not is_locked(tmp_path)
    assert private.read_text() == "secret"
    with pytest.raises(StorageError, match=rf"^{tmp_path}: cannot be written \(.*\); choose --runs DIR$"):
        claim(tmp_path)
    assert private.read_text() == "secret"


def test_another_users_running_run_is_running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody else may write its lock, as on a read-only disk, where a stopped run is stopped."""
    with locked(tmp_path):
        (tmp_path / "recipe.yaml").write_text("")
        refuse_writing(monkeypatch)
        assert state_of(tmp_path).kind == "running"
        monkeypatch.undo()
    refuse_writing(monkeypatch)
    assert state_of(tmp_path).kind == "stopped"


def refuse_writing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nobody open a file to write: root may write into all of them."""
    ordinary = os.open

    def opened(path: str, flags: int, *arguments: Any, **named: Any) -> int:
        if flags & (os.O_WRONLY | os.O_RDWR):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return ordinary(path, flags, *arguments, **named)

    monkeypatch.setattr(os, "open", opened)


def test_a_claim_has_one_owner_and_ends_with_it(tmp_path: Path) -> None:
    first = claim(tmp_path / "run")
    assert first is not None
    assert claim(tmp_path / "run") is None
    assert is_locked(tmp_path / "run")
    with locked(tmp_path / "run"):  # a claim does not keep its own process from the run
        first.release()
        assert is_locked(tmp_path / "run")
    assert not is_locked(tmp_path / "run")
    assert state_of(tmp_path / "run").kind == "missing"


def test_a_failure_is_kept_until_the_run_is_trained_again(tmp_path: Path) -> None:
    with pytest.raises(DivergedError), failure_noted(tmp_path):
        raise DivergedError(["step 3: NaN", "lower\nit"])
    assert str(state_of(tmp_path)) == r"failed: step 3: NaN · lower\nit"
    assert read_failure(tmp_path).status == 4
    with failure_noted(tmp_path):
        assert read_failure(tmp_path) is None


def test_a_bug_is_a_failure_and_a_signal_is_none(tmp_path: Path) -> None:
    with pytest.raises(KeyError), failure_noted(tmp_path):
        raise KeyError("x")
    assert read_failure(tmp_path).why == "KeyError: 'x'"
    with pytest.raises(StoppedError), failure_noted(tmp_path):
        raise StoppedError(15)
    assert read_failure(tmp_path) is None


def test_a_failure_that_cannot_be_read_is_one_still(tmp_path: Path) -> None:
    (tmp_path / "failure.json").write_text("{")
    assert read_failure(tmp_path).status == StorageError.exit_status
    assert state_of(tmp_path).why.startswith(f"{tmp_path / 'failure.json'}: not valid JSON")


def test_a_run_that_fails_is_listed_with_the_reason_and_resumes(folder: Path) -> None:
    recipe = read(write_recipes(folder), "teacher=null", "distill=null")
    cut_at(4, recipe, folder / "runs")
    run_dir = run_directory(recipe, folder / "runs", 0)
    assert str(state_of(run_dir)) == "stopped, step 4"
    with pytest.raises(DivergedError), failure_noted(run_dir):
        raise DivergedError("step 5: NaN")
    assert [line.state for line in list_runs(folder / "runs")] == ["failed, step 4: step 5: NaN"]
    run(recipe, folder / "runs")
    assert str(state_of(run_dir)) == "finished"
    assert not (run_dir / "failure.json").exists()
