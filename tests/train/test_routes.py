"""The routes through the code: what one command opens and builds, and which loop makes the steps."""

import dataclasses
import inspect
import sys
from collections import Counter
from pathlib import Path

import grimp
import torch
from tiny import read, write_recipes

from kd.cli import main
from kd.components.user_files import importable
from kd.parts.assemble import assemble
from kd.parts.checks.dry_run import dry_run
from kd.recipe import yaml12
from kd.train.loop import train
from kd.train.step import TrainState, train_step


def test_one_command_reads_each_recipe_once_and_builds_each_network_once_a_run(tmp_path, monkeypatch):
    path = write_recipes(tmp_path)
    nets = tmp_path / "nets.py"
    nets.write_text(
        nets.read_text().replace(
            "        super().__init__()", "        BUILT.append(channels)\n        super().__init__()", 1
        )
        + "\n\nBUILT = []\n"
    )
    opened = Counter()
    ordinary = yaml12.read_text
    monkeypatch.setattr(
        yaml12, "read_text", lambda file, **how: opened.update([Path(file).name]) or ordinary(file, **how)
    )
    arguments = ["run", str(path), "--trust", "--baseline", "--runs", str(tmp_path / "runs"), "train.seeds=[0, 1]"]
    assert main(arguments) == 0
    assert opened == {"student.yaml": 1, "teacher.yaml": 1}
    built = Counter(sys.modules[importable(nets)].BUILT)
    # channels 8: the teacher's run, and the teacher of each seed; 4: the student and the baseline of each seed
    assert built == {8: 1 + 2, 4: 2 + 2}


def test_a_dry_run_leaves_weights_buffers_and_random_state_as_they_were(tmp_path):
    recipe = read(write_recipes(tmp_path), "train.ema=0.9", "student.args.frozen=true", "distill.hint=null")
    parts = assemble(recipe, runs=tmp_path / "runs", seed=0, trained=False)
    before = {name: value.clone() for name, value in parts.student.state_dict().items()}
    frozen = [name for name, parameter in parts.student.named_parameters() if not parameter.requires_grad]
    random = torch.get_rng_state()
    assert dry_run(parts) == []
    after = parts.student.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert frozen == [name for name, parameter in parts.student.named_parameters() if not parameter.requires_grad]
    assert torch.equal(random, torch.get_rng_state())


def test_the_loop_is_one_short_function_that_shows_every_part_of_a_step():
    source = inspect.getsource(train)
    body = source.replace(f'"""{train.__doc__}"""', "")
    assert len(body.splitlines()) <= 45
    shown = ["phases.enter", "set_numbers", "graph.step", "settle(", "reports.write", "evaluations.evaluate"]
    shown += ["ended_early", "save("]
    assert [name for name in shown if name not in body] == []


def test_a_step_is_one_short_function_too():
    source = inspect.getsource(train_step)
    shown = ["accumulate_gradients", "clipped", "finite", "run.update(", "zero_grad"]
    assert [name for name in shown if name not in source] == []
    assert "watch" not in source  # what happens between the steps does not reach into one


def test_the_state_of_a_run_is_data():
    functions = {field.name for field in dataclasses.fields(TrainState) if "Callable" in str(field.type)}
    assert functions == {"teacher"}


def test_imports_have_no_cycles():
    """Imports inside functions and for type checkers count too."""
    graph = grimp.build_graph("kd", "teachers", "students", exclude_type_checking_imports=False)
    graph.remove_module("kd")  # the package's face imports everything
    cycles, seen = [], set()
    for module in sorted(graph.modules):
        for imported in graph.find_modules_directly_imported_by(module):
            if module in graph.find_downstream_modules(module) and (imported, module) not in seen:
                cycles.append((module, imported))
    assert cycles == []
