"""An exported file counts only if it computes what its network computes, on real images."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from kd.data.dataset import read, resize_image
from kd.data.decode import size_text
from kd.errors import RecipeError
from kd.machine import choose
from kd.scoring import at_size, predict
from kd.types import SegmentationDataset

Compute = Callable[[NDArray[np.float32]], NDArray[Any]]  # images (N, C, H, W) in [0, 1] -> what the file computes

LOGITS = 1e-3  # largest difference, as a share of the range of the image's logits
AGREEMENT = 0.995  # smallest share of the pixels whose class is the network's
IMAGES = 6
BATCHES = (1, 3)
SMALLEST = 64  # pixels: the side that every network of kd takes


class Verdict(NamedTuple):
    """How far a file that passed is from its network."""

    images: int
    agreement: float  # the lowest share of an image's pixels
    difference: float | None  # the largest of an image, as a share of its logits' range; None for class indices

    def __str__(self) -> str:
        """For a line to the user."""
        logits = "" if self.difference is None else f", logits differ by at most {self.difference:.1g} of their range"
        return f"{self.images} validation images checked: {100 * self.agreement:.2f} % of the pixels agree{logits}"


def check_file(
    compute: Compute,
    network: nn.Module,
    dataset: SegmentationDataset,
    classes: Sequence[str],
    *,
    size: tuple[int, int],
    dynamic: bool,
    argmax: bool,
) -> Verdict:
    """Compare a file with its network on images of a split.

    Args:
        compute: runs the file.
        network: in evaluation mode, on the CPU.
        dataset: one split.
        classes: the names of the network's classes.
        size: (H, W) that the file was exported with.
        dynamic: whether the file takes any size and batch: two other sizes, one of them odd, and batches of 1 and 3.
        argmax: whether the file's output is the class indices.

    Raises:
        RecipeError: the file and the network differ, or the file cannot compute; names the image and the class.
        DataError: an image cannot be read.
    """
    try:
        return _checked(compute, network, dataset, classes, size=size, dynamic=dynamic, argmax=argmax)
    except _DiffersError as error:
        fix = "leave --dynamic out" if dynamic else "kd predict uses the network itself"
        raise RecipeError(f"{error}; nothing is written; {fix}") from None


def _checked(
    compute: Compute,
    network: nn.Module,
    dataset: SegmentationDataset,
    classes: Sequence[str],
    *,
    size: tuple[int, int],
    dynamic: bool,
    argmax: bool,
) -> Verdict:
    count = min(IMAGES, len(dataset))
    samples = [read(dataset, number * len(dataset) // count) for number in range(count)]
    precision = choose("cpu", "fp32", "contiguous")
    agreements, differences = [1.0], [0.0]
    sizes, batches = ([size, *_others(size)], BATCHES) if dynamic else ([size], (1,))
    for shape in sizes:
        for batch in batches:
            for chosen in _batches(samples, batch):
                images = torch.stack([resize_image(sample.image, shape) for sample in chosen])
                logits = predict(network, images, precision)
                where = f"at {size_text(shape)}, batch {batch}"
                found = _computed(compute, images, where)
                expected = torch.Size((batch, *shape) if argmax else (batch, logits.shape[1], *shape))
                if found.shape != expected:
                    raise _DiffersError(f"{where}: the file's output is {tuple(found.shape)}, not {tuple(expected)}")
                for sample, of_file, of_network in zip(chosen, found, logits, strict=True):
                    reference, place = at_size(of_network, shape), f"{sample.name} {where}"
                    if not argmax:
                        differences.append(_difference(of_file, reference, classes, place))
                    predicted = of_file if argmax else of_file.argmax(0)
                    agreements.append(_agreement(predicted, reference.argmax(0), classes, place))
    return Verdict(count, min(agreements), None if argmax else max(differences))


def _others(size: tuple[int, int]) -> list[tuple[int, int]]:
    """Two other sizes: a higher and narrower one of odd sides, and a lower and wider one."""
    height, width = size
    odd = max(SMALLEST, height * 5 // 4) | 1, max(SMALLEST, width * 3 // 4) | 1
    return [odd, (max(SMALLEST, height * 3 // 4 // 32 * 32), max(SMALLEST, width * 5 // 4 // 32 * 32))]


def _batches(samples: Sequence[Any], batch: int) -> Iterator[list[Any]]:
    """All samples, `batch` at a time; the last batch begins again where samples are missing."""
    for start in range(0, len(samples), batch):
        yield [samples[index % len(samples)] for index in range(start, start + batch)]


def _computed(compute: Compute, images: Tensor, where: str) -> Tensor:
    try:
        return torch.from_numpy(np.array(compute((images.float() / 255).numpy())))
    except Exception as error:  # noqa: BLE001  # a runtime raises its own exceptions
        raise _DiffersError(f"{where}: the runtime cannot compute it: {' '.join(str(error).split())[:200]}") from None


def _difference(found: Tensor, reference: Tensor, classes: Sequence[str], place: str) -> float:
    spread = float(reference.max() - reference.min()) or 1.0
    by_class = (found.float() - reference).abs().flatten(1).amax(1).nan_to_num(nan=torch.inf) / spread
    worst = int(by_class.argmax())
    if not float(by_class[worst]) <= LOGITS:
        raise _DiffersError(
            f"{place}: the file's logits differ from the network's by {float(by_class[worst]):.2g} of their range (at "
            f"most {LOGITS:g}), most for class {classes[worst]}"
        )
    return float(by_class[worst])


def _agreement(found: Tensor, reference: Tensor, classes: Sequence[str], place: str) -> float:
    differs = found != reference
    share = 1 - float(differs.float().mean())
    if share < AGREEMENT:
        worst = int(reference[differs].bincount().argmax())
        raise _DiffersError(
            f"{place}: the file predicts the network's class at {100 * share:.2f} % of the pixels (at least "
            f"{100 * AGREEMENT:g} %), worst where it is {classes[worst]}"
        )
    return share


class _DiffersError(Exception):
    """A file differs from its network; in words."""
