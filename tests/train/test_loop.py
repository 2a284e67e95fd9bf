import copy
import itertools
import re

import pytest
import torch
from steps import losses_of, train_and_look
from toy import batch, flat, part, toy_run

from kd.errors import DivergedError
from kd.train.loop import train


def test_the_teacher_does_not_change_in_training():
    run = toy_run(batch_norm=True)
    before = copy.deepcopy(run.teacher.state_dict())
    run.teacher.train()  # must not change the mode of the network
    train(run)
    after = run.teacher.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert not any(parameter.requires_grad for parameter in run.teacher.parameters())


def test_the_loss_falls_and_every_loss_is_reported():
    seen = losses_of(toy_run(steps=20))
    assert set(seen[0]) == {"supervised", "kl", "hint", "total", "gradient_norm"}
    assert seen[-1]["total"] < seen[0]["total"]
    first = seen[0]
    assert first["total"] == pytest.approx(first["supervised"] + 1.0 * first["kl"] + 2.0 * first["hint"], rel=1e-6)


def test_accumulating_two_halves_equals_the_whole_batch_under_plain_sgd():
    whole = toy_run(itertools.repeat(batch()))
    halves = [part(batch(), slice(0, 4)), part(batch(), slice(4, 8))]
    two = toy_run(itertools.cycle(halves), accumulate=2)
    train(whole)
    train(two)
    torch.testing.assert_close(flat(two.student), flat(whole.student), atol=1e-6, rtol=1e-5)


def test_the_learning_rate_is_the_initial_one_times_the_factor_of_the_step():
    seen = []
    run = toy_run()
    run.phases.factor = lambda step: 1 / (step + 1)
    train_and_look(run, lambda run, losses: seen.append(run.optimizer.param_groups[0]["lr"]))
    assert seen == [0.1, 0.05, pytest.approx(0.1 / 3)]


def test_the_gradient_is_clipped_to_the_norm():
    run = toy_run(steps=1)
    run.optimizer.param_groups[0]["momentum"] = 0.0
    run.clip_norm = 0.01
    before = flat(run.student)
    (losses,) = losses_of(run)
    moved = (flat(run.student) - before).norm().item()
    assert losses["gradient_norm"] > 0.01
    assert moved == pytest.approx(0.1 * 0.01, rel=1e-3)


def test_a_loss_that_is_not_finite_stops_before_the_update():
    run = toy_run(lr=1.0)
    with torch.no_grad():
        run.student.network.head.weight.fill_(float("nan"))
    before = flat(run.student)
    with pytest.raises(DivergedError, match=re.escape("step 1: term 'supervised' is nan (supervised nan, kl nan,")):
        train(run)
    assert torch.equal(flat(run.student).nan_to_num(), before.nan_to_num())


def test_training_leaves_the_stream_where_it_stopped():
    taken = []
    stream = (taken.append(n) or batch() for n in itertools.count())
    train(toy_run(stream, steps=2, accumulate=2))
    assert taken == [0, 1, 2, 3]
