"""A supervised loss with parameters and buffers: they are trained, saved and resumed with the student."""

import pytest
import torch
from steps import train_and_look
from tiny import cut_at, equal, read, run, weights, write_recipes

from kd.errors import NoCheckpointError
from kd.parts.assemble import assemble
from kd.parts.checks.dry_run import open_parts
from kd.recipe import baseline_of
from kd.train.between_steps.checkpoint import read_checkpoint
from kd.train.between_steps.saving import restore, state_of
from kd.train.between_steps.watch import Watch
from kd.train.start import start

LOSSES = '''
import torch
from torch import nn


class Counting(nn.Module):
    """Cross entropy that grows with every call."""

    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, logits, labels):
        self.calls += 1
        return nn.functional.cross_entropy(logits, labels, ignore_index=255) * (1 + self.calls / 10)


class Learned(nn.Module):
    """Cross entropy on a scale that is learned."""

    def __init__(self):
        super().__init__()
        self.log_scale = nn.Parameter(torch.zeros(()))
        self.inner = Counting()

    def forward(self, logits, labels):
        return self.inner(logits, labels) * (-self.log_scale).exp() + self.log_scale
'''


@pytest.fixture
def recipe(tmp_path):
    return recipe_with(tmp_path, "Learned")


def recipe_with(folder, loss):
    path = write_recipes(folder)
    (folder / "losses.py").write_text(LOSSES)
    name = f"losses.py:{loss}" if loss in LOSSES else f"kd.losses.{loss}"
    return baseline_of(read(path, f"supervised={{use: '{name}'}}", "train.steps=4"))


def test_its_parameters_train_and_the_checks_leave_it_as_it_was(recipe, tmp_path):
    parts = open_parts(recipe, runs=tmp_path)
    loss = parts.supervised.loss
    assert (loss.log_scale.item(), loss.inner.calls.item()) == (0, 0)
    train_and_look(start(parts, seed=0))
    assert loss.log_scale.item() != 0
    assert loss.inner.calls.item() == 4


def test_resume_is_exact(recipe, tmp_path):
    (whole,), _ = run(recipe, tmp_path / "whole")
    cut_at(3, recipe, tmp_path / "cut")
    (resumed,), lines = run(recipe, tmp_path / "cut")
    assert "  resumes at step 2 of 4" in lines
    assert equal(weights(resumed), weights(whole))
    states = [read_checkpoint(next(run_dir.glob("checkpoints/step-4-*.pt")))["student"] for run_dir in (whole, resumed)]
    assert equal(*states)
    assert states[0]["losses.supervised.inner.calls"] == 4


def of_kd_06(folder):
    """A checkpoint without any tensor of the supervised loss."""
    run = start(assemble(recipe_with(folder, "CrossEntropy"), runs=folder, seed=0), seed=0)
    state = state_of(run, Watch())
    assert not [name for name in state["student"] if name.startswith("losses.")]
    return state


def test_a_checkpoint_of_kd_06_leaves_its_buffers_as_they_are(tmp_path):
    old = of_kd_06(tmp_path)
    parts = assemble(recipe_with(tmp_path, "Counting"), runs=tmp_path, seed=1)
    assert not torch.equal(parts.student.network.head.weight, old["student"]["network.head.weight"])
    assert restore(start(parts, seed=0), Watch(), old) == []
    assert torch.equal(parts.student.network.head.weight, old["student"]["network.head.weight"])


def test_a_checkpoint_of_kd_06_does_not_fit_its_parameters(tmp_path, recipe):
    old, run = of_kd_06(tmp_path), start(assemble(recipe, runs=tmp_path, seed=0), seed=0)
    with pytest.raises(NoCheckpointError, match=r"does not fit this recipe \(loaded state dict .*; use --fresh$"):
        restore(run, Watch(), old)
