"""The YAML fragments on the pages of `docs/methods` train: three steps of a small student under a small teacher."""

import inspect
import math
import re
from pathlib import Path

import pytest
import torch
import yaml
from steps import losses_of

import kd.losses
from kd.components import Maker
from kd.data import Shapes
from kd.data.loader import training_batches
from kd.data.splits.split import Split
from kd.machine import choose
from kd.parts.assemble import assemble
from kd.parts.checks.dry_run import dry_run
from kd.parts.trained import write_weights
from kd.recipe import Use, read_recipe
from kd.scoring import reestimate_batchnorm
from kd.train.start import start
from teachers import DeepLabV3Plus

METHODS = Path(__file__).resolve().parents[1] / "docs" / "methods"
PAGES = {page.stem: page.read_text(encoding="utf-8") for page in METHODS.glob("*.md")}
FRAGMENTS = {
    f"{stem}-{number}": yaml.safe_load(block)
    for stem, text in sorted(PAGES.items())
    for number, block in enumerate(re.findall(r"```yaml\n(.*?)```", text, re.DOTALL), 1)
}
DISTILL, SUPERVISED = (
    {name: fragment[section] for name, fragment in FRAGMENTS.items() if section in fragment}
    for section in ("distill", "supervised")
)
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
    """An untrained teacher for all fragments, with BatchNorm statistics of its own maps. Its logits are scaled up, so
    that it is certain enough for the losses that use only its certain predictions.
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
    """Train three steps; the losses of each step by name. The student's parameters must change and stay finite."""
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


@pytest.mark.parametrize("name", DISTILL)
def test_a_fragment_trains_three_steps(name, teacher, tmp_path):
    fragment = DISTILL[name]
    steps = trained(tmp_path, teacher, "distill=" + flow(fragment))
    assert len(steps) == 3
    for losses in steps:
        assert losses.keys() == {"supervised", "total", "gradient_norm", *fragment}
        assert all(math.isfinite(value) for value in losses.values())
    for term in fragment:
        assert any(losses[term] != 0 for losses in steps)


@pytest.mark.parametrize("name", SUPERVISED)
def test_a_supervised_fragment_trains_three_steps(name, tmp_path):
    steps = trained(tmp_path, "supervised=" + flow(SUPERVISED[name]))
    assert len(steps) == 3
    assert all(losses["supervised"] > 0 and math.isfinite(losses["total"]) for losses in steps)


def used(tree):
    """The name of every component in a fragment."""
    if isinstance(tree, dict):
        if "use" in tree:
            yield tree["use"]
        tree = list(tree.values())
    if isinstance(tree, list):
        for item in tree:
            yield from used(item)


def page_of(name):
    """The name of the page of a loss, which is that of its module."""
    return getattr(kd.losses, name).__module__.rpartition(".")[2]


@pytest.mark.parametrize("name", kd.losses.__all__)
def test_every_loss_has_a_page_with_a_fragment(name):
    section = "distill" if hasattr(getattr(kd.losses, name), "compares") else "supervised"
    fragments = [fragment for key, fragment in FRAGMENTS.items() if key.startswith(f"{page_of(name)}-")]
    assert any(f"kd.losses.{name}" in used(fragment.get(section)) for fragment in fragments)


@pytest.mark.parametrize("name", kd.losses.__all__)
def test_the_page_lists_every_argument_with_its_default(name):
    rows = [line.split("|")[1:3] for line in PAGES[page_of(name)].splitlines() if line.startswith("| `")]
    listed = {(argument.strip(" `"), default.strip()) for names, default in rows for argument in names.split(",")}
    loss = getattr(kd.losses, name)
    parameters = inspect.signature(loss).parameters.values() if "__init__" in vars(loss) else ()
    for parameter in parameters:
        default = "" if parameter.default is parameter.empty else str(parameter.default)
        assert (parameter.name, default) in listed


def test_every_fragment_is_one_section_of_a_recipe():
    assert all(fragment.keys() in ({"distill"}, {"supervised"}) for fragment in FRAGMENTS.values())


def test_a_fragment_on_features_names_its_taps(tmp_path):
    for fragment in DISTILL.values():
        for term in fragment.values():
            component = Maker().find(Use.model_validate(term["loss"]))
            assert component.compares != "features" or "at" in term


def test_the_pages_link_to_existing_files():
    for text in PAGES.values():
        for target in re.findall(r"\]\(([^)#:]+)\)", text):
            assert (METHODS / target).is_file(), target
