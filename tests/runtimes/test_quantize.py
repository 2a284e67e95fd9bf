"""Static INT8 of ONNX files. Networks are written by hand: one or two layers whose results can be worked out."""

import numpy as np
import pytest
import torch
from samples import Fixed

from kd.errors import RecipeError
from kd.runtimes.exported import open_onnx
from kd.runtimes.quantize import calibration_images, quantize
from kd.types import Sample

onnx = pytest.importorskip("onnx", reason="needs the extra onnx: pip install 'kd-segmentation[onnx]'")
pytest.importorskip("onnxruntime", reason="needs the extra onnx: pip install 'kd-segmentation[onnx]'")

GREY = [np.full((1, 1, 4, 4), value, np.float32) for value in (0.0, 1.0)]  # calibrate to the range from 0 to 1


def write(file, weights, *, after=()):
    """A 1×1 convolution of a grey image, with a weight for each output channel, and nodes after it."""
    kernel = onnx.numpy_helper.from_array(np.array(weights, np.float32).reshape(-1, 1, 1, 1), "w")
    nodes = [onnx.helper.make_node("Conv", ["images", "w"], ["map"], "conv"), *after]
    value = onnx.helper.make_tensor_value_info
    image, out = value("images", 1, ["n", 1, 4, 4]), value(nodes[-1].output[0], 1, None)
    graph = onnx.helper.make_graph(nodes, "g", [image], [out], [kernel])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, file)
    return file


def computed(file, value=1.0):
    """The value of each output channel for an image of one value."""
    return open_onnx(file).compute(np.full((1, 1, 4, 4), value, np.float32))[0, :, 0, 0].tolist()


def test_one_scale_for_a_layer_loses_its_small_channel(tmp_path):
    file = write(tmp_path / "a.onnx", [127.0, 0.3])  # a scale of 1: 0.3 is rounded to 0
    for per_channel, expected in ((False, 0.0), (True, 0.3)):
        quantize(file, tmp_path / "q.onnx", GREY, per_channel=per_channel)
        large, small = computed(tmp_path / "q.onnx")
        assert large == pytest.approx(127, rel=0.01)
        assert small == pytest.approx(expected, abs=0.51 * 127 / 255 if per_channel else 1e-6)


def test_values_beyond_those_of_the_calibration_are_cut_off(tmp_path):
    quantize(write(tmp_path / "a.onnx", [1.0]), tmp_path / "q.onnx", GREY, per_channel=False)
    assert computed(tmp_path / "q.onnx", 0.5) == pytest.approx([0.5], abs=0.005)
    assert computed(tmp_path / "q.onnx", 3.0) == pytest.approx([1.0], abs=0.005)


def test_what_follows_the_last_weights_stays_in_float(tmp_path):
    after = [onnx.helper.make_node("Sigmoid", ["map"], ["out"], "last")]
    quantize(write(tmp_path / "a.onnx", [1.0], after=after), tmp_path / "q.onnx", GREY, per_channel=False)
    graph = onnx.load(tmp_path / "q.onnx").graph
    (last,) = [node for node in graph.node if node.op_type == "Sigmoid"]
    assert list(last.output) == [graph.output[0].name]  # not rounded to a byte again


def test_a_file_that_is_no_network_is_one_line(tmp_path):
    (tmp_path / "a.onnx").write_bytes(b"no network")
    with pytest.raises(RecipeError, match=r"^the network cannot be quantised: ") as caught:
        quantize(tmp_path / "a.onnx", tmp_path / "q.onnx", GREY, per_channel=False)
    assert "\n" not in str(caught.value)


def test_images_are_spread_over_the_split_and_prepared_as_the_file_takes_them():
    images = [torch.full((3, 8, 8), 10 * number, dtype=torch.uint8) for number in range(10)]
    dataset = Fixed(*(Sample(image, None, str(number)) for number, image in enumerate(images)))
    found = list(calibration_images(dataset, (4, 6), uint8=True, count=5))
    assert [(image.dtype, image.shape, int(image.max())) for image in found] == [
        (np.uint8, (1, 3, 4, 6), value) for value in (0, 20, 40, 60, 80)
    ]
    shares = list(calibration_images(dataset, (4, 6), uint8=False, count=99))
    assert [float(image.max()) for image in shares] == pytest.approx([number / 25.5 for number in range(10)])
