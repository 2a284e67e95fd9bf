"""`freeze: encoder` on a network that calls its encoder `backbone`."""

from pathlib import Path

import pytest
import torch
from steps import train_and_look

import students
from kd.errors import RecipeError
from kd.parts.assemble import assemble
from kd.parts.checks.dry_run import dry_run
from kd.parts.trained import write_weights
from kd.recipe import read_recipe
from kd.train.start import start

RECIPE = """
student: {use: students.MobileNetV2UNet}
data: {use: kd.data.Shapes, args: {count: 4}, size: [64, 64], workers: 0}
supervised: {use: kd.losses.CrossEntropy}
optimizer: {use: torch.optim.SGD, args: {lr: 0.1, momentum: 0.9, weight_decay: 0.1}}
train: {steps: 12, batch_size: 1, evaluate_every: 0}
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    torch.manual_seed(1)
    write_weights(tmp_path, students.MobileNetV2UNet(6))
    return tmp_path / "recipe.yaml"


def test_no_bit_of_the_encoder_changes_in_ten_steps_and_then_it_trains(recipe: Path) -> None:
    weights = f"student.weights={recipe.parent / 'student.safetensors'}"
    phases = "phases=[{until: 10, freeze: encoder}, {lr: 1e-5}]"
    parts = assemble(read_recipe(recipe, [weights, phases]), runs=recipe.parent, seed=0)
    dry_run(parts)
    network = parts.student.network
    states = []

    def look(run: object, losses: object) -> None:
        states.append({name: value.clone() for name, value in network.state_dict().items()})

    run = start(parts, seed=0)
    look(run, None)
    train_and_look(run, look)
    assert len(states) == 13
    moved = [{name for name in states[0] if not torch.equal(states[0][name], states[at][name])} for at in (10, 11)]
    assert any(name.startswith("decoder.") for name in moved[0])
    assert not any(name.startswith("backbone.") for name in moved[0])
    assert any(name.startswith("backbone.") for name in moved[1])


def test_an_encoder_without_pretrained_weights_is_not_frozen(recipe: Path) -> None:
    with pytest.raises(RecipeError, match=r"freeze: 'encoder' has no pretrained weights \(backbone\.\S+ was drawn"):
        assemble(read_recipe(recipe, ["student.freeze=encoder"]), runs=recipe.parent, seed=0)


def test_the_message_of_a_network_without_an_encoder(recipe: Path) -> None:
    with pytest.raises(RecipeError, match=r"student\.freeze: the network has no module 'encodr'"):
        assemble(read_recipe(recipe, ["student.freeze=encodr"]), runs=recipe.parent, seed=0)
