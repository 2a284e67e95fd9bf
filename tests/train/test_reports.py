"""The numbers of a report: means over the steps since the last one."""

import math

import torch
from toy import batch, toy_run

from kd.train.loop import train
from kd.train.readback import StepNumbers
from kd.train.reports import Reports
from kd.train.sinks.progress import Progress
from kd.train.watch import Watch


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


def test_steps_that_are_not_finite_are_left_out_of_the_mean():
    run, (made, lines) = toy_run(), reports(2)
    run.phases.set_learning_rate(0)
    for at, total in enumerate([1.0, math.nan, math.inf, math.nan], 1):
        made.add(step(at, total))
        run.step = at
        made.write(run, batch(), not_finite=0)
    assert lines[0][1]["loss/total"] == 1.0
    assert "loss/total" not in lines[1][1]  # no step of this interval has a value


def test_a_resumed_run_reports_what_the_uninterrupted_one_would():
    run, (whole, lines) = toy_run(), reports(4)
    run.phases.set_learning_rate(0)
    cut, others = reports(4)
    for at in range(1, 5):
        whole.add(step(at, float(at)))
        cut.add(step(at, float(at)))
        if at == 2:
            state = cut.state_dict()
            cut, others = reports(4)
            cut.load_state_dict([state])
    run.step = 4
    for made in (whole, cut):
        made.write(run, batch(), not_finite=0)
    assert lines == others
    assert lines[0][1]["loss/total"] == 2.5
