"""What a component changes beside the values of tensors: found, named and put back."""

from collections import Counter, deque, namedtuple

import numpy
import pytest
import torch
from torch import nn
from toy import toy_run

from kd.machine import Precision
from kd.parts.objective import Term
from kd.train.capture.suspects import NotCapturableError, state_unchanged, suspect

Pair = namedtuple("Pair", ["names", "values"])


class Plain:
    n = 0


class Rich(nn.Module):
    """A loss that keeps state of every kind."""

    def __init__(self):
        super().__init__()
        self.bank = {c: [] for c in range(2)}
        self.counter = Plain()
        self.counter.own = self.counter  # a circle
        self.recent = deque([1, 2], maxlen=2)
        self.pair = Pair([], {"low": {1}})
        self.seen = Counter(a=1)
        self.shapes = [(2, 3)]
        self.sum = torch.zeros(())


CHANGES = {
    "bank": lambda loss: loss.bank[0].append(1),
    "counter": lambda loss: setattr(loss.counter, "n", loss.counter.n + 1),
    "recent": lambda loss: loss.recent.append(3),
    "pair": lambda loss: loss.pair.values["low"].add(2),
    "seen": lambda loss: loss.seen.update("a"),
    "gone": lambda loss: delattr(loss, "gone"),
    "new": lambda loss: setattr(loss, "new", 1),
    "sum": lambda loss: setattr(loss, "sum", loss.sum + 1),
}


def run_with(loss):
    run = toy_run()
    run.terms = {"kl": Term(loss, lambda step: 1.0)}
    return run


@pytest.mark.parametrize("attribute", CHANGES)
def test_what_a_replay_would_not_change_is_refused_and_put_back(attribute):
    loss = Rich()
    loss.gone = None
    message = f"it changes its attribute {attribute}, not a tensor in place"
    with pytest.raises(NotCapturableError, match=message) as caught, state_unchanged(run_with(loss)):
        CHANGES[attribute](loss)
    assert caught.value.component == "distill.kl (Rich)"
    assert loss.bank == {0: [], 1: []}
    assert vars(loss.counter) == {"own": loss.counter}
    assert (list(loss.recent), loss.recent.maxlen) == ([1, 2], 2)
    assert loss.pair == ([], {"low": {1}})
    assert loss.seen == {"a": 1}
    assert loss.gone is None
    assert not hasattr(loss, "new")


def test_equal_values_and_numbers_of_tensors_may_be_written():
    loss = Rich()
    with state_unchanged(run_with(loss)):
        loss.shapes = [(2, 3)]
        loss.sum += 1
        loss.recent = deque([1, 2], maxlen=2)
    assert loss.sum == 1


@pytest.mark.parametrize("draw", [numpy.random.rand, lambda: torch.rand(())], ids=["numpy", "torch"])
def test_a_number_drawn_on_the_processor_for_a_gpu_is_refused_and_not_lost(draw):
    run = toy_run()
    run.precision = Precision(torch.device("cuda"), torch.float32, torch.contiguous_format)  # nothing runs there
    states = numpy.random.get_state()[1:3], torch.get_rng_state()  # noqa: NPY002
    refused = pytest.raises(NotCapturableError, match="it draws random numbers on the processor")
    with refused, state_unchanged(run):
        draw()
    assert str(numpy.random.get_state()[1:3]) == str(states[0])  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), states[1])


def test_a_tensor_on_the_processor_is_not_of_a_gpus_run():
    loss = Rich()
    run = run_with(loss)
    run.precision = Precision(torch.device("cuda"), torch.float32, torch.contiguous_format)  # nothing runs there
    loss.pair.names.append(torch.tensor([float("nan"), 1.0]))
    with state_unchanged(run):
        loss.sum + 1
    message = "it changes its attribute pair, a tensor on the processor"
    with pytest.raises(NotCapturableError, match=message), state_unchanged(run):
        loss.pair.names[0][1] += 1
    assert loss.pair.names[0][1] == 1


def test_an_error_at_the_end_of_a_capture_hides_no_component():
    def mine(student, teacher, labels):
        raise RuntimeError("operation not permitted")

    def capture():
        try:
            mine(1, 2, 3)
        finally:
            raise RuntimeError("the capture failed due to a previous error")

    with pytest.raises(RuntimeError, match="previous error") as caught:
        capture()
    assert suspect(caught.value, run_with(mine)) == "distill.kl (mine)"


def test_a_run_on_the_processor_draws_there():
    with state_unchanged(toy_run()):
        torch.rand(())
