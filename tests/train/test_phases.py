"""Learning rate, frozen modules and momentum of every step, worked out by hand, after any load of a state."""

import copy
from types import SimpleNamespace

import pytest
import torch
from poison import poison
from safetensors.torch import save_file
from tiny import equal, read, run, weights, write_recipes
from torch import nn

from kd.parts.roles import Student
from kd.recipe import baseline_of
from kd.runs import read_metrics
from kd.train import one_run
from kd.train.between_steps.checkpoint import read_checkpoint
from kd.train.phases import Phases


class Two(nn.Module):
    """Two numbers: `encoder` and `head`, whose gradients are 1."""

    def __init__(self):
        super().__init__()
        self.encoder, self.head = (nn.ParameterList([nn.Parameter(torch.zeros(()))]) for _ in range(2))


def begun(state=None):
    """Both numbers train at 0.1 in steps 0 and 1; the head alone at 0.01 in steps 2 and 3. Momentum is 0.9."""
    student = Student(Two(), {}, {}, {})
    optimizer = torch.optim.SGD(student.parameters(), lr=0.1, momentum=0.9)
    for group in optimizer.param_groups:
        group |= {"lr_factor": 1.0, "initial_lr": 0.1}
    phases = (SimpleNamespace(until=2, freeze=(), lr=None), SimpleNamespace(until=None, freeze=("encoder",), lr=0.01))
    recipe = SimpleNamespace(phases=phases, student=SimpleNamespace(freeze=()))
    made = SimpleNamespace(
        student=student, optimizer=optimizer, phases=Phases(recipe, student, optimizer, lambda step: 1.0, 4)
    )
    if state is not None:
        load(made, state)
    return made


def load(made, state):
    made.student.load_state_dict(state[0])
    made.optimizer.load_state_dict(state[1])
    made.phases.forget()


def saved(made):
    return copy.deepcopy((made.student.state_dict(), made.optimizer.state_dict()))


def step(made, number):
    """One step; both numbers after it."""
    made.phases.enter(number, made.student)
    made.phases.set_learning_rate(number)
    network = made.student.network
    for parameter in made.student.parameters():
        parameter.grad = torch.ones(()) if parameter.requires_grad else None
    made.optimizer.step()
    return network.encoder[0].item(), network.head[0].item()


# velocity 1, 1.9, 2.71, 3.439; the encoder stops after two steps, the head's rate falls from 0.1 to 0.01
BY_HAND = [(-0.1, -0.1), (-0.29, -0.29), (-0.29, -0.3171), (-0.29, -0.35149)]


@pytest.mark.parametrize("at", [1, 2, 3])
def test_a_resume_before_at_and_after_the_boundary_of_a_phase(at):
    first = begun()
    for number in range(at):
        assert step(first, number) == pytest.approx(BY_HAND[number])
    resumed = begun(saved(first))
    for number in range(at, 4):
        assert step(resumed, number) == pytest.approx(BY_HAND[number])


def test_an_earlier_state_loaded_after_the_boundary_trains_at_the_rate_of_the_step():
    made = begun()
    step(made, 0)
    early = saved(made)
    step(made, 1)
    step(made, 2)
    load(made, early)  # on_nan: restore; step and images continue
    assert step(made, 3) == pytest.approx((-0.1, -0.1 - 0.01 * 1.9))
    assert [group["lr"] for group in made.optimizer.param_groups] == [0.01]


def pretrained(folder):
    """A recipe whose student may freeze its parts, and the override that gives it weights."""
    start = {"conv.weight": torch.rand(4, 3, 3, 3), "conv.bias": torch.zeros(4)}
    start |= {f"norm.{name}": torch.ones(4) for name in ("weight", "bias", "running_mean", "running_var")}
    start |= {"norm.num_batches_tracked": torch.tensor(1), "head.weight": torch.rand(2, 4, 1, 1)}
    path = write_recipes(folder)
    save_file(start | {"head.bias": torch.zeros(2)}, folder / "start.safetensors")
    return path, f"student.weights={folder / 'start.safetensors'}"


def test_restore_returns_to_a_state_of_the_earlier_phase_and_stays_in_its_own(tmp_path, monkeypatch):
    """The phase freezes `conv`, which has momentum: no bit of it moves after the restore."""
    recipe = baseline_of(
        read(
            *pretrained(tmp_path),
            "phases=[{until: 4}, {freeze: [conv, norm], lr: 0.001}]",
            "schedule={use: kd.schedules.constant}",
            "optimizer.groups=[{match: '*.head.*', lr: 10}]",
            "train={steps: 8, on_nan: restore, save_every: 3, evaluate_every: 0, batch_size: 4, checkpoints: all}",
        )
    )
    poison(monkeypatch, "loss", 5)
    with pytest.warns(UserWarning, match="step 6: .*; back to the last checkpoint's weights"):
        (run_dir,), _ = run(recipe, tmp_path / "runs")
    rates = [(line["step"], round(line["lr"], 9), round(line["lr/1"], 9)) for line in read_metrics(run_dir)[:8]]
    assert rates == [(step, 0.1, 1) for step in (1, 2, 3, 4)] + [(step, 0.001, 0.01) for step in (5, 6, 7, 8)]
    six, eight = (read_checkpoint(next(run_dir.glob(f"checkpoints/step-{step}-*.pt"))) for step in (6, 8))
    momentum = six["optimizer"]["state"]  # the state of step 3, to which step 6 returned
    assert all(state["momentum_buffer"].any() for state in momentum.values())
    assert torch.equal(six["student"]["network.conv.weight"], eight["student"]["network.conv.weight"])
    assert not torch.equal(six["student"]["network.head.weight"], eight["student"]["network.head.weight"])


@pytest.mark.parametrize(
    "early",
    [(), ("train.evaluate_every=1", "train.patience=1", "optimizer.args.lr=1e-9")],  # nothing is learned
    ids=["last", "patience"],
)
def test_a_resume_after_the_last_step_is_in_its_phase(tmp_path, monkeypatch, early):
    """What the last phase freezes keeps its statistics when BatchNorm is re-estimated."""
    recipe = baseline_of(
        read(
            *pretrained(tmp_path),
            "phases=[{until: 1}, {freeze: [conv, norm]}]",
            "train={steps: 4, batch_size: 4, reestimate_batchnorm: 1, checkpoints: all}",
            *early,
        )
    )
    (whole,), _ = run(recipe, tmp_path / "whole")
    with monkeypatch.context() as patched:
        patched.setattr(one_run, "reestimate_batchnorm", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(recipe, tmp_path / "cut")
    (resumed,), lines = run(recipe, tmp_path / "cut")
    assert any("  resumes at step" in line for line in lines)
    assert equal(weights(resumed), weights(whole))


def interrupted(*arguments):
    raise KeyboardInterrupt
