"""Timing a network: which calls count, and what a file may take."""

import subprocess
import sys
from functools import partial

import numpy as np
import pytest

from kd.deploy.timing import (
    WARM_UP,
    CannotMeasureError,
    Loaded,
    Shape,
    _fitted,
    is_int8,
    load_onnx,
    make_images,
    measure,
    measured,
    percentile,
)
from kd.memory import give_back

SHAPE = Shape(2, 3, 8, 9)


def test_calls_to_warm_up_are_not_counted():
    called = []

    def load(threads):
        called.append(threads)
        return Loaded(lambda images: called.append(images.shape), SHAPE, "float32", 7)

    timing = measure(load, runtime="math", threads=3, rounds=4)
    assert called == [3, *[(2, 3, 8, 9)] * (WARM_UP + 4)]
    assert (len(timing.seconds), timing.size, timing.shape) == (4, 7, SHAPE)


def test_memory_is_what_the_computation_adds():
    def load(threads):
        return Loaded(lambda images: np.ones(120_000_000, np.uint8).sum(), SHAPE, "float32", 7)

    give_back()  # what earlier tests have freed: else it would leave this process while it is measured
    memory = measure(load, runtime="math", threads=1, rounds=2).memory
    assert memory is None or 80e6 < memory < 240e6


def test_an_error_of_a_runtime_is_one_line():
    def load(threads):
        raise RuntimeError("no such\n operation")

    with pytest.raises(CannotMeasureError, match=r"^no such operation$"):
        measure(load, runtime="math", threads=1, rounds=1)


def test_an_error_comes_back_from_the_process(tmp_path):
    load = partial(load_onnx, tmp_path / "missing.onnx", SHAPE, False)
    with pytest.raises(CannotMeasureError, match=r"missing.onnx|No module named 'onnxruntime'"):
        measured(load, runtime="math", threads=1, rounds=1)


def test_a_files_own_axes_decide():
    assert _fitted([2, 3, "height", None], SHAPE, True) == SHAPE
    assert _fitted(["batch", 1, 16, 32], SHAPE, False) == (2, 1, 16, 32)
    with pytest.raises(CannotMeasureError, match=r"^takes batches of 1 only$"):
        _fitted([1, 3, 8, 9], SHAPE, False)
    with pytest.raises(CannotMeasureError, match=r"^takes images of 32×16 only$"):
        _fitted([2, 3, 16, 32], SHAPE, True)
    with pytest.raises(CannotMeasureError, match="takes 2 axes"):
        _fitted([1, 10], SHAPE, False)


def test_images_are_bytes_or_shares_of_one():
    pixels, images = make_images(SHAPE, "uint8"), make_images(SHAPE, "float32")
    assert (pixels.dtype, images.dtype, pixels.shape) == (np.uint8, np.float32, SHAPE)
    assert np.array_equal(images, pixels.astype(np.float32) / 255)


@pytest.mark.parametrize(("share", "expected"), [(0.95, 19.0), (0.5, 10.0), (1.0, 20.0), (0.01, 1.0)])
def test_the_percentile_is_a_time_that_was_measured(share, expected):
    assert percentile(tuple(float(number) for number in range(20, 0, -1)), share) == expected


def test_a_quantised_file_is_known_by_its_operations(tmp_path):
    for content, expected in ((b"", False), (b"..Conv..", False), (b"..DequantizeLinear..", True)):
        (tmp_path / "a.onnx").write_bytes(content)
        assert is_int8(tmp_path / "a.onnx") is expected


def test_a_script_that_measures_where_it_is_read_is_run_once(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "from functools import partial\n"
        "from kd.deploy.timing import Loaded, Shape, measured\n"
        "print('read')\n"
        "load = partial(Loaded, abs, Shape(1, 1, 2, 2), 'float32')\n"  # of the threads, which count as its size
        "print(measured(load, runtime='numpy', threads=1, rounds=2).size)\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["read", "1"]
