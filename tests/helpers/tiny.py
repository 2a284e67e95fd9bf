"""A recipe that trains in a second: a two-layer student and teacher and a dozen images, in a file beside it."""

import os
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from steps import at_each_step

from kd.recipe import baseline_of, read_recipe, to_yaml
from kd.train.session import run_recipe

NETWORKS = '''
import torch
from torch import nn

from kd.types import Sample, SegmentationOutput, Tap


class Stripes:
    """Bright and dark stripes; the class is the brightness."""

    class_names = ("dark", "bright")
    colors = ((0, 0, 0), (255, 255, 0))
    in_channels = 3

    def __init__(self, split: str, count: int = 12):
        self.offset, self.count = {"train": 0, "val": 100, "test": 200}[split], count

    def __len__(self):
        return self.count

    def __getitem__(self, key):
        generator = torch.Generator().manual_seed(self.offset + key[0])
        labels = torch.randint(0, 2, (4, 4), generator=generator).repeat_interleave(8, 0).repeat_interleave(8, 1)
        noise = torch.randint(0, 40, (3, 32, 32), generator=generator)
        return Sample((noise + 200 * labels).to(torch.uint8), labels.to(torch.uint8), f"stripes {key[0]}")


class Net(nn.Module):
    def __init__(self, num_classes: int, in_channels: int = 3, *, channels: int = 8, frozen: bool = False):
        super().__init__()
        self.num_classes, self.in_channels = num_classes, in_channels
        self.taps = {"low": Tap(channels, 4)}
        self.conv = nn.Conv2d(in_channels, channels, 3, 4, 1)
        self.norm = nn.BatchNorm2d(channels)
        self.drop = nn.Dropout(0.2)
        self.head = nn.Conv2d(channels, num_classes, 1)
        self.conv.requires_grad_(not frozen)
        self.norm.requires_grad_(not frozen)

    def forward(self, images):
        low = torch.relu(self.norm(self.conv(images)))
        return SegmentationOutput(self.head(self.drop(low)), {"low": low}, {})
'''

RECIPE = """
student: {use: "nets.py:Net", args: {channels: 4}}
data:
  use: "nets.py:Stripes"
  size: [32, 32]
  augment: [{use: kd.data.RandomFlip}]
  workers: 0
supervised: {use: kd.losses.CrossEntropy}
optimizer: {use: torch.optim.SGD, args: {lr: 0.1, momentum: 0.9}}
train: {steps: 8, batch_size: 4, evaluate_every: 4, save_every: 2, checkpoints: all, precision: fp32}
log: {every: 1, tensorboard: false}
"""

DISTILLED = """
teacher: {recipe: teacher.yaml}
distill:
  kl: {loss: {use: kd.losses.PixelKL}}
  hint:
    loss: {use: kd.losses.MSE}
    at: {student: low, teacher: low}
    adapter: {use: kd.adapters.Conv1x1}
"""


def write_recipes(folder: Path) -> Path:
    """`teacher.yaml` and the recipe `student.yaml` that it teaches; the student's path."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "nets.py").write_text(NETWORKS)
    (folder / "teacher.yaml").write_text(RECIPE.replace("channels: 4", "channels: 8"))
    (folder / "student.yaml").write_text(RECIPE + DISTILLED)
    return folder / "student.yaml"


def write_pictures(folder: Path, count: int) -> None:
    """Pictures of noise of several sizes in a new folder."""
    folder.mkdir()
    generator = torch.Generator().manual_seed(0)
    for index in range(count):
        noise = torch.randint(0, 256, (20 + index, 40, 3), generator=generator, dtype=torch.uint8)
        Image.fromarray(noise.numpy()).save(folder / f"{index}.png")


def read(path, *overrides):
    return read_recipe(path, overrides, trust=True)


def run(recipe, runs, **options):
    """Run a recipe; its run directories, and the lines that it printed."""
    lines = []
    run_dirs = run_recipe(recipe, runs=runs, say=lines.append, quiet=True, **options)
    return run_dirs, lines


def trained_alone(folder):
    """The run directory of a student that a recipe in `folder` has trained without its teacher."""
    alone = folder / "alone.yaml"
    alone.write_text(to_yaml(baseline_of(read(write_recipes(folder)))))
    ((run_dir,), _) = run(read(alone), folder / "runs")
    return run_dir


def cut_at(step, recipe, runs):
    """Run until `step` has been reported, evaluated and, if it is due, saved; then die."""

    def dies(recipe, at):
        if at == step:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patched:
        at_each_step(patched, after=dies)
        with pytest.raises(KeyboardInterrupt):
            run(recipe, runs)


def weights(run_dir):
    return load_file(run_dir / "student.safetensors")


def equal(state, other):
    return state.keys() == other.keys() and all(torch.equal(state[key], other[key]) for key in state)


def forked(work):
    """Run `work` in a forked process, whose exit status is 0, or 99 if it raises; its id."""
    child = os.fork()
    if child == 0:
        status = 99
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    return child


def in_child(work):
    """Run `work` in a forked process; its exit status, or minus the number of the signal that killed it."""
    return os.waitstatus_to_exitcode(os.waitpid(forked(work), 0)[1])


def tenth(whole):
    """The number of faults: all with `slow`, a tenth by default."""
    return [pytest.param(whole // 10, id="tenth"), pytest.param(whole, id="whole", marks=pytest.mark.slow)]
