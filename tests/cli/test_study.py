"""`kd study` as a command: what it refuses, and what it prints before anything trains."""

from pathlib import Path

import pytest
from command import check_small, kd

STUDY = "base: student.yaml\nseeds: [0]\nvariants: {a: {}}\n"


def test_a_list_needs_no_torch(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("s.yaml").write_text(STUDY)
    check_small("study s.yaml --list --trust")
    assert kd("study", "s.yaml", "--list", "--trust") == 0
    out = capsys.readouterr().out
    assert out.endswith("3 runs: 3 missing\n")
    assert not Path("runs").exists()


def test_a_study_of_strangers_needs_trust(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("s.yaml").write_text(STUDY)
    assert kd("study", "s.yaml", "--list", "device=cpu") == 2
    assert "if you trust this recipe: kd study s.yaml device=cpu --trust" in capsys.readouterr().err


def test_a_wrong_call_is_reported_before_anything_trains(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("s.yaml").write_text(STUDY.replace("a: {}", "a: {}, b: {student.args.channel: 3}"))
    assert kd("study", "s.yaml", "--trust") == 2
    assert "channel" in capsys.readouterr().err
    assert not Path("runs").exists()


def test_a_run_that_the_study_does_not_have(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("s.yaml").write_text(STUDY)
    assert kd("study", "s.yaml", "--only", "a/1", "--trust") == 2
    assert capsys.readouterr().err == "--only: no run 'a/1' in s.yaml; did you mean 'a/0'?\n"


@pytest.mark.parametrize("option", ["--jobs", "--threads"])
def test_numbers_of_processes_and_threads_are_at_least_one(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        kd("study", "s.yaml", option, "0")
    assert f"argument {option}: must be a number from 1 to 1024, got '0'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "value", "wanted"),
    [
        ("--on", "dask", "must be ray or ray://HOST:PORT, got 'dask'"),
        ("--on", "ray://10.0.0.1", "must be ray or ray://HOST:PORT, got 'ray://10.0.0.1'"),
        ("--gpus", "-1", "must be a number from 0, got '-1'"),
        ("--memory", "4 GB", "must be a number from 0, got '4 GB'"),
    ],
)
def test_what_a_cluster_is_asked_for_is_checked(
    option: str, value: str, wanted: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        kd("study", "s.yaml", f"{option}={value}")
    assert f"argument {option}: {wanted}" in capsys.readouterr().err
