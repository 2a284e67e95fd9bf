"""A network as an ONNX file, and the computation of such a file by ONNX Runtime."""

import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import nn

from kd.deploy.gate import Compute
from kd.deploy.graph import Graph
from kd.errors import RecipeError

NEEDED = ("onnx", "onnxscript", "onnxruntime")  # packages of the extra `onnx`
INPUT = "images"
FREE = {0: "batch", 2: "height", 3: "width"}  # axes of the images that may have any length


def write_onnx(
    file: Path,
    network: nn.Module,
    shape: tuple[int, int, int],
    *,
    dynamic: bool,
    argmax: bool,
    metadata: Mapping[str, str],
    batch: int = 1,
) -> None:
    """Write a network as one ONNX file.

    Args:
        file: where.
        network: in evaluation mode, on the CPU.
        shape: (C, H, W) of the images.
        dynamic: whether batch, height and width are free; otherwise they are `batch`, H and W.
        argmax: whether the output is `classes`, int64 (N, H, W), in place of `logits`, (N, K, H, W).
        metadata: texts by name.
        batch: images in a call of a file that is not dynamic.

    Raises:
        RecipeError: the network cannot be exported.
        OSError: the file cannot be written.
    """
    example = torch.rand(2 if dynamic else batch, *shape)  # a batch of 1 would fix the batch
    graph = Graph(network, argmax=argmax)
    try:
        with torch.no_grad():
            graph(example)
    except (RuntimeError, ValueError) as error:
        height, width = shape[1:]
        raise RecipeError(f"--size {height} {width}: the network does not take it: {_short(error)}") from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the exporter, on its own parts
            program = torch.onnx.export(
                graph,
                (example,),
                dynamo=True,
                input_names=[INPUT],
                output_names=["classes" if argmax else "logits"],
                dynamic_shapes={INPUT: FREE} if dynamic else None,
                verbose=False,
            )
    except Exception as error:  # noqa: BLE001  # torch.export and onnxscript raise nearly anything
        cause = error
        while cause.__cause__ is not None and isinstance(cause.__cause__, Exception):
            cause = cause.__cause__
        fix = "leave --dynamic out" if dynamic else "kd predict uses the network itself"
        raise RecipeError(f"{type(network).__name__}: cannot be exported to ONNX: {_short(cause)}; {fix}") from None
    assert program is not None
    program.model.metadata_props.update(metadata)
    program.save(file, external_data=False)


def open_onnx(file: Path) -> Compute:
    """A function that computes the file's output by ONNX Runtime, on the CPU.

    Raises:
        RecipeError: the runtime does not take the file.
    """
    import onnxruntime

    onnxruntime.set_default_logger_severity(4)  # it raises errors too: the lines would come twice
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # noqa: BLE001  # the runtime raises its own exceptions
        raise RecipeError(
            f"ONNX Runtime {onnxruntime.__version__} does not take the file: {_short(error)}; "
            "pip install --upgrade onnxruntime"
        ) from None
    return lambda images: np.asarray(session.run(None, {INPUT: images})[0])


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
