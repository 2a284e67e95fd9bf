"""Components in Python: a refused call, its message, and the call that follows the message.

`Row.message` is the whole message; test_complete.py reads the rows to find messages that have none.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from kd import losses, pictures, schedules
from kd.adapters import MLP, Conv1x1, ConvNormAct, Identity, MaskedGenerator
from kd.data.masks.classes import read_classes
from kd.losses.supervised.class_weights import class_weights
from kd.metrics import SurfaceDistance
from kd.metrics.confusion import confusion_matrix
from kd.networks.backbones import mobilenet_v3_small
from kd.networks.normalize import Normalize
from kd.types import NetworkTraits, SegmentationOutput, Tap
from students import Pruned
from teachers import ClassMapped, Ensemble, Wrapped


class Row(NamedTuple):
    """A message, the call that is refused with it (or warns), and the call with the advice followed."""

    message: str
    refused: Callable[[], object]
    followed: Callable[[], object]


class Net(nn.Module):
    """A network of three classes with one tap."""

    def __init__(self, num_classes: int = 3, in_channels: int = 3) -> None:
        super().__init__()
        self.num_classes, self.in_channels = num_classes, in_channels
        self.taps = {"low": Tap(4, 2)}
        self.stem, self.head = nn.Conv2d(in_channels, 4, 3, 2, 1), nn.Conv2d(4, num_classes, 1)
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())

    def forward(self, images: Tensor) -> SegmentationOutput:
        low = self.stem(images)
        return SegmentationOutput(self.head(low) + self.pool(low).sum(), {"low": low}, {})


class Named(Net):
    """The same network, which names its classes."""

    def __init__(self, *names: str) -> None:
        super().__init__()
        self.traits = NetworkTraits(class_names=names)


class Plain(Net):
    """The same network, returning its logits alone, as code outside kd does."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images).logits


def maps(channels: int = 4, size: int = 6, images: int = 2) -> Tensor:
    return torch.randn(images, channels, size, size, generator=torch.Generator().manual_seed(0))


def labels(classes: int = 4, size: int = 6, images: int = 2) -> Tensor:
    return torch.randint(0, classes, (images, size, size), generator=torch.Generator().manual_seed(0))


def distances(spacings: list[tuple[float, float] | None], **arguments: str) -> object:
    metric = SurfaceDistance(4, **arguments)
    for spacing in spacings:
        metric.update(labels()[0], maps()[0].softmax(0), spacing)
    return metric.value(metric.state())


def wrapped(taps: dict[str, str] | None = None, *, classes: int = 3, **preprocess: object) -> Wrapped:
    return Wrapped(classes, 3, network=Plain(), taps=taps, preprocess=preprocess or None)


def mapped(**arguments: object) -> ClassMapped:
    return ClassMapped(2, 3, network=Net(), **arguments)


def pruned(network: nn.Module) -> Pruned:
    """A pruned network, as built without the library that prunes."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("students.pruned._prune", lambda *arguments: None)
        return Pruned(3, 3, network=network, ratio=0.3)


NAMES = ["sky", "land", "sea"]
SEA = {"source": NAMES, "target": ["dry", "wet"]}
MERGE = {"dry": ["sky", "land"], "wet": ["sea"]}
COLUMN = np.zeros((4, 4, 3), np.uint8)

ADAPTERS = [
    Row(
        "Identity: the student has 2 channels, the teacher 3; use kd.adapters.Conv1x1",
        lambda: Identity(2, 3),
        lambda: Conv1x1(2, 3),
    ),
    Row(
        "kernel_size is 2; it must be odd, or the map would shift by half a pixel",
        lambda: ConvNormAct(2, 3, kernel_size=2),
        lambda: ConvNormAct(2, 3, kernel_size=3),
    ),
    Row(
        "hide is 1; it must be in [0, 1)", lambda: MaskedGenerator(2, 3, hide=1), lambda: MaskedGenerator(2, 3, hide=0)
    ),
    Row(
        "hidden_channels is 0; it must be at least 1",
        lambda: MLP(2, 3, hidden_channels=0),
        lambda: MLP(2, 3, hidden_channels=1),
    ),
]

LOSSES = [
    Row(
        "temperature is 0; it must be above 0",
        lambda: losses.PixelKL(temperature=0),
        lambda: losses.PixelKL(temperature=1),
    ),
    Row(
        "gamma is -1; it must be at least 0",
        lambda: losses.Focal(gamma=-1),
        lambda: losses.Focal(gamma=0),
    ),
    Row(
        "convention 'mean' is unknown; known: default, srd",
        lambda: losses.SRD(convention="mean"),
        lambda: losses.SRD(convention="srd"),
    ),
    Row(
        "student (2, 4, 6, 6), teacher (2, 4, 3, 3): batch or size differs; resize one map to the size of the other",
        lambda: losses.CWD()(maps(), maps(size=3)),
        lambda: losses.CWD()(maps(), maps(size=6)),
    ),
    Row(
        "student (2, 4, 6, 6), teacher (2, 5, 6, 6): channels differ; add an adapter such as kd.adapters.Conv1x1",
        lambda: losses.CWD()(maps(), maps(5)),
        lambda: losses.CWD()(Conv1x1(4, 5)(maps()), maps(5)),
    ),
    Row(
        "2 maps of the student, 2 of the teacher, 2 of labels: the loss was built for 1; "
        "list as many taps as the loss has channels",
        lambda: losses.ReviewKD(channels=[4])((maps(), maps()), (maps(), maps())),
        lambda: losses.ReviewKD(channels=[4])((maps(),), (maps(),)),
    ),
    Row(
        "exponent is 0.5; it must be >= 1, or the gradient is infinite at the target",
        lambda: losses.SRD(exponent=0.5),
        lambda: losses.SRD(exponent=1),
    ),
    Row(
        "Masked: no condition is set; give right, entropy, near, away or classes",
        lambda: losses.Masked(losses.CWD()),
        lambda: losses.Masked(losses.CWD(), near=2),
    ),
    Row(
        "entropy is 2; it is a share of log K, so it must be in [0, 1]",
        lambda: losses.Masked(losses.PixelKL(), entropy=2),
        lambda: losses.Masked(losses.PixelKL(), entropy=1),
    ),
    Row(
        "Masked: AT compares features, but right and entropy read the teacher's logits; use near, away or classes",
        lambda: losses.Masked(losses.AT(), right=True),
        lambda: losses.Masked(losses.AT(), classes=[1]),
    ),
    Row(
        "Masked: features have no classes to mask by; give labels",
        lambda: losses.Masked(losses.AT(), near=1)(maps(), maps()),
        lambda: losses.Masked(losses.AT(), near=1)(maps(), maps(), labels()),
    ),
    Row(
        "taps of sizes [(6, 6), (3, 3)]: DSD compares taps of one size; resize them or choose others",
        lambda: losses.DSD()((maps(), maps(size=3)), (maps(), maps(size=3))),
        lambda: losses.DSD()((maps(), maps(size=6)), (maps(), maps(size=6))),
    ),
    Row(
        "pool is 1.5; it must be a side in pixels (1, 2, ...) or a share of the map below 1",
        lambda: losses.SKD(pool=1.5),
        lambda: (losses.SKD(pool=2), losses.SKD(pool=0.5)),
    ),
    Row(
        "SP compares the images of a batch: with one image it is 0; use a larger batch, or SKD",
        lambda: losses.SP()(maps(images=1), maps(images=1)),
        lambda: (losses.SP()(maps(), maps()), losses.SKD()(maps(images=1), maps(images=1))),
    ),
    Row(
        "with two classes DIST's inter part carries no information; use PixelKL",
        lambda: losses.DIST()(maps(2), maps(2)),
        lambda: losses.PixelKL()(maps(2), maps(2)),
    ),
    Row(
        "LogitStandardized: AT compares features; give a loss on logits",
        lambda: losses.LogitStandardized(losses.AT()),
        lambda: losses.LogitStandardized(losses.PixelKL()),
    ),
    Row(
        "convention 'skd' has no temperature, but temperature is 2; leave it out",
        lambda: losses.PixelKL(temperature=2, convention="skd"),
        lambda: losses.PixelKL(convention="skd"),
    ),
    Row(
        "threshold is 2; every probability must be in [0, 1]",
        lambda: losses.PseudoLabel(threshold=2),
        lambda: losses.PseudoLabel(threshold=1),
    ),
    Row(
        "weight 'median' is unknown; known: median_frequency, inverse_log, effective_number, or one factor per class",
        lambda: losses.CrossEntropy(weight="median", label_counts=[1, 2]),
        lambda: (losses.CrossEntropy(weight="median_frequency", label_counts=[1, 2]), losses.CrossEntropy([1.0, 2.0])),
    ),
    Row(
        "label counts are [0.0, 0.0]; they must be >= 0, and at least one above 0",
        lambda: class_weights([0, 0], "inverse_log"),
        lambda: class_weights([0, 1], "inverse_log"),
    ),
    Row(
        "beta is 1; it must be in [0, 1)",
        lambda: class_weights([1, 2], "effective_number", beta=1),
        lambda: class_weights([1, 2], "effective_number", beta=0),
    ),
    Row(
        "weight is [-1.0, 1.0]; every factor must be >= 0",
        lambda: losses.CrossEntropy([-1.0, 1.0]),
        lambda: losses.CrossEntropy([0.0, 1.0]),
    ),
    Row(
        "label_smoothing is 1; it must be in [0, 1)",
        lambda: losses.CrossEntropy(label_smoothing=1),
        lambda: losses.CrossEntropy(label_smoothing=0),
    ),
    Row(
        "convention 'smp' has no class weights; leave out weight",
        lambda: losses.Focal(convention="smp", weight=[1.0, 2.0]),
        lambda: losses.Focal(convention="smp"),
    ),
    Row(
        "alpha is 2; under convention 'smp' it must be one number in [0, 1]",
        lambda: losses.Focal(convention="smp", alpha=2),
        lambda: losses.Focal(convention="smp", alpha=0.25),
    ),
    Row(
        "channels (8, 8) are those of 2 taps; name one tap per term",
        lambda: losses.VID((8, 8)),
        lambda: losses.VID(8),
    ),
    Row("alpha is -1; it must be >= 0", lambda: losses.Focal(alpha=-1), lambda: losses.Focal(alpha=0)),
    Row("keep is 0; it must be in (0, 1]", lambda: losses.OHEM(keep=0), lambda: losses.OHEM(keep=1)),
]

METRICS = [
    Row(
        "the dataset's spacing is None for 1 of 2 images, whose distances are in pixels and not in mm; "
        "state it for all, or give unit: px",
        lambda: distances([None, (1.0, 1.0)]),
        lambda: (distances([(1.0, 1.0)] * 2), distances([None, (1.0, 1.0)], unit="px")),
    ),
]

DATA = [
    Row(
        "classes: 1 class; give 2 to 254, the background included",
        lambda: read_classes(["cat"]),
        lambda: read_classes(["background", "cat"]),
    ),
    Row(
        "classes: 7 is not a class name; a name is text (put it in quotes)",
        lambda: read_classes([7, "cat"]),  # type: ignore[list-item]
        lambda: read_classes(["7", "cat"]),
    ),
    Row(
        "classes: the class 'cat' occurs twice; remove one",
        lambda: read_classes(["cat", "dog", "cat"]),
        lambda: read_classes(["cat", "dog"]),
    ),
    Row(
        "classes: cat: [1, 2] is not a colour; write [r, g, b], each 0 … 255",
        lambda: read_classes({"cat": [1, 2], "dog": [0, 0, 0]}),
        lambda: read_classes({"cat": [1, 2, 3], "dog": [0, 0, 0]}),
    ),
    Row(
        "classes: cat: -1 is not a mask value; write an integer, 0 or above",
        lambda: read_classes({"cat": -1, "dog": 1}),
        lambda: read_classes({"cat": 0, "dog": 1}),
    ),
    Row(
        "classes: dog: colours and values are mixed; give every class the same kind",
        lambda: read_classes({"cat": [1, 2, 3], "dog": 1}),
        lambda: read_classes({"cat": 0, "dog": 1}),
    ),
    Row(
        "labels (2, 6, 6) and predictions (2, 3, 3) differ in shape; "
        "bring the logits to the labels' size before argmax",
        lambda: confusion_matrix(labels(), labels(size=3), 4),
        lambda: confusion_matrix(labels(), labels(size=6), 4),
    ),
    Row(
        "labels hold 4 (1 pixel), classes are 0 … 3; 255 marks a pixel that is not scored",
        lambda: confusion_matrix(torch.tensor([4, 0]), torch.tensor([0, 0]), 4),
        lambda: confusion_matrix(torch.tensor([255, 0]), torch.tensor([0, 0]), 4),
    ),
    Row(
        "panel: rows have [1, 2] images; give each row the same columns",
        lambda: pictures.panel([("a", COLUMN)], [("a", COLUMN), ("b", COLUMN)]),
        lambda: pictures.panel([("a", COLUMN)], [("a", COLUMN)]),
    ),
]

SCHEDULES = [
    Row(
        "climb: 1 of 1 steps; use at least 2, and leave at least 1 for the descent",
        lambda: schedules.one_cycle(steps=1),
        lambda: schedules.one_cycle(steps=10, climb=2),
    ),
    Row(
        "warmup: 20 steps, but the run has 10; shorten the warm-up",
        lambda: schedules.poly(steps=10, warmup=20),
        lambda: schedules.poly(steps=10, warmup=5),
    ),
]

NETWORKS = [
    Row(
        "width: must be above 0, got 0; 1.0 is the published network",
        lambda: mobilenet_v3_small(3, width=0),
        lambda: mobilenet_v3_small(3, width=1.0),
    ),
    Row(
        "mean: 2 numbers for 3 channels; give one per channel",
        lambda: Normalize(3, mean=[0.5, 0.5]),
        lambda: Normalize(3, mean=[0.5, 0.5, 0.5]),
    ),
    Row(
        "preprocess: unknown key 'size'; known: order, scale, mean, std",
        lambda: wrapped(size=3),
        lambda: wrapped(scale=255),
    ),
    Row(
        "Plain has 3 classes, but the data have 4; set its number of classes, or map them with teachers.ClassMapped",
        lambda: wrapped(classes=4),
        lambda: (
            wrapped(classes=3),
            ClassMapped(4, 3, network=wrapped(), matrix=[[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 0]]),
        ),
    ),
    Row(
        "source: is sea, sky, land, but the network has its classes in the order sky, land, sea; set source: [sky, "
        "land, sea]",
        lambda: ClassMapped(2, 3, network=Named(*NAMES), **SEA | {"source": ["sea", *NAMES[:2]]}, merge=MERGE),
        lambda: ClassMapped(2, 3, network=Named(*NAMES), **SEA, merge=MERGE),
    ),
    Row(
        "members.1: its classes are sky, land, lake, those before it sky, land, sea; map them: put "
        "teachers.ClassMapped around the member",
        lambda: Ensemble(3, 3, members=[Named(*NAMES), Named("sky", "land", "lake")]),
        lambda: Ensemble(
            3,
            3,
            members=[
                Named(*NAMES),
                ClassMapped(
                    3,
                    3,
                    network=Named("sky", "land", "lake"),
                    source=["sky", "land", "lake"],
                    target=NAMES,
                    merge={"sea": ["lake"]},
                ),
            ],
        ),
    ),
    Row(
        "taps: low: the module does not return a map (N, C, h, w); name one that does",
        lambda: wrapped({"low": "pool.1"}),
        lambda: wrapped({"low": "stem"}),
    ),
    Row(
        "network: Identity declares no taps; wrap it in teachers.Wrapped",
        lambda: pruned(nn.Identity()),
        lambda: pruned(wrapped()),
    ),
    Row(
        "network: Net has 4 classes and 3 channels, the data have 3 and 3; set its num_classes and in_channels",
        lambda: pruned(Net(4)),
        lambda: pruned(Net(3)),
    ),
    Row(
        "members.1: Identity does not declare taps, num_classes and in_channels; wrap it in teachers.Wrapped",
        lambda: Ensemble(3, 3, members=[Net(), nn.Identity()]),
        lambda: Ensemble(3, 3, members=[Net(), wrapped()]),
    ),
    Row(
        "members.1: Net has 4 classes and 3 channels, the ensemble has 3 and 3; both must agree",
        lambda: Ensemble(3, 3, members=[Net(), Net(4)]),
        lambda: Ensemble(3, 3, members=[Net(), Net()]),
    ),
    Row(
        "temperature: must be above 0 and finite, got 0; 1.0 keeps the mean",
        lambda: Ensemble(3, 3, members=[Net(), Net()], temperature=0),
        lambda: Ensemble(3, 3, members=[Net(), Net()], temperature=1.0),
    ),
    Row(
        "files: 1 for 2 members; give one per member",
        lambda: Ensemble(3, 3, members=[Net(), Net()], files=["a.pt"]),
        lambda: Ensemble(3, 3, members=[Net(), Net()], files=None),
    ),
    Row(
        "2 × 2 classes are given, but the data have 2 and the teacher has 3; "
        "name each class once, in the order of the channels",
        lambda: mapped(source=["sky", "sea"], target=["sky", "sea"]),
        lambda: mapped(source=["sky", "land", "sea"], target=["sky", "sea"]),
    ),
    Row(
        "matrix: a number is below 0 or not finite; give 0 where a class has no part",
        lambda: mapped(matrix=[[1, -1, 0], [0, 0, 1]]),
        lambda: mapped(matrix=[[1, 0, 0], [0, 0, 1]]),
    ),
    Row(
        "teacher and student have no class in common; map them with merge:",
        lambda: mapped(**SEA),
        lambda: mapped(**SEA, merge=MERGE),
    ),
    Row(
        "source: sky and Sky are the same name; name each class once",
        lambda: mapped(source=["sky", "Sky", "sea"], target=["sky", "sea"]),
        lambda: mapped(source=["sky", "land", "sea"], target=["sky", "sea"]),
    ),
    Row(
        "merge: the student has no class 'damp'; it has dry, wet",
        lambda: mapped(**SEA, merge={"damp": ["sea"]}),
        lambda: mapped(**SEA, merge={"wet": ["sea"]}),
    ),
    Row(
        "merge: wet: the teacher has no class 'lake'; it has sky, land, sea",
        lambda: mapped(**SEA, merge={"wet": ["lake"]}),
        lambda: mapped(**SEA, merge={"wet": ["sea"]}),
    ),
]

ROWS = [*ADAPTERS, *LOSSES, *METRICS, *DATA, *SCHEDULES, *NETWORKS]
