"""Exported files, computed by the runtimes that they are for."""

import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from kd.components import missing
from kd.errors import RecipeError, StorageError, WeightsError, short
from kd.files.checked import STRICT, checked
from kd.files.reading import check_file
from kd.types import SegmentationOutput

Compute = Callable[[NDArray[Any]], NDArray[Any]]  # images (N, C, H, W), of the file's type -> what the file computes

INPUT = "images"
CERTAIN = 100.0  # the logit of a class that is certain, above those of the others
SUFFIXES = {".onnx": "onnx", ".xml": "openvino"}  # of files that kd opens again, and the extra of each

_Level = Annotated[int, Field(ge=0, le=255)]
_Side = Annotated[int, Field(ge=1)]


class Facts(BaseModel):
    """What a file states about itself, in its metadata; it may state more, for people."""

    model_config = ConfigDict({**STRICT, "extra": "allow"})

    classes: Annotated[tuple[str, ...], Field(min_length=2, max_length=255)]
    colors: tuple[tuple[_Level, _Level, _Level], ...]  # of the classes
    channels: _Side
    size: tuple[_Side, _Side]  # (H, W) that the network was scored at; of the images, unless they may have any size
    dynamic: bool  # whether it takes images of any number and size
    dtype: Literal["float32", "uint8"]  # of the images: in [0, 1], or 0 … 255
    output: Literal["logits", "classes"]


class Opened(NamedTuple):
    """An exported file, ready to compute."""

    compute: Compute
    metadata: Mapping[str, str]  # texts, some of them JSON


class FileNetwork(nn.Module):
    """An exported file as a network: it takes what networks take, and returns logits at the size of the images.

    Of a file that gives classes, the probability of the class is 1 and the others are 0.

    Args:
        compute: runs the file.
        num_classes: K.
        dtype: of the images that it takes.
        output: "logits" or "classes".
        one_by_one: whether it takes one image at a time.
    """

    def __init__(
        self, compute: Compute, num_classes: int, *, dtype: str, output: str, one_by_one: bool = False
    ) -> None:
        super().__init__()
        self.compute, self.num_classes, self.dtype, self.output = compute, num_classes, dtype, output
        self.one_by_one = one_by_one

    def forward(self, images: Tensor) -> SegmentationOutput:
        """Images (N, C, H, W), float in [0, 1]."""
        pixels = (images * 255).round().to(torch.uint8) if self.dtype == "uint8" else images
        parts = torch.split(pixels.cpu(), 1 if self.one_by_one else len(pixels))
        found = torch.cat([torch.from_numpy(np.array(self.compute(part.contiguous().numpy()))) for part in parts])
        if self.output == "classes":
            found = CERTAIN * nn.functional.one_hot(found.long(), self.num_classes).movedim(-1, 1)
        return SegmentationOutput(found.float().to(images.device), {}, {})


def onnx_program(graph: nn.Module, example: Tensor, outputs: Sequence[str], free: Any = None) -> torch.onnx.ONNXProgram:
    """A module as an ONNX program, to be saved; it raises whatever the exporter raises.

    Args:
        graph: in evaluation mode, on the CPU; `forward(images)`.
        example: images, whose shape the program keeps.
        outputs: the names of what the module returns, in its order.
        free: the axes of the images that may have any length, by their names; None for none.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter, on its own parts
        program = torch.onnx.export(
            graph,
            (example,),
            dynamo=True,
            input_names=[INPUT],
            output_names=list(outputs),
            dynamic_shapes=None if free is None else {INPUT: free},
            verbose=False,
        )
    assert program is not None
    return program


def open_onnx(file: Path) -> Opened:
    """A function that computes an ONNX file by ONNX Runtime, on the CPU.

    Raises:
        WeightsError: the runtime does not take the file.
    """
    import onnxruntime

    try:
        session = onnx_session(file)
    except Exception as error:  # noqa: BLE001  # the runtime raises its own exceptions
        raise _refused(file, f"ONNX Runtime {onnxruntime.__version__}", error, "onnxruntime") from None
    return Opened(
        lambda images: np.asarray(session.run(None, {INPUT: images})[0]),
        session.get_modelmeta().custom_metadata_map,
    )


def onnx_session(file: Path, *, threads: int | None = None, spinning: bool = True) -> Any:
    """A session of ONNX Runtime on the CPU; it raises whatever the runtime raises.

    Args:
        file: an ONNX file.
        threads: of the session; None: one for each core.
        spinning: whether threads without work wait actively, which is faster where nothing else runs.
    """
    import onnxruntime

    onnxruntime.set_default_logger_severity(4)  # it raises errors too: the lines would come twice
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    if threads is not None:
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.add_session_config_entry("session.intra_op.allow_spinning", str(int(spinning)))
    return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])


def open_openvino(file: Path) -> Opened:
    """A function that computes an OpenVINO file (`model.xml`, with `model.bin` beside it), on the CPU, in float32.

    Raises:
        WeightsError: the runtime does not take the file.
    """
    import openvino

    try:
        core = openvino.Core()
        model = core.read_model(file)
        stated = model.get_rt_info("kd").value if model.has_rt_info("kd") else {}
        compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    except Exception as error:  # noqa: BLE001  # the runtime raises its own exceptions
        raise _refused(file, f"OpenVINO {openvino.__version__.partition('-')[0]}", error, "openvino") from None
    metadata = {name: str(getattr(value, "value", value)) for name, value in stated.items()}
    return Opened(lambda images: np.asarray(compiled(images)[0]), metadata)


OPENERS: dict[str, Callable[[Path], Opened]] = {".onnx": open_onnx, ".xml": open_openvino}


def open_file(file: Path) -> tuple[FileNetwork, Facts]:
    """An exported file as a network, and what it states about itself.

    Raises:
        RecipeError: the package that computes such files is not installed.
        WeightsError: it is not a file that `kd export` wrote, or its runtime does not take it; when it computes, that
            it does not do what it states.
    """
    check_file(file, "an exported network", WeightsError)
    extra = SUFFIXES[file.suffix]
    runtime = "onnxruntime" if extra == "onnx" else extra
    if find_spec(runtime) is None:
        raise RecipeError(f"{file}: {missing(runtime, extra)}")
    compute, metadata = OPENERS[file.suffix](file)
    try:
        facts = checked(json.dumps({name: _value(text) for name, text in metadata.items()}).encode(), Facts, str(file))
    except StorageError as error:
        raise WeightsError(
            f"{error}; its metadata are not those of a file by kd export; export the run again"
        ) from None
    network = FileNetwork(
        _guarded(file, compute, facts),
        len(facts.classes),
        dtype=facts.dtype,
        output=facts.output,
        one_by_one=not facts.dynamic,
    )
    return network.eval(), facts


def _guarded(file: Path, compute: Compute, facts: Facts) -> Compute:
    """A file's computation, which may not do what the file states; what it does instead is one line."""
    channels = () if facts.output == "classes" else (len(facts.classes),)

    def guarded(images: NDArray[Any]) -> NDArray[Any]:
        try:
            found = np.asarray(compute(images))
        except Exception as error:  # noqa: BLE001  # a runtime raises its own exceptions
            raise WeightsError(f"{file}: cannot compute images {images.shape}: {short(error)}") from None
        expected = (len(images), *channels, *images.shape[2:])
        if found.shape != expected:
            raise WeightsError(f"{file}: its output is {found.shape}, but its metadata promise {expected}")
        if not channels and not (found.min() >= 0 and found.max() < len(facts.classes)):
            raise WeightsError(f"{file}: its output is not the index of one of its {len(facts.classes)} classes")
        return found

    return guarded


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _refused(file: Path, runtime: str, error: Exception, package: str) -> WeightsError:
    return WeightsError(
        f"{file}: {runtime} does not take the file: {short(error)}; export it again, or pip install --upgrade {package}"
    )
