"""The formats of `kd export`: what each needs, and how it is written and computed."""

from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from kd.components import missing
from kd.deploy.export.graph import Form
from kd.deploy.export.to_onnx import with_metadata, write_onnx
from kd.deploy.export.to_openvino import convert, write_openvino
from kd.deploy.export.to_pt2 import write_pt2
from kd.deploy.timing import Loaded, Shape, load_onnx, load_openvino
from kd.errors import RecipeError
from kd.runtimes.exported import Compute, open_onnx, open_openvino

Write = Callable[[Path, nn.Module, Form, Mapping[str, str]], None]


class Format(NamedTuple):
    """A format."""

    file: str  # its name in the folder
    extra: str  # of kd, that installs what it needs
    needed: tuple[str, ...]  # packages that write and compute it
    runtime: tuple[str, ...]  # packages that compute it
    write: Write
    open: Callable[[Path], Compute]
    convert: Callable[[Path, Path, Mapping[str, str]], None] | None = None  # from an ONNX file, which may be in INT8
    load: Callable[[Path, Shape, bool, int], Loaded] | None = None  # to be timed


def _open_pt2(file: Path) -> Compute:
    """A function that computes a file that this process has just written."""
    program = torch.export.load(file).module()
    return lambda images: program(torch.from_numpy(images)).detach().numpy()


_ONNX = ("onnx", "onnxscript")
FORMATS = {
    "onnx": Format(
        "model.onnx",
        "onnx",
        (*_ONNX, "onnxruntime"),
        ("onnxruntime",),
        write_onnx,
        lambda file: open_onnx(file).compute,
        with_metadata,
        load_onnx,
    ),
    "openvino": Format(
        "model.xml",
        "openvino",
        (*_ONNX, "openvino"),
        ("openvino",),
        write_openvino,
        lambda file: open_openvino(file).compute,
        convert,
        load_openvino,
    ),
    "pt2": Format("model.pt2", "", (), ("torch",), write_pt2, _open_pt2),
}


def format_of(name: str) -> Format:
    """A format whose packages are installed.

    Raises:
        RecipeError: there is no such format, or a package is missing.
    """
    if name not in FORMATS:
        raise RecipeError(f"--to {name}: unknown; known: {', '.join(FORMATS)}")
    chosen = FORMATS[name]
    for package in chosen.needed:
        if find_spec(package) is None:
            raise RecipeError(f"--to {name}: {missing(package, chosen.extra)}")
    return chosen
