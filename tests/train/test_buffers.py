"""BatchNorm's statistics under several processes: the score of a run is that of its saved weights."""

import os
import signal

import numpy as np
import pytest
import torch
from ranks import kd, start, statuses, the_run
from steps import at_each_step
from tiny import equal, read, run, weights, write_recipes
from torch import nn

from kd import distributed
from kd.components import Maker
from kd.machine import choose
from kd.parts.trained import load_network
from kd.runs import read_result
from kd.scoring import score

EMA = "train.ema=0.6"


@pytest.mark.parametrize("more", [[], [EMA]], ids=["plain", "ema"])
@pytest.mark.parametrize("processes", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_the_saved_weights_have_the_score_of_the_result(tmp_path, processes, more):
    """With every rank's own statistics, the images of rank 1 would be scored with a network that is not saved."""
    options = ["teacher=null", "distill=null", "train.steps=3", "train.evaluate_every=1", *more]
    path = write_recipes(tmp_path)
    recipe = read(path, *options)
    if processes == 1:
        run(recipe, tmp_path / "runs")
    else:
        assert statuses(start(2, kd(tmp_path, *options))) == [0, 0]
    run_dir = the_run(tmp_path)
    network, val = load_network(run_dir, trust=True), Maker(recipe).dataset("val")
    again = score(network, val, size=(32, 32), precision=choose("cpu", "fp32"), batch_size=4 // processes)
    saved = read_result(run_dir).splits["val"]
    assert np.array_equal(again.confusion, saved.confusion)
    assert len(set(saved.confusion.flat)) == 4  # both kinds of mistakes are made: the weights matter


@pytest.mark.slow
def test_an_average_that_teaches_is_the_same_on_all_ranks_through_a_stop(tmp_path, monkeypatch):
    """With an average of its own statistics on each rank, the resumed run would be taught by another network."""
    write_recipes(tmp_path / "whole")
    options = ("teacher={ema: 0.9}", "distill.hint=null", "train.evaluate_every=0", "train.save_every=0")
    assert statuses(start(2, kd(tmp_path / "whole", *options))) == [0, 0]

    def signalled(recipe, step):
        if step == 5 and distributed.rank() == 1:
            os.kill(os.getpid(), signal.SIGTERM)

    write_recipes(tmp_path / "cut")
    with monkeypatch.context() as patched:
        at_each_step(patched, before=signalled)
        assert statuses(start(2, kd(tmp_path / "cut", *options))) == [143, 143]
    assert statuses(start(2, kd(tmp_path / "cut", *options))) == [0, 0]
    assert equal(weights(the_run(tmp_path / "cut")), weights(the_run(tmp_path / "whole")))


def test_every_rank_holds_the_buffers_of_rank_0(tmp_path):
    def work(rank):
        module = nn.ModuleDict({"norm": nn.BatchNorm2d(3), "dropout": nn.Dropout()})
        module["norm"].running_mean += torch.tensor([1.0, 2.0, 3.0]) * (rank + 1)
        module["norm"].num_batches_tracked += 5 * (rank + 1)
        module.register_buffer("queue", torch.full((2, 2), rank, dtype=torch.float64))
        with distributed.joined("cpu"):
            distributed.share_buffers(module)
        assert module["norm"].running_mean.tolist() == [1, 2, 3]
        assert (module["norm"].running_var.tolist(), module["norm"].num_batches_tracked.item()) == ([1, 1, 1], 5)
        assert module.queue.tolist() == [[0, 0], [0, 0]]

    assert statuses(start(2, work)) == [0, 0]
