"""The manifest of a finished run: every file that later numbers depend on proves itself."""

import errno
import hashlib
import json
import os
import shutil
import time
from contextlib import suppress

import numpy as np
import pytest
from torn import count_writes

from kd.errors import StorageError, WeightsError
from kd.files import fingerprint, manifest
from kd.files.manifest import check_owner, check_sizes, read_manifest, read_verified
from kd.runs.result import replace_files, write_manifest

FILES = {"student.safetensors": b"weights", "result.json": b"{}", "recipe.yaml": b"a: 1\n", "sources/a/b.py": b"x = 1"}


@pytest.fixture
def run_dir(tmp_path):
    folder = tmp_path / "runs" / "small-0123abcd" / "seed3"
    for name, content in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    (folder / "log.txt").write_text("not listed: no number depends on it")
    write_manifest(folder, id="0123abcd", seed=3)
    return folder


def test_it_states_the_run_and_the_digest_of_every_file(run_dir):
    stated = json.loads((run_dir / "manifest.json").read_text())
    assert (stated["format"], stated["id"], stated["seed"]) == (1, "0123abcd", 3)
    assert stated["files"] == {
        name: {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()} for name, content in FILES.items()
    }
    assert {name: read_verified(run_dir, name) for name in FILES} == FILES


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda data: data + b"\0", lambda data: b"?" + data[1:]])
def test_a_file_that_changed_is_one_line(run_dir, name, damage):
    (run_dir / name).write_bytes(damage(FILES[name]))
    kind = WeightsError if name == "student.safetensors" else StorageError
    with pytest.raises(kind) as caught:
        read_verified(run_dir, name)
    line = str(caught.value)
    assert line.startswith(f"{run_dir / name}: changed after the run wrote it (SHA-256 ")
    still = "its score in result.json is" if kind is WeightsError else "the weights in student.safetensors are"
    assert f"; {still} intact; " in line
    assert line.endswith(f"mv {run_dir} {run_dir}-damaged, then the same kd run, trains it again")


def test_what_is_said_to_hold_does(run_dir):
    (run_dir / "student.safetensors").write_bytes(b"")
    (run_dir / "result.json").write_bytes(b"")
    for name in ("student.safetensors", "result.json"):
        with pytest.raises((StorageError, WeightsError)) as caught:
            read_verified(run_dir, name)
        assert "intact" not in str(caught.value)


def test_a_missing_and_an_unlisted_file_are_one_line(run_dir):
    (run_dir / "recipe.yaml").unlink()
    (run_dir / "counts.npz").write_bytes(b"of another run")
    with pytest.raises(StorageError, match=r"recipe\.yaml: missing; the weights in student\.safetensors are intact"):
        read_verified(run_dir, "recipe.yaml")
    with pytest.raises(StorageError, match=r"counts\.npz: not in manifest\.json; the weights in student"):
        read_verified(run_dir, "counts.npz")


def test_sizes_are_compared_without_reading(run_dir, monkeypatch):
    check_sizes(run_dir)
    monkeypatch.setattr(manifest, "_what_holds", lambda *_: "")
    monkeypatch.setattr(manifest, "_read", lambda *_: pytest.fail("read"))
    (run_dir / "result.json").write_bytes(b"{} ")
    with pytest.raises(StorageError, match=r"result\.json: has 3 bytes, manifest\.json has 2"):
        check_sizes(run_dir)
    (run_dir / "student.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"student\.safetensors: missing"):
        check_sizes(run_dir)


def test_a_damaged_manifest_is_one_line(run_dir):
    file = run_dir / "manifest.json"
    file.write_bytes(file.read_bytes().replace(b"0123abcd", b"0123abce"))
    with pytest.raises(StorageError, match=r"manifest\.json: changed after kd wrote it \(.*\); mv .*trains it again$"):
        read_verified(run_dir, "recipe.yaml")


def test_the_files_of_two_runs_cannot_be_exchanged(run_dir, tmp_path):
    moved = tmp_path / "runs" / "small-0123abcd" / "seed4"
    os.rename(run_dir, moved)  # the whole run, with its manifest
    with pytest.raises(StorageError) as caught:
        read_verified(moved, "recipe.yaml")
    assert str(caught.value) == (
        f"{moved / 'manifest.json'}: is of run 0123abcd, seed 3, but its folder is of 0123abcd, seed 4; put it back, "
        f"or mv {moved} {moved}-damaged, then the same kd run, trains it again"
    )
    copy = tmp_path / "best"
    os.rename(moved, copy)  # a folder that is not named after a run
    assert read_verified(copy, "recipe.yaml") == FILES["recipe.yaml"]


def test_a_run_that_fresh_moved_aside_keeps_its_name(tmp_path):
    check_owner(tmp_path / "a-0123abcd" / "seed3-before-20260101-000000", "result.json", "0123abcd", 3)
    with pytest.raises(StorageError, match="is of run 0123abcd, seed 4, but its folder is of 0123abcd, seed 3"):
        check_owner(tmp_path / "a-0123abcd" / "seed3-before-20260101-000000", "result.json", "0123abcd", 4)


def test_without_a_manifest_files_are_read_as_they_are(run_dir):
    (run_dir / "manifest.json").unlink()
    assert read_manifest(run_dir) is None
    (run_dir / "recipe.yaml").write_bytes(b"changed")
    assert read_verified(run_dir, "recipe.yaml") == b"changed"


def test_a_file_is_hashed_once_and_again_when_it_changes(run_dir, monkeypatch):
    hashed = []
    ordinary = hashlib.sha256
    monkeypatch.setattr(hashlib, "sha256", lambda data: hashed.append(data) or ordinary(data))
    for _ in range(2):  # it has just been written: a change might leave its time as it is
        read_verified(run_dir, "recipe.yaml")
    assert hashed.count(FILES["recipe.yaml"]) == 2
    hashed.clear()
    monkeypatch.setattr(fingerprint, "_SETTLED", 0)
    for _ in range(3):
        read_verified(run_dir, "recipe.yaml")
    assert hashed.count(FILES["recipe.yaml"]) == 1
    stamp = (run_dir / "recipe.yaml").stat()
    (run_dir / "recipe.yaml").write_bytes(b"a: 2\n")  # the same size
    os.utime(run_dir / "recipe.yaml", ns=(stamp.st_atime_ns, stamp.st_mtime_ns))  # and time
    with pytest.raises(StorageError, match="changed after the run wrote it"):
        read_verified(run_dir, "recipe.yaml")


@pytest.mark.slow
def test_verifying_costs_at_most_8_ms_a_megabyte(run_dir):
    data = np.random.default_rng(0).bytes(64_000_000)
    (run_dir / "student.safetensors").write_bytes(data)
    write_manifest(run_dir, id="0123abcd", seed=3)
    read_manifest(run_dir)
    began = time.process_time()
    assert read_verified(run_dir, "student.safetensors") == data
    assert (time.process_time() - began) / 64 < 0.008


def written(run_dir, files, monkeypatch, number, error):
    """Replace files, which fails with an error at a write; whether there is a write of this number."""

    def fails(at):
        if at == number:
            raise error

    with monkeypatch.context() as patched:
        calls = count_writes(patched, fails)
        with suppress(KeyboardInterrupt, StorageError):
            replace_files(run_dir, files)
    return len(calls) >= number


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left on device")])
def test_files_are_replaced_so_that_a_kill_leaves_every_one_proven(run_dir, tmp_path, monkeypatch, error):
    """At each write: either content is the run's, nothing else is, and the same call completes it."""
    new = {"result.json": b"{'a': 1}", "recipe.yaml": b"a: 2\n", "metrics.jsonl": b"{}\n"}
    for number in range(1, 100):
        copy = tmp_path / str(number) / "small-0123abcd/seed3"
        shutil.copytree(run_dir, copy)
        if not written(copy, new, monkeypatch, number, error):
            break
        check_sizes(copy)
        for name in FILES:
            assert read_verified(copy, name) in (FILES[name], new.get(name))
        assert read_verified(copy, "student.safetensors") == b"weights"
        left = (copy / "recipe.yaml").read_bytes()
        (copy / "recipe.yaml").write_bytes(b"a: 3\n")
        with pytest.raises(StorageError, match=r"recipe\.yaml: changed after the run wrote it"):
            read_verified(copy, "recipe.yaml")
        (copy / "recipe.yaml").write_bytes(left)
        replace_files(copy, new)
        assert read_manifest(copy).becomes == {}
        for name, content in (FILES | new).items():
            assert read_verified(copy, name) == content
    assert number > 15  # three files and twice the manifest, of several calls each


def test_a_damaged_file_is_not_replaced_and_the_same_content_not_written(run_dir, monkeypatch):
    before = {path: path.stat() for path in run_dir.iterdir()}
    replace_files(run_dir, {"result.json": FILES["result.json"]})
    assert {path: path.stat() for path in run_dir.iterdir()} == before
    (run_dir / "recipe.yaml").write_bytes(b"a: 3\n")
    with pytest.raises(StorageError, match=r"recipe\.yaml: changed after the run wrote it"):
        replace_files(run_dir, {"result.json": b"new", "recipe.yaml": b"a: 2\n"})
    assert read_verified(run_dir, "result.json") == FILES["result.json"]
