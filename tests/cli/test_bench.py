"""`kd bench`."""

import pytest
from command import kd


def test_bench_prints_the_ratios_and_leaves_no_files(recipe, capsys):
    cache = recipe.parent / "cache"
    assert kd("bench", recipe, "--trust", "--rounds", "2", f"cache={{views: 1, folder: {cache}}}") == 0
    out = capsys.readouterr().out
    assert "distillation step / (teacher forward + student step) = " in out
    assert "with a full cache / student step = " in out
    assert "in the training loop / distillation step = " in out
    assert not cache.exists()
    assert kd("bench", recipe, "--trust", "--rounds", "1", "teacher=null", "distill=null") == 0
    assert "in the training loop / student step = " in capsys.readouterr().out


def test_bench_times_the_losses_or_a_recipe(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("kd.bench.losses.teacher_seconds", lambda sizes, precision: 2.0)
    assert kd("bench", "--losses", "--rounds", "1", "--sizes", "1", "3", "4", "8", "8") == 0
    out = capsys.readouterr().out
    assert "forward on 1×3×64×64: 2.00 s" in out
    assert "CIRKDMemory" in out
    assert kd("bench") == 2
    assert capsys.readouterr().err.startswith("kd bench: no recipe; name one, or give --losses")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rounds", "0"], "--rounds: must be at least 1, got 0"),
        (["--losses", "--sizes", "8", "19", "-1", "4", "4"], "--sizes: must be at least 1, got -1"),
        (["--networks", "--size", "0", "64"], "--size: must be at least 1, got 0"),
        (["--networks", "--threads", "-2"], "--threads: must be at least 1, got -2"),
    ],
)
def test_bench_measures_at_least_one(capsys, arguments, message):
    assert kd("bench", *arguments) == 2
    assert capsys.readouterr().err == f"kd bench: {message}\n"


@pytest.mark.parametrize(
    ("arguments", "idle"),
    [
        ("r.yaml --gpu", "RECIPE has no effect with --gpu"),
        ("--gpu --losses CWD", "--losses has no effect with --gpu"),
        ("r.yaml --networks", "RECIPE has no effect with --networks"),
        ("--losses --networks", "--losses has no effect with --networks"),
        ("r.yaml --losses", "RECIPE has no effect with --losses"),
        ("--gpu --all", "--all has no effect without RECIPE"),
        ("--losses --runs elsewhere", "--runs has no effect without RECIPE"),
        ("r.yaml --sizes 1 2 3 4 5", "--sizes has no effect without --losses"),
        ("r.yaml --threads 1", "--threads has no effect without --networks"),
        ("--losses --size 64 64", "--size has no effect without --networks"),
        ("r.yaml --json", "--json has no effect without --gpu"),
        ("r.yaml --compiled", "--compiled has no effect without --gpu"),
        ("r.yaml --camvid data/camvid", "--camvid has no effect without --gpu"),
    ],
)
def test_options_of_another_measurement_are_refused(capsys, arguments, idle):
    assert kd("bench", *arguments.split()) == 2
    assert capsys.readouterr().err == f"kd bench: {idle}; leave it out\n"
