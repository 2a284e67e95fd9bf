"""Contracts in Python: a dataset, network, teacher, metric or machine that does not keep one, and one that does."""

import os
import re
import sys
import types
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from advised_calls import Net, maps, wrapped
from following import Row
from samples import Fixed, sample
from torch import Tensor, nn

from kd import distributed, machine
from kd.data import Shapes
from kd.data.aspect import swapped, swapped_window
from kd.data.dataset import check_labels_alone, read
from kd.data.loader import training_batches
from kd.data.splits.split import Split
from kd.intervals import intervals, miou
from kd.networks.taps import Taps
from kd.parts.teacher.output import class_order, flaw
from kd.recipe import Use
from kd.scoring import Measure
from kd.types import SegmentationOutput
from teachers import ClassMapped, HuggingFace, Wrapped

GOOD = sample([[0, 1], [2, 255]])


def with_classes(count: int) -> Fixed:
    data = Fixed(GOOD)
    data.class_names = tuple(map(str, range(count)))
    return data


class Placed:
    """A geometric transform that returns what a function makes of the frame."""

    def __init__(self, place: Callable[[Any], Any]) -> None:
        self.place = place


class Quick(Fixed):
    """Reads labels alone."""

    def __init__(self, labels: Tensor) -> None:
        super().__init__(GOOD)
        self.alone = labels

    def labels(self, index: int) -> Tensor:
        return self.alone


def augmented(transform: object) -> object:
    return Split(Fixed(GOOD), (2, 2), augment=[transform])[0, 0]  # type: ignore[list-item]


class Mortal(Fixed):
    """Kills the worker that reads it, as a machine that is out of memory does."""

    def __getitem__(self, key: tuple[int, int]) -> Any:
        if torch.utils.data.get_worker_info():
            os._exit(1)
        return super().__getitem__(key)


def batches(size: int = 2, workers: int = 0, **options: Any) -> list[object]:
    split = Split(Mortal(GOOD, GOOD), (2, 2))
    return list(training_batches(split, steps=1, batch_size=size, workers=workers, **options))


def without_shared_memory(workers: int) -> list[object]:
    def full(tensor: torch.Tensor) -> None:
        raise RuntimeError("unable to allocate shared memory(shm) for file </torch_1>: No space left on device (28)")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.Tensor, "share_memory_", full)
        return batches(workers=workers)


def advised_size(text: str) -> tuple[int, int]:
    height, width = re.findall(r"\[(\d+), (\d+)\]\?", text)[0]
    return int(height), int(width)


DATASETS = [
    Row(
        "Fixed: sample 0 is a dict; return kd.types.Sample(image, labels, name)",
        lambda: read(Fixed({"image": 1}), 0),
        lambda text: read(Fixed(GOOD), 0),
    ),
    Row(
        "a.png: the image is uint8 (2, 2); expected uint8 (3, H, W)",
        lambda: read(Fixed(GOOD._replace(image=GOOD.image[0])), 0),
        lambda text: read(Fixed(GOOD), 0),
    ),
    Row(
        "a.png: the labels are int64 (2, 2); expected uint8 (2, 2), the image's size",
        lambda: read(Fixed(GOOD._replace(labels=GOOD.labels.long())), 0),
        lambda text: read(Fixed(GOOD), 0),
    ),
    Row(
        "a.png: label 9 (1 pixel) in no class, first at row 0, column 1; a dataset returns 0 … 2, and 255 for ignored "
        "pixels",
        lambda: read(Fixed(sample([[0, 9], [2, 255]])), 0),
        lambda text: read(Fixed(GOOD), 0),
    ),
    Row(
        "Quick.labels returned int64 (2, 2); expected a torch tensor uint8 (H, W)",
        lambda: check_labels_alone(Quick(torch.tensor([[0, 1], [2, 255]]))),
        lambda text: check_labels_alone(Quick(GOOD.labels)),
    ),
    Row(
        "Quick.labels(0) differs from the labels of sample 0, so that what is counted is not what is trained; return "
        "the same from both",
        lambda: check_labels_alone(Quick(torch.zeros(2, 2, dtype=torch.uint8))),
        lambda text: check_labels_alone(Quick(GOOD.labels)),
    ),
    Row(
        "255 classes; 8-bit labels hold at most 254",
        lambda: Split(with_classes(255), (2, 2)),
        lambda text: Split(with_classes(254), (2, 2)),
    ),
    Row(
        "; a transform returns uint8 (3, H, W) and uint8 (H, W) of one size",
        lambda: augmented(lambda image, mask: (image.float(), mask)),
        lambda text: augmented(lambda image, mask: (image, mask)),
    ),
    Row(
        "a.png: <lambda>: label 9 (1 pixel) in no class, first at row 0, column 1; a transform returns 0 … 2, and 255 "
        "for ignored pixels",
        lambda: augmented(lambda image, mask: (image, mask.masked_fill(mask == 1, 9))),
        lambda text: augmented(lambda image, mask: (image, mask.masked_fill(mask == 1, 255))),
    ),
    Row(
        "a.png: Placed.place returned a tuple; return a frame: frame.moved(...)",
        lambda: augmented(Placed(lambda frame: frame.size)),
        lambda text: augmented(Placed(lambda frame: frame.moved((1, 0, 0), (0, 1, 0)))),
    ),
    Row(
        "batch_size 3 is not divisible by 2 processes × 1 micro-batches; use a multiple of 2",
        lambda: batches(3, world=2),
        lambda text: batches(4, world=2),
    ),
    Row(
        "/dev/shm: No space left on device, and data workers need it for their batches; give it more (docker run "
        "--shm-size=8g), or set data.workers=0",
        lambda: without_shared_memory(workers=1),
        lambda text: without_shared_memory(workers=0),
    ),
    Row(
        "a data worker died while reading {}: {}; if memory is short, use fewer workers",
        lambda: batches(workers=1),
        lambda text: batches(workers=0),
    ),
    Row(
        "Shapes: no image 4; there are 4",
        lambda: Shapes("train", count=4)[4, 0],
        lambda text: Shapes("train", count=4)[3, 0],
    ),
    Row(
        "which stretches them 4.0 times; did you mean data.size: [480, 960]?",
        lambda: swapped("data.size", (960, 480), [(100, 200)]),
        lambda text: swapped("data.size", advised_size(text), [(100, 200)]),
    ),
    Row(
        "data.crop is [height, width]: [96, 48] exceeds data.size: [64, 128]; did you mean data.crop: [48, 96]?",
        lambda: swapped_window("data.crop", (96, 48), (64, 128), "data.size"),
        lambda text: swapped_window("data.crop", advised_size(text), (64, 128), "data.size"),
    ),
]


class Unfinished(Net):
    """Has a module that it does not run, and one that returns two maps."""

    def __init__(self) -> None:
        super().__init__()
        self.spare = nn.Conv2d(3, 4, 1)
        self.pair = Pair()

    def forward(self, images: Tensor) -> SegmentationOutput:
        self.pair(images)
        return super().forward(images)


class Pair(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        return self.conv(images), images


class Queries(nn.Module):
    """Returns what `key` names; the logits of pixels too, if it is asked for them."""

    def __init__(self, key: str) -> None:
        super().__init__()
        self.key = key

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return {self.key: images if self.key == "logits" else images.mean((2, 3))}


def tapped(address: str, network: nn.Module | None = None) -> object:
    return Taps(network or Unfinished(), {"term": address})(torch.rand(2, 3, 32, 32))


def shown(network: nn.Module) -> object:
    return Wrapped(3, 3, network=network)(torch.rand(1, 3, 32, 32))


NETWORKS = [
    Row(
        "forward returned a Tensor; return kd.types.SegmentationOutput(logits, features, aux), or give the network to "
        "teachers.Wrapped as its argument `network`",
        lambda: tapped("logits", nn.Conv2d(3, 3, 1)),
        lambda text: (tapped("logits", Net()), tapped("logits", wrapped())),
    ),
    Row(
        "tap 'spare': the module did not run in this forward; tap one that does",
        lambda: tapped("spare"),
        lambda text: tapped("stem"),
    ),
    Row(
        "tap 'pair': the module returned tuple, not a tensor; tap a module inside it",
        lambda: tapped("pair"),
        lambda text: tapped("pair.conv"),
    ),
    Row(
        "the network returned a tensor (1, 3) of float32; wanted are logits (N, K, h, w), of every pixel",
        lambda: shown(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())),
        lambda text: shown(nn.Conv2d(3, 3, 1)),
    ),
    Row(
        "; masks of queries are no logits of pixels; wanted are logits (N, K, h, w)",
        lambda: shown(Queries("class_queries_logits")),
        lambda text: shown(Queries("logits")),
    ),
]


@contextmanager
def transformers(missing: tuple[str, ...] = ()) -> Any:
    """The package, which is not installed for tests: a folder with a network of three classes."""

    class Segmenter(nn.Module):
        config = types.SimpleNamespace(num_labels=3, id2label=dict(enumerate(("sky", "land", "sea"))))

        def forward(self, images: Tensor) -> dict[str, Tensor]:
            return {"logits": images}

    auto = types.SimpleNamespace(
        from_pretrained=lambda folder, **options: (
            Segmenter(),
            {"missing_keys": missing if folder == "encoder" else ()},
        )
    )
    quiet = types.SimpleNamespace(disable_progress_bar=lambda: None, set_verbosity_error=lambda: None)
    module = types.SimpleNamespace(AutoModelForSemanticSegmentation=auto, utils=types.SimpleNamespace(logging=quiet))
    for folder in ("models", "encoder"):
        Path(folder).mkdir(exist_ok=True)
        Path(folder, "config.json").write_text("{}")
    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(sys.modules, "transformers", module)
        yield


def hugging_face(folder: str = "models", classes: int = 3) -> object:
    with transformers(missing=("decode_head.weight",)):
        return HuggingFace(classes, folder=folder)


def preprocessed(stated: str) -> object:
    with transformers():
        Path("models/preprocessor_config.json").write_text(stated)
        return HuggingFace(3, folder="models")


def mapped_hugging_face(text: str) -> object:
    with transformers():
        own = HuggingFace(int(text.rpartition("num_classes: ")[2]), folder="models")
    return ClassMapped(2, 3, network=own, source=["sky", "land", "sea"], target=["land", "sea"])


PROBABILITIES = maps(3).softmax(1)
TEACHERS = [
    Row(
        "folder: no model/config.json; name a folder that save_pretrained wrote",
        lambda: hugging_face("model"),
        lambda text: hugging_face(),
    ),
    Row(
        "folder: encoder: tensors missing: 1 (decode_head.weight); a teacher is loaded whole: name a folder of a "
        "network that was trained for segmentation",
        lambda: hugging_face("encoder"),
        lambda text: hugging_face(),
    ),
    *(
        Row(
            f"models/preprocessor_config.json: {what}; correct it, or remove it and give preprocess",
            lambda stated=stated: preprocessed(stated),
            lambda text: (
                preprocessed('{"image_mean": [0.5, 0.5, 0.5]}'),
                Path("models/preprocessor_config.json").unlink(),
                hugging_face(),
            ),
        )
        for stated, what in (
            ("{", "not valid JSON ({})"),
            ("[]", "[] is not a mapping"),
            ('{"image_std": 0.5}', "image_std: 0.5 is not a list of numbers"),
            ('{"rescale_factor": 0}', "rescale_factor: 0 is not a number above 0"),
        )
    ),
    Row(
        "models has 3 classes (sky, land, sea), but the data have 2; map them with teachers.ClassMapped, and give this "
        "network num_classes: 3",
        lambda: hugging_face(classes=2),
        mapped_hugging_face,
    ),
    Row(
        "returns values that are not finite; its weights or the form of its images (preprocess) are wrong",
        lambda: flaw(maps(3) / 0, "logits"),
        lambda text: flaw(maps(3), "logits"),
    ),
    Row(
        "returns no probabilities (a pixel's sum is {}); remove teacher.outputs",
        lambda: flaw(maps(3), "probabilities"),
        lambda text: flaw(maps(3), "logits"),
    ),
    Row(
        "the teacher's classes are [sky, land], those of the data [sky, wet]: the data do not have land; the teacher "
        "does not have wet; map them with teachers.ClassMapped (source, target, merge)",
        lambda: class_order(["sky", "land"], ["sky", "wet"], "w"),
        lambda text: ClassMapped(
            2, 3, network=Net(2), source=["sky", "land"], target=["sky", "wet"], merge={"sky": ["sky"], "wet": ["land"]}
        ),
    ),
]


class Valued:
    """A metric with or without a value."""

    unit, direction = "%", "higher"

    def __init__(self, **values: float) -> None:
        self.values = values

    def value(self, state: object) -> dict[str, float]:
        return self.values


def measured(**values: float) -> object:
    return Measure(Use(use="m.py:Valued"), Valued(**values)).result([{"n": np.ones(1)}])  # type: ignore[arg-type]


COUNTS = np.ones((2, 3, 3), np.int64)
NUMBERS = [
    Row(
        "value() returned no numbers; return at least one, by name",
        lambda: measured(),
        lambda text: measured(right=1.0),
    ),
    Row(
        "counts of shapes [(2, 3, 3)] and [1, 2] seeds; an interval needs equal ones",
        lambda: intervals([(1, [COUNTS]), (-1, [COUNTS, COUNTS])], score=miou),
        lambda text: intervals([(1, [COUNTS]), (-1, [COUNTS])], score=miou),
    ),
    Row(
        "1 groups for 2 images; give each image its group",
        lambda: intervals([(1, [COUNTS])], ["a"], score=miou),
        lambda text: intervals([(1, [COUNTS])], ["a", "b"], score=miou),
    ),
]


@contextmanager
def hardware(*, cuda: int = 0, mps: bool = False, rank: int = 0, world: int = 1) -> Any:
    """A machine with these devices, and torchrun's variables."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(torch.cuda, "is_available", lambda: cuda > 0)
        patched.setattr(torch.cuda, "device_count", lambda: cuda)
        patched.setattr(torch.backends.mps, "is_available", lambda: mps)
        patched.setattr(machine, "has_native_bfloat16", lambda device: False)
        for name in ("init_process_group", "destroy_process_group"):
            patched.setattr(f"torch.distributed.{name}", lambda *options: None)
        patched.setattr(torch.cuda, "set_device", lambda device: None)
        for name, value in (("WORLD_SIZE", world), ("LOCAL_RANK", rank)):
            patched.setenv(name, str(value))
        yield


def chosen(device: str = "auto", precision: str = "auto", **devices: Any) -> object:
    with hardware(**devices):
        return machine.slow_path(machine.choose(device, precision), precision)


def joined(device: str, **devices: Any) -> None:
    with hardware(**devices), distributed.joined(device):
        pass


MACHINES = [
    Row(
        "device: cuda, but torch sees no CUDA device; set device: cpu, or install a CUDA build of torch",
        lambda: chosen("cuda"),
        lambda text: chosen("cpu"),
    ),
    Row(
        "device: mps, but torch sees no Apple GPU; set device: cpu, or install torch for macOS on Apple silicon",
        lambda: chosen("mps"),
        lambda text: (chosen("cpu"), chosen("mps", mps=True)),
    ),
    Row(
        "train.precision: bf16, but kd computes in float32 on mps; set train.precision: fp32",
        lambda: chosen("mps", "bf16", mps=True),
        lambda text: chosen("mps", "fp32", mps=True),
    ),
    Row(
        "precision: bf16 is emulated on this cpu and far slower than fp32; set precision: auto",
        lambda: chosen("cpu", "bf16"),
        lambda text: chosen("cpu", "auto"),
    ),
    Row(
        "torchrun: device: mps trains in one process; use kd run without torchrun, or device=cpu",
        lambda: joined("mps", world=2),
        lambda text: (joined("mps"), joined("cpu", world=2)),
    ),
    Row(
        "torchrun: no CUDA device for process 2: this machine has 2; use --nproc-per-node 2, or device=cpu",
        lambda: joined("auto", world=3, rank=2, cuda=2),
        lambda text: (joined("auto", world=2, rank=1, cuda=2), joined("cpu", world=3, rank=2, cuda=2)),
    ),
]

ROWS = [*DATASETS, *NETWORKS, *TEACHERS, *NUMBERS, *MACHINES]
