"""What `kd check` finds in a recipe with its networks, weights and data, and the recipe that follows its advice."""

import importlib.util
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from advised_recipes import ALONE, ENSEMBLE, ON_LOGITS, OWN, TAUGHT
from command import kd
from following import Row, overrides, succeeds
from recipe_text import ALONE as OF_KD
from tiny import NETWORKS, write_pictures, write_recipes

from kd import distributed
from kd.components import Maker
from kd.components.build import check_torch
from kd.components.user_files import load
from kd.machine import choose
from kd.parts.assemble import _check_batch_size
from kd.parts.networks import _synchronized
from kd.recipe import Use, read_recipe

CODE = '''


class Named(Stripes):
    """Its validation split has another name for its second class, unless it is told the names."""

    def __init__(self, split, names=None):
        super().__init__(split)
        self.class_names = names or ("dark", {"train": "bright"}.get(split, "light"))


class Listed(Stripes):
    """It names its samples."""

    def __init__(self, split, count=12):
        super().__init__(split, count)
        self.names = [f"{split} {index}" for index in range(count)]


class Three(Stripes):
    class_names, colors = ("dark", "bright", "none"), ((0, 0, 0), (1, 1, 1), (2, 2, 2))


class Grey:
    class_names, in_channels = ("dark", "bright"), 3

    def __init__(self, split):
        self.data = Stripes(split)

    def __len__(self):
        return len(self.data)

    def __getitem__(self, key):
        return self.data[key]


class Colored(Grey):
    colors = ((0, 0, 0), (1, 1, 1))


class Photos(Stripes):
    """The named splits have no labels."""

    def __init__(self, split, without=("val",)):
        super().__init__(split)
        self.without = split in without

    def __getitem__(self, key):
        sample = super().__getitem__(key)
        return sample._replace(labels=None) if self.without else sample


class Doubling(Net):
    """Makes a batch of one image a batch of two."""

    def forward(self, images):
        return super().forward(images.expand(2, -1, -1, -1) if len(images) == 1 else images)


class Large(Net):
    """Logits that float16 cannot hold."""

    def forward(self, images):
        output = super().forward(images)
        return output._replace(logits=1e6 * output.logits)


class Single(nn.Module):
    """Compares single maps."""

    compares = "either"

    def forward(self, student, teacher, labels):
        return (student - teacher).square().mean()


def minus(steps):
    return lambda step: -1.0


def even(steps):
    return lambda step: 1.0
'''

NET = "{use: 'nets.py:Net', args: {channels: 8}, weights: %s}"


def write(text: str = ALONE) -> None:
    """The recipe and the code beside it."""
    write_recipes(Path())
    Path("nets.py").write_text(NETWORKS + CODE)
    Path("r.yaml").write_text(text)


def refused(text: str, *changes: str, command: str = "check") -> Callable[[], object]:
    return lambda: (write(text), kd(command, "r.yaml", "--trust", *changes))


def check(*changes: str, text: str | None = None, command: str = "check") -> None:
    if text is not None:
        Path("r.yaml").write_text(text)
    succeeds(command, "r.yaml", "--trust", *changes)


def row(message: str, text: str, changes: tuple[str, ...], *followed: str) -> Row:
    """A row whose advice is to give the recipe other overrides."""
    return Row(message, refused(text, *changes), lambda printed: check(*followed))


def dataset(use: str, **args: object) -> tuple[str, ...]:
    return f"data.use=nets.py:{use}", f"data.args={json.dumps(args)}"


def shadowed() -> None:
    """Find `teachers`, where the current folder is on the import path."""
    ordinary = importlib.util.find_spec
    here = SimpleNamespace(submodule_search_locations=[os.path.abspath("teachers")], origin=None)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(importlib.util, "find_spec", lambda name: here if Path(name).is_dir() else ordinary(name))
        Maker().find(Use(use="teachers.Wrapped"))


def without_torchvision() -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(sys.modules, "torchvision", None)
        check_torch()


def in_three_processes(*changes: str) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(distributed, "world", lambda: 3)
        _check_batch_size(read_recipe("r.yaml", changes, trust=True))


def synchronized(*changes: str) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(distributed, "world", lambda: 2)
        _synchronized(read_recipe("r.yaml", changes, trust=True), torch.nn.BatchNorm2d(2), choose("cpu"))


PHOTOS = dataset("Photos")
NO_LABELS = dataset("Photos", without=["train", "val"])
TEACHER = ("teacher={use: 'nets.py:Net', weights: t.pt}", "distill={kl: {loss: {use: kd.losses.PixelKL}, pixels: all}}")
CALLS = [
    Row(
        "shadows {}/teachers; rename it, or run from another folder",
        lambda: (Path("teachers").mkdir(), shadowed()),
        lambda text: (Path("teachers").rename("my_teachers"), shadowed()),
    ),
    Row(
        "'nets.py:Net' is not part of kd; if you trust it, add --trust",
        lambda: (write(), Path("r.yaml").write_text(OF_KD), Maker(read_recipe("r.yaml")).find(Use(use="nets.py:Net"))),
        lambda text: Maker(read_recipe("r.yaml", trust=True)).find(Use(use="nets.py:Net")),
    ),
    Row(
        "'torch.nn.ReLU' is not part of kd; kd components lists what is",
        lambda: kd("bench", "--trust", "--networks", "torch.nn.ReLU"),
        lambda text: (succeeds("components", "networks"), Maker().find(Use(use="students.MobileNetV2UNet"))),
    ),
    Row(
        "overrides: must be a list of texts, got one; write ['train.steps=2']",
        lambda: (write(), read_recipe("r.yaml", "train.steps=2", trust=True)),
        lambda text: read_recipe("r.yaml", yaml.safe_load(text.partition("; write ")[2]), trust=True),
    ),
    Row(
        "do not work together ({}); pip install --upgrade torch torchvision",
        without_torchvision,
        lambda text: check_torch(),
    ),
    row(
        "nets.py:Grey has no colors (nets.py:{}); see docs/add-a-dataset.md",
        ALONE,
        dataset("Grey"),
        *dataset("Colored"),
    ),
    Row(
        "train.batch_size: 4 is not divisible by 3 processes × 1 micro-batches; the nearest multiples: 3 and 6",
        lambda: (write(), in_three_processes()),
        lambda text: (in_three_processes("train.batch_size=3"), in_three_processes("train.batch_size=6")),
    ),
    row(
        "train has the classes ('dark', 'bright'), but val has ('dark', 'light'); give both the same",
        ALONE,
        dataset("Named"),
        *dataset("Named", names=["dark", "light"]),
    ),
    row(
        "nets.py:minus returns -1.0 at step 0 of 2; a factor is finite, 0 or above",
        ALONE,
        ("schedule={use: 'nets.py:minus'}",),
        "schedule={use: 'nets.py:even'}",
    ),
    row(
        "; `at` lists several taps, so it got tuples: name one tap per term",
        OWN,
        ("distill.hint={loss: {use: 'nets.py:Single'}, at: {student: [low, logits], teacher: [low, logits]}}",),
        "distill.hint={loss: {use: 'nets.py:Single'}, at: {student: logits, teacher: logits}}",
    ),
    row(
        "kd.losses.Masked: classes: [2], but the loss compares [0, 1]; name one of these",
        OWN,
        ("distill.kl.loss={use: kd.losses.Masked, args: {loss: {use: kd.losses.PixelKL}, classes: [2]}}",),
        "distill.kl.loss={use: kd.losses.Masked, args: {loss: {use: kd.losses.PixelKL}, classes: [1]}}",
    ),
    row(
        "MSE changes when a constant is added to all logits of a pixel ({} to {}), and an ensemble's logits are "
        "defined up to such a constant; compare probabilities (kd.losses.PixelKL, DKD, DIST)",
        ENSEMBLE,
        ("distill.hint=null", *ON_LOGITS, "distill.kl.loss.use=kd.losses.MSE"),
        "distill.hint=null",
        *ON_LOGITS,
        "distill.kl.loss.use=kd.losses.PixelKL",
    ),
    row(
        "returns logits (2, 2, 8, 8) for 1 image and 2 classes; expected (1, 2, h, w): keep the dimension of the batch",
        ALONE,
        ("student.use=nets.py:Doubling",),
        "student.use=nets.py:Net",
    ),
    Row(
        "torch synchronizes BatchNorm on GPUs only, and this run is on the CPU; set it to false",
        lambda: (write(), synchronized("train.sync_batchnorm=true")),
        lambda text: synchronized("train.sync_batchnorm=false"),
    ),
]


def teacher_file(count: int = 2, file: str = "t.pt", **more: Any) -> dict[str, torch.Tensor]:
    """Write weights of a teacher; its state dict."""
    torch.manual_seed(6)
    state: dict[str, torch.Tensor] = load(Path("nets.py").resolve()).Net(count, channels=8).state_dict()
    torch.save({"state_dict": state, **more}, file)
    return state


def part(*left_out: str) -> None:
    torch.save({name: value for name, value in teacher_file().items() if not name.startswith(left_out)}, "part.pt")


def with_teacher(spec: str = "t.pt", *changes: str, make: Callable[[], object] = teacher_file) -> Callable[[], object]:
    return lambda: (write(OWN), make(), kd("check", "r.yaml", "--trust", f"teacher={NET % spec}", *changes))


def advised(first: str, *changes: str, spec: str = "t.pt") -> Callable[[str], object]:
    """Check with the overrides that a message prints."""
    return lambda text: check(f"teacher={NET % spec}", *changes, *overrides(text, first))


MAPPED = (
    "teacher={use: teachers.ClassMapped, args: {network: {use: 'nets.py:Net', args: {channels: 8, num_classes: 3}}, "
    "source: [mud, dark, bright], target: %s}, weights: three.pt}"
)
WEIGHTS = [
    Row(
        "; a teacher keeps its own classes, mapped to yours: ",
        with_teacher("three.pt", make=lambda: teacher_file(3, "three.pt", classes=["mud", "dark", "bright"])),
        lambda text: check("distill.hint=null", *overrides(text, "teacher=")),
    ),
    Row(
        "; a teacher is loaded whole: name a file that holds all of it",
        with_teacher("part.pt", make=lambda: part("head")),
        lambda text: check(f"teacher={NET % 't.pt'}"),
    ),
    Row(
        "; to start from this part: student.partial=true",
        lambda: (
            write(),
            part("head"),
            kd("check", "r.yaml", "--trust", "student.args.channels=8", "student.weights=part.pt"),
        ),
        lambda text: check("student.args.channels=8", "student.weights=part.pt", *overrides(text, "student.partial")),
    ),
    Row(
        "head: new gives a teacher a classifier that was never trained; remove it",
        with_teacher("{file: t.pt, head: new}"),
        lambda text: check(f"teacher={NET % 't.pt'}"),
    ),
    Row(
        "student.weights={file: deep.pt, key: stage.one}",
        lambda: (
            write(),
            torch.save({"stage": {"one": teacher_file()}}, "deep.pt"),
            kd("check", "r.yaml", "--trust", "student.args.channels=8", "student.weights=deep.pt"),
        ),
        lambda text: check("student.args.channels=8", *overrides(text, "student.weights=")),
    ),
    Row(
        "freeze: 'conv' has no pretrained weights (conv.weight was drawn at random); give student.weights, or do not "
        "freeze it",
        lambda: (
            write(),
            teacher_file(),
            kd("check", "r.yaml", "--trust", "student.args.channels=8", "student.freeze=[conv]"),
        ),
        lambda text: (
            check("student.args.channels=8", "student.freeze=[conv]", "student.weights=t.pt"),
            check("student.args.channels=8"),
        ),
    ),
    Row(
        "freeze: the network has no module 'cnv'; did you mean 'conv'?",
        lambda: (
            write(),
            teacher_file(),
            kd("check", "r.yaml", "--trust", "student.args.channels=8", "student.weights=t.pt", "student.freeze=[cnv]"),
        ),
        lambda text: check("student.args.channels=8", "student.weights=t.pt", "student.freeze=[conv]"),
    ),
    Row(
        "teacher.classes: is [dark, light], but its weights are for [dark, bright]; remove teacher.classes",
        with_teacher(
            "t.pt",
            "teacher.classes=[dark, light]",
            make=lambda: teacher_file(classes=["dark", "bright"]),
        ),
        lambda text: check(f"teacher={NET % 't.pt'}"),
    ),
    Row(
        "teacher: the order of its classes is not recorded; taken to be the data's; if it is, state it: ",
        with_teacher(),
        advised("teacher.classes="),
    ),
    Row(
        "warning: the teacher was never trained: no weights are given, and conv.weight was drawn at random; "
        "give it weights: teacher.weights=FILE",
        with_teacher("none"),
        lambda text: check(f"teacher={NET % 'none'}", "teacher.weights=t.pt"),
    ),
    Row(
        "class 1 is 'light', but 'bright' in the data; set target: [dark, bright]",
        lambda: (
            write(OWN),
            teacher_file(3, "three.pt"),
            kd(
                "check",
                "r.yaml",
                "--trust",
                "distill.hint=null",
                MAPPED.replace("mud, dark, bright", "mud, dark, light") % "[dark, light]",
            ),
        ),
        lambda text: check("distill.hint=null", MAPPED % "[dark, bright]"),
    ),
    Row(
        "has 3 classes and 3 image channels, but the data have 2 and 3; train a teacher on these data",
        lambda: (
            write(TAUGHT),
            Path("teacher.yaml").write_text(Path("teacher.yaml").read_text().replace(":Stripes", ":Three")),
            kd("check", "r.yaml", "--trust"),
        ),
        lambda text: (
            Path("teacher.yaml").write_text(Path("teacher.yaml").read_text().replace(":Three", ":Stripes")),
            check(),
        ),
    ),
    Row(
        "classes belongs to use, as a run states its own; remove it",
        refused(TAUGHT, "teacher.classes=[dark, bright]"),
        lambda text: check(),
    ),
]

LABELS = [
    Row(
        "val: no pixel is labelled, so nothing can be scored; label some of its images, or give a teacher: the score "
        "is then the agreement with it",
        lambda: (write(), teacher_file(), kd("check", "r.yaml", "--trust", *PHOTOS)),
        lambda text: (check(*dataset("Photos", without=[])), check(*PHOTOS, *TEACHER, "teacher.args.channels=8")),
    ),
    row(
        "val: no pixel is labelled, so nothing can be scored; set evaluate.agreement: true, and the score is the "
        "agreement with the teacher",
        OWN,
        (*PHOTOS, "evaluate.agreement=false"),
        *PHOTOS,
        "evaluate.agreement=true",
    ),
    Row(
        "train: no pixel is labelled, so there is nothing to learn from; label some images, or give a teacher with a "
        "term that has pixels: all (a baseline has none)",
        lambda: (write(), teacher_file(), kd("check", "r.yaml", "--trust", *NO_LABELS)),
        lambda text: (check(*dataset("Photos", without=[])), check(*NO_LABELS, *TEACHER, "teacher.args.channels=8")),
    ),
    row(
        "train: no pixel is labelled, and no term learns from other pixels; set distill.kl.pixels: all",
        OWN,
        NO_LABELS,
        *NO_LABELS,
        "distill.kl.pixels=all",
    ),
]


SHIPPED = "shapes/mobilenetv3_kl_cwd.yaml"


def imports(count: int) -> None:
    """A file that imports so many files beside it."""
    write()
    for number in range(count):
        Path(f"m{number}.py").write_text("")
    Path("nets.py").write_text("\n".join(f"import m{number}" for number in range(count)) + NETWORKS)


def packaged(text: str) -> None:
    """The modules as an installed package, which is imported by its name."""
    Path("many").mkdir()
    for file in Path().glob("m[0-9]*.py"):
        shutil.move(file, "many")
    Path("nets.py").write_text(NETWORKS)
    check()


FILES = [
    Row(
        "exists and differs from what would be copied; move it, or name another folder",
        lambda: (Path("shapes").mkdir(), Path(SHIPPED).write_text("a: 1"), kd("copy", SHIPPED)),
        lambda text: (succeeds("copy", SHIPPED, "other"), os.rename("shapes", "mine"), succeeds("copy", SHIPPED)),
    ),
    Row(
        "it changes nothing: runs is no recipe but a run directory; name a recipe, or remove it",
        lambda: (Path("runs").mkdir(), kd("compare", "runs", "train.steps=1")),
        lambda text: (kd("compare", "runs"), write(), kd("compare", "r.yaml", "--trust", "train.steps=1")),
    ),
    Row(
        "kd.engine.schedule.poly is now kd.schedules.poly; update the recipe",
        refused(ALONE, "schedule.use=kd.engine.schedule.poly"),
        lambda text: check("schedule.use=kd.schedules.poly"),
    ),
    Row(
        "; did you mean the shipped 'shapes/mobilenetv3_kl_cwd.yaml'?",
        lambda: kd("check", "shapes/mobilenetv3_kl_cw.yaml"),
        lambda text: succeeds("check", text.partition("shipped '")[2].partition("'")[0], "--imports"),
    ),
    Row(
        "imports more than 200 files beside it; make them a package",
        lambda: (imports(210), kd("check", "r.yaml", "--trust")),
        packaged,
    ),
    Row(
        "'nets.py:Net', 'nets.py:Stripes' would be imported, but are not part of kd; ",
        lambda: (write(), kd("check", "r.yaml")),
        lambda text: check(),
    ),
    Row(
        "; a backslash in double quotes begins an escape: use single quotes, or / in paths",
        refused(ALONE + 'cache: {folder: "C:\\data"}'),
        lambda text: [
            check("--imports", text=ALONE + f"track: {{project: {word}}}") for word in ("'C:\\data'", '"C:/data"')
        ],
    ),
]


def joined(images: str, ratio: str = "1.0") -> tuple[str, ...]:
    """The command that checks a recipe with images without labels."""
    unlabelled = f"data.unlabelled={{images: {images}, ratio: {ratio}}}"
    return "check", "r.yaml", "--trust", unlabelled, "distill.kl.pixels=all"


def others() -> tuple[str, ...]:
    """The command that checks a recipe with more images of its dataset."""
    return "check", "r.yaml", "--trust", "data.unlabelled={args: {count: 20}}", "distill.kl.pixels=all"


UNLABELLED = [
    Row(
        "a micro-batch has one image without labels, and no other one to mix it with; set data.unlabelled.ratio=0.5",
        lambda: (write_pictures(Path("more"), 3), write(OWN), kd(*joined("more", "0.25, cutmix: 1.0"))),
        lambda text: succeeds(*joined("more", f"{text.rpartition('=')[2].split()[0]}, cutmix: 1.0")),
    ),
    Row(
        "which 1 processes × 1 micro-batches cannot share; the nearest ratios: 0.25 and 0.5",
        lambda: (write_pictures(Path("more"), 3), write(OWN), kd(*joined("more", "0.3"))),
        lambda text: succeeds(*joined("more", text.partition("ratios: ")[2].partition(" ")[0])),
    ),
    Row(
        "Stripes has neither `names` nor `files(index)`, which tell its images apart; docs/add-a-dataset.md",
        lambda: (write(OWN), kd(*others())),
        lambda text: succeeds(*others(), "data.use=nets.py:Listed"),
    ),
    Row(
        "data.unlabelled.images: no folder mor; . contains more/",
        lambda: (write_pictures(Path("more"), 3), write(OWN), kd(*joined("mor"))),
        lambda text: succeeds(*joined(text.partition("contains ")[2].partition("/")[0])),
    ),
    Row(
        "data.unlabelled.images: no images in others: others contains notes.txt; files read: .png, ",
        lambda: (write(OWN), Path("others").mkdir(), Path("others/notes.txt").write_text(""), kd(*joined("others"))),
        lambda text: (Path("others").rename("notes"), write_pictures(Path("others"), 3), succeeds(*joined("others"))),
    ),
]

ROWS = [*CALLS, *WEIGHTS, *LABELS, *FILES, *UNLABELLED]
