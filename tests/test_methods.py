"""Every row of `recipes/shapes/methods.yaml` trains: three steps of a small student under a small teacher."""

import math

import pytest
import torch
import yaml
from steps import losses_of

import kd.losses
from kd.components import Maker
from kd.data import Shapes
from kd.data.dataset import Split
from kd.data.loader import training_batches
from kd.machine import choose
from kd.parts.assemble import assemble
from kd.parts.dry_run import dry_run
from kd.recipe import Use, read_recipe
from kd.recipe.shipped import shipped_recipes
from kd.runs import write_weights
from kd.scoring import reestimate_batchnorm
from kd.train.start import start
from teachers import DeepLabV3Plus

METHODS = yaml.safe_load((shipped_recipes() / "shapes" / "methods.yaml").read_text(encoding="utf-8"))
BASE = """
student: {use: students.MobileNetV3SmallASPPLite, args: {width: 0.5}}
data: {use: kd.data.Shapes, args: {count: 8}, size: [64, 64], workers: 0}
supervised: {use: kd.losses.CrossEntropy}
optimizer: {use: torch.optim.SGD, args: {lr: 0.01, momentum: 0.9}}
train: {steps: 3, batch_size: 2, precision: fp32}
"""


def flat(module):
    return torch.cat([parameter.detach().reshape(-1) for parameter in module.parameters()])


def flow(tree):
    return yaml.safe_dump(tree, default_flow_style=True, width=10_000).strip()


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    """An untrained teacher for all rows, with statistics of its own maps and logits that differ: it is sure enough for
    the losses that take only its certain answers.
    """
    network = DeepLabV3Plus(6, backbone="mobilenet_v2", decoder=64)
    batches = training_batches(Split(Shapes("train", 8), (64, 64), seed=0), steps=2, batch_size=8, workers=0)
    precision = choose("cpu", "fp32")
    reestimate_batchnorm(network, (batch.images for batch in batches), precision)
    with torch.no_grad():
        network.classifier.members[0][1].weight.mul_(100)
    folder = tmp_path_factory.mktemp("teacher")
    write_weights(folder, network)
    (file,) = folder.iterdir()
    return f"teacher={{use: teachers.DeepLabV3Plus, args: {{backbone: mobilenet_v2, decoder: 64}}, weights: {file}}}"


def trained(folder, *overrides):
    """The losses of three steps by name, and how far the student's parameters moved."""
    file = folder / "base.yaml"
    file.write_text(BASE, encoding="utf-8")
    recipe = read_recipe(file, overrides)
    Maker(recipe).check()
    parts = assemble(recipe, runs=folder / "runs", seed=0)
    dry_run(parts)
    before = flat(parts.student.network)
    steps = losses_of(start(parts, seed=0))
    after = flat(parts.student.network)
    assert after.isfinite().all()
    assert not torch.equal(before, after)
    return steps


@pytest.mark.parametrize("name", METHODS["distill"])
def test_a_row_trains_three_steps(name, teacher, tmp_path):
    fragment = METHODS["distill"][name]
    steps = trained(tmp_path, teacher, "distill=" + flow(fragment))
    assert len(steps) == 3
    for losses in steps:
        assert losses.keys() == {"supervised", "total", "gradient_norm", *fragment}
        assert all(math.isfinite(value) for value in losses.values())
    for term in fragment:  # VID's likelihood and ReviewKD's learnt layers aside, no term is idle
        assert any(losses[term] != 0 for losses in steps)


@pytest.mark.parametrize("name", METHODS["supervised"])
def test_a_supervised_row_trains_three_steps(name, tmp_path):
    steps = trained(tmp_path, "supervised=" + flow(METHODS["supervised"][name]))
    assert len(steps) == 3
    assert all(losses["supervised"] > 0 and math.isfinite(losses["total"]) for losses in steps)


def used(tree):
    """Every component in a fragment."""
    if isinstance(tree, dict):
        if "use" in tree:
            yield tree["use"]
        tree = list(tree.values())
    if isinstance(tree, list):
        for item in tree:
            yield from used(item)


@pytest.mark.parametrize("section", ["distill", "supervised"])
def test_every_exported_loss_has_a_row_of_its_name(section):
    exported = {
        name for name in kd.losses.__all__ if hasattr(getattr(kd.losses, name), "compares") == (section == "distill")
    }
    assert exported <= METHODS[section].keys()
    for name in exported:
        assert f"kd.losses.{name}" in used(METHODS[section][name])


def test_a_row_on_features_names_its_taps_and_its_adapter_where_channels_must_agree(tmp_path):
    for row in METHODS["distill"].values():
        for term in row.values():
            component = Maker().find(Use.model_validate(term["loss"]))
            assert component.compares != "features" or "at" in term
