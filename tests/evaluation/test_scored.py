"""Scoring a run holds one batch at a time."""

import subprocess
import sys

import pytest
from command import kd
from tiny import write_recipes

BIG = '''
import torch

from kd.types import Sample


class Big:
    """Dark images of 256 × 256."""

    class_names = ("dark", "bright")
    colors = ((0, 0, 0), (255, 255, 0))
    in_channels = 3

    def __init__(self, split: str, count: int = 12):
        self.count = count

    def __len__(self):
        return self.count

    def __getitem__(self, key):
        labels = torch.zeros(256, 256, dtype=torch.uint8)
        return Sample(torch.zeros(3, 256, 256, dtype=torch.uint8), labels, f"big {key[0]}")
'''
PEAK = """
import resource, sys
from kd.cli import main
assert main(sys.argv[1:]) == 0
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_images(folder):
    """An image, its probabilities and its mask are 0.8 MB, so 400 of them would be seen."""
    write_recipes(folder)
    (folder / "big.py").write_text(BIG)
    assert kd("run", "teacher.yaml", "--trust") == 0

    def peak(images):
        data = (f"data.use={folder}/big.py:Big", f"data.args.count={images}", "evaluate.size=[256, 256]")
        options = ("--trust", "--csv", f"{images}.csv", "--predictions", f"masks{images}")
        command = [sys.executable, "-c", PEAK, "evaluate", "teacher.yaml", *data, *options]
        out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        return int(out.splitlines()[-1]) / 1000  # MB

    few, many = peak(20), peak(420)
    assert len(list((folder / "masks420").iterdir())) == 420
    assert many < few + 30
