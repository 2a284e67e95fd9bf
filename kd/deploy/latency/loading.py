"""How `kd latency` loads a network or a file in each runtime."""

import logging
from collections.abc import Iterable, Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from kd.components import missing
from kd.deploy.export.graph import Form, Graph
from kd.deploy.export.to_onnx import write_onnx
from kd.deploy.latency.subjects import Source, Subject, build
from kd.deploy.timing import CannotMeasureError, Loaded, Shape, load_onnx, load_openvino, make_images
from kd.errors import RecipeError
from kd.machine import choose
from kd.runtimes.quantize import NEEDED, quantize

RUNTIMES = {"torch": "torch", "compiled": "torch compiled", "onnx": "ONNX Runtime", "openvino": "OpenVINO"}
LOADERS = {"onnx": load_onnx, "openvino": load_openvino}
MODULES = {"torch": "torch", "compiled": "torch", "onnx": "onnxruntime", "openvino": "openvino"}


class Cell(NamedTuple):
    """One measurement of a subject."""

    runtime: str
    batch: int
    int8: bool  # of a network that is quantised for it

    def __str__(self) -> str:
        """For a line to the user."""
        return f"{RUNTIMES[self.runtime]}{' in INT8' if self.int8 else ''}, batch {self.batch}"


def planned(subject: Subject, runtimes: Iterable[str], batch: int, *, int8: bool) -> Iterator[Cell]:
    """The measurements of a subject."""
    for runtime in runtimes:
        if subject.source is not None or runtime in subject.files:
            kinds = (False, True) if int8 and subject.source is not None and runtime in LOADERS else (False,)
            yield from (Cell(runtime, size, kind) for kind in kinds for size in dict.fromkeys((1, batch)))


def loader(subject: Subject, cell: Cell, place: Path, *, fixed: bool) -> tuple[partial[Loaded], Path | None]:
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
