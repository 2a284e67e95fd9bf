"""BatchNorm's statistics under several processes: the score of a run is that of its saved weights."""

import numpy as np
import pytest
import torch
from ranks import kd, start, statuses, the_run
from tiny import read, run, write_recipes
from torch import nn

from kd import distributed
from kd.components import Maker
from kd.machine import choose
from kd.parts.trained import load_network
from kd.runs import read_result
from kd.scoring import score

EMA = "train.ema=0.6"


@pytest.mark.parametrize("more", [[], [EMA]], ids=["plain", "ema"])
@pytest.mark.parametrize("processes", [1, 2])
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
