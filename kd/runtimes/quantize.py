"""Static INT8 of ONNX files: integers in place of floats, with scales that were calibrated on images.

Used for exported files and for teachers. Weights become signed and activations unsigned bytes, each rounded where a
pair of QuantizeLinear and DequantizeLinear stands; ONNX Runtime and OpenVINO compute what lies between in integers.
What follows the last operations with weights (the resizing of the logits, the argmax) stays as it is.
"""

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from numpy.typing import NDArray

from kd.data.dataset import read, resize_image
from kd.errors import RecipeError, short
from kd.runtimes.exported import INPUT
from kd.types import SegmentationDataset

SCALES = {"per tensor": False, "per channel": True}  # of the weights: one for a layer, or for each output channel
IMAGES = 64  # that calibrate
NEEDED = ("onnx", "onnxruntime")
WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")  # operations with weights


def calibration_images(
    dataset: SegmentationDataset, size: tuple[int, int], *, uint8: bool, count: int = IMAGES
) -> Iterator[NDArray[Any]]:
    """Images (1, C, H, W) spread evenly over a split, as a file takes them.

    Args:
        dataset: the split that the network was trained on.
        size: (H, W).
        uint8: whether they are uint8; otherwise float32 in [0, 1].
        count: at most so many.
    """
    count = min(count, len(dataset))
    for number in range(count):
        image = resize_image(read(dataset, number * len(dataset) // count).image, size)[None]
        yield (image if uint8 else image.float() / 255).numpy()


def quantize(file: Path, out: Path, images: Iterable[NDArray[Any]], *, per_channel: bool) -> None:
    """Write an ONNX file in INT8, without metadata of ours.

    Args:
        file: in float32, with one input, which is called `images`.
        out: the new file; what else is written for a while is beside it.
        images: batches that the file takes; the ranges of all maps are the least and the greatest value on them.
        per_channel: whether each output channel of a layer has a scale of its own.

    Raises:
        RecipeError: the file cannot be quantised.
        OSError: a file cannot be written.
    """
    import onnx
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with TemporaryDirectory(prefix=".kd-int8-", dir=out.parent) as folder, _quiet():
        prepared = Path(folder, "prepared.onnx")
        try:
            quant_pre_process(file, prepared, skip_symbolic_shape=True)
            quantize_static(
                prepared,
                out,
                _Reader(iter(images)),
                quant_format=QuantFormat.QDQ,
                per_channel=per_channel,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                calibrate_method=CalibrationMethod.MinMax,
                nodes_to_exclude=_after_weights(onnx.load(prepared).graph),
            )
        except OSError:
            raise
        except Exception as error:  # noqa: BLE001  # the package raises nearly anything
            raise RecipeError(f"the network cannot be quantised: {short(error)}") from None


class _Reader:
    """Batches, as ONNX Runtime asks for them."""

    def __init__(self, images: Iterator[NDArray[Any]]) -> None:
        self._images = images

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        """The next batch; None after the last one."""
        batch = next(self._images, None)
        return None if batch is None else {INPUT: batch}


def _after_weights(graph: Any) -> list[str]:
    """The nodes, each by its name, on whose results no operation with weights depends."""
    makers = {name: node for node in graph.node for name in node.output}
    before: dict[str, None] = {}
    waiting = [name for node in graph.node if node.op_type in WEIGHTED for name in node.input]
    while waiting:
        node = makers.get(waiting.pop())
        if node is not None and node.name not in before:
            before[node.name] = None
            waiting += node.input
    return [node.name for node in graph.node if node.name not in before and node.op_type not in WEIGHTED]


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the advice that ONNX Runtime logs to those who call it by hand."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
