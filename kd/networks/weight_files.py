"""Read the tensors that a weights source holds: torchvision's, a safetensors file, or a file by `torch.save`."""

import re
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
import torchvision
from safetensors.torch import load, load_file
from torch import Tensor

from kd.errors import StorageError, WeightsError
from kd.manifest import RESULT, WEIGHTS, read_verified

WRAPPERS = ("state_dict", "model_state", "model_state_dict", "model", "net", "ema")  # keys that hold the weights
PICKLES = (".pt", ".pth", ".ckpt", ".tar", ".bin")


class _Inert:
    """The stand-in for a harmless foreign object in a checkpoint; nothing of it runs."""

    def __init__(self, *args: object) -> None: ...

    def __setstate__(self, state: object) -> None: ...


def _plain_dict(*args: object) -> dict[object, object]:
    return {}


# Bookkeeping that training scripts save with the weights; its real types are never imported.
INERT: list[Any] = [
    (_plain_dict, "collections.defaultdict"),
    *(
        (_Inert, name)
        for name in (
            "argparse.Namespace",
            *(f"builtins.{name}" for name in ("dict", "float", "int", "list", "str", "tuple")),
            *(f"datetime.{name}" for name in ("date", "datetime", "time", "timedelta", "timezone")),
            *(f"numpy.{core}.multiarray.{name}" for core in ("core", "_core") for name in ("_reconstruct", "scalar")),
            *(f"numpy.{name}" for name in ("dtype", "ndarray")),
            *(
                f"{module}.{name}"
                for module in ("pathlib", "pathlib._local")
                for name in ("Path", "PosixPath", "PurePosixPath", "PureWindowsPath", "WindowsPath")
            ),
        )
    ),
]


def read_weights(source: str, key: str | None) -> tuple[dict[str, Tensor], str]:
    """The tensors of a source by name, and the source's name in messages.

    Args:
        source: a torchvision name, a run directory or a file.
        key: where in a file by `torch.save` the weights are; dots go deeper.

    Raises:
        ValueError: the source does not exist, cannot be read safely, or holds no weights.
    """
    if re.fullmatch(r"\w+_Weights\.\w+", source):
        return download(source), source
    path = Path(source)
    if path.is_dir():
        path = path / WEIGHTS
    if not path.is_file():
        raise ValueError(f"no file {path}; give imagenet, a torchvision name, a run directory or a file")
    if path.suffix == ".safetensors":
        of_run = path.name == WEIGHTS and (path.parent / RESULT).exists()
        try:
            return (load(read_verified(path.parent, WEIGHTS)) if of_run else load_file(path)), path.name
        except (WeightsError, StorageError):
            raise
        except Exception as error:  # noqa: BLE001  # whatever a damaged file makes the reader raise
            raise ValueError(f"{path} is not a readable safetensors file ({_first_line(error)})") from None
    if path.suffix not in PICKLES:
        raise ValueError(f"{path}: '{path.suffix}' files cannot be read; use .safetensors, {', '.join(PICKLES)}")
    return _unwrapped(_unpickled(path), key), path.name


def download(name: str) -> dict[str, Tensor]:
    """Torchvision's weights of a name, from its cache or the internet.

    Raises:
        ValueError: there are no such weights, or they cannot be downloaded.
    """
    try:
        weights = torchvision.models.get_weight(name)
    except (ValueError, KeyError):
        known = [str(w) for m in torchvision.models.list_models() for w in torchvision.models.get_model_weights(m)]
        siblings = [weights for weights in known if weights.startswith(f"{name.partition('.')[0]}.")]
        close = siblings or get_close_matches(name, known, n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise ValueError(f"torchvision has no weights {name}{hint}") from None
    cached = Path(torch.hub.get_dir(), "checkpoints", Path(weights.url).name)
    try:
        state: dict[str, Tensor] = weights.get_state_dict(progress=False, check_hash=True, weights_only=True)
    except Exception as error:  # noqa: BLE001  # no network, no space or a damaged file: the fix is the same
        raise ValueError(
            f"{name} could not be downloaded ({_first_line(error)}); download {weights.url} and save it as {cached}"
        ) from None
    return state


def _unpickled(path: Path) -> object:
    """The content of a file by `torch.save`: tensors, plain containers, and foreign bookkeeping as inert objects."""
    try:
        with torch.serialization.safe_globals(INERT):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001  # mutated pickles raise nearly anything
        forbidden = re.search(r"GLOBAL (\S+)", str(error))
        if forbidden is None and "Unsupported operand 149" not in str(error):  # FRAME, the start of protocol 4
            raise ValueError(f"{path} is not a readable PyTorch file ({_first_line(error)})") from None
        what = f"holds {forbidden[1]}" if forbidden else "is pickled with protocol 4 or newer"
        raise ValueError(
            f"{path} {what}, which could run code, so it is not opened; if you trust the file, "
            "convert it to safetensors in the environment that wrote it:\n"
            "    import torch, safetensors.torch\n"
            f"    data = torch.load({str(path)!r}, map_location='cpu', weights_only={False})\n"
            "    state = data.get('state_dict', data) if isinstance(data, dict) else data.state_dict()"
            "  # or data['the key that holds the weights']\n"
            "    safetensors.torch.save_file({k: v.contiguous().clone() for k, v in state.items()}, "
            f"{path.stem + '.safetensors'!r})"
        ) from None


def _unwrapped(data: object, key: str | None) -> dict[str, Tensor]:
    """The state dict inside a checkpoint."""
    if key is not None:
        for part in [key] if isinstance(data, Mapping) and key in data else key.split("."):
            if not isinstance(data, Mapping) or part not in data:
                raise ValueError(f"the file has no key '{key}'; it has {first_names(data)}")
            data = data[part]
    while isinstance(data, Mapping):
        inside = [name for name in WRAPPERS if _holds_tensors(data.get(name))]
        if not inside:
            tensors = {str(name): value for name, value in data.items() if isinstance(value, Tensor)}
            if tensors:
                return tensors
            break
        if len(inside) > 1:
            raise ValueError(f"the file holds weights under '{inside[0]}' and '{inside[1]}'; choose one with key:")
        data = data[inside[0]]
    raise ValueError(f"no weights found: the file has {first_names(data)}; name their key with key:")


def _holds_tensors(value: object) -> bool:
    """Whether this is a mapping with a tensor at any depth; the settings of a model are saved under `model` too."""
    return isinstance(value, Mapping) and any(isinstance(v, Tensor) or _holds_tensors(v) for v in value.values())


def first_names(names: object) -> str:
    """The first names of a mapping, or the type of anything else."""
    if not isinstance(names, Mapping):
        return f"a {type(names).__name__}"
    first = [f"'{name}'" for name in list(names)[:3]]
    return ", ".join(first) + (" …" if len(names) > len(first) else "") if first else "nothing"


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
