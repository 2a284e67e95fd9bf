"""The time and memory of one network in one runtime, measured in a process of its own.

Imports no torch: a process that times ONNX Runtime or OpenVINO does not hold it.
"""

import math
import mmap
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kd.errors import short
from kd.memory import give_back, resident, resident_peak, restart_resident_peak

WARM_UP = 3  # calls that are not counted
SEED = 0  # of the images

Images = NDArray[Any]  # (N, C, H, W), float32 in [0, 1], or uint8


class Shape(NamedTuple):
    """Images that a runtime is asked to compute."""

    batch: int
    channels: int
    height: int
    width: int


class Loaded(NamedTuple):
    """A network that a runtime is ready to compute."""

    compute: Callable[[Images], object]
    shape: Shape
    dtype: str  # of the images: float32 or uint8
    size: int  # bytes of weights and graph


class Timing(NamedTuple):
    """What one network costs in one runtime."""

    shape: Shape
    seconds: tuple[float, ...]  # of each timed call, in order
    memory: int | None  # bytes: the process at its peak while it computes, above what it held before it loaded
    size: int  # bytes of the file, or of the parameters


class CannotMeasureError(Exception):
    """A runtime does not compute a network; in words."""


def measured(load: Callable[[int], Loaded], *, runtime: str, threads: int, rounds: int) -> Timing:
    """Time a network in a new process that is kept on `threads` cores.

    Args:
        load: loads the network for a number of threads; it must be picklable.
        runtime: the module that computes it.
        threads: of the runtime.
        rounds: timed calls, after `WARM_UP` others.

    Raises:
        CannotMeasureError: the runtime does not take the network, or its process died.
    """
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context, initializer=_pin, initargs=(threads,)) as pool:
        try:
            with _hidden_script():
                found = pool.submit(measure, load, runtime=runtime, threads=threads, rounds=rounds)
            return found.result()
        except BrokenProcessPool:
            raise CannotMeasureError("its process was killed, probably for lack of memory") from None


@contextmanager
def _hidden_script() -> Iterator[None]:
    """A process that starts in the block does not run the user's script again, which may call kd where it is read."""
    script = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = script


def measure(load: Callable[[int], Loaded], *, runtime: str, threads: int, rounds: int) -> Timing:
    """Time a network in this process; `memory` is right only in a process that measures nothing else.

    Raises:
        CannotMeasureError: the runtime does not take the network.
    """
    try:
        import_module(runtime)
        before = resident()
        loaded = load(threads)
        give_back()
        restart_resident_peak()  # what loading takes for a moment is not counted
        images = make_images(loaded.shape, loaded.dtype)
        times = [_seconds(loaded.compute, images) for _ in range(WARM_UP + rounds)]
    except CannotMeasureError:
        raise
    except Exception as error:  # noqa: BLE001  # runtimes and compilers raise their own exceptions
        raise CannotMeasureError(short(error)) from None
    peak = resident_peak()
    memory = None if peak is None or before is None else max(0, peak - before)
    return Timing(loaded.shape, tuple(times[WARM_UP:]), memory, loaded.size)


def _pin(threads: int) -> None:
    """Keep this process on the first of its cores, and its libraries at this many threads."""
    os.environ |= {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])


def _seconds(compute: Callable[[Images], object], images: Images) -> float:
    began = time.perf_counter()
    compute(images)
    return time.perf_counter() - began


def make_images(shape: Shape, dtype: str) -> Images:
    """Noise."""
    pixels = np.random.default_rng(SEED).integers(0, 256, shape, dtype=np.uint8)
    return pixels if dtype == "uint8" else pixels.astype(np.float32) / 255


def is_int8(file: Path) -> bool:
    """Whether a file computes in INT8: it holds operations that quantise."""
    with file.open("rb") as opened:
        if not file.stat().st_size:
            return False
        with mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return content.find(b"DequantizeLinear") >= 0 or content.find(b"FakeQuantize") >= 0


def load_onnx(file: Path, wanted: Shape, fixed: bool, threads: int) -> Loaded:
    """An ONNX file in ONNX Runtime, on the CPU.

    Args:
        file: with one input.
        wanted: the images; axes that the file fixes are the file's.
        fixed: whether the size was asked for, and must be the file's.
        threads: of the runtime.

    Raises:
        CannotMeasureError: the file takes other images.
    """
    import onnxruntime

    onnxruntime.set_default_logger_severity(4)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = onnxruntime.InferenceSession(os.fspath(file), options, providers=["CPUExecutionProvider"])
    (taken,) = session.get_inputs()
    shape = _fitted(taken.shape, wanted, fixed)
    dtype = "uint8" if taken.type == "tensor(uint8)" else "float32"
    return Loaded(lambda images: session.run(None, {taken.name: images}), shape, dtype, _bytes(file))


def load_openvino(file: Path, wanted: Shape, fixed: bool, threads: int) -> Loaded:
    """An ONNX or OpenVINO file in OpenVINO, on the CPU, as `load_onnx`; what is not INT8 is computed in float32."""
    import openvino

    model = openvino.Core().read_model(file)
    (taken,) = model.inputs
    axes = [axis.get_length() if axis.is_static else None for axis in taken.get_partial_shape()]
    shape = _fitted(axes, wanted, fixed)
    model.reshape({taken.any_name: list(shape)})
    settings = {
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
    }
    compiled = openvino.Core().compile_model(model, "CPU", settings)
    dtype = "uint8" if taken.get_element_type().get_type_name() == "u8" else "float32"
    return Loaded(lambda images: compiled(images), shape, dtype, _bytes(file))


def _fitted(axes: list[Any], wanted: Shape, fixed: bool) -> Shape:
    """The images of a file whose input has these axes; those that are no numbers are free."""
    if len(axes) != len(wanted):
        raise CannotMeasureError(f"takes {len(axes)} axes, not images (N, C, H, W)")
    shape = Shape(*(axis if isinstance(axis, int) else asked for axis, asked in zip(axes, wanted, strict=True)))
    if shape.batch != wanted.batch:
        raise CannotMeasureError(f"takes batches of {shape.batch} only")
    if fixed and shape[2:] != wanted[2:]:
        raise CannotMeasureError(f"takes images of {shape.width}×{shape.height} only")
    return shape


def _bytes(file: Path) -> int:
    """The size of a file, with the weights that OpenVINO keeps beside it."""
    beside = file.with_suffix(".bin")
    return file.stat().st_size + (beside.stat().st_size if file.suffix == ".xml" and beside.exists() else 0)


def percentile(seconds: tuple[float, ...], share: float) -> float:
    """The smallest time that at least `share` of the calls took at most."""
    return sorted(seconds)[max(0, math.ceil(share * len(seconds)) - 1)]
