"""The training loops of kd and of torchdistill on the same networks, images and losses, in turn in one process.

kd does not need torchdistill; install it into an environment of its own, with kd:

    pip install torchdistill
    python docs/results/beside_torchdistill.py --rounds 5
    python docs/results/beside_torchdistill.py --rounds 5 --int8

FCN-ResNet50 teaches MobileNetV3-Small ASPP: cross-entropy on full-size logits, and KL divergence between the logits at
the teacher's size, in float32 on the CPU. Each library runs as it does by default: torchdistill with its
DistillationBox, its KDLoss and contiguous images; kd with its loop and channels-last images. torchdistill leaves its
teacher in training mode unless the user changes it; here it is in evaluation mode, as in kd.
"""

import argparse
import itertools
import logging
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kd.components import Maker
from kd.parts.assemble import Parts, assemble
from kd.parts.stream import stream
from kd.recipe import Recipe, Use, read_recipe
from kd.train.loop import train
from kd.train.start import start
from kd.types import Batch, resize

TEACHER, STUDENT, TEMPERATURE = "teachers.FCNResNet50", "students.MobileNetV3SmallASPP", 4.0
HEAD = {"path": "head", "io": "output"}  # where KDLoss reads both networks
RECIPE = """
teacher: {{use: {teacher}, precision: {precision}}}
student: {{use: {student}}}
data: {{use: kd.data.Shapes, args: {{count: 64}}, size: [{height}, {width}], workers: 0}}
supervised: {{use: kd.losses.CrossEntropy}}
distill: {{kl: {{loss: {{use: kd.losses.PixelKL, args: {{temperature: {temperature}}}}}}}}}
optimizer: {{use: torch.optim.SGD, args: {{lr: 0.01, momentum: 0.9, weight_decay: 1e-4}}}}
train: {{steps: 100000, batch_size: {images}, precision: fp32}}
device: cpu
"""


class Segmenter(nn.Module):
    """A network of kd as torchdistill expects one: full-size logits, and at `head` those that KDLoss compares.

    Args:
        use: the network.
        num_classes: K.
        size: (h, w) of the logits at `head`; None: the network's own.
    """

    def __init__(self, use: str, num_classes: int, size: tuple[int, int] | None = None) -> None:
        super().__init__()
        self.size = size
        self.network: nn.Module = Maker().build(Use(use=use), num_classes=num_classes, in_channels=3)
        self.head = nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network(images).logits
        self.head(resize(logits, self.size or (logits.shape[2], logits.shape[3])))
        return resize(logits, (images.shape[2], images.shape[3]))


def of_torchdistill(batch: Batch, num_classes: int) -> Callable[[], None]:
    """A step of its training loop, as its examples write it."""
    from torchdistill.core.distillation import get_distillation_box

    logging.getLogger("torchdistill").setLevel(logging.ERROR)
    role = {"forward_proc": "forward_batch_only", "forward_hook": {"input": [], "output": ["head"]}}
    taps = {f"{side}_module_{key}": value for side in ("student", "teacher") for key, value in HEAD.items()}
    kl = {"key": "KDLoss", "kwargs": {**taps, "temperature": TEMPERATURE, "beta": 1.0, "reduction": "batchmean"}}
    whole = {"is_from_teacher": False, "module_path": ".", "io": "output"}
    wrapper = {"key": "SimpleLossWrapper", "kwargs": {"input": whole, "target": {"uses_label": True}}}
    entropy = {"key": "CrossEntropyLoss", "kwargs": {"ignore_index": 255}}
    config: dict[str, Any] = {
        "num_epochs": 1,
        "teacher": {**role, "requires_grad": False},
        "student": dict(role),
        "optimizer": {"key": "SGD", "kwargs": {"lr": 0.01, "momentum": 0.9, "weight_decay": 1e-4}},
        "criterion": {
            "key": "WeightedSumLoss",
            "kwargs": {
                "sub_terms": {
                    "kl": {"criterion": kl, "weight": 1e-4},
                    "ce": {"criterion": entropy, "criterion_wrapper": wrapper, "weight": 1.0},
                }
            },
        },
    }
    images, labels = batch.images.float() / 255, batch.labels
    teacher = Segmenter(TEACHER, num_classes).eval()
    with torch.no_grad():
        _, _, height, width = teacher.network(images[:1]).logits.shape
    student = Segmenter(STUDENT, num_classes, (height, width))
    box = get_distillation_box(teacher, student, {}, config, torch.device("cpu"), None, False, 1)
    box.pre_epoch_process(epoch=0)

    def step() -> None:
        box.pre_forward_process()
        loss = box.forward_process(images, labels, None)
        box.post_forward_process(loss=loss)
        loss.item()  # for the log

    return step


def of_kd(parts: Parts, batch: Batch) -> Callable[[], None]:
    """A step of kd's training loop."""
    run = replace(start(parts, seed=0, say=print), batches=itertools.repeat(batch))

    def step() -> None:
        run.steps = run.step + 1
        train(run)

    return step


def recipe_of(folder: Path, arguments: argparse.Namespace, precision: str) -> Recipe:
    """The recipe of kd's side."""
    height, width = arguments.size
    file = folder / f"{precision}.yaml"
    file.write_text(
        RECIPE.format(
            teacher=TEACHER,
            student=STUDENT,
            precision=precision,
            height=height,
            width=width,
            temperature=TEMPERATURE,
            images=arguments.batch,
        ),
        encoding="utf-8",
    )
    return read_recipe(file)


def _medians(pairs: list[tuple[float, float]]) -> tuple[float, ...]:
    return tuple(statistics.median(kind) for kind in zip(*pairs, strict=True))


def main() -> None:
    """Print the medians of both, in seconds of the wall and of the processor, and their ratios."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5, help="timed steps of each kind")
    parser.add_argument("--size", type=int, nargs=2, default=(180, 240), metavar=("H", "W"))
    parser.add_argument("--batch", type=int, default=8, help="images a step")
    parser.add_argument("--int8", action="store_true", help="with kd's teacher in INT8 too")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        precisions = {"kd": "auto", **({"kd, teacher in INT8": "int8"} if arguments.int8 else {})}
        parts = {
            name: assemble(recipe_of(Path(folder), arguments, precision), runs=Path(folder), seed=0)
            for name, precision in precisions.items()
        }
        batch = next(stream(parts["kd"], seed=0))
        jobs = {"torchdistill": of_torchdistill(batch, len(parts["kd"].train.class_names))}
        jobs |= {name: of_kd(own, batch) for name, own in parts.items()}
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in jobs}
        for _ in range(arguments.rounds + 2):
            for name, job in jobs.items():
                began = time.perf_counter(), time.process_time()
                job()
                times[name].append((time.perf_counter() - began[0], time.process_time() - began[1]))
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, median of {arguments.rounds}")
    theirs = _medians(times["torchdistill"][2:])
    for name, pairs in times.items():
        wall, processor = _medians(pairs[2:])
        ratios = f"torchdistill / this: {theirs[0] / wall:.2f} and {theirs[1] / processor:.2f}"
        print(f"{name}: {wall:.3f} s a step, {processor:.3f} s of the processor; {ratios}")


if __name__ == "__main__":
    main()
