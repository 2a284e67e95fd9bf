"""The settings of a recipe, each with its reason, from what the images and masks hold."""

from statistics import median
from typing import Any, NamedTuple

from kd.prepare.look import Look

LONGEST = 512  # pixels of the longer side: what fits an 8 GB GPU in batches of 8
STEPS = 3000  # that a run should have about
FEW = 300  # training images below which colours are jittered too
RARE = 0.01  # share of the pixels below which a class makes the loss weigh its classes
_MULTIPLE = 16  # the stride of the encoders
_SMALLEST = 64


class Choice(NamedTuple):
    """A value and why it was chosen."""

    value: Any
    why: str


_NETWORKS = (
    Choice("use: teachers.DeepLabV3Plus", "40 M parameters, on ResNet-50: this machine has a GPU"),
    Choice("use: students.MobileNetV3SmallASPP", "7 M parameters, a fraction of the teacher's operations"),
)
_SMALL_NETWORKS = (
    Choice("use: teachers.DeepLabV3Plus, args: {backbone: mobilenet_v2}", "6 M parameters: there is no GPU here"),
    Choice("use: students.MobileNetV3SmallASPPLite", "2.5 M parameters, a fraction of the teacher's operations"),
)


class Choices(NamedTuple):
    """The settings that depend on the data."""

    size: Choice  # [H, W]
    batch: Choice
    epochs: Choice
    augment: list[Choice]  # a transform each, as recipes write it
    supervised: Choice
    channels: Choice
    teacher: Choice  # the component and its arguments, without braces
    student: Choice


def choose(look: Look, *, gpu: bool) -> Choices:
    """Choose the settings for a dataset.

    Args:
        look: what it holds.
        gpu: whether this machine has one: networks are smaller where it has none.
    """
    train = look.images["train"]
    batch = next(size for size in (8, 4, 2, 1) if size <= train)
    epochs = min(300, max(20, round(STEPS * batch / train)))
    return Choices(
        _size(look),
        Choice(batch, "images a step" if batch == 8 else f"there are {train} training images"),
        Choice(epochs, f"about {-(-epochs * train // batch):,} steps"),
        _augment(look, train),
        _supervised(look),
        Choice(1, "all images are grey") if look.grey else Choice(3, "images in colour"),
        *(_NETWORKS if gpu else _SMALL_NETWORKS),
    )


def _size(look: Look) -> Choice:
    height, width = (median(sizes) for sizes in zip(*look.sizes, strict=True))
    scale = max(min(1.0, LONGEST / max(height, width)), _SMALLEST / min(height, width))
    scale = min(scale, LONGEST / max(height, width))
    size = [max(_SMALLEST, _MULTIPLE * round(scale * side / _MULTIPLE)) for side in (height, width)]
    native = f"{round(width)}×{round(height)}"
    typical = f"the images are {native}" if len(set(look.sizes)) == 1 else f"the median image is {native}"
    limit = f", reduced to {LONGEST} on the longer side" if scale < 1 else ""
    return Choice(size, f"height, width: {typical} (width × height){limit}, in multiples of {_MULTIPLE}")


def _augment(look: Look, train: int) -> list[Choice]:
    found = [
        Choice("{use: kd.data.RandomScale, args: {low: 0.5, high: 2.0}}", "objects at other distances"),
        Choice("{use: kd.data.RandomFlip}", "not for text, or where left and right differ"),
    ]
    if train < FEW and not look.grey:
        jitter = "{use: kd.data.ColorJitter, args: {brightness: 0.2, contrast: 0.2, saturation: 0.2, hue: 0.02}}"
        found.append(Choice(jitter, f"{train} training images do not show every light"))
    return found


def _supervised(look: Look) -> Choice:
    rare = [name for name, share in zip(look.class_names, look.shares, strict=True) if 0 < share < RARE]
    if rare:
        return Choice(
            "{use: kd.losses.CrossEntropy, args: {weight: inverse_log}}",
            f"{', '.join(rare[:3])}{' …' if len(rare) > 3 else ''}: less than 1 % of the pixels",
        )
    return Choice("{use: kd.losses.CrossEntropy}", "no class has less than 1 % of the pixels")
