"""`kd export --int8`: of the ways to quantise a file, the one that scores best on the validation images."""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import NamedTuple

from kd.deploy.export.formats import Format
from kd.deploy.export.gate import Part
from kd.deploy.export.graph import Form
from kd.deploy.export.to_onnx import write_onnx
from kd.deploy.timing import CannotMeasureError, Shape, measured
from kd.errors import RecipeError
from kd.evaluation.trained import Trained
from kd.machine import choose, cores
from kd.metrics import scores
from kd.runtimes.exported import FileNetwork
from kd.runtimes.quantize import IMAGES, SCALES, calibration_images, quantize
from kd.scoring import score
from kd.types import SegmentationDataset

FLOAT = "float32"
ROUNDS = 20  # timed calls


class Row(NamedTuple):
    """One file: how it scores and what it costs."""

    name: str  # "float32", or the scales of the INT8 file
    miou: float  # on the whole split, from 0 to 1
    size: int  # bytes
    seconds: float  # for one image in the format's runtime: the median


class Quantized(NamedTuple):
    """What was tried: the float file, and an INT8 file for each way to set the scales."""

    rows: tuple[Row, ...]
    kept: Row
    images: int  # of the split
    calibrated: int  # training images that set the scales

    @property
    def drop(self) -> float:
        """Points of mIoU that the kept file loses."""
        return 100 * (self.rows[0].miou - self.kept.miou)

    def lines(self) -> list[str]:
        """A table for the user."""
        header = f"{'':<18}{'mIoU %':>8}{'MB':>9}{'ms':>9}"
        return [header, *(f"{self._name(row):<18}{''.join(self._cells(row))}{self._mark(row)}" for row in self.rows)]

    def markdown(self) -> str:
        """The same as a table in Markdown."""
        rows = [
            f"| {self._name(row)}{self._mark(row)} | {' | '.join(map(str.strip, self._cells(row)))} |"
            for row in self.rows
        ]
        return "\n".join([f"| file | mIoU % of {self.images} images | MB | ms an image |", "| --- " * 4 + "|", *rows])

    def _name(self, row: Row) -> str:
        return row.name if row.name == FLOAT else f"INT8 {row.name}"

    def _mark(self, row: Row) -> str:
        return "  (this file)" if row is self.kept else ""

    def _cells(self, row: Row) -> Sequence[str]:
        return f"{100 * row.miou:8.2f}", f"{row.size / 1e6:9.2f}", f"{1e3 * row.seconds:9.1f}"

    def facts(self) -> dict[str, object]:
        """For the metadata of the file."""
        scored = {"scales": self.kept.name, "miou": self.kept.miou, "miou_of_float32": self.rows[0].miou}
        return {"precision": "int8", "int8": {**scored, "images": self.images}}


def write_int8(
    file: Path,
    trained: Trained,
    chosen: Format,
    form: Form,
    dataset: SegmentationDataset,
    training: SegmentationDataset,
    *,
    max_drop: float,
    metadata: Callable[[Quantized], Mapping[str, str]],
) -> Quantized:
    """Write the INT8 file of a network that scores best on a split.

    Args:
        file: the new file.
        trained: the run.
        chosen: the format, which has INT8.
        form: what the file takes and gives.
        dataset: the split that files are scored on, each on all images.
        training: the split whose images calibrate.
        max_drop: points of mIoU that the file may lose against the float file.
        metadata: what the file states, by what was tried.

    Raises:
        RecipeError: the network cannot be exported or quantised; no pixel is labelled; or the best file loses more.
        DataError: an image cannot be read.
        OSError: a file cannot be written.
    """
    assert chosen.convert is not None
    part = Part(dataset, trained.classes, range(len(dataset)))
    with TemporaryDirectory(prefix=".kd-int8-", dir=file.parent) as folder:
        floats = Path(folder, "float.onnx")
        write_onnx(floats, trained.network, form, {})
        found = [(_row(FLOAT, floats, chosen, form, part, Path(folder, FLOAT)), floats)]
        for name, per_channel in SCALES.items():
            integers = Path(folder, f"{name}.onnx")
            images = calibration_images(training, form.size, uint8=form.uint8)
            quantize(floats, integers, images, per_channel=per_channel)
            found.append((_row(name, integers, chosen, form, part, Path(folder, name)), integers))
        kept, best = max(found[1:], key=lambda pair: pair[0].miou)
        quantized = Quantized(tuple(row for row, _ in found), kept, len(dataset), min(IMAGES, len(training)))
        if not quantized.drop <= max_drop:
            raise RecipeError(
                f"--int8: the file in INT8 scores {100 * kept.miou:.2f} % mIoU, {quantized.drop:.2f} points less than "
                f"in float32 (at most {max_drop:g}); nothing is written; leave --int8 out, or allow it: "
                f"--max-drop {math.ceil(10 * quantized.drop) / 10:g}"
            )
        chosen.convert(best, file, metadata(quantized))
    return quantized


def _row(name: str, onnx_file: Path, chosen: Format, form: Form, part: Part, folder: Path) -> Row:
    """Score and time an ONNX file as a file of the format."""
    assert chosen.convert is not None
    assert chosen.load is not None
    folder.mkdir()
    file = folder / chosen.file
    chosen.convert(onnx_file, file, {})
    network = file_network(chosen, file, form, len(part.class_names))
    precision = choose("cpu", "fp32", "contiguous")
    confusion = score(network, part, size=form.size, precision=precision, batch_size=1).confusion
    if not confusion.any():
        raise RecipeError(f"--int8: none of the {len(part)} val images has labels to score files with; add some")
    load = partial(chosen.load, file, Shape(1, form.channels, *form.size), False)
    try:
        timing = measured(load, runtime=chosen.runtime[0], threads=cores(), rounds=ROUNDS)
    except CannotMeasureError as error:
        raise RecipeError(f"--int8: the {name} file cannot be timed: {error}") from None
    return Row(name, scores(confusion).miou, size_of_files(folder), median(timing.seconds))


def file_network(chosen: Format, file: Path, form: Form, num_classes: int) -> FileNetwork:
    """A file of a format as a network."""
    return FileNetwork(
        chosen.open(file), num_classes, dtype=form.dtype, output=form.output, one_by_one=not form.dynamic
    ).eval()


def size_of_files(folder: Path) -> int:
    """Bytes of the files in a folder."""
    return sum(file.stat().st_size for file in folder.iterdir())
