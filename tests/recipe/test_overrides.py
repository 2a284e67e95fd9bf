"""Overrides: what they change, and the message for a wrong one."""

from pathlib import Path

import pytest
from recipe_text import ALONE, TEXT, mistakes, read

from kd.recipe.schema import Use

OVERRIDES = [
    ("train.epochs=a", "<train.epochs=a>: train.epochs: must be an integer, got 'a'"),
    ("train.epoch=3", "<train.epoch=3>: train.epoch: unknown key; did you mean 'epochs'?"),
    ("tran.epochs=3", "<tran.epochs=3>: no 'tran'; did you mean 'train'?"),
    ("distill.cdw.weight=3", "<distill.cdw.weight=3>: no 'cdw' in distill; did you mean 'cwd'?"),
    ("distill.cdw=null", "<distill.cdw=null>: no 'cdw' in distill; did you mean 'cwd'?"),
    ("data.augment.2.args.low=1", "<data.augment.2.args.low=1>: data.augment has no item '2'; "
     "it has 2, counted from 0"),
    ("phases.0.until=5", "<phases.0.until=5>: phases has no item '0'; it has 0, counted from 0"),
    ("train.epochs.x=1", "<train.epochs.x=1>: train.epochs is a single value and has no 'x'"),
    ("train", "<train>: an override is written path=value, such as train.batch_size=8"),
    ("=3", "<=3>: an override is written path=value, such as train.batch_size=8"),
    ("train..epochs=3", "<train..epochs=3>: an override is written path=value, such as train.batch_size=8"),
    ("train.epochs=[1", "<train.epochs=[1>: not YAML: while parsing a flow sequence expected ',' or ']', but got "
     "'<stream end>'"),
    ("train.epochs=!!int 3", "<train.epochs=!!int 3>: tags (!) are not allowed; write plain values"),
    ("student.args.a={b: 1, b: 2}", "<student.args.a={b: 1, b: 2}>: student.args.a.b: given twice, first at "
     "<student.args.a={b: 1, b: 2}>; remove one"),
    ("device=a\nb", "<device=a\\nb>: device: must be 'auto', 'cpu', 'cuda' or 'mps', got 'a b'; "
     "known: auto, cpu, cuda, mps"),
    ("optimizer=null", "r.yaml:1:1: needs 'optimizer'"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), OVERRIDES)
def test_wrong_override(folder: Path, text: str, expected: str) -> None:
    assert mistakes(TEXT, text) == [expected]


def test_overrides_replace_add_and_remove(folder: Path) -> None:
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
    recipe = read(ALONE, "log.every=3", "student.args.width=2", "train.steps=null", "train.epochs=4", "train.seeds.0=3")
    assert recipe.train.seeds == (3,)
    assert (recipe.log.every, recipe.student.args, recipe.train.epochs) == (3, {"width": 2}, 4)
