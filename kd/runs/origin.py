"""Where a file comes from, in the file itself: recipe, scores, data and versions as texts by name.

A run writes them into the header of its weights, `kd export` into the file for another runtime, and `kd compare` into
its page. Seeds, machine settings and paths of components are not among them, so that equal runs write equal files.
"""

import io
import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO
from xml.etree import ElementTree

from kd.errors import StorageError
from kd.files.manifest import WEIGHTS, read_verified
from kd.files.reading import MAX_TEXT, check_file, read_bytes
from kd.metrics import scores
from kd.recipe import Recipe, read_recipe
from kd.recipe.identity import Scope, plain
from kd.recipe.yaml12 import dump
from kd.runs.directory import may_be_finished
from kd.runs.finding import finished_at
from kd.runs.result import Result, SplitResult

Origin = dict[str, str]

RECIPE = "recipe_yaml"
MAX_HEADER = 100_000_000  # bytes
PAGE = re.compile(rb'<script type="application/json" id="data">(.*?)</script>', re.DOTALL)  # of kd compare
EXPORTED = ("model.onnx", "model.xml", "model.pt2")  # of the folder that `kd export` writes
SUFFIXES = (".safetensors", ".onnx", ".xml")
_METADATA, _KEY, _VALUE = 14, 1, 2  # fields of ONNX's protocol buffers: ModelProto and StringStringEntryProto
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # kinds of fields


class NoRecipeError(StorageError):
    """A file states no recipe."""


def origin_of(recipe: Recipe, result: Result, *, in_channels: int, colors: Sequence[Sequence[int]]) -> Origin:
    """What the files of a finished run state.

    Args:
        recipe: of the run.
        result: of the run.
        in_channels: of its images.
        colors: (R, G, B) of its classes.
    """
    split = next(iter(result.splits.values()))
    inputs = result.inputs
    return {
        "run": f"{result.id}/seed{result.seed}",
        "name": result.name,
        "role": result.role,
        "network": beside_it(result.network),
        "in_channels": str(in_channels),
        "classes": json.dumps(split.classes),
        "colors": json.dumps([list(map(int, color)) for color in colors]),
        "scores": json.dumps(
            {
                name: {"miou": _number(split), "images": split.images, "against": split.against}
                for name, split in result.splits.items()
            }
        ),
        "data": json.dumps({"train": inputs.train, "val": inputs.val} if inputs else {}),
        "versions": json.dumps(result.versions),
        RECIPE: dump(_portable(recipe)),
    }


def _portable(recipe: Recipe) -> dict[str, Any]:
    """The recipe's meaning as plain data; a file that it names by an absolute path is expected beside it."""
    tree: dict[str, Any] = plain(recipe, beside_it, without=Scope)
    if recipe.teacher is not None and recipe.teacher.recipe is not None:
        tree["teacher"]["recipe"] = beside_it(recipe.teacher.recipe)
    return tree


def beside_it(text: str) -> str:
    """`/a/b/nets.py:Net` as `nets.py:Net`."""
    return os.path.basename(text) if os.path.isabs(text) else text


def _number(split: SplitResult) -> float | None:
    """The mIoU; None if no class has one."""
    miou = scores(split.confusion).miou
    return None if math.isnan(miou) else round(miou, 6)


def with_origin(weights: bytes, origin: Mapping[str, str]) -> bytes:
    """A safetensors file with these texts in its header, in their order: safetensors itself writes a random one."""
    length = int.from_bytes(weights[:8], "little")
    header = {"__metadata__": dict(origin)} | json.loads(weights[8 : 8 + length])
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # tensors are aligned to 8 bytes
    return len(text).to_bytes(8, "little") + text + weights[8 + length :]


def read_origin(path: Path) -> Origin:
    """What a file states on where it comes from.

    Args:
        path: a .safetensors or .onnx file, or OpenVINO's .xml; or an exported folder, for its file; or a run directory,
            for its weights, which its manifest verifies; or the folder of a recipe's runs, for those of its first
            finished one.

    Raises:
        NoRecipeError: it states no recipe.
        RecipeError: there is no finished run in the folder.
        WeightsError: the weights of a run are missing or damaged.
        StorageError: there is no such file, or it cannot be read.
    """
    if path.name == WEIGHTS and may_be_finished(path.parent):
        return read_run_origin(path.parent)
    if may_be_finished(path):
        return read_run_origin(path)
    file = next(filter(os.path.isfile, map(path.joinpath, EXPORTED)), path)
    if os.path.isdir(file):
        return read_run_origin(finished_at(path)[0])
    check_file(file, "a file of a trained network", StorageError, inside=None if file == path else path)
    if file.suffix not in SUFFIXES:
        raise NoRecipeError(f"{file}: kd reads the recipe in {', '.join(SUFFIXES)} files")
    try:
        with file.open("rb") as opened:
            return _stated(file, opened, file.stat().st_size)
    except OSError as error:
        raise StorageError(f"{file}: cannot be read ({error.strerror})") from None


def read_run_origin(run_dir: Path) -> Origin:
    """What the weights of a run state on where they come from, compared with the run's manifest.

    Raises:
        NoRecipeError: they state no recipe.
        WeightsError: they are missing or damaged.
        StorageError: they cannot be read; or the manifest is damaged.
    """
    weights = read_verified(run_dir, WEIGHTS)
    return _stated(run_dir / WEIGHTS, io.BytesIO(weights), len(weights))


def _stated(file: Path, opened: BinaryIO, size: int) -> Origin:
    """What the content of a file states.

    Raises:
        NoRecipeError: it states no recipe.
        StorageError: it is damaged.
    """
    if not size:
        raise StorageError(f"{file}: an empty file")
    read = {".safetensors": _in_safetensors, ".onnx": _in_onnx, ".xml": _in_openvino}[file.suffix]
    try:
        origin = read(opened, size)
    except (ValueError, RecursionError):
        raise StorageError(f"{file}: not a readable {file.suffix} file (damaged, or not copied whole)") from None
    if RECIPE not in origin:
        beside = " (a run of kd 0.3 or older: its recipe is beside the weights)" if "run" in origin else ""
        raise NoRecipeError(f"{file}: holds no recipe{beside}")
    return origin


def read_origins(path: Path) -> list[Origin]:
    """What a page by `kd compare` states, for each of its runs; of any other file, as `read_origin`."""
    if path.suffix != ".html":
        return [read_origin(path)]
    content = read_bytes(path, "a page", StorageError, limit=MAX_HEADER)
    found = PAGE.search(content)
    try:
        data = json.loads(found[1]) if found else {}
        origins = [_texts(stated) for stated in data.get("origins", [])]
    except (ValueError, AttributeError, TypeError, RecursionError):
        raise StorageError(f"{path}: not a readable page (damaged, or not copied whole)") from None
    origins = [origin for origin in origins if RECIPE in origin]
    if not origins:
        raise NoRecipeError(f"{path}: holds no recipe")
    return origins


def _in_safetensors(file: BinaryIO, size: int) -> Origin:
    length = int.from_bytes(file.read(8), "little")
    if length > min(size, MAX_HEADER):
        raise ValueError
    header = json.loads(file.read(length))
    stated = header.get("__metadata__", {}) if isinstance(header, dict) else None
    return _texts(stated)


def _texts(stated: object) -> Origin:
    if not isinstance(stated, dict):
        raise ValueError
    return {str(name): text for name, text in stated.items() if isinstance(text, str)}


def _in_onnx(file: BinaryIO, size: int) -> Origin:
    """The metadata of an ONNX file, by protocol buffers' own form: neither onnx nor a runtime is needed."""
    origin: Origin = {}
    while file.tell() < size:
        number, kind = divmod(_varint(file), 8)
        if kind != _BYTES:
            _pass(file, kind)
            continue
        end = _varint(file) + file.tell()
        if end > size:
            raise ValueError
        if number == _METADATA:
            name, text = _entry(file, end)
            origin[name] = text
        file.seek(end)
    return origin


def _entry(file: BinaryIO, end: int) -> tuple[str, str]:
    found = {_KEY: "", _VALUE: ""}
    while file.tell() < end:
        number, kind = divmod(_varint(file), 8)
        if kind != _BYTES:
            _pass(file, kind)
            continue
        length = _varint(file)
        if file.tell() + length > end or length > MAX_HEADER:
            raise ValueError
        found[number] = file.read(length).decode()
    return found[_KEY], found[_VALUE]


def _in_openvino(file: BinaryIO, size: int) -> Origin:
    """The texts that `kd export` writes into an OpenVINO file: the `value` of each element below `kd`."""
    if size > MAX_HEADER:
        raise ValueError
    try:
        stated = ElementTree.parse(file).getroot().find("rt_info/kd")
    except ElementTree.ParseError as error:
        raise ValueError from error
    return {} if stated is None else {part.tag: part.get("value", "") for part in stated}


def _pass(file: BinaryIO, kind: int) -> None:
    """Pass over the value of a field."""
    if kind == _VARINT:
        _varint(file)
    elif kind in (_FIXED64, _FIXED32):
        file.seek(8 if kind == _FIXED64 else 4, 1)
    else:
        raise ValueError


def _varint(file: BinaryIO) -> int:
    """An integer: seven bits a byte, the lowest first."""
    number = 0
    for place in range(0, 64, 7):
        byte = file.read(1)
        if not byte:
            raise ValueError
        number |= (byte[0] & 127) << place
        if byte[0] < 128:
            return number
    raise ValueError


def as_recipe(origin: Mapping[str, str]) -> str:
    """A recipe to run, after comments with all else that a file states."""
    comments = [f"# {name}: {' '.join(text.split())}" for name, text in origin.items() if name != RECIPE]
    return "\n".join([*comments, "", origin[RECIPE].rstrip("\n")])


def recipe_in(file: Path, overrides: Sequence[str] = (), *, trust: bool = False) -> Recipe:
    """Read the recipe that a file states; code that it names is looked for beside the file.

    Args:
        file: as `read_origin`.
        overrides: `path=value` texts that change how the network is used, not how it was trained.
        trust: whether the recipe, or an override, may name code outside kd.

    Raises:
        RecipeError: the recipe is wrong, or names code that is not trusted.
        StorageError: the file states none, or cannot be read.
    """
    origin = read_origin(file)
    text, id = origin[RECIPE], origin.get("run", "").partition("/")[0] or "unknown"
    if len(text) > MAX_TEXT:
        raise StorageError(f"{file}: its recipe has {len(text):,} characters, above the limit of {MAX_TEXT:,}")
    return read_recipe(file, overrides, trust=trust, id=id, text=text)
