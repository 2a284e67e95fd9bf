from pathlib import Path

from kd.bench.step import LOOP, time_step
from kd.parts.assemble import assemble
from kd.recipe import read_recipe

RECIPE = """
student: {use: students.MobileNetV3SmallASPPLite}
data: {use: kd.data.Shapes, args: {count: 2, size: 64}, size: [64, 64], workers: 0}
supervised: {use: kd.losses.CrossEntropy}
optimizer: {use: torch.optim.SGD, args: {lr: 0.01}}
train: {steps: 2, batch_size: 1, evaluate_every: 1}
log: {tensorboard: false}
"""


def test_a_recipe_of_fewer_steps_than_rounds_is_timed(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    parts = assemble(read_recipe(tmp_path / "recipe.yaml"), runs=tmp_path, seed=0)
    seconds = time_step(parts, 3, tmp_path)  # five rounds: poly has no value after the last step
    assert seconds[LOOP] > 0
