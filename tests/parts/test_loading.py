"""The weights of both roles: what loads, what is refused, and that the advice in a refusal works."""

import argparse
import datetime
import re
import shlex
from pathlib import Path

import pytest
import torch
from tiny import run, write_recipes

from kd.compare import gather
from kd.components.user_files import load
from kd.diagnose.check import check_recipe
from kd.errors import RecipeError
from kd.parts.assemble import assemble
from kd.recipe import read_recipe
from kd.runs import read_result


@pytest.fixture
def folder(tmp_path):
    write_recipes(tmp_path)
    return tmp_path


@pytest.fixture
def foreign(folder):
    """The teacher's network with three classes, saved as another code base would; its state dict."""
    torch.manual_seed(5)
    state = load(folder / "nets.py").Net(3, channels=8).state_dict()
    renamed = {f"module.{name.replace('conv.', 'stem.0.')}": value for name, value in state.items()}
    torch.save(
        {"net": renamed, "ema": renamed, "args": argparse.Namespace(lr=0.1), "when": datetime.datetime.now()},
        folder / "best.pth",
    )
    return state


NET = '{use: "nets.py:Net", args: {channels: 8}, weights: %s}'
MAPPING = "{file: best.pth, key: net, rename: {module.stem.0.: conv.}, head: new}"
LOADED = (
    "best.pth: loaded 6 of 8 tensors; from scratch: head (2); without the prefix module.; not used: module.head (2)"
)
PASSED = "; not read: argparse.Namespace, datetime.datetime"


def test_a_checkpoint_in_a_foreign_layout_is_loaded_and_the_result_records_its_missing_part(
    folder, foreign, monkeypatch
):
    monkeypatch.chdir(folder)
    overrides = [f"student={NET % MAPPING}", "distill=null", "teacher=null"]
    line = f"student: started from partial weights: {LOADED}{PASSED}"
    lines = check_recipe(read_recipe("student.yaml", overrides, trust=True), runs=folder / "runs")
    assert lines[1:2] == [line]
    recipe = read_recipe("student.yaml", overrides, trust=True)
    network = assemble(recipe, runs=folder / "runs", seed=0).student.network
    assert torch.equal(network.conv.weight, foreign["conv.weight"])
    assert torch.equal(network.norm.running_var, foreign["norm.running_var"])
    assert len(network.head.weight) == 2
    (run_dir,), lines = run(recipe, folder / "runs")
    assert [printed for printed in lines if LOADED in printed] == [f"  {line}"]
    assert read_result(run_dir).remarks == [line]
    assert f"student: {line}" in [note.text for note in gather([run_dir], runs=folder / "runs").notes]
    kept = read_recipe(run_dir / "recipe.yaml", trust=True)
    assert (kept.student.weights, kept.id) == (recipe.student.weights, recipe.id)
    assert recipe.id != read_recipe("student.yaml", [*overrides, "student.weights.head=null"], trust=True).id


def refusal(*overrides):
    """The one mistake of a recipe with these overrides, from the name of the weights on."""
    with pytest.raises(RecipeError) as caught:
        assembled_notes(*overrides)
    (mistake,) = caught.value.mistakes
    return mistake[mistake.index("weights ") :]


def advised(message):
    """The override that a message ends with, as a shell reads it."""
    return shlex.split(message[re.search(r"['\"]?(student|teacher)[.\w]*=", message).start() :])[-1]


def test_weights_that_do_not_fit_name_the_file_and_an_override_that_works(folder, foreign, monkeypatch):
    monkeypatch.chdir(folder)
    mistake = refusal(f"student={NET % 'best.pth'}")
    assert mistake == (
        "weights best.pth: the file holds weights under 'net' and 'ema'; "
        "choose a key: 'student.weights={file: best.pth, key: net}'"
    )
    mistake = refusal(f"student={NET % 'best.pth'}", advised(mistake))
    assert mistake.endswith("head.weight is for 3 classes, the network for 2; train a new classifier: "
                            "'student.weights={file: best.pth, key: net, head: new}'")  # fmt: skip
    mistake = refusal(f"student={NET % 'best.pth'}", advised(mistake))
    assert mistake.endswith(
        "not used: module.stem (2), module.head (2); not read: argparse.Namespace, datetime.datetime; "
        "bring the names together: "
        "'student.weights={file: best.pth, key: net, head: new, rename: {module.stem.0.: conv.}}'"
    )
    assert assembled_notes(f"student={NET % 'best.pth'}", advised(mistake))[0].endswith(f"{LOADED}{PASSED}")
    weights = "{file: best.pth, key: net, head: new, rename: {module.stem.0.bias: stem., module.stem.0.weight: a.}}"
    mistake = refusal(f"student={NET % weights}")
    assert mistake.endswith("to start from this part: student.partial=true")
    assert "loaded 4 of 8 tensors" in assembled_notes(f"student={NET % weights}", advised(mistake))[0]
    assert refusal(f"student={NET % '{file: worst.pth}'}") == (
        "weights worst.pth: no file worst.pth; give imagenet, a torchvision name, a run directory or a file"
    )


def save(count, file, **more):
    """The weights of a teacher for so many classes."""
    torch.manual_seed(6)
    state = load(Path("nets.py").resolve()).Net(count, channels=8).state_dict()
    torch.save({"state_dict": state, **more}, file)


TEACHER = 'teacher={use: "nets.py:Net", args: {channels: 8}, weights: %s}'


def test_a_teacher_is_loaded_whole(folder, monkeypatch):
    monkeypatch.chdir(folder)
    save(2, "whole.pth")
    whole = torch.load("whole.pth")["state_dict"]
    torch.save({name: value for name, value in whole.items() if not name.startswith("head.")}, "part.pth")
    assert refusal(TEACHER % "part.pth") == (
        "weights part.pth: part.pth: loaded 6 of 8 tensors; from scratch: head (2); "
        "a teacher is loaded whole: name a file that holds all of it"
    )
    torch.save({name.replace("head.", "decode.head."): value for name, value in whole.items()}, "other.pth")
    mistake = refusal(TEACHER % "other.pth")
    assert mistake.endswith(
        "not used: decode (2); bring the names together: \"teacher.weights={file: other.pth, rename: {decode.: ''}}\""
    )
    assert assembled_notes(TEACHER % "other.pth", advised(mistake))[0] == "teacher: other.pth: loaded 8 of 8 tensors"


def assembled_notes(*overrides):
    alone = ["teacher=null", "distill=null"] if overrides[0].startswith("student") else ["distill.hint=null"]
    recipe = read_recipe("student.yaml", [*alone, *overrides], trust=True)
    return assemble(recipe, runs=Path("runs"), seed=0).notes


def test_a_teacher_for_other_classes_is_mapped_and_gets_no_new_head(folder, monkeypatch):
    monkeypatch.chdir(folder)
    save(3, "three.pth", meta={"classes": ["bright", "mud", "dark"]})
    assert refusal(TEACHER % "{file: three.pth, head: new}") == (
        "weights three.pth: head: new gives a teacher a classifier that was never trained; remove it"
    )
    mistake = refusal(TEACHER % "three.pth")
    assert mistake.endswith(
        "head.weight is for 3 classes, the network for 2; a teacher keeps its own classes, mapped to yours: "
        '"teacher={use: teachers.ClassMapped, '
        "args: {network: {use: 'nets.py:Net', args: {channels: 8, num_classes: 3}}, "
        'source: [bright, mud, dark], target: [dark, bright]}, weights: three.pth}"'
    )
    assert assembled_notes(advised(mistake)) == ["teacher: three.pth: loaded 8 of 8 tensors"]
    mapped = advised(mistake).replace("num_classes: 3", "num_classes: 2").replace("[bright, mud, dark]", "[mud, dark]")
    assert advised(refusal(mapped)) == advised(mistake)  # the mapping is corrected, and not mapped once more
    save(3, "unnamed.pth")
    assert "source: [the names of its 3 classes in the order of the channels]" in refusal(TEACHER % "unnamed.pth")


def test_a_network_under_another_name_or_in_two_states_gets_the_line_that_loads_it(folder, monkeypatch):
    monkeypatch.chdir(folder)
    save(2, "plain.pth")
    plain = torch.load("plain.pth")["state_dict"]
    torch.save({"state_dict": {f"unet.{name}": value for name, value in plain.items()}}, "unet.pth")
    mistake = refusal(TEACHER % "unet.pth")
    assert mistake.endswith("bring the names together: \"teacher.weights={file: unet.pth, rename: {unet.: ''}}\"")
    assert assembled_notes(TEACHER % "unet.pth", advised(mistake))[0] == "teacher: unet.pth: loaded 8 of 8 tensors"
    torch.save({"params": plain, "params_ema": dict(plain), "step": {"last": 3}}, "two.pth")
    mistake = refusal(TEACHER % "two.pth")
    assert mistake == (
        "weights two.pth: the file holds weights under 'params' and 'params_ema'; "
        "choose a key: 'teacher.weights={file: two.pth, key: params}'"
    )
    assert assembled_notes(TEACHER % "two.pth", advised(mistake))[0] == "teacher: two.pth: loaded 8 of 8 tensors"


WRAPPED = 'teacher={use: teachers.Wrapped, args: {network: {use: "own.py:%s"}}, weights: w.pth}'


def test_a_wrapped_teacher_for_other_classes_is_mapped_with_its_own_network(folder, monkeypatch):
    monkeypatch.chdir(folder)
    Path("own.py").write_text(
        "from torch import nn\n\n\ndef Named(num_classes=2):\n    return nn.Conv2d(3, num_classes, 3, 1, 1)\n\n\n"
        "def Other(k=2):\n    return Named(k)\n"
    )
    torch.save({f"network.{name}": value for name, value in torch.nn.Conv2d(3, 3, 3).state_dict().items()}, "w.pth")
    named = (WRAPPED % "Named").replace('Named"', 'Named", args: {num_classes: 2}')
    mistake = refusal(named)
    assert mistake.endswith(
        "network.weight is for 3 classes, the network for 2; a teacher keeps its own classes, mapped to yours: "
        '"teacher={use: teachers.ClassMapped, args: {network: {use: teachers.Wrapped, '
        "args: {network: {use: 'own.py:Named', args: {num_classes: 3}}, num_classes: 3}}, "
        'source: [the names of its 3 classes in the order of the channels], target: [dark, bright]}, weights: w.pth}"'
    )
    named = advised(mistake).replace("[the names of its 3 classes in the order of the channels]", "[mud, bright, dark]")
    assert assembled_notes(named) == ["teacher: w.pth: loaded 2 of 2 tensors"]
    mistake = refusal(WRAPPED % "Other")
    assert 'mapped to yours (give own.py:Other 3 classes as well): "teacher={use: teachers.ClassMapped, ' in mistake
    followed = advised(mistake).replace("'own.py:Other'", "'own.py:Other', args: {k: 3}")
    followed = followed.replace("[the names of its 3 classes in the order of the channels]", "[mud, bright, dark]")
    assert assembled_notes(followed) == ["teacher: w.pth: loaded 2 of 2 tensors"]


def test_the_classes_of_a_teacher_are_mapped_by_name_or_refused(folder, monkeypatch):
    monkeypatch.chdir(folder)
    save(2, "same.pth", classes=["Dark", "bright"])
    save(2, "turned.pth", classes=["bright", "dark"])
    save(2, "strange.pth", classes=["dark", "mud"])
    save(2, "unnamed.pth")
    loaded = "teacher: %s: loaded 8 of 8 tensors"
    assert assembled_notes(TEACHER % "same.pth") == [loaded % "same.pth"]
    assert assembled_notes(TEACHER % "turned.pth") == [
        loaded % "turned.pth",
        "teacher: its classes are in another order (bright, dark); they are mapped by name",
    ]
    assert assembled_notes(TEACHER % "turned.pth").recorded == ("bright", "dark")
    *_, note = assembled_notes(TEACHER % "unnamed.pth")
    assert note == (
        "teacher: the order of its classes is not recorded; taken to be the data's; if it is, state it: "
        "'teacher.classes=[dark, bright]'"
    )
    assert assembled_notes(TEACHER % "unnamed.pth", advised(note)) == [loaded % "unnamed.pth"]
    with pytest.raises(RecipeError) as caught:
        assembled_notes(TEACHER % "strange.pth")
    assert caught.value.mistakes[0].endswith(
        "the teacher's classes are [dark, mud], those of the data [dark, bright]: the data do not have mud; "
        "the teacher does not have bright; map them with teachers.ClassMapped (source, target, merge)"
    )
    with pytest.raises(RecipeError) as caught:
        assembled_notes(TEACHER % "turned.pth", "teacher.classes=[dark, bright]")
    assert caught.value.mistakes[0].endswith(
        "teacher.classes: is [dark, bright], but its weights are for [bright, dark]; remove teacher.classes"
    )

    by_rows = (
        "teacher={use: teachers.ClassMapped, args: {network: {use: 'nets.py:Net', args: {channels: 8, "
        "num_classes: 2}}, matrix: [[0, 1], [1, 0]]}, weights: turned.pth}"
    )
    assert assembled_notes(by_rows) == [loaded % "turned.pth"]  # not mapped once more by name
    assert assembled_notes(f"student={NET % 'turned.pth'}")[:2] == [
        "student: its weights are for classes in another order (bright, dark), so that each starts with the classifier "
        "of another one",
        "student: turned.pth: loaded 8 of 8 tensors",
    ]

    recipe = read_recipe("student.yaml", ["teacher=null", "distill=null", "train.steps=2"], trust=True)
    (run_dir,), _ = run(recipe, Path("runs"))
    of_run = TEACHER.replace("channels: 8", "channels: 4") % run_dir  # the file names its classes
    assert assembled_notes(of_run) == ["teacher: student.safetensors: loaded 8 of 8 tensors"]

    def logits(name, *overrides):
        recipe = read_recipe("student.yaml", ["distill.hint=null", TEACHER % name, *overrides], trust=True)
        parts = assemble(recipe, runs=Path("runs"), seed=0)
        with torch.no_grad():
            return parts.teacher.network(torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))).logits

    assert torch.equal(logits("turned.pth"), logits("same.pth").flip(1))
    assert torch.equal(logits("unnamed.pth", "teacher.classes=[bright, dark]"), logits("same.pth").flip(1))


def test_a_teacher_without_weights_is_reported_as_random(folder):
    with (folder / "nets.py").open("a") as file:
        file.write("\n\ndef loaded(num_classes, in_channels):\n    torch.manual_seed(7)\n    return Net(num_classes)\n")

    def notes(name):
        recipe = read_recipe(folder / "student.yaml", [f"teacher={{use: nets.py:{name}}}"], trust=True)
        return assemble(recipe, runs=folder / "runs", seed=0).notes

    assert notes("Net") == [
        "warning: the teacher was never trained: no weights are given, and conv.weight was drawn at random; "
        "give it weights: teacher.weights=FILE"
    ]
    assert notes("loaded") == [
        "teacher: the order of its classes is not recorded; taken to be the data's; if it is, state it: "
        "'teacher.classes=[dark, bright]'"
    ]
