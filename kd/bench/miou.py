"""The update of the mIoU from predicted classes, beside those of torchmetrics if it is installed."""

import time
from importlib.util import find_spec

import torch
from torch import Tensor

from kd.bench.rounds import Job, medians_of, ratio_of, time_in_turn
from kd.constants import IGNORE
from kd.metrics import Confusion

BLOCK = 0.02  # seconds that updates of one kind are repeated for


def miou_line(num_classes: int, size: tuple[int, int], rounds: int) -> str:
    """What one image costs, as a line for the user.

    Args:
        num_classes: K.
        size: (H, W) in pixels of the image.
        rounds: how often each kind is timed, in turn.
    """
    generator = torch.Generator().manual_seed(0)
    predicted, labels = (torch.randint(0, num_classes, size, generator=generator) for _ in range(2))
    confusion = Confusion(num_classes)
    narrow = labels.to(torch.uint8)  # as an evaluation reads them
    jobs: dict[str, Job] = {"kd": lambda: confusion.count(narrow, predicted)}
    if find_spec("torchmetrics") is not None:
        jobs |= _torchmetrics(num_classes, labels, predicted)
    times = time_in_turn(jobs, rounds, _seconds)
    ours, *others = jobs
    cost = f"{1e3 * medians_of(times)[ours]:.2f} ms"
    text = f"update of the mIoU, {num_classes} classes, {size[0]} × {size[1]} pixels: {cost}"
    if not others:
        return f"{text} (torchmetrics is not installed)"
    ratios = (f"torchmetrics' {name} / ours = {ratio_of(times, name, [ours]):.1f}" for name in others)
    return "; ".join([text, *ratios])


def _seconds(job: Job) -> float:
    """Of one update among many: a single one after another kind's would mainly read memory that left the caches."""
    began, times = time.perf_counter(), 0
    while (passed := time.perf_counter() - began) < BLOCK:
        job()
        times += 1
    return passed / times


def _torchmetrics(num_classes: int, labels: Tensor, predicted: Tensor) -> dict[str, Job]:
    """Its metric of this name, and the one that is defined as ours: over all images, without ignored pixels."""
    from torchmetrics.classification import MulticlassJaccardIndex
    from torchmetrics.segmentation import MeanIoU

    mean, index = MeanIoU(num_classes, input_format="index"), MulticlassJaccardIndex(num_classes, ignore_index=IGNORE)
    return {
        "MeanIoU": lambda: mean.update(predicted[None], labels[None]),
        "MulticlassJaccardIndex": lambda: index.update(predicted[None], labels[None]),
    }
