"""A network as a program of `torch.export`."""

import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from kd.deploy.export.graph import Form, make_graph, not_exported
from kd.runtimes.exported import INPUT


def write_pt2(file: Path, network: nn.Module, form: Form, metadata: Mapping[str, str]) -> None:
    """Write a network as a `.pt2` file, which torch alone opens; as `write_onnx`. Its metadata are extra files."""
    graph, example = make_graph(network, form)
    free = torch.export.Dim.DYNAMIC
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the exporter, on its own parts
            program = torch.export.export(
                graph, (example,), dynamic_shapes={INPUT: {0: free, 2: free, 3: free}} if form.dynamic else None
            )
    except Exception as error:  # noqa: BLE001  # torch.export raises nearly anything
        raise not_exported(network, "pt2", form, error) from None
    torch.export.save(program, file, extra_files=dict(metadata))
