"""`import kd` is instant, and its names do what the commands do."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny import write_recipes

import kd
from kd.cli import main
from kd.compare.gathering.gather import gather
from kd.errors import RecipeError
from kd.runs import read_run_recipe, resumable, short_name


def python(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_import_is_instant_and_imports_nothing():
    seconds, *modules = python(
        "import sys, time; before = time.process_time(); import kd; print(time.process_time() - before, *sys.modules)"
    )
    assert float(seconds) < 0.5  # of CPU time; 0.01 on an idle machine
    assert {"torch", "numpy", "pydantic", "yaml"}.isdisjoint(modules)
    assert [name for name in modules if name.startswith("kd.")] == ["kd.constants"]


def test_a_recipe_is_read_without_torch():
    code = "import kd, sys; kd.read_recipe('shapes/mobilenetv3_kl_cwd.yaml'); print('torch' in sys.modules)"
    assert python(code) == ["False"]


def test_every_name_is_there():
    assert kd.__all__ == sorted(kd.__all__, key=lambda name: (not name.isupper(), not name[0].isupper(), name))
    assert set(kd.__all__) <= set(dir(kd))
    for name in kd.__all__:
        assert getattr(kd, name) is not None
    assert kd.losses.CWD.__module__ == "kd.losses.feature.cwd"
    with pytest.raises(AttributeError, match="module 'kd' has no attribute 'runn'"):
        _ = kd.runn


def test_types_ship_with_the_package():
    assert (Path(kd.__file__).parent / "py.typed").is_file()


def test_compare_is_a_function_and_a_package():
    assert callable(kd.compare)
    assert gather.__module__ == "kd.compare.gathering.gather"


def test_run_compare_evaluate_load(folder, capsys, monkeypatch):
    write_recipes(folder)
    given = {"overrides": ["train.steps=3", "train.seeds=[0, 1]"], "trust": True}
    result = kd.run("student.yaml", **given, baseline=True, quiet=True)
    assert capsys.readouterr().out == ""
    assert [run_dir.name for run_dir in result.run_dirs] == ["seed0", "seed1"]
    assert [done.seed for done in result.results] == [0, 1]
    assert [done.role for done in result.results + result.baseline_results] == ["student"] * 2 + ["baseline"] * 2
    assert result.baseline_dirs[0].parent.name == result.results[0].baseline

    comparison = kd.compare("student.yaml", **given)
    assert [entry.role for entry in comparison.entries] == ["teacher", "baseline", "student"]
    assert comparison.entries == kd.compare(result.run_dirs[0].parent).entries

    assert kd.evaluate(result.run_dirs[1], trust=True) == result.results[1].splits["val"]
    assert kd.evaluate(str(result.run_dirs[1]), "train", trust=True).images == 12

    shutil.copytree("runs", "elsewhere")
    taught = result.results[0].teacher
    assert kd.evaluate("teacher.yaml", runs="elsewhere", trust=True) == kd.evaluate(f"runs/{taught.run}", trust=True)
    with pytest.raises(RecipeError, match=r"^teacher.yaml: no finished run in nowhere/teacher-[0-9a-f]{8}; "):
        kd.evaluate("teacher.yaml", runs="nowhere", trust=True)

    network = kd.load_student(result.run_dirs[0], trust=True)
    assert not network.training
    with torch.no_grad():
        assert network(torch.rand(1, 3, 32, 32)).logits.shape == (1, 2, 8, 8)

    # named from inside its folder, or by a link, it is the same run, with the code that it kept
    (folder / "nets.py").write_text("raise SystemExit('the code of today')")
    (folder / "latest").symlink_to(result.run_dirs[0])
    assert read_run_recipe(folder / "latest", trust=True).id == result.results[0].id
    monkeypatch.chdir(result.run_dirs[0].parent)
    assert kd.evaluate("seed0", trust=True) == kd.evaluate("../../latest", trust=True)
    for name in ("seed0", "../../latest"):
        assert str(kd.load_student(name, trust=True)) == str(network)
    inside = kd.compare("seed0", trust=True)
    assert [entry.role for entry in inside.entries] == ["teacher", "baseline", "student"]
    assert [(e.key, e.name) for e in kd.compare(".").entries] == [(e.key, e.name) for e in comparison.entries]
    monkeypatch.chdir("seed0")
    assert kd.evaluate(".", trust=True) == result.results[0].splits["val"]
    assert short_name(Path()) == f"{result.run_dirs[0].parent.name}/seed0"
    assert resumable(Path(), trust=True).id == result.results[0].id


@pytest.mark.parametrize("name", ["nowhere", "runs/x-0123abcd"])
def test_a_folder_that_is_no_run_is_one_line(folder, name, capsys):
    (folder / "runs/x-0123abcd/seed0").mkdir(parents=True)
    line = f"{name}: no run directory; name one, such as x-0123abcd/seed0 (kd list shows all)"
    with pytest.raises(kd.errors.RecipeError) as caught:
        kd.load_student(name)
    assert str(caught.value) == line
    if Path(name).is_dir():
        write_recipes(folder)
        assert main(["diff", "student.yaml", name]) == 2
        assert capsys.readouterr().err == f"{line}\n"


def test_a_finished_run_is_not_trained_again(folder, capsys):
    write_recipes(folder)
    first = kd.run("student.yaml", trust=True)
    assert first.baseline_dirs == first.baseline_results == ()
    capsys.readouterr()
    assert kd.run(folder / "student.yaml", trust=True, runs=Path("runs")) == first
    assert "finished" in capsys.readouterr().out
    (run_dir,) = first.run_dirs
    before = run_dir.stat().st_ino
    with pytest.raises(kd.errors.RecipeError) as caught:
        kd.run("student.yaml", trust=True, fresh=True, accept_inputs=True, quiet=True)
    assert str(caught.value) == ("fresh and accept_inputs: one starts over, the other keeps the runs; give one of them")
    assert run_dir.stat().st_ino == before
    # a run directory stands for its run, as on the command line, and is where it is
    assert kd.run(run_dir, ["device=cpu"], trust=True, quiet=True) == first
    line = f"{run_dir}: a run of runs, not of elsewhere; leave --runs out"
    with pytest.raises(kd.errors.RecipeError) as caught:
        kd.run(run_dir, trust=True, runs="elsewhere")
    assert str(caught.value) == line
    assert main(["run", str(run_dir), "--trust", "--runs", "elsewhere"]) == 2
    assert capsys.readouterr().err == f"{line}\n"
    assert main(["run", str(run_dir), "--trust", "--runs", str(folder / "runs")]) == 0


def test_mistakes_are_those_of_the_commands(folder):
    write_recipes(folder)
    with pytest.raises(kd.errors.RecipeError, match="if you trust this recipe"):
        kd.run("student.yaml")
    with pytest.raises(kd.errors.RecipeError, match="momentun"):
        kd.run("student.yaml", ["optimizer.args.momentun=0.9"], trust=True)


@pytest.mark.parametrize(
    "call",
    [
        lambda text: kd.run("student.yaml", text, trust=True),
        lambda text: kd.read_recipe("student.yaml", text, trust=True),
        lambda text: kd.compare("student.yaml", overrides=text, trust=True),
        lambda text: kd.evaluate("student.yaml", overrides=text, trust=True),
        lambda text: kd.predict("student.yaml", "photo.png", text, trust=True),
        lambda text: kd.export("student.yaml", "out", text, trust=True),
    ],
)
def test_one_text_is_no_list_of_overrides(folder, call):
    write_recipes(folder)
    with pytest.raises(kd.errors.RecipeError) as caught:
        call("train.steps=2")
    assert str(caught.value) == "overrides: must be a list of texts, got one; write ['train.steps=2']"
