"""The numbers of a report: means over the steps since the last one."""

import math
from types import SimpleNamespace

import torch
from toy import CPU, toy_run

from kd.train.between_steps.reports import Reports
from kd.train.between_steps.watch import Watch
from kd.train.loop import train
from kd.train.readback import Readback, StepNumbers
from kd.train.sinks.progress import Progress


class Kept:
    """A sink that keeps what it gets."""

    def __init__(self):
        self.lines = []

    def scalars(self, step, values):
        self.lines.append((step, values))


def reports(every):
    kept = Kept()
    progress = Progress({})
    progress.scalars = kept.scalars
    return Reports(progress, every=every), kept.lines


def step(number, total):
    losses = [{"supervised": total, "kl": 0.0, "hint": 0.0, "total": total}]
    return StepNumbers(number, [], math.isfinite(total), total, losses)


def test_a_report_is_the_mean_over_the_steps_since_the_last_one():
    run, (made, lines) = toy_run(steps=7), reports(3)
    each, every = [], Watch()
    every.reports.add = lambda numbers: each.append(numbers.means()["total"])
    train(toy_run(steps=7), every)
    run.phases.set_learning_rate(0)
    train(run, Watch(reports=made))
    assert [at for at, _ in lines] == [3, 6, 7]
    for (_, values), (begin, end) in zip(lines, [(0, 3), (3, 6), (6, 7)], strict=True):
        torch.testing.assert_close(values["loss/total"], sum(each[begin:end]) / (end - begin))


def test_a_report_waits_for_no_device_and_has_the_numbers_of_its_own_step():
    written, waits = [], []
    for behind in (False, True):
        run, (made, lines) = toy_run(steps=9), reports(3)
        run.phases.factor = lambda step: 1 / (1 + step)
        readback = Readback(CPU.device)
        send = readback.send

        def sends(numbers, sent, send=send, readback=readback, run=run):
            send(numbers, sent)
            slot, sent, _ = readback._pending.pop()
            event = SimpleNamespace(  # of a device that is two steps behind
                query=lambda: run.step >= sent.step + 2, synchronize=lambda: waits.append(run.step)
            )
            readback._pending.append((slot, sent, event))

        readback.send = sends if behind else send
        train(run, Watch(reports=made, readback=readback))
        written.append([(step, {k: v for k, v in values.items() if "speed" not in k}) for step, values in lines])
    at_once, later = written
    assert later == at_once
    assert [(step, values["lr"]) for step, values in later] == [(3, 0.1 / 3), (6, 0.1 / 6), (9, 0.1 / 9)]
    assert waits == [9, 9]  # at the last step


def test_steps_that_are_not_finite_are_left_out_of_the_mean():
    made, lines = reports(2)
    for at, total in enumerate([1.0, math.nan, math.inf, math.nan], 1):
        made.add(step(at, total))
        made.write(step(at, total), last=False, not_finite=0)
    assert lines[0][1]["loss/total"] == 1.0
    assert "loss/total" not in lines[1][1]  # no step of this interval has a value


def test_the_total_is_the_sum_of_the_losses_beside_it_after_a_term_that_is_not_finite():
    made, lines = reports(2)
    for at, kl in enumerate([1.0, math.nan], 1):
        losses = {"supervised": 2.0 * at, "kl": kl, "total": 2.0 * at + kl}
        numbers = StepNumbers(at, [], math.isfinite(kl), kl, [losses])
        made.add(numbers)
        made.write(numbers, last=False, not_finite=at - 1)
    ((_, values),) = lines
    assert (values["loss/supervised"], values["loss/kl"], values["loss/total"]) == (2.0, 1.0, 3.0)


def test_a_resumed_run_reports_what_the_uninterrupted_one_would():
    whole, lines = reports(4)
    cut, others = reports(4)
    for at in range(1, 5):
        whole.add(step(at, float(at)))
        cut.add(step(at, float(at)))
        if at == 2:
            state = cut.state_dict()
            cut, others = reports(4)
            cut.load_state_dict([state])
    for made in (whole, cut):
        made.write(step(4, 4.0), last=False, not_finite=0)
    assert lines == others
    assert lines[0][1]["loss/total"] == 2.5
