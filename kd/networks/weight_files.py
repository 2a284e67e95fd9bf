"""Read the tensors that a weights source holds: torchvision's, a safetensors file, or a file by `torch.save`."""

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torchvision
from safetensors.torch import load, load_file
from torch import Tensor

from kd.errors import shell_word
from kd.files.manifest import MANIFEST, RESULT, WEIGHTS, read_verified, unfinished
from kd.networks.torch_files import OtherFileError, unpickle
from kd.networks.unpickle import Opaque, UnpickleError

WRAPPERS = ("state_dict", "model_state", "model_state_dict", "model", "net", "ema")  # keys that hold the weights
# Keys that hold the names of the classes.
CLASSES = ("classes", "CLASSES", "class_names", "names", "id2label", "label2id")
FORMATS = (".safetensors", ".pt", ".pth", ".ckpt", ".tar", ".bin")


class MisfitError(ValueError):
    """Weights do not load as a recipe names them.

    Args:
        what: what is wrong.
        fix: keys of `weights` in a recipe, with the values that would mend it; {} if there are none.
    """

    def __init__(self, what: str, fix: dict[str, Any] | None = None) -> None:
        super().__init__(what)
        self.fix = fix or {}


class Weights(NamedTuple):
    """What a source holds."""

    tensors: dict[str, Tensor]  # by name
    label: str  # the source in messages
    classes: tuple[str, ...] | None = None  # in the order of the channels; None: the source does not name them
    passed: Sequence[str] = ()  # the objects that were not read, by the names of their classes


def read_weights(source: str, key: str | None) -> Weights:
    """The content of a source.

    Args:
        source: a torchvision name, a run directory or a file.
        key: where in a file the weights are: a key, where dots go deeper, or what all of their names begin with.

    Raises:
        ValueError: the source does not exist, cannot be read safely, or holds no weights.
    """
    if re.fullmatch(r"\w+_Weights\.\w+", source):
        names = _torchvision(source).meta.get("categories", ())
        return Weights(download(source), source, tuple(name.strip("_") for name in names) or None)  # __background__
    path = Path(source)
    if os.path.isdir(path):
        path = path / WEIGHTS
    if path.name == WEIGHTS and any(os.path.lexists(path.parent / name) for name in (MANIFEST, RESULT)):
        weights = _safetensors(path, key, read_verified(path.parent, WEIGHTS))
        return weights._replace(classes=_classes_of_run(path.parent))
    if not os.path.isfile(path):
        begun = unfinished(path.parent) if path.name == WEIGHTS else ""
        raise ValueError(begun or f"no file {path}; give imagenet, a torchvision name, a run directory or a file")
    if path.suffix not in FORMATS:
        raise ValueError(f"{path}: '{path.suffix}' files cannot be read; use {', '.join(FORMATS)}")
    try:
        with path.open("rb") as file:
            start = file.read(min(512, path.stat().st_size))  # 0 of files of /proc, which may block
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from None
    is_safetensors = start[5:9] == b"\0\0\0{"  # the length of the header, in eight bytes, and the header
    if not is_safetensors and (what := _other(start)):
        raise ValueError(f"{path} is {what}")
    if is_safetensors or path.suffix == ".safetensors":
        return _safetensors(path, key)
    try:
        data, passed = unpickle(path)
    except OtherFileError as error:
        raise ValueError(f"{path} is {error}") from None
    except UnpickleError as error:
        raise ValueError(f"{path} is not a readable PyTorch file ({error})") from None
    return Weights(_unwrapped(data, key, path), path.name, _class_names(data), passed)


def _other(start: bytes) -> str:
    """What a file is that holds no weights, and what to do; by its first bytes."""
    if not start:
        return "empty: the download or the copy failed; get it again"
    if start.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer, not the weights; run: git lfs pull"
    if start.lstrip()[:1] == b"<":
        return "a web page, not the weights: the download failed; get it again, and look at it in a browser first"
    if start.lstrip()[:1] == b"{":
        return "a text in JSON, not the weights: the download failed; get it again"
    if start.startswith(b"\x1f\x8b") or start[257:262] == b"ustar":
        return f"a {'gzip' if start[:1] == bytes([0x1F]) else 'tar'} archive; unpack it, and name the file inside"
    if start.startswith(b"\x89HDF"):
        return "an HDF5 file of Keras; kd reads weights of PyTorch only"
    return ""


def _safetensors(path: Path, key: str | None, verified: bytes | None = None) -> Weights:
    """The content of a safetensors file; of a run's, which its manifest has verified, as bytes."""
    try:
        tensors = load_file(path) if verified is None else dict(sorted(load(verified).items()))  # not in a random order
        named = _metadata(path).get("classes", "null")
    except Exception as error:  # noqa: BLE001  # whatever a damaged file makes the reader raise
        raise ValueError(f"{path} is not a readable safetensors file ({_first_line(error)})") from None
    try:
        classes = _texts(json.loads(named))
    except (ValueError, RecursionError):
        classes = None
    return Weights(tensors if key is None else _below(tensors, key), path.name, classes)


def _classes_of_run(run_dir: Path) -> tuple[str, ...] | None:
    """The classes that a run was scored on.

    Raises:
        StorageError: its result is missing or damaged: without its classes, weights would be loaded in any order.
    """
    data = read_verified(run_dir, RESULT)
    try:
        return _texts(json.loads(data)["splits"]["val"]["classes"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def _metadata(path: Path) -> dict[str, str]:
    """The texts in the header of a file that safetensors has read."""
    with path.open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    metadata: dict[str, str] = header.get("__metadata__", {})
    return metadata


def download(name: str) -> dict[str, Tensor]:
    """Torchvision's weights of a name, from its cache or the internet.

    Raises:
        ValueError: there are no such weights, or they cannot be downloaded.
    """
    weights = _torchvision(name)
    cached = Path(torch.hub.get_dir(), "checkpoints", Path(weights.url).name)
    try:
        state: dict[str, Tensor] = weights.get_state_dict(progress=False, check_hash=True, weights_only=True)
    except Exception as error:  # noqa: BLE001  # no network, no space or a damaged file
        if cached.is_file():
            raise ValueError(f"{name}: {cached} is damaged; delete it, and it is downloaded again") from None
        raise ValueError(
            f"{name} could not be downloaded ({_first_line(error)}); download {weights.url} and save it as {cached}"
        ) from None
    return state


def _torchvision(name: str) -> Any:
    try:
        return torchvision.models.get_weight(name)
    except (ValueError, KeyError):
        known = [str(w) for m in torchvision.models.list_models() for w in torchvision.models.get_model_weights(m)]
        siblings = [weights for weights in known if weights.startswith(f"{name.partition('.')[0]}.")]
        close = siblings or get_close_matches(name, known, n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise ValueError(f"torchvision has no weights {name}{hint}") from None


def _unwrapped(data: Any, key: str | None, path: Path) -> dict[str, Tensor]:
    """The state dict inside a checkpoint."""
    if key is not None:
        for part in [key] if isinstance(data, Mapping) and key in data else key.split("."):
            if not isinstance(data, Mapping) or part not in data:
                inside = [data[name] for name in WRAPPERS if name in data] if isinstance(data, Mapping) else []
                return _below(next((held for held in (data, *inside) if _begins(held, key)), data), key)
            data = data[part]
    where, opened = "", set[int]()
    while isinstance(data, Mapping) and not isinstance(data, Opaque) and id(data) not in opened:
        opened.add(id(data))  # a pickle may hold a mapping in itself
        inside = [name for name in WRAPPERS if _holds_tensors(data.get(name))]
        if not inside:
            tensors = {str(name): value for name, value in data.items() if isinstance(value, Tensor)}
            if tensors:
                return tensors
            break
        if len(inside) > 1:
            raise MisfitError(f"the file holds weights under {' and '.join(map(repr, inside))}", {"key": inside[0]})
        data = data[inside[0]]
        where += f"[{inside[0]!r}]"
    networks = [("", data), *((f"[{name!r}]", value) for name, value in _items(data))]
    for place, value in networks:
        if isinstance(value, Opaque) and value.is_network:
            raise ValueError(_conversion(path, f"{where}{place}", value.name))
    if inner := list(islice(_places_of_tensors(data), 4)):
        places = " and ".join(map(repr, inner)) if len(inner) > 1 else f"'{inner[0]}' alone"
        raise MisfitError(f"the file holds weights under {places}", {"key": inner[0]})
    raise ValueError(f"no weights found: the file has {first_names(data)}")


def _conversion(path: Path, place: str, name: str) -> str:
    """What to do about a network that was pickled whole."""
    program = (
        f"import torch, safetensors.torch as s; n = torch.load({str(path)!r}, map_location='cpu', weights_only={False})"
        f"{place}; s.save_file({{k: v.contiguous().clone() for k, v in n.state_dict().items()}}, "
        f"{path.stem + '.safetensors'!r})"
    )
    return (
        f"{path} holds a whole network ({name}), which only its own code can read, and reading it runs what the file "
        f"says; if you trust the file, convert it where that code is installed, and name {path.stem}.safetensors: "
        f"python -c {shell_word(program)}"
    )


def _below(tensors: object, key: str) -> dict[str, Tensor]:
    """The tensors whose names begin with `key`, without it."""
    if not _begins(tensors, key):
        raise ValueError(f"the file has no key '{key}'; it has {first_names(tensors)}")
    return {name.removeprefix(f"{key}."): t for name, t in _items(tensors) if name.startswith(f"{key}.")}


def _begins(tensors: object, key: str) -> bool:
    return any(name.startswith(f"{key}.") and isinstance(value, Tensor) for name, value in _items(tensors))


def _items(data: object) -> Iterator[tuple[str, Any]]:
    """The entries of a mapping with text keys; none of anything else."""
    if isinstance(data, Mapping):
        yield from ((name, value) for name, value in data.items() if isinstance(name, str))


def _class_names(data: object) -> tuple[str, ...] | None:
    """The names of the classes that training scripts save: in the file itself, or two levels below."""
    level: list[object] = [data]
    for _ in range(3):
        for held in level:
            for name, value in _items(held):
                if name in CLASSES and (names := _texts(_as_list(value))) is not None:
                    return names
        level = list(islice((v for held in level for _, v in _items(held) if isinstance(v, Mapping)), 100))
    return None


def _as_list(value: object) -> object:
    """The names in a mapping {number: name} or {name: number} from 0 on, in order; anything else as it is."""
    if not isinstance(value, dict) or isinstance(value, Opaque):
        return value
    for pairs in (value.items(), ((number, name) for name, number in value.items())):
        numbered = {int(number): name for number, name in pairs if str(number).isdecimal()}
        if sorted(numbered) == list(range(len(value))):
            return [numbered[number] for number in range(len(value))]
    return value


def _texts(value: object) -> tuple[str, ...] | None:
    is_list = isinstance(value, list | tuple) and len(value) > 0 and all(isinstance(item, str) for item in value)
    return tuple(value) if is_list and isinstance(value, list | tuple) else None


def _holds_tensors(value: object) -> bool:
    """Whether this is a mapping with a tensor at any depth; the settings of a model are saved under `model` too."""
    level, seen = [value], set[int]()
    while level:
        held = level.pop()
        if isinstance(held, Tensor):
            return True
        if isinstance(held, Mapping) and id(held) not in seen:  # a pickle may hold one mapping in many places
            seen.add(id(held))
            level.extend(held.values())
    return False


def _places_of_tensors(data: object) -> Iterator[str]:
    """The keys, where dots go deeper, of the mappings that have tensors themselves, and are in none that has."""
    waiting, seen = [("", data)], set[int]()
    for place, held in waiting:
        if any(isinstance(value, Tensor) for _, value in _items(held)):
            if place:
                yield place.removesuffix(".")
            continue
        for name, value in _items(held):
            if isinstance(value, Mapping) and id(value) not in seen:
                seen.add(id(value))
                waiting.append((f"{place}{name}.", value))


def first_names(names: object) -> str:
    """The first names of a mapping, or the type of anything else."""
    if not isinstance(names, Mapping):
        return f"a {type(names).__name__}"
    first = [f"'{name}'" for name in list(names)[:3]]
    return ", ".join(first) + (" …" if len(names) > len(first) else "") if first else "nothing"


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
