"""What a user reads for every mistake in a recipe, and what a recipe's id and resolved form are made of."""

import copy
import gc
import hashlib
import json
import random
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from kd import nodes
from kd.copying import copy_recipe
from kd.mistakes import Path_, did_you_mean
from kd.recipe import (
    Recipe,
    RecipeError,
    Term,
    Train,
    Use,
    as_steps,
    baseline_of,
    imports,
    json_schema,
    read_recipe,
    teacher_recipe,
    to_yaml,
)
from kd.shipped import shipped_recipes
from kd.trust import TRUSTED, is_trusted, nearly_trusted

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
    weight: {use: kd.engine.schedule.linear, args: {start: 0.0, end: 3.0, over: 10%}}
    resize: teacher
    pixels: all
optimizer: {use: torch.optim.SGD, args: {lr: 1e-2, momentum: 0.9, weight_decay: 1e-4}}
schedule: {use: kd.engine.schedule.poly, args: {power: 0.8, warmup: 5%}}
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


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder, so that a message's file is a bare name."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def read(text: str, *overrides: str, trust: bool = False, name: str = "r.yaml") -> Recipe:
    Path(name).write_text(text)
    return read_recipe(name, overrides, trust=trust)


def mistakes(text: str, *overrides: str) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        read(text, *overrides)
    assert str(caught.value) == "\n".join(caught.value.mistakes)
    return caught.value.mistakes


def test_every_key_reaches_its_field(folder: Path) -> None:
    recipe = read(TEXT)
    assert recipe.teacher is not None
    assert recipe.teacher.network == Use(use="teachers.FCNResNet50", args={"backbone": "resnet18"})
    assert (recipe.teacher.weights, recipe.teacher.recipe, recipe.teacher.run) == ("w.pt", None, None)
    assert recipe.student.network == Use(use="students.MobileNetV3SmallASPP")
    assert recipe.data.dataset.args == {"root": "data/camvid", "values": {0: "sky", 255: "void"}}
    assert (recipe.data.size, recipe.data.crop, recipe.data.workers) == ((360, 480), (360, 360), 1)
    assert [use.use for use in recipe.data.augment] == ["kd.data.RandomScale", "kd.data.RandomFlip"]
    assert recipe.supervised.loss.use == "kd.losses.CrossEntropy"
    assert recipe.supervised.aux_weight == 0.3
    assert list(recipe.distill) == ["kl", "cwd"]
    assert recipe.distill["kl"].weight == 1.0
    assert recipe.distill["kl"].at is None
    cwd = recipe.distill["cwd"]
    assert cwd.loss.args == {"loss": Use(use="kd.losses.CWD"), "more": [1, Use(use="kd.losses.AT")]}
    assert cwd.at is not None
    assert (cwd.at.student, cwd.at.teacher) == (("low", "high"), ("layer1", "layer4"))
    assert cwd.adapter == Use(use="kd.adapters.Conv1x1")
    assert isinstance(cwd.weight, Use)
    assert cwd.weight.args == {"start": 0.0, "end": 3.0, "over": "10%"}
    assert (cwd.resize, cwd.pixels) == ("teacher", "all")
    assert recipe.optimizer.factory.args == {"lr": 0.01, "momentum": 0.9, "weight_decay": 0.0001}
    assert recipe.schedule.args == {"power": 0.8, "warmup": "5%"}
    assert recipe.train == Train(
        epochs=100,
        batch_size=16,
        accumulate=2,
        seeds=(0, 1),
        clip_norm=1.0,
        precision="bf16",
        memory_format="channels_last",
        evaluate_every="5%",
        save_every=200,
        select="best",
        reestimate_batchnorm=10,
    )
    assert (recipe.log.every, recipe.log.panels, recipe.log.tensorboard, recipe.device) == (5, 0, False, "cpu")
    assert (recipe.file, recipe.folder, recipe.stem, recipe.trust) == (Path("r.yaml"), Path(), "r", False)


def test_defaults(folder: Path) -> None:
    recipe = read(ALONE)
    assert recipe.teacher is None
    assert recipe.distill == {}
    assert recipe.schedule == Use(use="kd.engine.schedule.poly", args={"power": 0.9})
    assert (recipe.data.crop, recipe.data.augment, recipe.data.workers) == (None, (), 2)
    assert recipe.supervised.aux_weight == 0.4
    assert recipe.train.model_dump() == {
        "epochs": None,
        "steps": 10,
        "batch_size": 4,
        "accumulate": 1,
        "seeds": (0,),
        "clip_norm": None,
        "precision": "auto",
        "memory_format": "auto",
        "evaluate_every": "20%",
        "save_every": "10%",
        "on_nan": "stop",
        "nan_limit": 10,
        "sync_batchnorm": False,
        "ema": None,
        "compile": "off",
        "fold_batchnorm": False,
        "patience": None,
        "select": "last",
        "reestimate_batchnorm": 0,
    }
    assert recipe.log.model_dump() == {"every": 10, "panels": 4, "tensorboard": True, "gradients": 0}
    assert recipe.device == "auto"


def test_sections_are_frozen(folder: Path) -> None:
    with pytest.raises(ValidationError, match="frozen"):
        read(ALONE).train.batch_size = 8


# What stands in TEXT, what it is replaced by, and all that the user then reads.
MISTAKES = [
    ("batch_size: 16", "batch_size: many", ["r.yaml:26:3: train.batch_size: must be an integer, got 'many'"]),
    ("batch_size: 16", "batch_size: 16.0", ["r.yaml:26:3: train.batch_size: must be an integer, got 16.0"]),
    ("batch_size: 16", "batch_size: true", ["r.yaml:26:3: train.batch_size: must be an integer, got true"]),
    ("batch_size: 16", "batch_size: 0", ["r.yaml:26:3: train.batch_size: must be at least 1, got 0"]),
    ("batch_size: 16", "batch_size:", ["r.yaml:26:3: train.batch_size: must be an integer, got null"]),
    ("batch_size: 16", "batch_size: [16]", ["r.yaml:26:3: train.batch_size: must be an integer, got [16]"]),
    ("batch_size: 16", "batch_sise: 16", [
        "r.yaml:24:1: train: needs 'batch_size'",
        "r.yaml:26:3: train.batch_sise: unknown key; did you mean 'batch_size'?",
    ]),
    ("batch_size: 16", "batch_size: 15", [
        "r.yaml:27:3: train.accumulate: batch_size 15 is not divisible by accumulate 2; the nearest that are: 14 and 16"
    ]),
    ("batch_size: 16", "batch_size: 1", [
        "r.yaml:27:3: train.accumulate: batch_size 1 is not divisible by accumulate 2; the nearest that are: 2"
    ]),
    ("epochs: 100", "epochs: 100\n  steps: 5", [
        "r.yaml:26:3: train.steps: give either epochs or steps, got both; remove one, here or by train.epochs=null or "
        "train.steps=null"
    ]),
    ("  epochs: 100\n", "", ["r.yaml:24:1: train: give either epochs or steps, got none"]),
    ("seeds: [0, 1]", "seeds: [1, 1]", ["r.yaml:28:3: train.seeds: each seed must be given once, got 1 2 times"]),
    ("seeds: [0, 1]", "seeds: [-1]", ["r.yaml:28:11: train.seeds.0: must be at least 0, got -1"]),
    ("seeds: [0, 1]", "seeds: [yes]", ["r.yaml:28:11: train.seeds.0: must be an integer, got 'yes'"]),
    ("seeds: [0, 1]", "seeds: []", ["r.yaml:28:3: train.seeds: must have at least 1 item, got 0"]),
    ("seeds: [0, 1]", "seeds: 0", ["r.yaml:28:3: train.seeds: must be a list, got 0"]),
    ("seeds: [0, 1]", "seeds: [0, -1]", ["r.yaml:28:14: train.seeds.1: must be at least 0, got -1"]),
    ("clip_norm: 1", "clip_norm: 0", ["r.yaml:29:3: train.clip_norm: must be above 0, got 0"]),
    ("clip_norm: 1", "clip_norm: true", ["r.yaml:29:3: train.clip_norm: must be a number, got true"]),
    ("clip_norm: 1", "clip_norm: '1'", ["r.yaml:29:3: train.clip_norm: must be a number, got '1'"]),
    ("precision: bf16", "precision: fp16", [
        "r.yaml:30:3: train.precision: must be 'auto', 'bf16' or 'fp32', got 'fp16'; did you mean 'bf16'?"
    ]),
    ("evaluate_every: 5%", "evaluate_every: 105%", [
        "r.yaml:32:3: train.evaluate_every: must be steps (200) or a share (5%, at most 100%), got '105%'"
    ]),
    ("save_every: 200", "save_every: 0.5", [
        "r.yaml:33:3: train.save_every: must be steps (200) or a share (5%, at most 100%), got 0.5"
    ]),
    ("tensorboard: false", "tensorboard: no", ["r.yaml:36:28: log.tensorboard: must be true or false, got 'no'"]),
    ("device: cpu", "device: gpu", [
        "r.yaml:37:1: device: must be 'auto', 'cpu' or 'cuda', got 'gpu'; did you mean 'cpu'?"
    ]),
    ("device: cpu", "devise: cpu", ["r.yaml:37:1: devise: unknown key; did you mean 'device'?"]),
    ("device: cpu", "device: cpu\ndevice: cuda", [
        "r.yaml:38:1: device: given twice, first at r.yaml:37:1; remove one"
    ]),
    ("device: cpu", "1: 2", [
        "r.yaml:37:1: 1: unknown key; known: cache, data, deterministic, device, distill, evaluate, log, optimizer, "
        "phases, schedule, student, supervised, teacher, track, train"
    ]),
    ("device: cpu", "true: 2", ["r.yaml:37:1: a key must be a word or an integer, got 'true'"]),
    ("device: cpu", "[1]: 2", ["r.yaml:37:1: a key must be a word or an integer, got a list or a mapping"]),
    ("size: [360, 480]", "size: 360", ["r.yaml:6:3: data.size: must be [height, width] in pixels, got 360"]),
    ("size: [360, 480]", "size: [360, 480, 3]", [
        "r.yaml:6:3: data.size: must be [height, width] in pixels, got [360, 480, 3]"
    ]),
    ("size: [360, 480]", "size: [1, 2, 3, 4, 5, 6, 7]", [
        "r.yaml:6:3: data.size: must be [height, width] in pixels, got [1, 2, 3, 4, 5, 6, …]"
    ]),
    ("size: [360, 480]", "size: {{ size }}", [
        "r.yaml:6:10: data.size: a key must be a word or an integer, got a list or a mapping"
    ]),
    ("size: [360, 480]", "size: [31, 4.5]", [
        "r.yaml:6:10: data.size.0: must be at least 32, got 31",
        "r.yaml:6:14: data.size.1: must be an integer, got 4.5",
    ]),
    ("workers: 1", "workers: -1", ["r.yaml:9:3: data.workers: must be at least 0, got -1"]),
    ("{use: kd.data.RandomFlip}", "kd.data.RandomFlip", [
        "r.yaml:8:70: data.augment.1: must be a mapping, got 'kd.data.RandomFlip'"
    ]),
    ("{use: kd.data.RandomFlip}", "{used: kd.data.RandomFlip}", [
        "r.yaml:8:70: data.augment.1: needs 'use'",
        "r.yaml:8:71: data.augment.1.used: unknown key; did you mean 'use'?",
    ]),
    ("low: 0.5", "low: .inf", ["r.yaml:8:47: data.augment.0.args.low: must be a finite number, got '.inf'"]),
    ("low: 0.5", "low: 1e999", ["r.yaml:8:47: data.augment.0.args.low: must be a finite number, got '1e999'"]),
    ("low: 0.5", f"low: {2**63}", [
        "r.yaml:8:47: data.augment.0.args.low: must fit into 64 bits, got '9223372036854775808'"
    ]),
    ("low: 0.5", "l-ow: 0.5", ["r.yaml:8:47: data.augment.0.args.l-ow: an argument's name must be an identifier"]),
    ("supervised: {use: kd.losses.CrossEntropy, aux_weight: 0.3}\n", "", ["r.yaml:1:1: needs 'supervised'"]),
    ("aux_weight: 0.3", "aux_weight: -0.3", ["r.yaml:10:43: supervised.aux_weight: must be at least 0, got -0.3"]),
    ("kl:\n", "total:\n", [
        "r.yaml:12:3: distill.total: a term's name must be an identifier, and not 'supervised' or 'total'"
    ]),
    ("weight: 1\n", "weight: -1\n", ["r.yaml:14:5: distill.kl.weight: must be at least 0, got -1"]),
    ("weight: 1\n", "weight: true\n", [
        "r.yaml:14:5: distill.kl.weight: must be a number or a schedule (use, args), got true"
    ]),
    ("weight: 1\n", "weight: {}\n", ["r.yaml:14:5: distill.kl.weight: needs 'use'"]),
    ("weight: 1\n", "weight: 1\n    wieght: 2\n", [
        "r.yaml:15:5: distill.kl.wieght: unknown key; did you mean 'weight'?"
    ]),
    ("teacher: [layer1, layer4]", "teacher: [layer1]", [
        "r.yaml:17:32: distill.cwd.at.teacher: must be as many taps as the student's: 2 and 1"
    ]),
    ("teacher: [layer1, layer4]", "teacher: layer4", [
        "r.yaml:17:32: distill.cwd.at.teacher: must be as many taps as the student's: 2 and one name"
    ]),
    ("student: [low, high]", "student: [low, 4]", [
        "r.yaml:17:10: distill.cwd.at.student: must be a tap ('logits', 'high', a module's path) or a list of them, "
        "got ['low', 4]"
    ]),
    ("{use: kd.losses.AT}", "{use: kd.losses.AT, arg: 1}", [
        "r.yaml:16:100: distill.cwd.loss.args.more.1.arg: unknown key; did you mean 'args'?"
    ]),
    ("{use: kd.losses.AT}", "{use: 3}", ["r.yaml:16:81: distill.cwd.loss.args.more.1.use: must be text, got 3"]),
    ("{use: kd.losses.AT}", "{use: AT}", [
        "r.yaml:16:81: distill.cwd.loss.args.more.1.use: must be package.module.Name or file.py:Name, got 'AT'"
    ]),
    (", weights: w.pt", ", recipe: t.yaml", [
        "r.yaml:1:1: teacher: give one of recipe, run, use and ema, got recipe and use"
    ]),
    ("use: teachers.FCNResNet50, args: {backbone: resnet18}, weights: w.pt", "weights: w.pt", [
        "r.yaml:1:11: teacher.weights: give one of recipe, run, use and ema, got none"
    ]),
    ("weights: w.pt", "weights: 3", [
        "r.yaml:1:66: teacher.weights: must be text (imagenet, best.pth) or a mapping with `file`, got 3"
    ]),
    ("weights: w.pt", "weights: {key: net, head: old, renam: {}}", [
        "r.yaml:1:66: teacher.weights: needs 'file'",
        "r.yaml:1:86: teacher.weights.head: must be 'new', got 'old'; known: new",
        "r.yaml:1:97: teacher.weights.renam: unknown key; did you mean 'rename'?",
    ]),
    ("use: teachers.FCNResNet50, args: {backbone: resnet18}, weights: w.pt", "run: runs/x, weights: w.pt", [
        "r.yaml:1:24: teacher.weights: args and weights belong to use, not to run; remove them"
    ]),
    ("teacher: {use: teachers.FCNResNet50, args: {backbone: resnet18}, weights: w.pt}\n", "", [
        "r.yaml:10:1: distill: terms need a teacher; add `teacher`, or remove `distill`"
    ]),
    (TEXT, ALONE + "teacher: {use: teachers.FCNResNet50}\n", [
        "r.yaml:1:1: a teacher needs at least one term; add `distill`, or remove `teacher`"
    ]),
    (TEXT, "", ["r.yaml: holds no mapping; a recipe starts with its sections, such as `student:`"]),
    (TEXT, "- a\n", ["r.yaml: holds no mapping; a recipe starts with its sections, such as `student:`"]),
    (TEXT, "student: {use: a\n", [
        "r.yaml:2:1: not YAML: while parsing a flow mapping expected ',' or '}', but got '<stream end>'"
    ]),
    (TEXT, "student: x: y\n", ["r.yaml:1:11: not YAML: mapping values are not allowed here"]),
    (TEXT, "a: 1\n--- \nb: 2\n", ["r.yaml:2:1: not YAML: expected a single document in the stream "
                                  "but found another document"]),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "expected"), MISTAKES, ids=range(len(MISTAKES)))
def test_mistake(folder: Path, old: str, new: str, expected: list[str]) -> None:
    assert old in TEXT
    assert mistakes(TEXT.replace(old, new, 1)) == expected


def test_all_mistakes_at_once_in_the_order_of_the_file(folder: Path) -> None:
    text = (
        TEXT.replace("workers: 1", "worker: 1").replace("epochs: 100", "steps: -2").replace("device: cpu", "device: x")
    )
    text = text.replace("lr: 1e-2, ", "lr: 1e-2, lr: .nan, ").replace("kd.losses.PixelKL", "mine.py:KL")
    assert mistakes(text, "log.every=0") == [
        "r.yaml:9:3: data.worker: unknown key; did you mean 'workers'?",
        "r.yaml:13:12: distill.kl.loss.use: 'mine.py:KL' would be imported, and is no part of kd; if you trust this "
        "recipe: kd run r.yaml log.every=0 --trust",
        "r.yaml:22:52: optimizer.args.lr: given twice, first at r.yaml:22:42; remove one",
        "r.yaml:25:3: train.steps: must be at least 1, got -2",
        "r.yaml:37:1: device: must be 'auto', 'cpu' or 'cuda', got 'x'; known: auto, cpu, cuda",
        "<log.every=0>: log.every: must be at least 1, got 0",
    ]


def test_very_many_mistakes_are_counted(folder: Path) -> None:
    found = mistakes(ALONE + "".join(f"x{i}: 1\n" for i in range(80)))
    assert len(found) == 51
    assert found[-1] == "… and 30 more"


OVERRIDES = [
    ("train.epochs=a", "<train.epochs=a>: train.epochs: must be an integer, got 'a'"),
    ("train.epoch=3", "<train.epoch=3>: train.epoch: unknown key; did you mean 'epochs'?"),
    ("tran.epochs=3", "<tran.epochs=3>: no 'tran'; did you mean 'train'?"),
    ("distill.cdw.weight=3", "<distill.cdw.weight=3>: no 'cdw' in distill; did you mean 'cwd'?"),
    ("distill.cdw=null", "<distill.cdw=null>: no 'cdw' in distill; did you mean 'cwd'?"),
    ("data.augment.2.args.low=1", "<data.augment.2.args.low=1>: data.augment has 2 items, counted from 0; "
     "there is no '2'"),
    ("train.epochs.x=1", "<train.epochs.x=1>: train.epochs is one value and has no 'x'"),
    ("train", "<train>: an override is written path=value, such as train.batch_size=8"),
    ("=3", "<=3>: an override is written path=value, such as train.batch_size=8"),
    ("train..epochs=3", "<train..epochs=3>: an override is written path=value, such as train.batch_size=8"),
    ("train.epochs=[1", "<train.epochs=[1>: not YAML: while parsing a flow sequence expected ',' or ']', but got "
     "'<stream end>'"),
    ("train.epochs=!!int 3", "<train.epochs=!!int 3>: tags (!) are not allowed; a recipe holds plain values"),
    ("student.args.a={b: 1, b: 2}", "<student.args.a={b: 1, b: 2}>: student.args.a.b: given twice, first at "
     "<student.args.a={b: 1, b: 2}>; remove one"),
    ("device=a\nb", "<device=a\\nb>: device: must be 'auto', 'cpu' or 'cuda', got 'a b'; known: auto, cpu, cuda"),
    ("optimizer=null", "r.yaml:1:1: needs 'optimizer'"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), OVERRIDES)
def test_wrong_override(folder: Path, text: str, expected: str) -> None:
    assert mistakes(TEXT, text) == [expected]


def test_overrides_replace_add_and_take_out(folder: Path) -> None:
    recipe = read(
        TEXT,
        "train.epochs=7",
        "data.args.root=a=b:c",
        "data.augment.0.args.low=0.25",
        "data.augment.1=null",
        "distill.kl=null",
        "train.clip_norm=null",
        "supervised.args.weight=[1, 2]",
        "student.args.pretrained=null",
        "data.args.values.255=border",
        "data.args.values.7=car",
        "log=null",
    )
    assert recipe.train.epochs == 7
    assert recipe.data.args == {"root": "a=b:c", "values": {0: "sky", 255: "border", 7: "car"}}
    assert recipe.data.augment == (Use(use="kd.data.RandomScale", args={"low": 0.25, "high": 2.0}),)
    assert list(recipe.distill) == ["cwd"]
    assert recipe.train.clip_norm is None
    assert recipe.supervised.args == {"weight": [1, 2]}
    assert recipe.student.args == {"pretrained": None}
    assert recipe.log.every == 10
    assert recipe.data.dataset.at("root") == "<data.args.root=a=b:c>"
    assert recipe.overrides[0] == "train.epochs=7"


def test_an_override_may_open_a_section_that_the_file_leaves_out(folder: Path) -> None:
    recipe = read(ALONE, "log.every=3", "student.args.width=2", "train.steps=null", "train.epochs=4")
    assert (recipe.log.every, recipe.student.args, recipe.train.epochs) == (3, {"width": 2}, 4)


def test_scalars_follow_yaml_1_2(folder: Path) -> None:
    args = (
        "a: 1e-4, b: on, c: no, d: 1:30, e: 010, f: 0o17, g: 0x1F, h: .5, i: ~, j: 2001-01-01, k: TRUE, l: '1', m: 1_0"
    )
    assert read(ALONE.replace("{lr: 0.01}", f"{{{args}}}")).optimizer.args == {
        "a": 0.0001, "b": "on", "c": "no", "d": "1:30", "e": 10, "f": 15, "g": 31, "h": 0.5, "i": None,
        "j": "2001-01-01", "k": True, "l": "1", "m": "1_0",
    }  # fmt: skip


# Trust


@pytest.mark.parametrize("module", TRUSTED)
def test_a_name_directly_under_a_module_of_ours_is_trusted(module: str) -> None:
    assert is_trusted(f"{module}.Name")


REFUSED = [
    "os.system", "builtins.exec", "subprocess.run", "kd.cli.main", "kd.runs.Run", "kd.build.build", "kd.nodes.compose",
    "kd.engine.run.run", "kd.engine.schedules.poly", "kd.losses.feature.cwd.CWD", "kd.losses.feature.CWD",
    "kd.loses.CWD",
    "losses.CWD", "kd.losses_.CWD", "kd.data.folders.os", "kd.data.folders.os.system", "teachers.wrap.Wrapped",
    "teachers.fcn.torch.hub.load", "students.x.y", "torch.optim.lr_scheduler.LambdaLR", "torch.optim.adam.Adam",
    "torch.hub.load", "torch.load", "torch.nn.Linear", "torchvision.models.resnet18", "Teachers.X", "TORCH.OPTIM.SGD",
    "kd.lоsses.CWD", "kd.losses.sub.__import__", "importlib.import_module", "pickle.loads", "shutil.rmtree",
    "yaml.unsafe_load", "numpy.load", "my_package.Loss", "kd.files.x", "kd.recipe.read_recipe", "kd.weights.load",
    "loss.py:Loss", "./loss.py:Loss", "../loss.py:Loss", "/etc/loss.py:Loss", "kd/losses.py:CWD", "kd.losses.py:CWD",
    "a b.py:X", "teachers.py:X", "~/x.py:X", "C:/x.py:X", "kd.data.x.CamVid", "kd.engine.schedule.x.poly",
]  # fmt: skip


@pytest.mark.parametrize("component", REFUSED)
def test_without_trust_nothing_else_is_named(folder: Path, component: str) -> None:
    assert len(set(REFUSED)) >= 50
    text = ALONE.replace("students.MobileNetV3SmallASPP", f"'{component}'")
    [line] = mistakes(text)
    assert line.startswith(f"r.yaml:1:11: student.use: '{component}'")
    assert line.endswith(" would be imported, and is no part of kd; if you trust this recipe: kd run r.yaml --trust")
    assert read(text, trust=True).student.use == component


@pytest.mark.parametrize(
    "component",
    ["CWD", "kd..CWD", ".CWD", "kd.losses.", "", "loss.py:", ":Loss", "loss.txt:Loss", "loss.py:a.b", "loss.py:a()",
     "kd.losses.CWD()", "kd.losses.CWD\\n", "kd.losses.1", "a.b;c", "lo\\nss.py:X", "kd losses.CWD"],
)  # fmt: skip
def test_what_is_no_component_is_none_with_trust_either(folder: Path, component: str) -> None:
    Path("r.yaml").write_text(ALONE.replace("students.MobileNetV3SmallASPP", f'"{component}"'))
    for trust in (False, True):
        with pytest.raises(RecipeError) as caught:
            read_recipe("r.yaml", trust=trust)
        [line] = caught.value.mistakes
        assert re.match(r"r.yaml:1:11: student.use: must (be package.module.Name or file.py:Name|not be empty)", line)


def test_one_line_lists_all_that_would_be_imported(folder: Path) -> None:
    text = TEXT.replace("kd.losses.AT", "my loss.py:AT").replace("kd.losses.PixelKL", "kd.loses.PixelKL")
    text = text.replace("kd.data.RandomFlip", "my loss.py:AT").replace("students.Mo", "students.deep.Mo")
    assert mistakes(text, "data.args.root=a b") == [
        "r.yaml:2:11: student.use: 'students.deep.MobileNetV3SmallASPP' (did you mean "
        "'students.MobileNetV3SmallASPP'?), 'my loss.py:AT', 'kd.loses.PixelKL' (did you mean 'kd.losses.PixelKL'?) "
        "would be imported, and is no part of kd; if you trust this recipe: kd run r.yaml 'data.args.root=a b' --trust"
    ]


def test_a_hidden_component_needs_trust_too(folder: Path) -> None:
    text = ALONE.replace("lr: 0.01", "lr: 0.01, deep: [[{a: {use: os.system}}]]")
    [line] = mistakes(text)
    assert line.startswith("r.yaml:4:65: optimizer.args.deep.0.0.a.use: 'os.system' would be imported")


def test_imports_lists_without_importing(folder: Path) -> None:
    Path("sub").mkdir()
    Path("sub/t.yaml").write_text(ALONE.replace("students.MobileNetV3SmallASPP", "bad.py:Net"))
    Path("sub/bad.py").write_text("raise SystemExit('imported')")
    Path("r.yaml").write_text(
        ALONE + "teacher: {recipe: sub/t.yaml}\ndistill: {a: {loss: {use: nowhere.Loss}}, b: {loss: {use: l.py:B}}}\n"
    )
    assert imports("r.yaml") == [
        "students.MobileNetV3SmallASPP",
        "kd.data.Shapes",
        "kd.losses.CrossEntropy",
        "nowhere.Loss",
        "l.py:B",
        "torch.optim.SGD",
        "kd.engine.schedule.poly",
        "sub/bad.py:Net",
    ]


# Hostile and odd files


def _hostile() -> dict[str, bytes]:
    bomb = "a: &a [x, x]\n" + "".join(
        f"{chr(98 + i)}: &{chr(98 + i)} [*{chr(97 + i)}, *{chr(97 + i)}]\n" for i in range(20)
    )
    files = {
        "alias bomb": bomb,
        "merge bomb": "a: &a {x: 1}\n" + "".join(f"k{i}: {{<<: [*a, *a]}}\n" for i in range(500)),
        "alias": "a: &x 1\nb: *x\n",
        "anchor": "student: &x {use: a.B}\n",
        "self alias": "a: &a [*a]\n",
        "unknown alias": "a: *b\n",
        "tag python": "a: !!python/object/apply:os.system [ls]\n",
        "tag python name": "a: !!python/name:os.system\n",
        "tag new": "a: !!python/object/new:os.system [ls]\n",
        "tag str": "a: !!str 1\n",
        "tag local": "a: !x 1\n",
        "tag bare": "a: ! 1\n",
        "tag verbatim": "a: !<tag:yaml.org,2002:int> 1\n",
        "tag directive": "%TAG ! tag:x,2000:\n---\na: 1\n",
        "tag set": "a: !!set {b}\n",
        "tag binary": "a: !!binary aGVsbG8=\n",
        "bad directive": "%YAML 9.9\n---\na: 1\n",
        "bad directive number": "%YAML 1.99999999999999999999999\n---\na: 1\n",
        "brackets": "[" * 30_000,
        "open brackets": "a: " + "[" * 30_000 + "]" * 30_000,
        "braces": "{" * 30_000,
        "nested mapping": "".join(" " * i + f"k{i}:\n" for i in range(300)),
        "nested sequence": "- " * 20_000,
        "question marks": "? " * 20_000,
        "complex keys": "? [a, b]\n: c\n",
        "mapping key": "{a: b}: c\n",
        "depth 33": "a: " + "[" * 32 + "]" * 32,
        "events": "a: [" + "1," * 30_000 + "]",
        "many keys": "".join(f"k{i}: 1\n" for i in range(15_000)),
        "long scalar": "a: " + "x" * 5_000,
        "long key": "x" * 5_000 + ": 1",
        "long quoted": "a: '" + "x" * 200_000 + "'",
        "long block": "a: |\n" + "  x\n" * 50_000,
        "huge int": "a: " + "9" * 4_000,
        "huge hex": "a: 0x" + "f" * 4_000,
        "huge float": "a: 1e" + "9" * 4_000,
        "big file": "# " + "x" * 300_000,
        "comment lines": "#\n" * 120_000,
        "tabs": "\t\t\ta: 1\n\tb: 2\n",
        "tab indent": "a:\n\tb: 1\n",
        "nul": "a: \0b\n",
        "nul escape": 'a: "\\0"\n',
        "escape": 'a: "\\e[31m"\n',
        "surrogate": 'a: "\\ud800"\n',
        "big escape": 'a: "\\U00110000"\n',
        "bad escape": 'a: "\\xzz"\n',
        "unknown escape": 'a: "\\q"\n',
        "bell": "a: \x07\n",
        "delete": "a: \x7f\n",
        "unclosed quote": "a: 'b\n",
        "unclosed double": 'a: "b\n' * 3,
        "only colon": ":\n",
        "only dash": "-\n",
        "at": "@a: 1\n",
        "backtick": "`a: 1\n",
        "percent": "%\n",
        "documents": "---\n" * 5_000,
        "two documents": "a: 1\n---\nb: 1\n",
        "bad indent": "a: 1\n  b: 2\n",
        "null": "null\n",
        "number": "3\n",
        "text": "hello\n",
        "list": "[1, 2]\n",
        "control in key": '"a\\x1b": 1\n',
    }  # fmt: skip
    raw = {
        "empty": b"",
        "latin 1": "a: \xe9\n".encode("latin-1"),
        "utf-16": "student: 1\n".encode("utf-16"),
        "utf-16 without mark": "student: 1\n".encode("utf-16-le"),
        "utf-32": "student: 1\n".encode("utf-32"),
        "png": b"\x89PNG\r\n\x1a\n" + bytes(range(256)),
        "zip": b"PK\x03\x04" + bytes(1_000),
        "overlong": b"a: \xc0\xaf\n",
        "zeros": bytes(10_000),
        "gzip": b"\x1f\x8b\x08\x00" + bytes(20),
    }
    return {name: text.encode() for name, text in files.items()} | raw


HOSTILE = _hostile()


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_refused_in_lines_and_at_once(folder: Path, name: str) -> None:
    Path("r.yaml").write_bytes(HOSTILE[name])
    start = time.process_time()
    with pytest.raises(RecipeError) as caught:
        read_recipe("r.yaml")
    assert time.process_time() - start < 3.0  # seconds; 0.3 on an idle machine
    lines = caught.value.mistakes
    assert 1 <= len(lines) <= 51
    assert all(line.isprintable() and len(line) < 500 for line in lines)
    assert all(line.startswith(("r.yaml:", "…")) for line in lines)


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("alias bomb", "r.yaml:1:4: anchors and aliases (& and *) are not allowed; write the value out"),
        ("tag python", "r.yaml:1:4: tags (!) are not allowed; a recipe holds plain values"),
        ("tag directive", "r.yaml:1:1: tags (!) are not allowed; a recipe holds plain values"),
        ("brackets", "r.yaml:1:33: nested deeper than 32 levels"),
        ("events", "r.yaml:1:39995: more than 20,000 YAML events; a recipe is a page of text"),
        ("long scalar", "r.yaml:1:4: a value longer than 4,096 characters"),
        ("big file", "r.yaml: larger than 256,000 bytes; a recipe is a page of text"),
        ("nul", "r.yaml:1:4: a control character; a recipe is plain text"),
        ("nul escape", "r.yaml:1:4: a control character in a value; write plain text"),
        ("surrogate", "r.yaml:1:4: a control character in a value; write plain text"),
        ("latin 1", "r.yaml:1:4: not UTF-8 text (byte 0xe9); save it as UTF-8"),
        ("png", "r.yaml:1:1: not UTF-8 text (byte 0x89); save it as UTF-8"),
    ],
)
def test_hostile_files_say_why(folder: Path, name: str, line: str) -> None:
    Path("r.yaml").write_bytes(HOSTILE[name])
    with pytest.raises(RecipeError) as caught:
        read_recipe("r.yaml")
    assert caught.value.mistakes == [line]


def test_a_private_name_is_nearly_nothing() -> None:
    assert nearly_trusted("kd.loses.PixelKL") == "did you mean 'kd.losses.PixelKL'?"
    assert nearly_trusted("kd.losses._pixels") == ""


def test_there_are_fifty_hostile_files() -> None:
    assert len(HOSTILE) >= 50


def test_what_is_no_readable_file_is_one_line(folder: Path) -> None:
    Path("folder.yaml").mkdir()
    for path, line in (
        ("folder.yaml", "folder.yaml: a folder; name a recipe file"),
        ("/dev/zero", "/dev/zero: not a regular file; name a recipe file"),
        ("none.yaml", "none.yaml: no such file, here or among the shipped recipes"),
        ("../none.yaml", "../none.yaml: no such file"),
        ("a" * 300, "a" * 63 + "…: File name too long"),
        ("a\0b", "a\\x00b: "),
        ("", ".: a folder; name a recipe file"),
    ):
        with pytest.raises(RecipeError) as caught:
            read_recipe(path)
        [found] = caught.value.mistakes
        assert found.startswith(line), path


def test_a_byte_order_mark_is_no_part_of_the_text(folder: Path) -> None:
    Path("r.yaml").write_bytes(b"\xef\xbb\xbf" + ALONE.encode())
    assert read_recipe("r.yaml") == read(ALONE, name="s.yaml")


# Mutants


def _mutate(text: str, rng: random.Random) -> str:
    """The text with one to three edits of the kinds that hands and editors make, and some that only malice makes."""
    for _ in range(rng.randint(1, 3)):
        if not re.search(r"\w", text):
            return text  # an edit before left nothing to edit
        lines = text.split("\n")
        at, row = rng.randrange(len(text) + 1), rng.randrange(len(lines))
        kind = rng.randrange(9)
        if kind == 0:
            text = text[:at] + text[at + rng.randint(1, 4) :]
        elif kind == 1:
            text = text[:at] + rng.choice("{}[]:,&*!|>%@`'\"#-? \t\n~é\u2028\0\x1b0aZ.=") + text[at:]
        elif kind == 2:
            del lines[row]
            text = "\n".join(lines)
        elif kind == 3:
            lines.insert(rng.randrange(len(lines)), lines[row])
            text = "\n".join(lines)
        elif kind == 4:
            lines[row] = " " * rng.randrange(6) + lines[row].lstrip()
            text = "\n".join(lines)
        elif kind == 5:
            words = list(re.finditer(r"[\w.%]+", text))
            word = rng.choice(words)
            new = rng.choice(["null", "true", "-1", "0", "1e400", ".nan", "x", "[]", "{}", "''", "9" * 20,
                              "{use: os.system}", "[1, 2]", "3.5", "50%", "<<", "{a: {b: 1}}", "0x10"])  # fmt: skip
            text = text[: word.start()] + new + text[word.end() :]
        elif kind == 6:
            words = [w.group() for w in re.finditer(r"\w+", text)]
            text = text.replace(rng.choice(words), rng.choice(words), 1)
        elif kind == 7:
            half = rng.randrange(len(text))
            text = text[:half] if rng.random() < 0.2 else text[:half] + text[half : half + 40] * 3 + text[half:]
        else:
            text = text.replace(rng.choice(":,{}[]"), rng.choice(":,{}[] "), rng.randint(1, 3))
    return text


def _check_mutants(count: int, seed: int) -> None:
    rng = random.Random(seed)
    file = Path("m.yaml")
    valid, worst = 0, 0.0
    read(TEXT)  # whatever is only slow once
    gc.freeze()  # what other tests have left behind is not looked through again while a recipe is timed
    for number in range(count):
        text = _mutate(rng.choice((TEXT, TEXT, ALONE)), rng)
        file.write_bytes(text.encode(errors="surrogatepass"))
        start = time.process_time()
        try:
            recipe = read_recipe(file)
        except RecipeError as error:
            lines = error.mistakes
        else:
            valid, lines = valid + 1, [f"m.yaml: {recipe.id}"]
        worst = max(worst, time.process_time() - start)
        assert lines, number
        for line in lines:
            assert line.isprintable(), (number, line)
            assert re.match(r"m\.yaml(:\d+:\d+)?: |…", line), (number, line)
    gc.unfreeze()
    assert 0 < valid < count / 2  # the mutations are neither harmless nor all fatal
    assert worst < 0.3, f"{worst:.3f} s"  # 0.1 s is the goal; three times that for a loaded machine


def test_1000_mutants(folder: Path) -> None:
    _check_mutants(1_000, seed=1)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_10000_mutants(folder: Path) -> None:
    _check_mutants(10_000, seed=2)


def _nodes_of(data: object, path: Path_ = ()) -> list[Path_]:
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    return [path, *(found for key, value in items for found in _nodes_of(value, (*path, key)))]


def test_every_location_of_500_mutants_is_a_node() -> None:
    rng = random.Random(3)
    values = [None, True, -1, 0.5, "x", "5%", [], {}, [1, "a"], {"use": 1}, {"use": "a.B", "x": 1}, {1: 2}, [[]], 10**6]
    errors = 0
    data = _data(TEXT)[0]
    for number in range(500):
        mutant = copy.deepcopy(data)
        for _ in range(rng.randint(1, 4)):
            *parent, key = rng.choice(_nodes_of(mutant)[1:])
            place = mutant
            for step in parent:
                place = place[step]
            action = rng.randrange(3)
            if action == 0:
                place[key] = rng.choice(values)
            elif action == 1:
                del place[key]
            elif isinstance(place, dict):
                place[f"{key}x"] = place.pop(key)
        found = set(_nodes_of(mutant))
        if number % 20 == 0:  # the reader's positions are these nodes; a file's worth of it takes time
            assert _data(nodes.dump(mutant)) == (mutant, found)
        try:
            Recipe.model_validate(mutant)
        except ValidationError as caught:
            for error in caught.errors(include_url=False):
                errors += 1
                loc = tuple(key for key in error["loc"] if key != "[key]")
                # a missing key, and a default that its neighbours make wrong, have no node: their parents do
                absent = error["type"] == "missing" or (error["type"] == "value_error" and loc not in found)
                assert (loc[:-1] if absent else loc) in found, error
    assert errors > 500


def _data(text: str) -> tuple[Any, set[Path_]]:
    root = nodes.compose(text, "t")
    assert root is not None
    data, positions, found = nodes.plain(root)
    assert found == []
    return data, set(positions)


def test_a_misspelt_key_is_found_at_its_line_and_the_right_one_is_proposed(folder: Path) -> None:
    checked = 0
    for match in re.finditer(r"\b(\w+):(?= |\n)", TEXT):
        word = match.group(1)
        path = [key for key in (*_fields(), "use", "args") if key == word]
        before = TEXT[: match.start()]
        line = before.count("\n") + 1
        in_args = "args: {" in before and before.rfind("args: {") > before.rfind("}")
        if (
            not path or len(word) < 3 or in_args or "Masked" in before.split("\n")[-1]
        ):  # the names in `args` are the component's
            continue
        typo = word[:-2] + word[-1] + word[-2] if word[-1] != word[-2] else word + "x"
        found = mistakes(before + typo + TEXT[match.end(1) :])
        wanted = re.compile(rf"r\.yaml:{line}:\d+: [\w.]*{typo}: unknown key; did you mean '{word}'\?")
        assert any(wanted.fullmatch(text) for text in found), (typo, found)
        checked += 1
    assert checked > 35


# Resolved form and id


def test_the_resolved_recipe_reads_back_equal_from_another_folder(folder: Path) -> None:
    Path("mine.py").write_text("class Loss: pass")
    Path("t.yaml").write_text(ALONE)
    text = TEXT.replace("{use: kd.losses.CWD}", "{use: mine.py:Loss}")
    text = text.replace("{use: teachers.FCNResNet50, args: {backbone: resnet18}, weights: w.pt}", "{recipe: t.yaml}")
    recipe = read(text, "device=cuda", trust=True)
    other = Path("runs/x/seed0")
    other.mkdir(parents=True)
    (other / "recipe.yaml").write_text(to_yaml(recipe))
    again = read_recipe(other / "recipe.yaml", trust=True)
    assert again == recipe
    assert again.id == recipe.id
    assert (
        again.resolved()
        == recipe.resolved()
        == yaml.safe_load(json.dumps(recipe.resolved()))
        | {
            "data": recipe.resolved()["data"]  # JSON has no integer keys
        }
    )
    assert again.resolved()["teacher"]["recipe"] == str(folder / "t.yaml")
    assert again.resolved()["log"] == {"every": 5, "panels": 0, "tensorboard": False, "gradients": 0}
    assert read(ALONE).resolved()["schedule"] == {"use": "kd.engine.schedule.poly", "args": {"power": 0.9}}
    assert recipe != read(text, trust=True)


PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63) + 1, 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cc", "Cs"]) | st.just("\n"), max_size=12)
    | st.sampled_from(
        ["1e-4", "on", "no", "0o7", "~", "", "1:30", "2001-01-01", "<<", "=", "- a", "a: b", ".inf", "10%"]
    ),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text("abc1e.- ", max_size=4) | st.integers(0, 255), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(PLAIN)
@settings(max_examples=200, deadline=None)
def test_dumped_data_reads_back(data: object) -> None:
    root = nodes.compose(nodes.dump({"x": data}), "d.yaml")
    assert nodes.plain(root)[::2] == ({"x": data}, [])


def test_what_changes_a_recipes_id_and_what_does_not(folder: Path) -> None:
    one = read(ALONE).id
    assert re.fullmatch("[0-9a-f]{8}", one)
    same = (
        ("train.seeds=[3, 4]",),
        ("data.workers=7",),
        ("data.args.root=elsewhere",),
        ("log.every=1",),
        ("device=cpu",),
        ("train.precision=auto", "train.accumulate=1", "supervised.args={}"),
        ("schedule={use: kd.engine.schedule.poly, args: {power: 0.9}}",),
    )
    for overrides in same:
        assert read(ALONE, *overrides).id == one, overrides
    assert read("\n".join(reversed(ALONE.strip().split("\n"))), name="other.yaml").id == one
    other = ("train.steps=11", "optimizer.args.lr=0.02", "data.size=[64, 96]", "student.args.a=1",
             "train.select=best", "supervised.aux_weight=0.5", "data.args.n=3", "schedule.args.power=1.0",
             "student.weights=w.pt")  # fmt: skip
    ids = {one, *(read(ALONE, override).id for override in other)}
    assert len(ids) == len(other) + 1


def test_the_id_is_the_hash_of_what_was_chosen(folder: Path) -> None:
    chosen = {
        "student": {"use": "students.MobileNetV3SmallASPP"},
        "data": {"use": "kd.data.Shapes", "size": [64, 64]},
        "supervised": {"use": "kd.losses.CrossEntropy"},
        "optimizer": {"use": "torch.optim.SGD", "args": {"lr": 0.01}},
        "train": {"steps": 10, "batch_size": 4},
    }
    assert read(ALONE).id == hashlib.sha256(json.dumps(chosen, sort_keys=True).encode()).hexdigest()[:8]


def test_an_edited_file_is_another_recipe(folder: Path) -> None:
    text = ALONE.replace("kd.losses.CrossEntropy", "mine.py:Loss")
    recipe = read(text, trust=True)
    with pytest.raises(RecipeError) as caught:
        _ = recipe.id
    assert caught.value.mistakes == ["r.yaml:3:1: mine.py:Loss: No such file or directory: mine.py"]
    Path("mine.py").write_text("Loss = 1")
    one = recipe.id
    Path("mine.py").write_text("Loss = 2")
    assert recipe.id != one
    Path("mine.py").write_text("Loss = 1")
    assert recipe.id == one


WITH_TEACHER = ALONE + "teacher: {recipe: sub/t.yaml}\ndistill: {kl: {loss: {use: kd.losses.PixelKL}}}\n"


def test_a_teachers_recipe_gets_the_machine_settings_and_nothing_else(folder: Path) -> None:
    Path("sub").mkdir()
    teacher = ALONE.replace("Shapes, ", "Shapes, args: {root: there, n: 5}, ").replace(
        "steps: 10", "steps: 20, seeds: [3]"
    )
    Path("sub/t.yaml").write_text(teacher)
    recipe = read(
        WITH_TEACHER, "data.args.root=here", "data.workers=0", "device=cpu", "log.every=3", "train.steps=5", trust=True
    )
    found = teacher_recipe(recipe)
    assert found is not None
    assert (found.file, found.trust) == (Path("sub/t.yaml"), True)
    assert found.data.args == {"root": "here", "n": 5}
    assert (found.data.workers, found.device, found.log.every) == (0, "cpu", 3)
    assert (found.train.steps, found.train.seeds) == (20, (3,))
    assert found.id == read_recipe("sub/t.yaml").id
    other = teacher_recipe(read(WITH_TEACHER.replace("kd.data.Shapes", "kd.data.CamVid"), "data.args.root=here"))
    assert other is not None
    assert other.data.args["root"] == "there"  # of another dataset: not where that one lies
    assert teacher_recipe(read(ALONE)) is None


def test_the_teachers_recipe_is_part_of_the_id(folder: Path) -> None:
    Path("sub").mkdir()
    Path("sub/t.yaml").write_text(ALONE)
    recipe = read(WITH_TEACHER)
    one = recipe.id
    Path("sub/t.yaml").write_text(ALONE.replace("steps: 10", "steps: 11"))
    assert recipe.id != one
    Path("sub/t.yaml").write_text(f"# the same\n{ALONE}device: cpu\n")
    assert recipe.id == one


def test_the_baseline_is_the_student_alone(folder: Path) -> None:
    Path("sub").mkdir()
    Path("sub/t.yaml").write_text(ALONE)
    recipe = read(WITH_TEACHER)
    baseline = baseline_of(recipe)
    assert (baseline.teacher, baseline.distill, baseline.stem, baseline.file) == (None, {}, "r", recipe.file)
    assert baseline.id == read(ALONE).id != recipe.id
    assert recipe.teacher is not None


def test_a_wrong_teachers_recipe(folder: Path) -> None:
    Path("sub").mkdir()
    recipe = read(WITH_TEACHER)
    with pytest.raises(RecipeError, match=r"^r.yaml:6:11: teacher.recipe: no file sub/t.yaml$"):
        teacher_recipe(recipe)
    Path("sub/t.yaml").write_text(ALONE.replace("kd.losses.CrossEntropy", "mine.py:Loss"))
    with pytest.raises(RecipeError) as caught:
        teacher_recipe(recipe)
    assert caught.value.mistakes == [
        "sub/t.yaml:3:14: supervised.use: 'mine.py:Loss' would be imported, and is no part of kd; "
        "if you trust this recipe: kd run r.yaml --trust"
    ]
    Path("sub/t.yaml").write_text(WITH_TEACHER.replace("sub/t.yaml", "../r.yaml"))
    with pytest.raises(RecipeError) as caught:
        teacher_recipe(recipe)
    assert caught.value.mistakes == [
        "sub/t.yaml:6:11: teacher.recipe: sub/../r.yaml leads back to itself; a teacher cannot need its own student"
    ]
    with pytest.raises(RecipeError, match="leads back to itself"):
        _ = recipe.id


# The rest


def test_where_a_component_stands(folder: Path) -> None:
    recipe = read(TEXT)
    masked = recipe.distill["cwd"].loss
    assert recipe.student.network.at() == "r.yaml:2:1"
    assert recipe.data.dataset.at("root") == "r.yaml:5:10"
    assert recipe.data.dataset.at("values", 255) == "r.yaml:5:46"
    assert recipe.data.augment[1].at() == "r.yaml:8:70"
    assert masked.at("more", 1) == "r.yaml:16:80"
    assert masked.args["more"][1].at() == "r.yaml:16:80"
    assert masked.where("more", 1) == "r.yaml:16:80: distill.cwd.loss.args.more.1"
    assert masked.at("nothing") == "r.yaml:16:35"  # of the args around it
    assert recipe.at("distill", "cwd", "at", "teacher") == "r.yaml:17:32"
    assert read(ALONE).schedule.at() == "kd.engine.schedule.poly"  # a default stands nowhere
    assert Use(use="kd.losses.CWD").at("temperature") == "kd.losses.CWD"
    assert Use(use="kd.losses.CWD").where() == "kd.losses.CWD"
    assert "r.yaml" not in repr(masked)
    assert masked.model_dump() == Use(use=masked.use, args=masked.args).model_dump()
    assert masked == Use(use=masked.use, args=masked.args)


def test_recipes_can_be_made_in_python() -> None:
    term = Term(loss={"use": "kd.losses.CWD", "args": {"temperature": 4}}, weight=2)
    assert term == Term(loss=Use(use="kd.losses.CWD", args={"temperature": 4}), weight=2.0)
    with pytest.raises(ValidationError):
        Train(steps=1, batch_size=True)


@pytest.mark.parametrize(
    ("amount", "total", "steps"),
    [(7, 100, 7), (0, 100, 0), ("5%", 100, 5), ("5%", 10, 1), ("0.1%", 10, 1), ("0%", 10, 0), ("100%", 3, 3),
     ("33.3%", 10, 3), ("66.6%", 10, 7), ("10%", 29, 3)],
)  # fmt: skip
def test_as_steps(amount: int | str, total: int, steps: int) -> None:
    assert as_steps(amount, total) == steps


@pytest.mark.parametrize("amount", ["5", "-5%", "x%", "%", "1e1%", "101%", -1, True, 0.5, None, "٣%"])
def test_what_is_no_amount(amount: object) -> None:
    with pytest.raises(ValueError, match="must be steps"):
        as_steps(amount, 10)  # type: ignore[arg-type]


def test_did_you_mean() -> None:
    assert did_you_mean("cwd", ["CWD", "AT"]) == "; did you mean 'CWD'?"
    assert did_you_mean("zzz", ["b", "a"]) == "; known: a, b"
    assert did_you_mean("x", []) == ""
    assert did_you_mean("x" * 100_000, ["x" * 60]).startswith("; known: ")


def test_shipped_recipes_are_found_by_name(folder: Path) -> None:
    shipped = shipped_recipes()
    file = sorted(shipped.rglob("*.yaml"))[0]
    name = file.relative_to(shipped)
    assert read_recipe(name).file == file
    assert read_recipe(Path("recipes") / name).file == file
    name_of_typo = str(name.with_name(name.name.replace("e", "ee", 1)))
    with pytest.raises(
        RecipeError, match=re.escape(f"{name_of_typo}: no such file, here or among the shipped recipes; did")
    ):
        read_recipe(name_of_typo)
    name.parent.mkdir()
    name.write_text(ALONE)
    assert read_recipe(name).file == name  # one's own comes first


def test_a_copied_recipe_brings_what_it_names(folder: Path) -> None:
    Path("from/sub").mkdir(parents=True)
    Path("to").mkdir()
    Path("from/sub/t.yaml").write_text(ALONE)
    Path("from/mine.py").write_text("Loss = 1")
    Path("from/r.yaml").write_text(WITH_TEACHER.replace("kd.losses.PixelKL", "mine.py:Loss"))
    assert copy_recipe("from/r.yaml", Path("to")) == Path("to/r.yaml")
    assert read_recipe("to/r.yaml", trust=True).id == read_recipe("from/r.yaml", trust=True).id
    assert copy_recipe("from/r.yaml", Path("to")) == Path("to/r.yaml")
    assert json.loads(Path("to/recipe.schema.json").read_text()) == json_schema()
    Path("to/mine.py").write_text("Loss = 2")
    with pytest.raises(RecipeError, match=r"^to/mine.py: exists and differs from what would be copied; move it away$"):
        copy_recipe("from/r.yaml", Path("to"))
    Path("from/mine.py").unlink()
    with pytest.raises(RecipeError, match=r"from/mine.py: cannot be read \(No such file or directory\)$"):
        copy_recipe("from/r.yaml", Path("to"))
    Path("from/r.yaml").write_text(WITH_TEACHER.replace("sub/t.yaml", "../t.yaml"))
    Path("t.yaml").write_text(ALONE)
    with pytest.raises(RecipeError, match=r"t.yaml is outside .*from; copy it by hand$"):
        copy_recipe("from/r.yaml", Path("to"))


def test_the_schema_beside_the_recipes_is_the_programs() -> None:
    beside = shipped_recipes() / "recipe.schema.json"
    assert json.loads(beside.read_text()) == json_schema(), f"kd schema > {beside}"


def _fields() -> dict[str, dict[str, object]]:
    """Every key of the schema by its path; `args` and component sections only where they are used."""
    schema = json_schema()
    sections = {"": schema} | schema["$defs"]
    return {key: field for section in sections.values() for key, field in section["properties"].items()}


def test_the_json_schema_describes_every_key() -> None:
    schema = json_schema()
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["required"] == ["student", "data", "supervised", "optimizer", "train"]
    for section in (schema, *schema["$defs"].values()):
        assert section["additionalProperties"] is False
        for key, field in section["properties"].items():
            described = field | schema["$defs"].get(field.get("$ref", "").rpartition("/")[2], {})
            assert described["description"].endswith("."), key
    assert schema["$defs"]["Train"]["properties"]["precision"]["enum"] == ["auto", "bf16", "fp32"]
    assert json.loads(json.dumps(schema)) == schema


def _values(field: dict[str, Any]) -> str:
    """What a key takes, in words, from its JSON Schema."""
    if "anyOf" in field:
        return " or ".join(_values(one) for one in field["anyOf"] if one.get("type") != "null")
    if "const" in field:
        return f"`{field['const']}`"
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    if "$ref" in field:
        return "a component" if field["$ref"].endswith("/Use") else "a section"
    if "prefixItems" in field:
        return f"two of: {_values(field['prefixItems'][0])}"
    if "pattern" in field:
        return "a share (`5%`)"
    if field["type"] == "array":
        return f"a list of: {_values(field['items'])}"
    bounds = [("minimum", "≥"), ("exclusiveMinimum", ">"), ("maximum", "≤"), ("exclusiveMaximum", "<")]
    limits = [f" {sign} {field[name]:g}" for name, sign in bounds if name in field and field[name] < 2**31]
    words = {"boolean": "`true`, `false`", "object": "a mapping", "string": "text"}
    return words.get(field["type"], field["type"]) + ",".join(limits)


def _rows() -> list[str]:
    """The table rows of docs/recipes.md: key, meaning, values, default; all from the schema."""
    schema = json_schema()
    rows: list[str] = []

    def walk(section: dict[str, Any], path: str) -> None:
        for key, field in section["properties"].items():
            reference = json.dumps(field)
            inner = [name for name in schema["$defs"] if f'/{name}"' in reference and name != "Use"]
            described = field | (schema["$defs"][inner[0]] if "description" not in field else {})
            values = "terms by name" if path + key == "distill" else _values(field)
            default = "required" if key in section.get("required", []) else f"`{json.dumps(field.get('default', {}))}`"
            rows.append(f"| `{path}{key}` | {described['description']} | {values} | {default} |")
            if inner:
                walk(schema["$defs"][inner[0]], f"{path}{key}." if key != "distill" else "distill.<term>.")

    walk(schema, "")
    return rows


def test_the_docs_have_every_key_with_meaning_range_and_default() -> None:
    lines = (Path(__file__).parents[1] / "docs/recipes.md").read_text().splitlines()
    assert [line for line in lines if line.startswith("| `")] == _rows()


def test_the_docs_recipe_is_right(folder: Path) -> None:
    text = (Path(__file__).parents[1] / "docs/recipes.md").read_text()
    [example] = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    assert list(read(example).distill) == ["kl", "cwd"]


def test_reading_a_recipe_does_not_import_torch(folder: Path) -> None:
    Path("r.yaml").write_text(TEXT)
    code = "import sys, kd, kd.recipe; kd.recipe.read_recipe('r.yaml').id; print('torch' in sys.modules)"
    root = Path(__file__).parents[1]
    run = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(root)!r}); {code}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.strip() == "False"
