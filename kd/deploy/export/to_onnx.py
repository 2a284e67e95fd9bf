"""A network as an ONNX file."""

from collections.abc import Mapping
from pathlib import Path

from torch import nn

from kd.deploy.export.graph import Form, make_graph, not_exported
from kd.runtimes.exported import onnx_program

FREE = {0: "batch", 2: "height", 3: "width"}  # axes of the images that may have any length


def write_onnx(file: Path, network: nn.Module, form: Form, metadata: Mapping[str, str]) -> None:
    """Write a network as one ONNX file.

    Args:
        file: where.
        network: in evaluation mode, on the CPU.
        form: what the file takes and gives.
        metadata: texts by name.

    Raises:
        RecipeError: the network cannot be exported.
        OSError: the file cannot be written.
    """
    graph, example = make_graph(network, form)
    try:
        program = onnx_program(graph, example, [form.output], FREE if form.dynamic else None)
    except Exception as error:  # noqa: BLE001  # torch.export and onnxscript raise nearly anything
        raise not_exported(network, "ONNX", form, error) from None
    program.model.metadata_props.update(metadata)
    program.save(file, external_data=False)


def with_metadata(onnx_file: Path, file: Path, metadata: Mapping[str, str]) -> None:
    """Copy an ONNX file; its metadata are these texts and no others."""
    import onnx

    model = onnx.load(onnx_file)
    onnx.helper.set_model_props(model, dict(metadata))
    onnx.save(model, file)
