"""What `kd latency` measures: networks, trained or not, and exported files."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from torch import nn

from kd.components import Maker
from kd.evaluation.targets import refuse_others
from kd.evaluation.trained import open_trained
from kd.networks.arithmetic import count_macs
from kd.recipe import Recipe, Use, read_recipe
from kd.runs import is_finished, run_directory
from kd.types import parameter_count

FILES = (".onnx", ".xml")
SIZE = (512, 512)  # of a network that no recipe gives one


class Source(NamedTuple):
    """What a command line names; it builds the same network again in another process."""

    name: str
    overrides: tuple[str, ...]
    runs: Path
    trust: bool
    classes: int  # of a network that no recipe gives any


class Arithmetic(NamedTuple):
    """What a network costs on every machine."""

    parameters: int
    macs: int | None  # multiply-accumulates of an image; None where they cannot be counted from shapes alone


class Subject(NamedTuple):
    """A network or a file to measure."""

    name: str
    files: dict[str, Path]  # by runtime; without those that compute the network itself
    source: Source | None  # of a network
    shape: tuple[int, int, int]  # (C, H, W); axes that a file fixes are the file's
    arithmetic: Arithmetic | None = None  # of a network
    run_dir: Path | None = None  # of the run whose network is measured at its own size


def find_subjects(source: Source, size: tuple[int, int] | None) -> Iterator[Subject]:
    """What a name stands for: one network, one file, or the files of an exported folder.

    Raises:
        RecipeError: it is none of these; a program for torch is none.
    """
    path = Path(source.name)
    if os.path.isfile(path) and path.suffix in FILES:
        yield _of_file(path, size)
        return
    if os.path.isdir(path) and (files := sorted(file for file in path.iterdir() if file.suffix in FILES)):
        yield from (_of_file(file, size) for file in files)
        return
    refuse_others([source.name])
    network, own_size, run_dir = build(source)
    in_channels = int(getattr(network, "in_channels", 3))
    shape = (in_channels, *(size or own_size))
    arithmetic = Arithmetic(parameter_count(network), _macs(network, shape[1:]))
    yield Subject(source.name, {}, source, shape, arithmetic, None if size or source.overrides else run_dir)


def _of_file(file: Path, size: tuple[int, int] | None) -> Subject:
    files = {"openvino": file} | ({"onnx": file} if file.suffix == ".onnx" else {})
    return Subject(str(file), files, None, (3, *(size or SIZE)))


def _macs(network: nn.Module, size: tuple[int, int]) -> int | None:
    try:
        return count_macs(network, size)
    except (RuntimeError, NotImplementedError):  # a network that makes tensors of its own, or reads their values
        return None


class Built(NamedTuple):
    """A network to measure."""

    network: nn.Module  # in evaluation mode, on the CPU
    size: tuple[int, int]  # of its images
    run_dir: Path | None = None  # that trained it


def build(source: Source) -> Built:
    """The network that a name stands for.

    It is that of the first finished run; of a recipe that has none, the student as it begins to train.

    Raises:
        RecipeError: there is no such network.
    """
    if re.match(r"(students|teachers)\.\w+$", source.name):
        network: nn.Module = Maker().build(Use(use=source.name), num_classes=source.classes, in_channels=3)
        return Built(network.eval(), SIZE)
    if not os.path.isdir(source.name) and Path(source.name).suffix != ".safetensors":
        recipe = read_recipe(source.name, source.overrides, trust=source.trust)
        if not any(is_finished(run_directory(recipe, source.runs, seed)) for seed in recipe.train.seeds):
            return Built(_untrained(recipe), recipe.scored_size)
    trained = open_trained(source.name, source.overrides, runs=source.runs, trust=source.trust)
    return Built(trained.network, trained.recipe.scored_size, trained.path if trained.path.is_dir() else None)


def _untrained(recipe: Recipe) -> nn.Module:
    maker = Maker(recipe)
    data = maker.dataset("val")
    return maker.network(recipe.student.network, len(data.class_names), data.in_channels).eval()
