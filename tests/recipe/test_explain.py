"""The message for every kind of mistake in a recipe."""

import re
from pathlib import Path

import pytest
from recipe_text import ALONE, TEXT, mistakes

from kd.recipe import json_schema

# A piece of TEXT, its replacement, and all lines that the user reads.
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
        "r.yaml:27:3: train.accumulate: batch_size 15 is not divisible by accumulate 2; the nearest multiples: "
        "14 and 16"
    ]),
    ("batch_size: 16", "batch_size: 1", [
        "r.yaml:27:3: train.accumulate: batch_size 1 is not divisible by accumulate 2; the nearest multiples: 2"
    ]),
    ("epochs: 100", "epochs: 100\n  steps: 5", [
        "r.yaml:26:3: train.steps: give either epochs or steps, got both; remove one, or set train.epochs=null or "
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
        "r.yaml:37:1: device: must be 'auto', 'cpu', 'cuda' or 'mps', got 'gpu'; did you mean 'cpu'?"
    ]),
    ("device: cpu", "devise: cpu", ["r.yaml:37:1: devise: unknown key; did you mean 'device'?"]),
    ("device: cpu", "device: cpu\ndevice: cuda", [
        "r.yaml:38:1: device: given twice, first at r.yaml:37:1; remove one"
    ]),
    ("device: cpu", "1: 2", [
        "r.yaml:37:1: 1: unknown key; known: cache, data, deterministic, device, distill, evaluate, log, optimizer, "
        "phases, schedule, student, supervised, teacher, track, train"
    ]),
    ("device: cpu", "true: 2", ["r.yaml:37:1: a key must be text or an integer, got 'true'"]),
    ("device: cpu", "[1]: 2", ["r.yaml:37:1: a key must be text or an integer, got a list or a mapping"]),
    ("size: [360, 480]", "size: 360", ["r.yaml:6:3: data.size: must be [height, width] in pixels, got 360"]),
    ("size: [360, 480]", "size: [360, 480, 3]", [
        "r.yaml:6:3: data.size: must be [height, width] in pixels, got [360, 480, 3]"
    ]),
    ("size: [360, 480]", "size: [1, 2, 3, 4, 5, 6, 7]", [
        "r.yaml:6:3: data.size: must be [height, width] in pixels, got [1, 2, 3, 4, 5, 6, …]"
    ]),
    ("size: [360, 480]", "size: {{ size }}", [
        "r.yaml:6:10: data.size: a key must be text or an integer, got a list or a mapping"
    ]),
    ("size: [360, 480]", "size: [31, 4.5]", [
        "r.yaml:6:10: data.size.0: must be at least 32, got 31",
        "r.yaml:6:14: data.size.1: must be an integer, got 4.5",
    ]),
    ("workers: 1", "workers: -1", ["r.yaml:9:3: data.workers: must be at least 0, got -1"]),
    ("workers: 1", "workers: 257", ["r.yaml:9:3: data.workers: must be at most 256, got 257"]),
    ("workers: 1", "workers: many", ["r.yaml:9:3: data.workers: must be 'auto' or an integer, got 'many'"]),
    ("workers: 1", "workers: true", ["r.yaml:9:3: data.workers: must be 'auto' or an integer, got true"]),
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
        "r.yaml:17:32: distill.cwd.at.teacher: must have as many taps as the student: 2, got 1"
    ]),
    ("teacher: [layer1, layer4]", "teacher: layer4", [
        "r.yaml:17:32: distill.cwd.at.teacher: must have as many taps as the student: 2, got one name"
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
    (TEXT, "", ["r.yaml: not a mapping; a recipe consists of sections such as `student:`"]),
    (TEXT, "- a\n", ["r.yaml: not a mapping; a recipe consists of sections such as `student:`"]),
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


def _keys() -> set[str]:
    """Every key that a section of a recipe may hold."""
    schema = json_schema()
    return {"use", "args"}.union(*(section["properties"] for section in (schema, *schema["$defs"].values())))


def test_a_misspelt_key_is_found_at_its_line_and_the_right_one_is_proposed(folder: Path) -> None:
    checked, known = 0, _keys()
    for match in re.finditer(r"\b(\w+):(?= |\n)", TEXT):
        word, before = match.group(1), TEXT[: match.start()]
        in_args = "args: {" in before and before.rfind("args: {") > before.rfind("}")
        if in_args or "Masked" in before.split("\n")[-1]:
            continue  # the component's own names
        if word not in known or len(word) < 3:
            continue
        line = before.count("\n") + 1
        typo = word[:-2] + word[-1] + word[-2] if word[-1] != word[-2] else word + "x"
        lines = mistakes(before + typo + TEXT[match.end(1) :])
        wanted = re.compile(rf"r\.yaml:{line}:\d+: [\w.]*{typo}: unknown key; did you mean '{word}'\?")
        assert any(wanted.fullmatch(text) for text in lines), (typo, lines)
        checked += 1
    assert checked > 35
