import numpy as np
import torch
from tiny import read, write_recipes

from kd.parts.assemble import assemble
from kd.pictures import VOID, colourise
from kd.recipe import baseline_of
from kd.runs import SplitResult
from kd.train.sinks.panels import pictures


def test_panels_show_image_labels_and_prediction_and_leave_the_run_as_it_was(tmp_path):
    recipe = baseline_of(read(write_recipes(tmp_path), "log.panels=2"))
    parts = assemble(recipe, runs=tmp_path, seed=0)
    parts.student.train()
    with torch.no_grad():
        parts.student.network.head.weight.zero_()
        parts.student.network.head.bias.copy_(torch.tensor([0.0, 1.0]))  # predicts "bright" everywhere
    state = {name: value.clone() for name, value in parts.student.state_dict().items()}
    before = torch.get_rng_state()
    drawn = dict(pictures(parts, SplitResult(np.eye(2, dtype=np.int64), ["dark", "bright"], 1), "val"))
    assert list(drawn) == ["val/confusion", "val/stripes 0", "val/stripes 1"]
    sample = parts.val[0, 0]
    image, labels, predictions = np.split(drawn["val/stripes 0"], 3, axis=1)
    assert np.array_equal(image, sample.image.permute(1, 2, 0))
    assert np.array_equal(labels, np.asarray(parts.val.colors, np.uint8)[sample.labels])
    assert (predictions == parts.val.colors[1]).all()
    assert parts.student.training
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(state[name], value) for name, value in parts.student.state_dict().items())


def test_panels_stripe_ignored_pixels_as_the_page_does(tmp_path):
    folder = write_recipes(tmp_path).parent
    nets = (folder / "nets.py").read_text()
    (folder / "nets.py").write_text(nets.replace("        noise =", "        labels[:8] = 255\n        noise ="))
    parts = assemble(baseline_of(read(folder / "student.yaml", "log.panels=1")), runs=tmp_path, seed=0)
    drawn = dict(pictures(parts, SplitResult(np.eye(2, dtype=np.int64), ["dark", "bright"], 1), "val"))
    _, labels, _ = np.split(drawn["val/stripes 0"], 3, axis=1)
    assert {tuple(color) for color in labels[:8].reshape(-1, 3).tolist()} == set(VOID)
    assert np.array_equal(labels, colourise(parts.val[0, 0].labels.numpy(), parts.val.colors))
