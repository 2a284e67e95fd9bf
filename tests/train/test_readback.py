import math

import pytest
import torch

from kd.train.readback import DEPTH, Readback, Sent, packed

CPU = torch.device("cpu")


def numbers(finite=True, norm=2.0, *totals):
    losses = [{"supervised": torch.tensor(total / 2), "total": torch.tensor(total)} for total in totals]
    return packed(torch.tensor(float(not finite)), torch.tensor(norm), losses)


def test_numbers_arrive_as_they_were_sent_and_in_order():
    readback = Readback(CPU)
    for step in (1, 2):
        readback.send(numbers(step == 1, 2.0 * step, 1.0, 3.0), Sent(step, [], ("supervised", "total")))
    first, second = readback.arrived(wait=False)
    assert (first.step, first.finite, first.norm) == (1, True, 2.0)
    assert (second.step, second.finite, second.norm) == (2, False, 4.0)
    assert first.losses == [{"supervised": 0.5, "total": 1.0}, {"supervised": 1.5, "total": 3.0}]
    assert first.means() == {"supervised": 1.0, "total": 2.0, "gradient_norm": 2.0}
    assert list(readback.arrived(wait=True)) == []


def test_a_text_names_the_term_and_the_micro_batch_that_are_not_finite():
    readback = Readback(CPU)
    readback.send(numbers(False, math.nan, 1.0, math.inf), Sent(1, [], ("supervised", "total")))
    (step,) = readback.arrived(wait=False)
    assert step.culprits() == [1]
    assert str(step) == "term 'supervised' is inf (supervised inf, total inf)"


class Event:
    """An event of a device that has not come to it."""

    def __init__(self):
        self.waited = False

    def query(self):
        return self.waited

    def synchronize(self):
        self.waited = True


def late(readback, count):
    """Send the numbers of steps to a device that is behind by all of them."""
    events = []
    for step in range(1, count + 1):
        readback.send(numbers(True, float(step), 1.0), Sent(step, [], ("supervised", "total")))
        slot, sent, _ = readback._pending.pop()
        events.append(Event())
        readback._pending.append((slot, sent, events[-1]))
    return events


def test_numbers_that_are_on_their_way_are_not_waited_for():
    readback = Readback(CPU)
    events = late(readback, DEPTH - 1)
    assert list(readback.arrived(wait=False)) == []
    events[0].waited = True
    assert [step.norm for step in readback.arrived(wait=False)] == [1.0]
    assert [step.step for step in readback.arrived(wait=True)] == list(range(2, DEPTH))
    assert all(event.waited for event in events)


def test_the_processor_runs_no_further_ahead_than_the_memory_for_numbers():
    readback = Readback(CPU)
    events = late(readback, DEPTH)
    assert [step.step for step in readback.arrived(wait=False)] == [1]
    assert [event.waited for event in events] == [True] + [False] * (DEPTH - 1)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_losses_of_other_types_are_numbers_too(dtype):
    readback = Readback(CPU)
    losses = [{"supervised": torch.tensor(0.5, dtype=dtype), "total": torch.tensor(1.5)}]
    readback.send(packed(torch.tensor(0.0), torch.tensor(1.0), losses), Sent(1, [], ("supervised", "total")))
    (step,) = readback.arrived(wait=False)
    assert step.losses == [{"supervised": 0.5, "total": 1.5}]
