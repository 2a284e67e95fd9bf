"""The losses in a training loop without the rest of the toolkit."""

import subprocess
import sys
from pathlib import Path

LOOP = """
import sys
import torch
from torch import nn

from kd.losses import CWD

student, teacher = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(3, 4, 5, padding=2)
optimizer, loss_of = torch.optim.SGD(student.parameters(), lr=0.1), CWD(temperature=4.0)
images = torch.rand(2, 3, 8, 8)
first = None
for step in range(20):
    loss = loss_of(student(images), teacher(images), None)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    first = loss.item() if first is None else first
assert loss.item() < first, (first, loss.item())
assert all(parameter.grad is None for parameter in teacher.parameters())
print(sorted(name for name in sys.modules if name.startswith("kd.") and not name.startswith("kd.losses")))
"""


def test_a_loss_needs_no_engine() -> None:
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", LOOP], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "['kd.constants', 'kd.types']"
