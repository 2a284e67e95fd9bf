"""Recipes: what makes a command refuse one, the message, and the edit or override that the message asks for.

`Row.message` is a part of the message that contains its advice; test_complete.py reads the rows to find messages that
have none.
"""

from typing import NamedTuple

from tiny import DISTILLED, RECIPE

ALONE = RECIPE.replace("steps: 8", "steps: 2")
TAUGHT = ALONE + DISTILLED
OWN = (
    ALONE
    + 'teacher: {use: "nets.py:Net", args: {channels: 8}}'
    + DISTILLED.partition("teacher: {recipe: teacher.yaml}")[2]
)
SHAPES = ALONE.replace('"nets.py:Stripes"', "kd.data.Shapes, args: {count: 4}").replace("\n  size", "\n  size")
EMA = ALONE + "teacher: {ema: 0.9}\ndistill: {kl: {loss: {use: kd.losses.PixelKL}}}\n"
ENSEMBLE = OWN.replace(
    'teacher: {use: "nets.py:Net", args: {channels: 8}}',
    'teacher: {use: teachers.Ensemble, args: {members: [{use: "nets.py:Net", args: {num_classes: 2}}, '
    '{use: "nets.py:Net", args: {num_classes: 2, channels: 4}}]}}',
)

# Beside the recipes: networks and losses that make mistakes, and their mended forms.
MORE = '''
import torch
from torch import nn

from kd.types import SegmentationOutput, Tap
from nets import Net


class Twice(Net):
    def forward(self, images):
        self.conv(images)
        return super().forward(images)


class Fixed(Net):
    """Weights that count as pretrained: no seed changes them."""

    def __init__(self, num_classes, in_channels=3):
        super().__init__(num_classes, in_channels, channels=4)
        for parameter in self.parameters():
            nn.init.constant_(parameter, 0.1)


class Rows(Net):
    """Takes 32 or 64 rows."""

    def __init__(self, num_classes, in_channels=3):
        super().__init__(num_classes, in_channels, channels=4)

    def forward(self, images):
        if images.shape[2] % 32:
            raise ValueError("32 or 64 rows")
        return super().forward(images)


class Centred(Net):
    def __init__(self, num_classes, in_channels=3, inplace=True, trains=True):
        super().__init__(num_classes, in_channels, channels=4)
        self.inplace = inplace
        self.requires_grad_(trains)

    def forward(self, images):
        return super().forward(images.sub_(0.5) if self.inplace else images - 0.5)


class Shapeless(Net):
    def __init__(self, num_classes, in_channels=3, given=False):
        super().__init__(num_classes, in_channels, channels=4)
        self.head = nn.Conv2d(4, num_classes, 1) if given else nn.LazyConv2d(num_classes, 1)


class Positions(Net):
    def __init__(self, num_classes, in_channels=3, persistent=True):
        super().__init__(num_classes, in_channels, channels=4)
        self.persistent = persistent

    def forward(self, images):
        if not hasattr(self, "position"):
            self.register_buffer("position", torch.zeros(1), persistent=self.persistent)
        return super().forward(images)


class Counts:
    unit, direction = "px", "lower"

    def __init__(self, inplace=True):
        self.inplace, self.total = inplace, 0

    def update(self, labels, probabilities):
        labels = labels if self.inplace else labels.clone()
        labels[labels == 255] = 0
        self.total += labels.sum().item()

    def state(self):
        return {"total": self.total}

    def value(self, state):
        return {"total": state["total"]}


class InPlace(Net):
    inplace = True

    def __init__(self, num_classes, in_channels=3, inplace=True):
        super().__init__(num_classes, in_channels, channels=4)
        self.act = nn.ReLU(inplace)

    def forward(self, images):
        low = self.act(self.norm(self.conv(images)))
        return SegmentationOutput(self.head(low), {"low": low}, {})


def per_pixel_(student, teacher, labels):
    return (student - teacher).square()


def mean_(student, teacher, labels):
    return (student - teacher).square().mean()


def infinite_(student, teacher, labels):
    return (student - teacher).square().mean() / 0


def detached_(student, teacher, labels):
    return (student.detach() - teacher).square().mean()


def in_place_(student, teacher, labels):
    student *= 2
    return (student - teacher).square().mean()


def doubled_(student, teacher, labels):
    student = student.clone()
    student *= 2
    return (student - teacher).square().mean()


def errors():
    return lambda logits, labels: (logits.argmax(1) != labels).float().mean()


def probabilities():
    return lambda logits, labels: (logits.softmax(1)[:, 1] - labels.clamp(max=1)).abs().mean()


def per_pixel():
    return per_pixel_


def mean():
    return mean_


def infinite():
    return infinite_


def detached():
    return detached_


def in_place():
    return in_place_


def doubled():
    return doubled_


class NoSplit:
    class_names, colors, in_channels = ("a", "b"), ((0, 0, 0), (1, 1, 1)), 3

    def __init__(self):
        raise AssertionError
'''


ON_LOGITS = ("distill.kl.at={student: logits, teacher: logits}",)
FIXED = ("student.use=more.py:Fixed", "student.args={}")


class Row(NamedTuple):
    """A message, and what is changed in a recipe: without its advice, and with it.

    Attributes:
        message: a part of what the command prints.
        refused: {old: new} in the recipe's text; or overrides.
        followed: the same; the recipe as it is by default, which is the advice "remove it".
        text: the recipe.
        command: what is run, with the recipe and its overrides.
    """

    message: str
    refused: dict[str, str] | tuple[str, ...]
    followed: dict[str, str] | tuple[str, ...] = ()
    text: str = ALONE
    command: str = "check"


TEXT = [
    Row("anchors and aliases (& and *) are not allowed; write the value out", {"steps: 2": "steps: &n 2"}),
    Row("tags (!) are not allowed; write plain values", {"steps: 2": "steps: !!int 2"}),
    Row("train.steps: given twice, first at r.yaml:10:9; remove one", {"{steps: 2,": "{steps: 2, steps: 2,"}),
    Row("r.yaml:10:16: a control character; a recipe is plain text", {"steps: 2": "steps: \x01"}),
    Row("a control character in a value; write plain text", {"steps: 2": 'steps: "\\x01"'}),
    Row("r.yaml: not a mapping; a recipe consists of sections such as `student:`", {ALONE: "- student: 1"}),
    Row("larger than 256,000 bytes, the limit for a recipe", {"steps: 2": "steps: 2" + " " * 262_144}),
    Row("more than 20,000 YAML events; a recipe is a page of text", {"steps: 2": f"steps: [{'2,' * 20_000}]"}),
    Row("unknown key; did you mean 'steps'?", {"steps: 2": "step: 2"}),
    Row("no 'trian'; did you mean 'train'?", ("trian.steps=2",), ("train.steps=2",)),
    Row(
        "data.augment has no item '3'; it has 1, counted from 0",
        ("data.augment.3.use=kd.data.RandomFlip",),
        ("data.augment.0.use=kd.data.RandomFlip",),
    ),
]

SECTIONS = [
    Row(
        "terms need a teacher; add `teacher`, or remove `distill`", {"teacher: {recipe: teacher.yaml}": ""}, text=TAUGHT
    ),
    Row(
        "a teacher needs at least one term; add `distill`, or remove `teacher`",
        ("distill.kl=null", "distill.hint=null"),
        text=TAUGHT,
    ),
    Row(
        "no term learns from the images of data.unlabelled; set distill.kl.pixels=all, or remove data.unlabelled",
        ("data.unlabelled={images: more}",),
        text=TAUGHT,
    ),
    Row(
        "give images, a folder, or args, the dataset's arguments that differ, and not both",
        ("data.unlabelled={ratio: 1}", "distill.kl.pixels=all"),
        ("data={use: kd.data.Shapes, args: {count: 4}, size: [64, 64], unlabelled: {args: {count: 8}}}",),
        text=OWN.replace("kl: {", "kl: {pixels: all, "),
    ),
    Row(
        "data.unlabelled.cutmix changes images in every step; remove `cache`",
        ("data.unlabelled={images: more, cutmix: 1.0}", "distill.kl.pixels=all", "cache={views: 1}"),
        text=TAUGHT,
    ),
    Row(
        "train.scales change the teacher's images in every step; remove `cache`",
        ("train.scales=[1.0, 1.5]", "cache={views: 1}"),
        ("train.scales=[1.0, 1.5]",),
        text=TAUGHT,
    ),
    Row("of data.unlabelled; add a teacher and `distill`", ("data.unlabelled={images: more}",)),
    Row("a moving average changes with every step; remove `cache`", ("cache={views: 1}",), text=EMA),
    Row("a moving average changes with every step; remove precision", ("teacher.precision=int8",), text=EMA),
    Row(
        "a moving average changes with every step; remove fold_batchnorm",
        ("train.fold_batchnorm=true",),
        text=EMA,
    ),
    Row(
        "ema 0.99 and teacher.ema 0.9 are decays of the same moving average; make them equal",
        ("train.ema=0.99",),
        ("train.ema=0.9",),
        text=EMA,
    ),
    Row(
        "args and weights belong to use, not to recipe; remove them",
        ("teacher.args={channels: 8}",),
        text=TAUGHT,
    ),
    Row(
        "give either epochs or steps, got both; remove one, or set train.epochs=null or train.steps=null",
        ("train.epochs=3",),
        ("train.epochs=3", "train.steps=null"),
    ),
    Row(
        "batch_size 4 is not divisible by accumulate 3; the nearest multiples: 3 and 6",
        ("train.accumulate=3",),
        ("train.accumulate=3", "train.batch_size=6"),
    ),
    Row(
        "accumulate: auto does not foresee the memory of a teacher in INT8; give a number",
        ("teacher.precision=int8", "train.accumulate=auto"),
        ("teacher.precision=int8", "train.accumulate=2"),
        text=TAUGHT,
    ),
    Row(
        "give one of size and scale, got both; remove one",
        ("teacher.size=[64, 64]", "teacher.scale=2"),
        ("teacher.scale=2",),
        text=OWN,
    ),
    Row(
        "[64, 128] has other proportions than the images of training, [32, 32]; set teacher.size=null teacher.scale=2",
        ("teacher.size=[64, 128]",),
        ("teacher.size=null", "teacher.scale=2"),
        text=OWN,
    ),
    Row(
        "teacher.recipe: r.yaml refers back to itself; a teacher cannot depend on its own student",
        {"{recipe: teacher.yaml}": "{recipe: r.yaml}"},
        text=TAUGHT,
    ),
]

CALLS = [
    Row("nets.py:Net takes no 'chanels'; did you mean 'channels'?", ("student.args={chanels: 4}",)),
    Row("'in_channels' is set by the engine; remove it", ("student.args={in_channels: 3}",)),
    Row(
        "more.py:NoSplit takes no 'split', which kd passes to every component here; add it, or use another component",
        ("data.use=more.py:NoSplit",),
    ),
    Row(
        "num_classes is 5, but the data have 2; remove it, or state 1 for a single logit",
        ("student.args.num_classes=5",),
        ("student.args.num_classes=1",),
    ),
    Row(
        "torch.optim.LBFGS cannot train here: it calls the loss several times a step; use SGD or AdamW",
        ("optimizer={use: torch.optim.LBFGS, args: {lr: 0.1}}",),
        ("optimizer={use: torch.optim.AdamW, args: {lr: 0.1}}",),
    ),
    Row(
        "wandb is not installed; pip install 'kd-segmentation[wandb]', or track=null",
        ("track={project: p}",),
        ("track=null",),
    ),
    Row(
        "'head.bias' matches no trainable parameter; the closest are network.head.bias, ",
        ("optimizer.groups=[{match: head.bias, lr: 2}]",),
        ("optimizer.groups=[{match: network.head.bias, lr: 2}]",),
    ),
    Row(
        "'network.head.bias' matches only parameters that an earlier pattern matches; move it up",
        ('optimizer.groups=[{match: "network.head.*", lr: 2}, {match: network.head.bias, lr: 3}]',),
        ('optimizer.groups=[{match: network.head.bias, lr: 3}, {match: "network.head.*", lr: 2}]',),
    ),
    Row(
        "torch.optim.Rprop has no weight decay; remove it from optimizer.groups",
        ("optimizer={use: torch.optim.Rprop, args: {lr: 1}, groups: [{match: network.head.bias, weight_decay: 1}]}",),
        ("optimizer={use: torch.optim.Rprop, args: {lr: 0.1}, groups: [{match: network.head.bias, lr: 0.1}]}",),
    ),
]

MEETING = [
    Row(
        "train.scales: 1.5 makes images of 48×48, on which a network fails (ValueError: 32 or 64 rows (more.py:33)); "
        "remove it",
        ("student.use=more.py:Rows", "student.args={}", "train.scales=[1.0, 1.5]"),
        ("student.use=more.py:Rows", "student.args={}", "train.scales=[1.0]"),
    ),
    Row(
        "the student more.py:Centred changes its images, which the other network reads too, in place; write "
        "images = images - mean, not images -= mean, and normalize(…) without inplace=True",
        ("student.use=more.py:Centred", "student.args={}"),
        ("student.use=more.py:Centred", "student.args={inplace: false}"),
    ),
    Row(
        "more.py:Shapeless: head.weight has no shape before the first forward (torch.nn.Lazy…); give the number of "
        "channels (more.py:",
        ("student.use=more.py:Shapeless", "student.args={}"),
        ("student.use=more.py:Shapeless", "student.args={given: true}"),
    ),
    Row(
        "more.py:Positions: its first forward makes or replaces position, so that its weights would fit no network as "
        "it is built; make it in __init__, or as a buffer with persistent=False",
        ("student.use=more.py:Positions", "student.args={}"),
        ("student.use=more.py:Positions", "student.args={persistent: false}"),
    ),
    Row(
        "more.py:Counts: update() changes its labels or probabilities, which other metrics read, in place; "
        "change a copy of them, such as labels.clone()",
        ('evaluate.metrics=[{use: "more.py:Counts"}]',),
        ('evaluate.metrics=[{use: "more.py:Counts", args: {inplace: false}}]',),
    ),
    Row(
        "freeze: conv, norm, head: no part of the network is left to train; freeze less",
        (*FIXED, "student.freeze=[conv, norm, head]"),
        (*FIXED, "student.freeze=[conv]"),
    ),
    Row(
        "kd.losses.CWD compares a student with a teacher; it belongs under distill",
        ("supervised.use=kd.losses.CWD",),
        ("distill.kl.loss.use=kd.losses.CWD",),
        text=TAUGHT,
    ),
    Row(
        ": a loss must return a scalar tensor, not (2, 8, 16, 16); take its mean",
        ("distill.hint.loss.use=more.py:per_pixel",),
        ("distill.hint.loss.use=more.py:mean",),
        text=TAUGHT,
    ),
    Row(
        "the loss is inf on a first batch; it must be finite",
        ("distill.hint.loss.use=more.py:infinite",),
        ("distill.hint.loss.use=more.py:mean",),
        text=TAUGHT,
    ),
    Row(
        "the loss gives no gradient; compute it from the student's tensor, without detach() or item()",
        ("distill.hint.loss.use=more.py:detached",),
        ("distill.hint.loss.use=more.py:mean",),
        text=TAUGHT,
    ),
    Row(
        "supervised: the loss gives no gradient; compute it from the logits, without argmax(), detach() or item()",
        ("supervised.use=more.py:errors",),
        ("supervised.use=more.py:probabilities",),
    ),
    Row(
        "more.py:Centred: its logits give no gradient, so that nothing would train; remove detach(), argmax() or "
        "no_grad() from its forward, or let its parameters require gradients",
        ("student.use=more.py:Centred", "student.args={inplace: false, trains: false}"),
        ("student.use=more.py:Centred", "student.args={inplace: false}"),
    ),
    Row(
        "the loss changes the student's map, which other losses read, in place; change a copy of it: x = x.clone()",
        ("distill.hint.loss.use=more.py:in_place",),
        ("distill.hint.loss.use=more.py:doubled",),
        text=TAUGHT,
    ),
    Row(
        "the tap is in or before a frozen part, or the loss is constant; taps that would work: 'low'",
        (*FIXED, "student.freeze=[conv]", "distill.hint.at.student=conv"),
        (*FIXED, "student.freeze=[conv]", "distill.hint.at.student=low"),
        text=OWN,
    ),
    Row("tap 'aux.low': the network has no such head; known: none", ("distill.hint.at.student=aux.low",), text=OWN),
    Row(
        "the module ran twice in one forward; tap a module that runs once",
        ("student.use=more.py:Twice", "distill.hint.at.student=conv"),
        ("student.use=more.py:Twice", "distill.hint.at.student=norm"),
        text=OWN,
    ),
    Row(
        "its map was changed in place after the module returned it (an in-place ReLU or `out +=`); "
        "set inplace=False there, or tap the module after it",
        ("student.use=more.py:InPlace", "student.args={}", "distill.hint.at.student=norm"),
        ("student.use=more.py:InPlace", "student.args={}", "distill.hint.at.student=act"),
        text=OWN,
    ),
]

ROWS = [*TEXT, *SECTIONS, *CALLS, *MEETING]
