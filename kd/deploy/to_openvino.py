"""A network as an OpenVINO file, converted from its ONNX file."""

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from torch import nn

from kd.deploy.graph import Form, not_exported
from kd.deploy.to_onnx import write_onnx


def write_openvino(file: Path, network: nn.Module, form: Form, metadata: Mapping[str, str]) -> None:
    """Write a network as `model.xml`, with its weights in `model.bin` beside it; as `write_onnx`."""
    import openvino

    with TemporaryDirectory() as folder:
        onnx = Path(folder, "model.onnx")
        write_onnx(onnx, network, form, {})
        try:
            model = openvino.convert_model(onnx)
        except Exception as error:  # noqa: BLE001  # the converter raises its own exceptions
            raise not_exported(network, "OpenVINO", form, error) from None
    for name, text in metadata.items():
        model.set_rt_info(text, ["kd", name])
    openvino.save_model(model, file, compress_to_fp16=False)
