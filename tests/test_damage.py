"""Damage to any file of a run is noticed in one line, or changes nothing. 40 damages by default, 1,000 with `slow`."""

import json
import os
import random
import shutil
import warnings

import pytest
import torch
from tiny import cut_at, read, run, write_recipes

import kd
from kd.compare import gather
from kd.compare.diff import facts
from kd.compare.listing import list_runs
from kd.compare.plain import to_json
from kd.errors import InputsError, NoCheckpointError, StorageError, WeightsError
from kd.runs import read_counts, read_metrics, read_result

OVERRIDES = ("train.seeds=[0, 1]", "train.evaluate_every=2", "train.select=best", "train.checkpoints=unfinished")
READ = {
    "student.safetensors", "result.json", "counts.npz", "metrics.jsonl", "recipe.yaml", "environment.json",
    "manifest.json", "inputs.json", "nets.py",
}  # fmt: skip  # by the views below; nobody reads the others of a finished run


def flip(data, draw):
    place = draw.randrange(len(data))
    return data[:place] + bytes([data[place] ^ (1 << draw.randrange(8))]) + data[place + 1 :]


def cut(data, draw):
    return data[: draw.randrange(len(data))]


def zero(data, draw):
    start = draw.randrange(len(data))
    length = min(draw.randrange(1, 600), len(data) - start)
    return data[:start] + bytes(length) + data[start + length :]


def append(data, draw):
    return data + draw.choice([b"\0", b" ", b"\n", data[:100], b"}"])


CHANGES = (flip, cut, zero, append)


def damage(file, other, draw):
    """Damage a file, or exchange it with the same one of another run; what was done."""
    if draw.random() < 0.2 and other.exists():
        content, swapped = file.read_bytes(), other.read_bytes()
        file.write_bytes(swapped)
        other.write_bytes(content)
        return "swap"
    if draw.random() < 0.15 or not file.stat().st_size:
        file.unlink()
        return "delete"
    change = draw.choice(CHANGES)
    file.write_bytes(change(file.read_bytes(), draw))
    return change.__name__


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def put_back(folder, before):
    for path in contents(folder).keys() - before.keys():
        path.unlink()
    for path, content in before.items():
        if not path.exists() or path.read_bytes() != content:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """A teacher, two students and two baselines, all finished; and the same students stopped after step 6."""
    folder = tmp_path_factory.mktemp("tree")
    path, teacher = write_recipes(folder), folder / "teacher.yaml"
    teacher.write_text(teacher.read_text().replace("checkpoints: all", "checkpoints: unfinished"))
    recipe = read(path, *OVERRIDES)
    run(recipe, folder / "runs", baseline=True)
    shutil.copytree(folder / "runs", folder / "cut")
    for path in (folder / "cut").glob("student-*"):
        shutil.rmtree(path)
    cut_at(6, recipe, folder / "cut")  # of seed 0
    first = next((folder / "cut").glob("student-*/seed0"))
    os.rename(first, folder / "first")
    cut_at(6, read(folder / "student.yaml", *OVERRIDES, "train.seeds=[1]"), folder / "cut")
    os.rename(folder / "first", first)
    return folder


def outputs(runs, run_dirs):
    """What kd shows of finished runs: by view, its text or its error; the views of one run of `run_dirs` only."""
    students = sorted(runs.glob("student-*/seed*"))
    views = {
        "list": lambda: [line._replace(changed=None) for line in list_runs(runs)],
        "compare": lambda: to_json(gather([str(path) for path in students])),
    }
    for run_dir in run_dirs:
        name = f"{run_dir.parent.name}/{run_dir.name}"
        views |= {
            f"weights {name}": lambda run_dir=run_dir: kd.load_student(run_dir, trust=True).state_dict(),
            f"result {name}": lambda run_dir=run_dir: read_result(run_dir),
            f"counts {name}": lambda run_dir=run_dir: read_counts(run_dir)["val"].counts,
            f"metrics {name}": lambda run_dir=run_dir: read_metrics(run_dir),
            f"facts {name}": lambda run_dir=run_dir: facts(run_dir),
        }
    shown = {}
    for view, show in views.items():
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                shown[view] = repr(show()) + "".join(str(warning.message) for warning in caught)
            except (StorageError, WeightsError) as error:
                shown[view] = error
    return shown


def tenth(whole):
    return [
        pytest.param(whole // 25, id="some"),
        pytest.param(whole, id="whole", marks=[pytest.mark.slow, pytest.mark.timeout(3600)]),
    ]


@pytest.mark.parametrize("count", tenth(750))
def test_damage_to_finished_runs_is_noticed_or_harmless(tree, count):
    runs, draw, silent = tree / "runs", random.Random(0), []
    before = contents(runs)
    right = outputs(runs, sorted(runs.glob("*/seed*")))
    assert not [error for error in right.values() if isinstance(error, Exception)]
    files = [path for path in before if path.suffix != ".tfevents"]
    names = sorted({path.name for path in files})
    for index in range(count):
        file = draw.choice([path for path in files if path.name == names[index % len(names)]])
        other = draw.choice([path for path in files if path.name == file.name])
        what = f"{index}: {damage(file, other, draw)} {file.relative_to(runs)} {other.relative_to(runs)}"
        noticed = 0
        damaged = {runs.joinpath(*path.relative_to(runs).parts[:2]) for path in (file, other)}
        for view, shown in outputs(runs, damaged).items():
            if isinstance(shown, Exception):
                noticed += 1
                text = str(shown)
                expected = 5 if file.name == "student.safetensors" else 6
                if "\n" in text or file.name not in text or shown.exit_status != expected:
                    silent.append(f"{what}: {view}: status {shown.exit_status}: {text}")
            elif shown != right[view]:
                noticed += 1
                if file.name not in shown and "manifest.json" not in shown:
                    silent.append(f"{what}: {view}: {shown[:200]}")
        changed = file.exists() and file.read_bytes() != before[file]
        if changed and not noticed and file.name in READ:
            silent.append(f"{what}: nothing")
        put_back(runs, before)
    assert silent == []


def finish(tree, runs, seed):
    """Finish one of the runs that were cut; its weights and result, or the error."""
    recipe = read(tree / "student.yaml", *OVERRIDES, f"train.seeds=[{seed}]")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            (run_dir,), lines = run(recipe, runs)
        except (StorageError, WeightsError, NoCheckpointError, InputsError) as error:
            return error, []
    result = json.loads((run_dir / "result.json").read_text())
    scores = [result["id"], result["seed"], result["splits"], result["teacher"]["splits"], result["baseline"]]
    scores.append(result["inputs"])
    numbers = (kd.load_student(run_dir, trust=True).state_dict(), scores)
    return repr(numbers), [*lines, *(str(warning.message) for warning in caught)]


@pytest.mark.parametrize("count", tenth(250))
def test_damage_to_unfinished_runs_is_noticed_or_harmless(tree, tmp_path, count):
    """Noticed: an error, or the right weights and result with a line; harmless: the right ones."""
    torch.set_printoptions(profile="full")
    draw, silent = random.Random(1), []
    right, student = {}, next((tree / "cut").glob("student-*"))
    for seed in (0, 1):
        shutil.copytree(tree / "cut", tmp_path / f"right{seed}")
        right[seed], _ = finish(tree, tmp_path / f"right{seed}", seed)
        whole = tree / "runs" / student.name / f"seed{seed}"
        assert repr(kd.load_student(whole, trust=True).state_dict()) in right[seed]
    names = sorted({path.relative_to(student / "seed0") for path in (student / "seed0").rglob("*") if path.is_file()})
    for index in range(count):
        runs = tmp_path / "damaged"
        shutil.copytree(tree / "cut", runs)
        seed = draw.randrange(2)
        ours, others = (runs / student.name / f"seed{number}" for number in (seed, 1 - seed))
        name = names[index % len(names)]
        if name.suffix == ".pt":  # its name has its hash, so each run has other names
            name = draw.choice(sorted(path.relative_to(ours) for path in ours.rglob("*.pt")))
        if name.parts[0] == "checkpoints" and draw.random() < 0.2:
            what = "swap of all checkpoints"
            os.rename(ours / "checkpoints", runs / "kept")
            os.rename(others / "checkpoints", ours / "checkpoints")
        else:
            what = damage(ours / name, others / name, draw)
        ended, _ = finish(tree, runs, seed)
        if isinstance(ended, Exception):
            wanted = 5 if name.parts[0] == "checkpoints" else 6
            if name.name == "inputs.json" and isinstance(ended, InputsError):
                wanted = 2  # the file is gone: as of a run that recorded none, its inputs cannot be compared
            if "\n" in str(ended) or ended.exit_status != wanted:
                silent.append(f"{index}: {what} {name}: status {ended.exit_status}: {ended}")
        elif ended != right[seed]:
            silent.append(f"{index}: {what} {name} of seed {seed}: other weights or another result")
        shutil.rmtree(runs)
    torch.set_printoptions(profile="default")
    assert silent == []
