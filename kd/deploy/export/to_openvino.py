"""A network as an OpenVINO file, converted from its ONNX file."""

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from torch import nn

from kd.deploy.export.graph import Form, not_exported
from kd.deploy.export.to_onnx import write_onnx


def write_openvino(file: Path, network: nn.Module, form: Form, metadata: Mapping[str, str]) -> None:
    """Write a network as `model.xml`, with its weights in `model.bin` beside it; as `write_onnx`."""
    import openvino

    with TemporaryDirectory(dir=file.parent) as folder:
        onnx_file = Path(folder, "model.onnx")
        write_onnx(onnx_file, network, form, {})
        try:
            model = openvino.convert_model(onnx_file)
        except Exception as error:  # noqa: BLE001  # the converter raises its own exceptions
            raise not_exported(network, "OpenVINO", form, error) from None
    _save(model, file, metadata)


def convert(onnx_file: Path, file: Path, metadata: Mapping[str, str]) -> None:
    """Write an ONNX file that OpenVINO takes as `model.xml` and `model.bin`."""
    import openvino

    _save(openvino.convert_model(onnx_file), file, metadata)


def _save(model: Any, file: Path, metadata: Mapping[str, str]) -> None:
    import openvino

    for name, text in metadata.items():
        model.set_rt_info(text, ["kd", name])
    openvino.save_model(model, file, compress_to_fp16=False)
