"""Advice that messages share as a value, or give after a colon."""

import os
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from advised_calls import Net, maps
from advised_checks import check, teacher_file, write
from advised_contracts import hugging_face
from advised_data import COLORS, LABELS, opened, tree
from advised_recipes import ALONE, OWN, TAUGHT
from advised_results import farm_run, predicted
from advised_runs import bad_teacher, only, run
from command import kd
from following import Row, overrides, succeeds
from tiny import NETWORKS, write_recipes

from kd.compare.gathering.gather import gather
from kd.data import CamVid
from kd.parts.teacher.output import flaw
from kd.train import step
from teachers import ClassMapped, Ensemble, HuggingFace

CODE = '''

class Odd(Net):
    """Takes sides that 8 divides, and trains on two images or more."""

    def forward(self, images):
        if images.shape[2] % 8:
            raise ValueError("odd size")
        if self.training and len(images) < 2:
            raise ValueError("one image")
        return super().forward(images)
'''


def odd(*changes: str) -> int:
    write_recipes(Path())
    Path("nets.py").write_text(NETWORKS + CODE)
    Path("r.yaml").write_text(ALONE)
    return kd("check", "r.yaml", "--trust", "student.use=nets.py:Odd", *changes)


def advised(text: str, key: str) -> str:
    """The setting of a key that a message prints, as an override."""
    found = re.search(rf"set {re.escape(key)}: (\[.*?\]|\d+)", text)
    assert found, text
    return f"{key}={found[1]}"


def student(*changes: str) -> int:
    return kd("check", "r.yaml", "--trust", "student.args.channels=8", *changes)


def with_pixels_for(limit: int, *changes: str) -> int:
    """A run on a GPU whose memory holds so many pixels."""
    write_recipes(Path())
    ordinary = step.distill_step

    def limited(run: Any, batch: Any, *rest: Any) -> Any:
        if batch.images[:, 0].numel() > limit:
            raise torch.OutOfMemoryError("too much")
        return ordinary(run, batch, *rest)

    alone = ("student.yaml", "--trust", "teacher=null", "distill=null", "train.steps=2", "train.batch_size=1")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(step, "distill_step", limited)
        return kd("run", *alone, *changes)


def camvid(values: Any) -> object:
    tree(values, mask="trainannot/{}.png", image="train/{}.png")
    return CamVid(".", "train")[0, 0]


def in_the_way(name: str) -> str:
    """A path below a file."""
    Path("file").write_text("")
    return f"file/{name}"


RUNS = [
    Row(
        "choose another file with --html FILE",
        lambda: kd("compare", run(), "--html", in_the_way("a.html"), "--trust"),
        lambda text: succeeds("compare", only(), "--html", "a.html", "--trust"),
    ),
    Row(
        "nothing to compare: name a recipe or a run directory",
        lambda: gather([], runs=Path("runs")),
        lambda text: gather([run()], runs=Path("runs")),
    ),
    Row(
        "no images: name files, folders or patterns after the run",
        lambda: kd("predict", run(), "--trust"),
        lambda text: predicted("a"),
    ),
    Row(
        "free space, or choose another --out",
        lambda: predicted("a", "--out", in_the_way("out")),
        lambda text: predicted("a", "--out", "out"),
    ),
    Row(
        "choose another file with --csv FILE",
        lambda: kd("evaluate", farm_run(), "--trust", "--csv", in_the_way("a.csv")),
        lambda text: succeeds("evaluate", farm_run(), "--trust", "--csv", "a.csv"),
    ),
    Row(
        "pipe: a pipe, and kd writes regular files only; choose another file with --csv FILE",
        lambda: (os.mkfifo("pipe"), kd("compare", run(), "--trust", "--no-page", "--csv", "pipe")),
        lambda text: succeeds("compare", only(), "--trust", "--no-page", "--csv", "a.csv"),
    ),
    Row(
        "free space or choose --out FILE",
        lambda: (write_recipes(Path()), kd("data", "student.yaml", "--trust", "--out", in_the_way("a.html"))),
        lambda text: succeeds("data", "student.yaml", "--trust", "--out", "a.html"),
    ),
    Row(
        "free space or choose another folder with --predictions DIR",
        lambda: kd("evaluate", farm_run(), "--trust", "--predictions", in_the_way("masks")),
        lambda text: succeeds("evaluate", farm_run(), "--trust", "--predictions", "masks"),
    ),
    Row(
        "already there; choose another --predictions DIR, or replace them with --overwrite",
        lambda: [kd("evaluate", farm_run(), "--trust", "--predictions", "masks") for _ in range(2)],
        lambda text: (
            succeeds("evaluate", farm_run(), "--trust", "--predictions", "others"),
            succeeds("evaluate", farm_run(), "--trust", "--predictions", "masks", "--overwrite"),
        ),
    ),
    Row(
        "; train it again",
        lambda: (
            bad_teacher(),
            kd("run", "bad.yaml", "--trust"),
            kd("doctor", "student.yaml", "--trust", "teacher.recipe=bad.yaml"),
        ),
        lambda text: (succeeds("run", "teacher.yaml", "--trust"), succeeds("doctor", "student.yaml", "--trust")),
    ),
    Row(
        "use a smaller data.size or data.crop (too much)",
        lambda: with_pixels_for(600),
        lambda text: (with_pixels_for(600, "data.size=[24, 24]"), with_pixels_for(600, "data.crop=[16, 16]")),
    ),
]

CHECKS = [
    Row(
        "it takes micro-batches of two images (BatchNorm after pooling cannot train on one): set train.accumulate: 2",
        lambda: odd("train.accumulate=4"),
        lambda text: odd(advised(text, "train.accumulate")),
    ),
    Row(
        "set data.size: [32, 32], which it takes",
        lambda: odd("data.size=[36, 36]"),
        lambda text: odd(advised(text, "data.size")),
    ),
    Row(
        "; choose a key: 'student.weights={file: two.pt, key: net}'",
        lambda: (
            write(),
            torch.save({"net": teacher_file(), "ema": teacher_file()}, "two.pt"),
            student("student.weights=two.pt"),
        ),
        lambda text: student(*overrides(text, "student.weights=")),
    ),
    Row(
        "; train a new classifier: 'student.weights={file: three.pt, head: new}'",
        lambda: (write(), teacher_file(3, "three.pt"), student("student.weights=three.pt")),
        lambda text: student(*overrides(text, "student.weights=")),
    ),
    Row(
        "teacher: give one of recipe, run, use and ema, got ",
        lambda: (write(TAUGHT), kd("check", "r.yaml", "--trust", "teacher.ema=0.9")),
        lambda text: check(),
    ),
    Row(
        "did you mean 'kd.losses.CWD'?",
        lambda: (write(ALONE), kd("check", "r.yaml", "distill={kl: {loss: {use: kd.loss.CWD}}}")),
        lambda text: (write(OWN), check("distill.kl.loss.use=kd.losses.CWD")),
    ),
]

NETWORKS_AND_DATA = [
    Row(
        "use SegNet's masks, which hold label indices, or set release: full for the frames of 960×720",
        lambda: camvid(COLORS[LABELS]),
        lambda text: camvid(LABELS),
    ),
    Row(
        "it holds 0, 300: give the number of each class, such as classes: {a: 0, …}",
        lambda: (
            tree((LABELS > 0).astype(np.uint16) * 300),
            opened(classes={"a": [0, 0, 0], "b": [1, 1, 1], "c": [2, 2, 2]}),
        ),
        lambda text: opened(classes={"a": 0, "b": 300, "c": 301}),
    ),
    Row(
        "returns ones and zeros (the likeliest class), but logits are wanted: leave the argmax out",
        lambda: flaw((maps(3) == maps(3).amax(1, keepdim=True)).float(), None),
        lambda text: flaw(maps(3), None),
    ),
    Row(
        "returns values from 0 to 1, as of a sigmoid for each class, but logits are wanted: leave the sigmoid out",
        lambda: flaw((4 * maps(3)).sigmoid(), "logits"),
        lambda text: flaw(maps(3), "logits"),
    ),
    Row(
        "but logits are wanted: leave the softmax or sigmoid out of it",
        lambda: flaw(maps(3).softmax(1), None),
        lambda text: flaw(maps(3), None),
    ),
    Row(
        "but logits are wanted: state it: teacher.outputs=probabilities",
        lambda: flaw(maps(3).softmax(1), "logits"),
        lambda text: flaw(maps(3).softmax(1).log(), "probabilities"),
    ),
    Row(
        "give `source` and `target`, the names of both sides' classes, or `matrix`",
        lambda: ClassMapped(3, 3, network=Net()),
        lambda text: (
            ClassMapped(3, 3, network=Net(), source=["a", "b", "c"], target=["a", "b", "c"]),
            ClassMapped(3, 3, network=Net(), matrix=np.eye(3).tolist()),
        ),
    ),
    Row(
        "weights: give each of the 2 members one number, or 3 (one per class)",
        lambda: Ensemble(3, 3, members=[Net(), Net()], weights=[1]),
        lambda text: (
            Ensemble(3, 3, members=[Net(), Net()], weights=[1, 2]),
            Ensemble(3, 3, members=[Net(), Net()], weights=[[1, 2, 3], [1, 1, 1]]),
        ),
    ),
    Row(
        "transformers is not installed: pip install 'kd-segmentation[hf]'",
        lambda: without("transformers", lambda: HuggingFace(3, folder=".")),
        lambda text: hugging_face(),
    ),
]


def without(package: str, call: Any) -> object:
    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(sys.modules, package, None)
        return call()


ROWS = [*RUNS, *CHECKS, *NETWORKS_AND_DATA]
