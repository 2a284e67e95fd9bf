"""Recipes as text, and how they are read: for the tests of all code that reads recipes."""

from pathlib import Path

import pytest

from kd.errors import RecipeError
from kd.recipe import Recipe, read_recipe

TEXT = """\
teacher: {use: teachers.FCNResNet50, args: {backbone: resnet18}, weights: w.pt}
student: {use: students.MobileNetV3SmallASPP}
data:
  use: kd.data.CamVid
  args: {root: data/camvid, values: {0: sky, 255: void}}
  size: [360, 480]
  crop: [360, 360]
  augment: [{use: kd.data.RandomScale, args: {low: 0.5, high: 2.0}}, {use: kd.data.RandomFlip}]
  workers: 1
supervised: {use: kd.losses.CrossEntropy, aux_weight: 0.3}
distill:
  kl:
    loss: {use: kd.losses.PixelKL, args: {temperature: 4.0}}
    weight: 1
  cwd:
    loss: {use: kd.losses.Masked, args: {loss: {use: kd.losses.CWD}, more: [1, {use: kd.losses.AT}]}}
    at: {student: [low, high], teacher: [layer1, layer4]}
    adapter: {use: kd.adapters.Conv1x1}
    weight: {use: kd.schedules.linear, args: {start: 0.0, end: 3.0, over: 10%}}
    resize: teacher
    pixels: all
optimizer: {use: torch.optim.SGD, args: {lr: 1e-2, momentum: 0.9, weight_decay: 1e-4}}
schedule: {use: kd.schedules.poly, args: {power: 0.8, warmup: 5%}}
train:
  epochs: 100
  batch_size: 16
  accumulate: 2
  seeds: [0, 1]
  clip_norm: 1
  precision: bf16
  memory_format: channels_last
  evaluate_every: 5%
  save_every: 200
  select: best
  reestimate_batchnorm: 10
log: {every: 5, panels: 0, tensorboard: false}
device: cpu
"""


ALONE = """\
student: {use: students.MobileNetV3SmallASPP}
data: {use: kd.data.Shapes, size: [64, 64]}
supervised: {use: kd.losses.CrossEntropy}
optimizer: {use: torch.optim.SGD, args: {lr: 0.01}}
train: {steps: 10, batch_size: 4}
"""


WITH_TEACHER = ALONE + "teacher: {recipe: sub/t.yaml}\ndistill: {kl: {loss: {use: kd.losses.PixelKL}}}\n"


def read(text: str, *overrides: str, trust: bool = False, name: str = "r.yaml") -> Recipe:
    Path(name).write_text(text)
    return read_recipe(name, overrides, trust=trust)


def mistakes(text: str, *overrides: str) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        read(text, *overrides)
    assert str(caught.value) == "\n".join(caught.value.mistakes)
    return caught.value.mistakes
