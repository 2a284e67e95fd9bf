import errno
import sys
from pathlib import Path

import pytest

from kd.cli.status import command_again, report
from kd.errors import RecipeError


def test_the_command_that_resumes(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["kd", "run", "r.yaml", "--fresh", "--budget", "6h", "a=b c"])
    assert (
        command_again(["train.epochs=7", "train.steps=null"]) == "kd run r.yaml train.epochs=7 train.steps=null 'a=b c'"
    )
    monkeypatch.setattr(sys, "argv", ["kd", "run", "r.yaml", "--budget=6h"])
    assert command_again(["train.epochs=7"]) == "kd run r.yaml train.epochs=7"
    environment = {"TORCHELASTIC_RUN_ID": "x", "LOCAL_WORLD_SIZE": "4", "WORLD_SIZE": "4"}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "argv", ["kd", "run", "r.yaml"])
    assert command_again(None) == "torchrun --standalone --nproc-per-node 4 --no-python kd run r.yaml"
    monkeypatch.setenv("WORLD_SIZE", "8")
    assert command_again(None) == "torchrun --nnodes 2 --nproc-per-node 4 --no-python kd run r.yaml"


def test_too_little_memory_is_one_line_and_status_2(capsys):
    torch_error = "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."
    for error, asked in (
        (RuntimeError(torch_error), "you tried to allocate 9 bytes"),
        (MemoryError("Unable to allocate 21.8 TiB"), "Unable to allocate 21.8 TiB"),
        (MemoryError(), "Python could not allocate more"),
    ):
        assert report(error, None) == 2
        line = f"out of memory: {asked}; use a smaller train.batch_size, data.size or network\n"
        assert capsys.readouterr().err == line
    assert report(RuntimeError("shapes differ"), None) == 1


def test_a_mistake_is_a_line_though_the_environment_has_an_empty_rank(monkeypatch, capsys):
    monkeypatch.setenv("RANK", "")  # as a file of settings for a container leaves it
    assert report(ValueError("a bug"), None) == 1
    capsys.readouterr()
    assert report(RecipeError("r.yaml: a mistake"), None) == 2
    assert capsys.readouterr().err == "r.yaml: a mistake\n"


def test_what_the_system_refuses_of_a_file_is_one_line_and_status_6(folder, capsys):
    with pytest.raises(OSError, match="too long") as caught:
        Path("a" * 5000).read_bytes()
    assert report(caught.value, None) == 6
    assert capsys.readouterr().err == f"{'a' * 5000}: File name too long\n"
    assert report(PermissionError(errno.EACCES, "Permission denied", "a.png"), None) == 6
    assert capsys.readouterr().err == "a.png: Permission denied\n"
    assert report(FileNotFoundError(errno.ENOENT, "No such file or directory", "a.png"), None) == 1  # ours to foresee
    with pytest.raises(OSError, match="No space") as caught:  # of a file of the user's code
        Path("/dev/full").write_text("a")
    line = f"{__file__}:{caught.traceback[0].lineno + 1}: OSError: [Errno 28] No space left on device"
    assert report(caught.value, None) == 2
    assert line in capsys.readouterr().err
