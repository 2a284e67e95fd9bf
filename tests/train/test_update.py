"""The update that is decided on the device, against the one that the processor decides."""

import contextlib
import copy

import pytest
import torch
from fake_graph import Refusing
from launches import Launches
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from kd.parts.optimizer import load_optimizer, stay_on_gpu
from kd.train.update import Update


class Small(nn.Module):
    """A student: a network whose weights are in both layouts, and a BatchNorm."""

    def __init__(self):
        super().__init__()
        self.network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).to(memory_format=torch.channels_last)


def averaged(student):
    return AveragedModel(student.network, multi_avg_fn=get_ema_multi_avg_fn(0.9), use_buffers=True)


def with_gradients(student):
    return [parameter for parameter in student.parameters() if parameter.grad is not None]


OPTIMIZERS = {
    "SGD": lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.9, dampening=0.5, fused=True),
    "AdamW": lambda parameters: torch.optim.AdamW(parameters, lr=0.1, fused=True),
    "RMSprop": lambda parameters: torch.optim.RMSprop(parameters, lr=0.1),
    "no state": lambda parameters: torch.optim.SGD(parameters, lr=0.1, weight_decay=0.1, fused=True),
}


def unfused(parameters):
    return torch.optim.SGD(parameters, lr=0.1, momentum=0.9, dampening=0.5)


def stepped(make, finite, *, on_device, skip=True, ema=True):
    """Steps of which some are not finite; all tensors at the end."""
    torch.manual_seed(0)
    student = Small()
    optimizer, average = make(student.parameters()), averaged(student) if ema else None
    update = Update(optimizer, average, on_device=on_device, undo_buffers=skip)
    for good in finite:
        buffers = update.buffers(student)
        student.network(torch.rand(2, 3, 8, 8) if good else torch.full((2, 3, 8, 8), float("nan"))).sum().backward()
        update(student, with_gradients(student), torch.tensor(float(not good)), buffers)
        optimizer.zero_grad()
    state = [value for values in optimizer.state.values() for value in values.values()]
    return [
        *student.parameters(),
        *(student.buffers() if skip else []),
        *state,
        *(average.state_dict().values() if ema else []),
    ]


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("finite", [[True, True, False, True], [False, True, True, False, False], [True, True, True]])
def test_the_device_decides_as_the_processor_does(name, finite):
    here, there = (stepped(OPTIMIZERS[name], finite, on_device=on_device) for on_device in (False, True))
    assert len(here) == len(there) > 10
    for value, other in zip(here, there, strict=True):
        torch.testing.assert_close(value, other, rtol=0, atol=0)
        assert value.isfinite().all()


def test_without_skip_the_buffers_stay_and_the_weights_do_not_change():
    here, there = (stepped(OPTIMIZERS["SGD"], [True, True, False], on_device=o, skip=False) for o in (False, True))
    assert all(torch.equal(value, other) for value, other in zip(here, there, strict=True))


def test_the_average_is_the_one_of_torch():
    student = Small()
    optimizer = torch.optim.SGD(student.parameters(), lr=0.1)
    ours, theirs = averaged(student), averaged(student)
    update = Update(optimizer, ours)
    for _ in range(4):
        student.network(torch.rand(2, 3, 8, 8)).sum().backward()
        update(student, with_gradients(student), torch.tensor(0.0), {})
        theirs.update_parameters(student.network)
        optimizer.zero_grad()
    for name, value in theirs.state_dict().items():
        assert torch.equal(ours.state_dict()[name], value), name


def test_parameters_that_join_later_are_updated_as_if_alone():
    """Momentum of some parameters exists, that of others does not: torch's fused kernel does not take both."""
    results = []
    for make in (
        OPTIMIZERS["SGD"],
        lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.9, dampening=0.5),
    ):
        torch.manual_seed(0)
        student = Small()
        student.network[1].requires_grad_(False)
        optimizer = make(student.parameters())
        update = Update(optimizer, None, on_device=True)
        for step in range(4):
            student.network[1].requires_grad_(step > 1)
            student.network(torch.rand(2, 3, 8, 8)).square().sum().backward()
            update(student, with_gradients(student), torch.tensor(0.0), {})
            optimizer.zero_grad()
        results.append([parameter.detach().clone() for parameter in student.parameters()])
    for value, other in zip(*results, strict=True):
        torch.testing.assert_close(value, other)


def test_after_the_first_one_an_update_reads_no_value():
    student = Small()
    optimizer = torch.optim.SGD(student.parameters(), lr=0.1, momentum=0.9, fused=True)
    update = Update(optimizer, averaged(student), on_device=True, undo_buffers=True)
    for step in range(3):
        buffers = update.buffers(student)
        student.network(torch.rand(2, 3, 8, 8)).sum().backward()
        trained, not_finite = with_gradients(student), torch.tensor(0.0)
        with Refusing() if step else contextlib.nullcontext():
            update(student, trained, not_finite, buffers)


def test_a_larger_network_takes_no_more_launches():
    counts = []
    for layers in (1, 4):
        student = Small()
        student.network = nn.Sequential(*(copy.deepcopy(student.network) for _ in range(layers)))
        student.network.append(nn.Flatten())
        optimizer = torch.optim.SGD(student.parameters(), lr=0.1, momentum=0.9, fused=True)
        update = Update(optimizer, averaged(student), on_device=True, undo_buffers=True)
        for parameter in student.parameters():
            parameter.grad = torch.ones_like(parameter)
        update(student, with_gradients(student), torch.tensor(0.0), {})
        trained = with_gradients(student)
        with Launches() as launches:
            update(student, trained, torch.tensor(0.0), update.buffers(student))
        counts.append(launches.names)
    assert counts[0] == counts[1]
    assert 0 < counts[0].total() < 40


def test_the_optimizer_stays_on_a_gpu_where_torch_can():
    parameters = [nn.Parameter(torch.zeros(2))]
    for make in (torch.optim.SGD, torch.optim.AdamW):
        optimizer = make(parameters, lr=0.1)
        assert stay_on_gpu(optimizer)
        assert optimizer.param_groups[0]["fused"]
        assert optimizer.param_groups[0].get("capturable", True)  # torch refuses a capture of Adam without it
    optimizer = torch.optim.NAdam(parameters, lr=0.1)
    assert stay_on_gpu(optimizer)
    assert optimizer.param_groups[0]["capturable"]
    assert not stay_on_gpu(torch.optim.Adagrad(parameters, lr=0.1))


class Decayed(torch.optim.SGD):
    """A user's: built on torch's, with a step that knows nothing of `found_inf`."""

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.sub_(group["lr"] * parameter.grad)


class Renamed(torch.optim.AdamW):
    """torch's step, with other defaults."""


class Counting(torch.optim.NAdam):
    def step(self, closure=None):
        self.count = getattr(self, "count", 0) + 1
        return super().step(closure)


def test_the_processor_decides_on_an_optimizer_with_a_step_of_its_own():
    for kind in (Decayed, Counting):
        optimizer = kind([nn.Parameter(torch.zeros(2))], lr=0.1)
        assert not stay_on_gpu(optimizer)
        assert not any(group.get("fused") or group.get("capturable") for group in optimizer.param_groups)
    optimizer = Renamed([nn.Parameter(torch.zeros(2))], lr=0.1)
    assert stay_on_gpu(optimizer)
    assert not optimizer.param_groups[0]["fused"]  # what it leaves undone is taken back
    assert optimizer.param_groups[0]["capturable"]


def test_a_checkpoint_of_a_gpu_resumes_on_a_cpu():
    here, there = (torch.optim.AdamW([nn.Parameter(torch.ones(2))], lr=0.1) for _ in range(2))
    there.param_groups[0]["params"][0].grad = torch.ones(2)
    there.step()
    state = copy.deepcopy(there.state_dict())
    state["param_groups"][0] |= {"capturable": True, "lr": torch.tensor(0.1)}
    load_optimizer(here, state)
    here.param_groups[0]["params"][0].grad = torch.ones(2)
    here.step()
    assert here.param_groups[0]["lr"] == 0.1
    assert not here.param_groups[0]["capturable"]
