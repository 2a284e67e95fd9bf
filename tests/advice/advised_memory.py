"""Memory that does not hold a step: the micro-batches that do fit."""

import re
from pathlib import Path
from typing import Any

import pytest
from bounded import BoundedMemory
from command import kd
from following import Row, succeeds
from tiny import read, write_recipes

from kd import distributed
from kd.parts.assemble import Parts, assemble
from kd.train.auto import fit
from kd.train.auto.fit import step_peak

SETTINGS = ("teacher=null", "distill=null", "train.steps=4")
ALONE = ("student.yaml", "--trust", *SETTINGS)


def parts_of(*changes: str) -> Parts:
    write_recipes(Path())
    return assemble(read(Path("student.yaml"), *SETTINGS, *changes), runs=Path(), seed=0)


def fitting(command: str, *changes: str, tries: bool, least: tuple[str, ...] = (), share: float = 0.7) -> int:
    """A command on a GPU, or a processor, with a share of the memory that a step takes, of the recipe or of `least`."""
    parts = parts_of(*least)
    size = int(share * step_peak(parts, parts.recipe.accumulate, BoundedMemory(2**60)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fit, "DeviceMemory", lambda device: BoundedMemory(size, tries=tries))
        return kd(command, *ALONE, *changes)


def on_images_of(side: int) -> int:
    """A run on a processor that just holds one image of 96 × 96 pixels."""
    one = ("data.size=[96, 96]", "train.accumulate=4")
    return fitting("run", "train.accumulate=auto", f"data.size=[{side}, {side}]", tries=False, least=one, share=1.05)


def advised(text: str) -> Any:
    found = re.search(r"train\.accumulate=\d", text)
    assert found
    return found[0]


def of_processes(world: int, *changes: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(distributed, "world", lambda: world)
        parts_of(*changes)


ROWS = [
    Row(
        "train.accumulate: auto: the fewest micro-batches of 4 images that fit are 2 ({}), and what student computes "
        "depends on all images of a micro-batch, so the number belongs to the recipe; set train.accumulate=2",
        lambda: fitting("run", "train.accumulate=auto", tries=True),
        lambda text: succeeds("run", *ALONE, advised(text)),
    ),
    Row(
        "warning: memory: a step takes about {} MB; set train.accumulate={}, or auto",
        lambda: fitting("check", tries=False),
        lambda text: fitting("check", advised(text), tries=False),
    ),
    Row(
        "train.accumulate: auto: even the smallest micro-batch does not fit into the {} MB that are free; use a "
        "smaller data.size or data.crop",
        lambda: on_images_of(96),
        lambda text: on_images_of(32),
    ),
    Row(
        "train.accumulate: auto is found by one process, and this run has 2; set train.accumulate=1, or the number "
        "that kd check finds for a process's share of the images, train.batch_size=2",
        lambda: of_processes(2, "train.accumulate=auto"),
        lambda text: (of_processes(2, "train.accumulate=1"), succeeds("check", *ALONE, "train.batch_size=2")),
    ),
]
