"""The example in docs/add-a-dataset.md is checked and trains, as a reader would type it."""

import re
import shlex
from pathlib import Path

import numpy as np

from kd.cli import main

PAGE = Path(__file__).resolve().parents[2] / "docs" / "add-a-dataset.md"
SHORT = ("train.epochs=null", "train.steps=2", "train.batch_size=2", "data.workers=0", "log.panels=0")


def test_the_example_trains(folder, capsys):
    text = PAGE.read_text(encoding="utf-8")
    for content in re.findall(r"```(?:python|yaml)\n(.*?)```", text, re.DOTALL):
        (folder / content.split()[1]).write_text(content, encoding="utf-8")  # the first line is the file's name
    random = np.random.default_rng(0)
    for split in ("train", "val"):
        (folder / "cells" / split).mkdir(parents=True)
        for index in range(4):
            image = random.integers(0, 256, (48, 56), dtype=np.uint8)
            labels = random.choice(np.array([0, 1, 2, 255], dtype=np.uint8), (48, 56))
            np.savez(folder / "cells" / split / f"{index}.npz", image=image, labels=labels)
    [commands] = re.findall(r"```bash\n(.*?)```", text, re.DOTALL)
    for line in commands.splitlines():
        assert main([*shlex.split(line)[1:], *SHORT]) == 0, line
    out = capsys.readouterr().out
    assert "cells.yaml: ok: " in out
    assert "val mIoU" in out
