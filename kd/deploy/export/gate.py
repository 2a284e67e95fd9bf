"""An exported file counts only if it scores as its network scores, on real images."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from kd.data.dataset import read
from kd.data.images.decode import size_text
from kd.deploy.export.graph import Form, Graph
from kd.errors import RecipeError, short
from kd.machine import choose
from kd.metrics import scores
from kd.parts.teacher.output import class_order
from kd.runs import SplitResult
from kd.runtimes.exported import Compute, FileNetwork
from kd.scoring import score
from kd.types import IGNORE, Sample, SegmentationDataset, SegmentationOutput, as_classes, resize, size_of

LOGITS = 1e-3  # largest difference, as a share of the range of the image's logits
AGREEMENT = 0.995  # smallest share of the pixels of an image whose class is the network's
POINTS = 0.1  # largest difference of the mIoU
IMAGES = 12
BATCHES = (1, 3)
SMALLEST = 64  # pixels: the side that every network of kd takes


class Verdict(NamedTuple):
    """How far a file that passed is from its network; shares from 0 to 1."""

    images: int
    agreement: float  # the lowest share of an image's pixels
    difference: float | None  # the largest of an image, as a share of its logits' range; None for class indices
    miou: float | None  # of the file, at the size that it was exported with; None without labels
    of_network: float | None  # on the same images, resizing its logits once

    def __str__(self) -> str:
        """For a line to the user."""
        logits = "" if self.difference is None else f", logits differ by at most {self.difference:.1g} of their range"
        if self.miou is None or self.of_network is None:
            miou = ""
        else:
            miou = f", mIoU {100 * self.miou:.2f} % (the network's: {100 * self.of_network:.2f} %)"
        return (
            f"{self.images} validation images checked: {100 * self.agreement:.2f} % of the pixels agree{logits}{miou}"
        )


class Part:
    """Some images of a split, with labels in the order of the network's classes.

    Args:
        dataset: the split.
        classes: the network's.
        places: of the images in the split.
    """

    def __init__(self, dataset: SegmentationDataset, classes: Sequence[str], places: Sequence[int]) -> None:
        self.dataset, self.places = dataset, places
        self.class_names, self.colors, self.in_channels = tuple(classes), dataset.colors, dataset.in_channels
        fix = "score it on data with its classes, under the same names (data.args.classes=…)"
        order = class_order(classes, dataset.class_names, "the check of the file", whose="the run", fix=fix)
        self.channels = torch.full((256,), IGNORE, dtype=torch.uint8)  # by the data's label
        self.channels[: len(classes)] = torch.tensor(order or range(len(classes)), dtype=torch.uint8)

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        image, labels, name = read(self.dataset, self.places[key[0]], key[1])
        return Sample(image, None if labels is None else self.channels[labels.long()], name)

    def names(self) -> Iterator[str]:
        """Of the images."""
        return (read(self.dataset, place).name for place in self.places)


def check_file(
    compute: Compute,
    network: nn.Module,
    dataset: SegmentationDataset,
    classes: Sequence[str],
    form: Form,
    *,
    max_drop: float | None = None,
) -> Verdict:
    """Score a file and its network on images of a split, and compare them.

    Both are scored as `kd evaluate` scores, at the labels' own size; for the comparison, both resize their logits to
    the image first, as a file does. A dynamic file is scored at three sizes, one of them odd, and in batches of 1
    and 3.

    Args:
        compute: runs the file.
        network: in evaluation mode, on the CPU.
        dataset: one split of data with the network's classes, in any order.
        classes: the names of the network's classes.
        form: what the file takes and gives.
        max_drop: of a file with numbers of few bits, the points of mIoU that it may lose; its logits and classes may
            differ. None: a file that computes what the network computes.

    Raises:
        RecipeError: the file and the network differ, or the file cannot compute; names the image and the class.
        DataError: an image cannot be read.
    """
    try:
        return _checked(compute, network, dataset, classes, form, max_drop)
    except _DiffersError as error:
        fix = "leave --dynamic out" if form.dynamic else "kd predict uses the network itself"
        raise RecipeError(f"{error}; nothing is written; {fix}") from None


def _checked(
    compute: Compute,
    network: nn.Module,
    dataset: SegmentationDataset,
    classes: Sequence[str],
    form: Form,
    max_drop: float | None,
) -> Verdict:
    count = min(IMAGES, len(dataset))
    part = Part(dataset, classes, _places(len(dataset), count, max(BATCHES) if form.dynamic else 1))
    sizes, batches = ([form.size, *_others(form.size)], BATCHES) if form.dynamic else ([form.size], BATCHES[:1])
    judges: list[_Judge] = []
    found_miou = None
    reference = _as_graph(network, len(classes), form)
    for size in sizes:
        expected = _score(reference, part, size, 1)
        for batch in batches:
            judge = _Judge(compute, network, part, classes, form, exact=max_drop is None, batch=batch)
            found = _score(judge, part, size, batch)
            _compare(found, expected, f"at {size_text(size)}, batch {batch}", max_drop)
            found_miou = found_miou if judges else _miou(found)
            judges.append(judge)
    difference = None if form.argmax else max(judge.difference for judge in judges)
    of_network = _miou(_score(network, part, form.size, 1))
    return Verdict(count, min(judge.agreement for judge in judges), difference, found_miou, of_network)


def _as_graph(network: nn.Module, num_classes: int, form: Form) -> nn.Module:
    """The network with the output of a file, which is resized to the image before it is resized to the labels."""
    graph = Graph(network, argmax=form.argmax)
    return FileNetwork(
        lambda images: graph(torch.from_numpy(images)).numpy(), num_classes, dtype=form.dtype, output=form.output
    )


def _score(network: nn.Module, part: Part, size: tuple[int, int], batch: int) -> SplitResult:
    return score(network, part, size=size, precision=choose("cpu", "fp32", "contiguous"), batch_size=batch)


def _places(length: int, count: int, multiple: int) -> list[int]:
    """`count` places spread over a dataset; the first ones again at the end, up to a multiple."""
    places = [number * length // count for number in range(count)]
    return [places[number % count] for number in range(-(-count // multiple) * multiple)]


def _others(size: tuple[int, int]) -> list[tuple[int, int]]:
    """Two other sizes: a higher and narrower one of odd sides, and a lower and wider one."""
    height, width = size
    odd = max(SMALLEST, height * 5 // 4) | 1, max(SMALLEST, width * 3 // 4) | 1
    return [odd, (max(SMALLEST, height * 3 // 4 // 32 * 32), max(SMALLEST, width * 5 // 4 // 32 * 32))]


def _miou(result: SplitResult) -> float | None:
    return scores(result.confusion).miou if result.confusion.any() else None


def _compare(found: SplitResult, expected: SplitResult, where: str, max_drop: float | None) -> None:
    """Compare two scores on the same images."""
    ours, theirs = _miou(found), _miou(expected)
    if ours is None or theirs is None:
        return
    points = 100 * (theirs - ours)
    if (abs(points) if max_drop is None else points) <= (POINTS if max_drop is None else max_drop):
        return
    by_class = np.abs(np.nan_to_num(_iou(found.confusion) - _iou(expected.confusion)))
    assert found.per_image is not None
    assert expected.per_image is not None
    by_image = np.abs(found.per_image.counts[..., 0].sum(1) - expected.per_image.counts[..., 0].sum(1))
    allowed = f"at most {POINTS:g} points apart" if max_drop is None else f"at most {max_drop:g} points less"
    raise _DiffersError(
        f"{where}: the file scores {100 * ours:.2f} % mIoU and the network {100 * theirs:.2f} % ({allowed}), most "
        f"apart for class {found.classes[int(by_class.argmax())]} and in "
        f"{found.per_image.names[int(by_image.argmax())]}"
    )


def _iou(confusion: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.array([np.nan if value is None else value for value in scores(confusion).iou], np.float64)


class _Judge(nn.Module):
    """A file as a network, which compares each image's logits and classes with those of the network itself."""

    def __init__(
        self,
        compute: Compute,
        network: nn.Module,
        part: Part,
        classes: Sequence[str],
        form: Form,
        *,
        exact: bool,
        batch: int,
    ) -> None:
        super().__init__()
        self.network, self.classes, self.form, self.exact, self.batch = network, classes, form, exact, batch
        self.compute = compute
        self.file = FileNetwork(self._computed, len(classes), dtype=form.dtype, output=form.output)
        self.names = part.names()
        self.agreement, self.difference = 1.0, 0.0

    def forward(self, images: Tensor) -> SegmentationOutput:
        """As of a network."""
        output = self.file(images)
        size = size_of(images)
        references = resize(as_classes(self.network(images).logits).float(), size)
        for found, reference in zip(output.logits, references, strict=True):
            place = f"{next(self.names)} at {size_text(size)}, batch {self.batch}"
            if not self.form.argmax:
                self._compare_logits(found, reference, place)
            self._compare_classes(found.argmax(0), reference.argmax(0), place)
        return output  # type: ignore[no-any-return]

    def _computed(self, images: NDArray[Any]) -> NDArray[Any]:
        where = f"at {size_text(images.shape[2:])}, batch {self.batch}"
        try:
            found = np.asarray(self.compute(images))
        except Exception as error:  # noqa: BLE001  # a runtime raises its own exceptions
            raise _DiffersError(f"{where}: the runtime cannot compute it: {short(error)}") from None
        channels = () if self.form.argmax else (len(self.classes),)
        expected = (len(images), *channels, *images.shape[2:])
        if found.shape != expected:
            raise _DiffersError(f"{where}: the file's output is {found.shape}, not {expected}")
        return found

    def _compare_logits(self, found: Tensor, reference: Tensor, place: str) -> None:
        spread = float(reference.max() - reference.min()) or 1.0
        by_class = (found - reference).abs().flatten(1).amax(1).nan_to_num(nan=torch.inf) / spread
        worst = int(by_class.argmax())
        self.difference = max(self.difference, float(by_class[worst]))
        if self.exact and not float(by_class[worst]) <= LOGITS:
            raise _DiffersError(
                f"{place}: the file's logits differ from the network's by {float(by_class[worst]):.2g} of their range "
                f"(at most {LOGITS:g}), most for class {self.classes[worst]}"
            )

    def _compare_classes(self, found: Tensor, reference: Tensor, place: str) -> None:
        differs = found != reference
        share = 1 - float(differs.float().mean())
        self.agreement = min(self.agreement, share)
        if self.exact and share < AGREEMENT:
            worst = int(reference[differs].bincount().argmax())
            raise _DiffersError(
                f"{place}: the file predicts the network's class at {100 * share:.2f} % of the pixels (at least "
                f"{100 * AGREEMENT:g} %), worst where it is {self.classes[worst]}"
            )


class _DiffersError(Exception):
    """A file differs from its network; in words."""
