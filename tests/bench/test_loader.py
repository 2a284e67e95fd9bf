from pathlib import Path

import torch

from kd.bench.loader import limit_line, time_loader
from kd.parts.assemble import assemble
from kd.recipe import read_recipe

RECIPE = """
student: {use: students.MobileNetV3SmallASPPLite}
data: {use: kd.data.Shapes, args: {count: 4, size: 64}, size: [64, 64], workers: 1}
supervised: {use: kd.losses.CrossEntropy}
optimizer: {use: torch.optim.SGD, args: {lr: 0.01}}
train: {steps: 1, batch_size: 2}
"""
CPU = torch.device("cpu")


def test_a_recipe_of_one_step_has_a_speed_of_loading(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    parts = assemble(read_recipe(tmp_path / "recipe.yaml"), runs=tmp_path, seed=0)
    assert time_loader(parts, warm=0.1, timed=0.1) > 0


def test_the_slower_of_the_two_is_the_limit(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    recipe = read_recipe(tmp_path / "recipe.yaml")
    assert limit_line(recipe, CPU, 300, 60) == (
        "loader alone: 300 images/s (1 worker), 5.0 × what the step trains; the step is the limit"
    )
    recipe = read_recipe(tmp_path / "recipe.yaml", ["data.workers=0"])
    assert limit_line(recipe, CPU, 30, 60) == (
        "loader alone: 30 images/s (no worker: it loads between the steps), 0.5 × what the step trains; "
        "the loader is the limit"
    )
