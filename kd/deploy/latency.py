"""`kd latency`: what networks and exported files cost on this machine's processor, in every runtime that is there."""

import json
import logging
import re
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from kd.components import Maker, missing
from kd.console import make_table, print_line, say, stdout
from kd.data.images.decode import size_text
from kd.deploy.graph import Form, Graph
from kd.deploy.timing import (
    WARM_UP,
    CannotMeasureError,
    Loaded,
    Shape,
    Timing,
    is_int8,
    load_onnx,
    load_openvino,
    make_images,
    measured,
    percentile,
)
from kd.deploy.to_onnx import write_onnx
from kd.errors import RecipeError
from kd.evaluation.trained import open_trained
from kd.machine import choose, cores, hardware
from kd.quantize import NEEDED, quantize
from kd.recipe import Recipe, Use, read_recipe
from kd.runs import is_finished, run_directory

SCHEMA_VERSION = 1  # of the JSON
RUNTIMES = {"torch": "torch", "compiled": "torch compiled", "onnx": "ONNX Runtime", "openvino": "OpenVINO"}
LOADERS = {"onnx": load_onnx, "openvino": load_openvino}
MODULES = {"torch": "torch", "compiled": "torch", "onnx": "onnxruntime", "openvino": "openvino"}
FILES = (".onnx", ".xml")
SIZE = (512, 512)  # of a network that no recipe gives one


class Source(NamedTuple):
    """What a command line names; it builds the same network again in another process."""

    name: str
    overrides: tuple[str, ...]
    runs: Path
    trust: bool
    classes: int  # of a network that no recipe gives any


class Subject(NamedTuple):
    """A network or a file to measure."""

    name: str
    files: dict[str, Path]  # by runtime; without those that compute the network itself
    source: Source | None  # of a network
    shape: tuple[int, int, int]  # (C, H, W); axes that a file fixes are the file's
    int8: bool = False


class Row(NamedTuple):
    """One line of the table."""

    subject: str
    runtime: str
    precision: str  # fp32 or int8
    timing: Timing

    @property
    def median(self) -> float:
        """Seconds of a call."""
        return float(np.median(self.timing.seconds))

    @property
    def p95(self) -> float:
        """Seconds that 95 % of the calls took at most."""
        return percentile(self.timing.seconds, 0.95)

    def fits(self, fps: float | None, max_mb: float | None) -> bool:
        """Whether 95 % of the calls keep up with `fps` images a second, and the file has at most `max_mb` MB."""
        return (fps is None or self.timing.shape.batch / self.p95 >= fps) and (
            max_mb is None or self.timing.size <= max_mb * 1e6
        )


def latency_command(
    names: Sequence[str],
    overrides: Sequence[str] = (),
    *,
    runs: Path,
    trust: bool = False,
    size: tuple[int, int] | None = None,
    threads: int | None = None,
    batch: int = 1,
    classes: int = 21,
    rounds: int = 30,
    runtimes: Sequence[str] | None = None,
    int8: bool = False,
    fps: float | None = None,
    max_mb: float | None = None,
    as_json: bool = False,
) -> None:
    """Print a table of latency, throughput, memory and bytes.

    Args:
        names: runs, recipes, exported files or folders of them, and networks such as students.MobileNetV2UNet.
        overrides: `path=value` texts for the recipes.
        runs: where run directories are.
        trust: whether a recipe may name code outside kd.
        size: (H, W) in pixels; None: of the recipe or the file, else `SIZE`.
        threads: of every runtime; None: as many as there are cores.
        batch: images in a call, besides 1.
        classes: of networks that no recipe gives any.
        rounds: timed calls.
        runtimes: of `RUNTIMES`; None: all.
        int8: whether networks are also measured in INT8.
        fps: images a second that a row must reach to be within the budget.
        max_mb: its largest size, in 10⁶ bytes.
        as_json: print JSON in place of the table.

    Raises:
        RecipeError: a name is none of these, a number is out of range, or nothing could be measured.
    """
    threads = threads or cores()
    if threads > cores():
        raise RecipeError(f"--threads {threads}: this process has {cores()} cores; use at most {cores()}")
    wanted = [name for name in RUNTIMES if runtimes is None or name in runtimes]
    absent = {name: missing(MODULES[name], name) for name in wanted if find_spec(MODULES[name]) is None}
    remarks = list(absent.values())
    present = [name for name in wanted if name not in absent]
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="kd-latency-") as folder:
        sources = [Source(name, tuple(overrides), runs, trust, classes) for name in names]
        subjects = [subject for source in sources for subject in _subjects(source, size)]
        for number, subject in enumerate(subjects):
            for cell in _planned(subject, present, batch, int8=int8):
                if not as_json:
                    say(f"measuring {subject.name}, {cell}")
                try:
                    load, file = _loader(subject, cell, Path(folder, str(number)), fixed=size is not None)
                    timing = measured(load, runtime=MODULES[cell.runtime], threads=threads, rounds=rounds)
                except CannotMeasureError as error:
                    remarks.append(f"{subject.name}: {cell}: {error}")
                    continue
                precision = "int8" if file is not None and is_int8(file) else "fp32"
                rows.append(Row(subject.name, cell.runtime, precision, timing))
    if not rows:
        raise RecipeError([f"kd latency: {remark}" for remark in remarks or ["no runtime to measure with"]])
    show = _print_json if as_json else _print_table
    show(rows, remarks, threads=threads, rounds=rounds, fps=fps, max_mb=max_mb)


def _subjects(source: Source, size: tuple[int, int] | None) -> Iterator[Subject]:
    """What a name stands for: one network, one file, or the files of an exported folder."""
    path = Path(source.name)
    if path.is_file() and path.suffix in FILES:
        yield _of_file(path, size)
        return
    if path.is_dir() and (files := sorted(file for file in path.iterdir() if file.suffix in FILES)):
        yield from (_of_file(file, size) for file in files)
        return
    network, own_size = build(source)
    in_channels = int(getattr(network, "in_channels", 3))
    yield Subject(source.name, {}, source, (in_channels, *(size or own_size)))


def _of_file(file: Path, size: tuple[int, int] | None) -> Subject:
    files = {"openvino": file} | ({"onnx": file} if file.suffix == ".onnx" else {})
    return Subject(str(file), files, None, (3, *(size or SIZE)))


def build(source: Source) -> tuple[nn.Module, tuple[int, int]]:
    """The network that a name stands for, in evaluation mode on the CPU, and the size of its images.

    It is that of the first finished run; of a recipe that has none, the student as it begins to train.

    Raises:
        RecipeError: there is no such network.
    """
    if re.match(r"(students|teachers)\.\w+$", source.name):
        network: nn.Module = Maker().build(Use(use=source.name), num_classes=source.classes, in_channels=3)
        return network.eval(), SIZE
    if not Path(source.name).is_dir() and Path(source.name).suffix != ".safetensors":
        recipe = read_recipe(source.name, source.overrides, trust=source.trust)
        if not any(is_finished(run_directory(recipe, source.runs, seed)) for seed in recipe.train.seeds):
            return _untrained(recipe), recipe.scored_size
    trained = open_trained(source.name, source.overrides, runs=source.runs, trust=source.trust)
    return trained.network, trained.recipe.scored_size


def _untrained(recipe: Recipe) -> nn.Module:
    maker = Maker(recipe)
    data = maker.dataset("val")
    return maker.network(recipe.student.network, len(data.class_names), data.in_channels).eval()


class Cell(NamedTuple):
    """One measurement of a subject."""

    runtime: str
    batch: int
    int8: bool  # of a network that is quantised for it

    def __str__(self) -> str:
        """For a line to the user."""
        return f"{RUNTIMES[self.runtime]}{' in INT8' if self.int8 else ''}, batch {self.batch}"


def _planned(subject: Subject, runtimes: Iterable[str], batch: int, *, int8: bool) -> Iterator[Cell]:
    """The measurements of a subject."""
    for runtime in runtimes:
        if subject.source is not None or runtime in subject.files:
            kinds = (False, True) if int8 and subject.source is not None and runtime in LOADERS else (False,)
            yield from (Cell(runtime, size, kind) for kind in kinds for size in dict.fromkeys((1, batch)))


def _loader(subject: Subject, cell: Cell, place: Path, *, fixed: bool) -> tuple[partial[Loaded], Path | None]:
    """What loads the subject in a process of its own, and its file, if it has one; `place` begins its name."""
    shape = Shape(cell.batch, *subject.shape)
    load = LOADERS.get(cell.runtime)
    if load is None:
        assert subject.source is not None
        return partial(load_torch, subject.source, shape, cell.runtime == "compiled"), None
    file = subject.files.get(cell.runtime)
    if file is None:
        assert subject.source is not None
        file = place.with_name(f"{place.name}-{cell.batch}.onnx")
        _write(file, subject.source, shape)
        if cell.int8:
            file = _quantized(file, shape)
    return partial(load, file, shape, fixed), file


def _write(file: Path, source: Source, shape: Shape) -> None:
    if file.exists():
        return
    _need("onnx", "onnxscript")
    try:
        write_onnx(file, build(source)[0], Form(shape.channels, shape[2:], batch=shape.batch), {})
    except RecipeError as error:
        raise CannotMeasureError(str(error)) from None


def _quantized(file: Path, shape: Shape) -> Path:
    """The file in INT8, calibrated on noise: the time does not depend on the scales."""
    integers = file.with_suffix(".int8.onnx")
    if not integers.exists():
        _need(*NEEDED)
        try:
            quantize(file, integers, [make_images(shape, "float32")], per_channel=True)
        except RecipeError as error:
            raise CannotMeasureError(str(error)) from None
    return integers


def _need(*packages: str) -> None:
    absent = [package for package in packages if find_spec(package) is None]
    if absent:
        raise CannotMeasureError(missing(absent[0], "onnx"))


def load_torch(source: Source, shape: Shape, compiled: bool, threads: int) -> Loaded:
    """A network in torch, channels-last, in float32.

    Args:
        source: of the network.
        shape: of the images.
        compiled: whether torch.compile makes its code.
        threads: of torch.
    """
    torch.set_num_threads(threads)
    logging.getLogger("torch").setLevel(logging.ERROR)  # the compiler looks for CUDA, and warns
    precision = choose("cpu", "fp32", "channels_last")
    network = build(source)[0].to(memory_format=precision.memory_format)
    graph = Graph(network, argmax=False).requires_grad_(False)
    size = sum(tensor.numel() * tensor.element_size() for tensor in network.state_dict().values())
    ready = torch.compile(graph) if compiled else graph

    @torch.inference_mode()
    def compute(images: np.ndarray) -> object:
        return ready(torch.from_numpy(images).contiguous(memory_format=precision.memory_format))

    return Loaded(compute, shape, "float32", size)


def _print_table(
    rows: Sequence[Row],
    remarks: Iterable[str],
    *,
    threads: int,
    rounds: int,
    fps: float | None,
    max_mb: float | None,
) -> None:
    budget = [
        *([f"{fps:g} images/s at p95"] if fps is not None else []),
        *([f"{max_mb:g} MB"] if max_mb is not None else []),
    ]
    header = ("network", "size", "runtime", "type", "batch", "median ms", "p95 ms", "images/s", "peak MB", "file MB")
    table = make_table(
        (*header, *(["budget"] if budget else [])),
        [(*_cells(row), *(["within" if row.fits(fps, max_mb) else "over"] if budget else [])) for row in rows],
        left=4,
        title=f"{_processor()}, {threads} threads, median of {rounds} calls after {WARM_UP} to warm up",
    )
    stdout().print(table)
    if budget:
        within = sum(row.fits(fps, max_mb) for row in rows)
        print_line(f"budget: {', '.join(budget)}; {within} of {len(rows)} within")
    for remark in remarks:
        print_line(f"not measured: {remark}")


def _cells(row: Row) -> tuple[str, ...]:
    timing = row.timing
    return (
        row.subject,
        size_text(timing.shape[2:]),
        RUNTIMES[row.runtime],
        row.precision,
        str(timing.shape.batch),
        f"{1e3 * row.median:.1f}",
        f"{1e3 * row.p95:.1f}",
        f"{timing.shape.batch / row.median:.1f}",
        "–" if timing.memory is None else f"{timing.memory / 1e6:.0f}",
        f"{timing.size / 1e6:.2f}",
    )


def _print_json(
    rows: Sequence[Row],
    remarks: Iterable[str],
    *,
    threads: int,
    rounds: int,
    fps: float | None,
    max_mb: float | None,
) -> None:
    has_budget = fps is not None or max_mb is not None
    found = {
        "schema_version": SCHEMA_VERSION,
        "hardware": hardware(torch.device("cpu")),
        "versions": {name: metadata.version(name) for name in dict.fromkeys(MODULES.values()) if find_spec(name)},
        "threads": threads,
        "warm_up": WARM_UP,
        "rounds": rounds,
        "budget": {"fps": fps, "max_mb": max_mb} if has_budget else None,
        "rows": [
            {
                "network": row.subject,
                "runtime": row.runtime,
                "precision": row.precision,
                **row.timing.shape._asdict(),
                "median_seconds": row.median,
                "p95_seconds": row.p95,
                "images_per_second": row.timing.shape.batch / row.median,
                "peak_bytes": row.timing.memory,
                "file_bytes": row.timing.size,
                "within": row.fits(fps, max_mb) if has_budget else None,
            }
            for row in rows
        ],
        "not_measured": list(remarks),
    }
    print_line(json.dumps(found))


def _processor() -> str:
    return str(hardware(torch.device("cpu"))["processor"])
