"""The predictions that a finished run keeps are those of its weights and of its teacher."""

import numpy as np
from tiny import read, run, write_recipes

from kd.components import Maker
from kd.machine import choose
from kd.parts.trained import load_network
from kd.runs import read_predictions, spread
from kd.scoring import predict_sample


def test_a_run_keeps_what_it_and_its_teacher_predict(tmp_path):
    recipe = read(write_recipes(tmp_path))
    (run_dir,), _ = run(recipe, tmp_path / "runs")
    own, teacher = read_predictions(run_dir)
    dataset = Maker(recipe).dataset("val")
    samples = [dataset[index, 0] for index in spread(len(dataset), 24)]
    assert list(own) == list(teacher) == [sample.name for sample in samples]
    network = load_network(run_dir, trust=True)
    for sample in samples:
        assert np.array_equal(own[sample.name], predict_sample(network, recipe, choose("cpu"), sample))
    assert any(not np.array_equal(own[name], teacher[name]) for name in own)
