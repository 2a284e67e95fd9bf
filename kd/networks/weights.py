"""Load weights into a network: its own, torchvision's, or a file as other code bases save it."""

import re
from collections import Counter
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
import torchvision
from safetensors.torch import load_file
from torch import Tensor, nn

WRAPPERS = ("state_dict", "model_state", "model_state_dict", "model", "net", "ema")  # the key that holds the weights
PREFIXES = ("module.", "model.", "network.", "architecture.", "_orig_mod.")  # what wrapping a network puts before names
PICKLES = (".pt", ".pth", ".ckpt", ".tar", ".bin")

# Where other code bases keep an encoder; what is left behind it is torchvision's own naming.
ENCODER = re.compile(r"^(backbone\.|encoder\.)?(features\.|low_level_features\.|high_level_features\.)?")


class _Inert:
    """What a harmless foreign object in a checkpoint turns into: nothing that could run."""

    def __init__(self, *args: object) -> None: ...

    def __setstate__(self, state: object) -> None: ...


def _plain_dict(*args: object) -> dict[object, object]:
    return {}


# Bookkeeping that training scripts save beside the weights. The real types are never imported for it.
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


def load_into(network: nn.Module, spec: str | Mapping[str, Any] | None) -> str:
    """Load the weights that a recipe names into a network, as far as they fit.

    Names are matched as they are, behind prefixes that wrapping adds (`module.` …), and, for a file that holds an
    encoder alone, inside the network's `backbone`. A first convolution for RGB becomes one for C channels by
    `Σ_rgb weight / C`: an image that has one value in all its channels gets the same answer as before.

    Args:
        network: changed in place, and only if everything is in order.
        spec: None or "none"; "imagenet" (the backbone, from torchvision); a torchvision name such as
            "FCN_ResNet50_Weights.COCO_WITH_VOC_LABELS_V1"; a run's folder; a .safetensors file or a file by
            `torch.save`; or a mapping with `file`, and by choice `key` (where in the file the weights are; dots go
            deeper), `rename` (beginnings of names, old: new) and `head: new` (leave out a classifier for other
            classes).

    Returns:
        One line that says what was loaded and what was not.

    Raises:
        ValueError: nothing there, nothing fits, another number of classes, a name with another shape.
    """
    options: dict[str, Any] = {"file": spec} if isinstance(spec, str) or spec is None else dict(spec)
    if unknown := options.keys() - {"file", "key", "rename", "head"}:
        raise ValueError(f"unknown key '{min(unknown)}'; known: file, head, key, rename")
    if options.get("head", "as saved") not in ("new", "as saved"):
        raise ValueError(f"head: '{options['head']}' is not possible; write `head: new` or leave it out")
    source = options.get("file")
    if source is None or source == "none":
        return "no weights loaded: all layers start from scratch"
    state, label = _read(network, str(source), options.get("key"))
    for old, new in (options.get("rename") or {}).items():
        if not any(name.startswith(old) for name in state):
            raise ValueError(f"rename: no name in {label} begins with '{old}'; it has {_some(state)}")
        state = {new + name.removeprefix(old) if name.startswith(old) else name: t for name, t in state.items()}
    state, stripped = _without_prefixes(state, network)
    loaded, unused = _placed(network, state, new_head=options.get("head") == "new")
    if not any(_counts(name) for name in loaded):
        raise ValueError(
            f"nothing in {label} fits: it has {_some(state)}, the network {_some(network.state_dict())}; "
            "rename: {'old.': 'new.'} brings names together"
        )
    network.load_state_dict(loaded, strict=False)
    parts = [f"{label}: {_loaded(network, loaded)}"]
    if stripped:
        parts.append(f"without the prefix {', '.join(stripped)}")
    if unused := [name for name in unused if _counts(name)]:
        parts.append(f"not used: {_grouped(unused, list(filter(_counts, state)))}")
    return "; ".join(parts)


def _read(network: nn.Module, source: str, key: str | None) -> tuple[dict[str, Tensor], str]:
    """The tensors that a source holds, and what a message calls it."""
    if key is not None and not source.endswith(PICKLES):
        raise ValueError(f"key: {source} has one set of weights and no keys; only {', '.join(PICKLES)} have")
    if source == "imagenet":
        name = getattr(getattr(network, "backbone", None), "imagenet", None)
        if name is None:
            raise ValueError(f"{type(network).__name__} has no backbone with ImageNet weights; name a file")
        state, label = _download(name)
        return {name: t for name, t in state.items() if not name.startswith(("fc.", "classifier."))}, label
    if re.fullmatch(r"\w+_Weights\.\w+", source):
        return _download(source)
    path = Path(source)
    if path.is_dir():
        path = path / "student.safetensors"
    if not path.is_file():
        raise ValueError(f"no file {path}; give imagenet, a torchvision name, a run's folder or a file")
    if path.suffix == ".safetensors":
        try:
            return load_file(path), path.name
        except Exception as error:  # noqa: BLE001  # whatever a damaged file makes the reader raise
            raise ValueError(f"{path} is not a readable safetensors file ({_first_line(error)})") from None
    if path.suffix not in PICKLES:
        raise ValueError(f"{path}: the ending '{path.suffix}' is none of .safetensors, {', '.join(PICKLES)}")
    return _unwrapped(_unpickled(path), key), path.name


def _download(name: str) -> tuple[dict[str, Tensor], str]:
    try:
        weights = torchvision.models.get_weight(name)
    except (ValueError, KeyError):
        known = [str(w) for m in torchvision.models.list_models() for w in torchvision.models.get_model_weights(m)]
        siblings = [one for one in known if one.startswith(f"{name.partition('.')[0]}.")]
        close = siblings or get_close_matches(name, known, n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise ValueError(f"torchvision has no weights {name}{hint}") from None
    cached = Path(torch.hub.get_dir(), "checkpoints", Path(weights.url).name)
    try:
        return weights.get_state_dict(progress=False, check_hash=True, weights_only=True), name
    except Exception as error:  # noqa: BLE001  # no network, no space, a damaged file: the fix is the same
        raise ValueError(
            f"{name} could not be fetched ({_first_line(error)}); save {weights.url} as {cached} by hand"
        ) from None


def _unpickled(path: Path) -> object:
    """What `torch.save` wrote: tensors, plain containers, and foreign bookkeeping as inert objects."""
    try:
        with torch.serialization.safe_globals(INERT):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001  # mutated pickles raise nearly anything
        forbidden = re.search(r"GLOBAL (\S+)", str(error))
        if forbidden is None and "Unsupported operand 149" not in str(error):  # FRAME, which protocol 4 begins with
            raise ValueError(f"{path} is not a readable PyTorch file ({_first_line(error)})") from None
        what = f"holds {forbidden[1]}" if forbidden else "is pickled by protocol 4 or newer"
        raise ValueError(
            f"{path} {what}, which could run code, so it is not opened; if you trust the file, "
            "turn it into safetensors in the environment that wrote it:\n"
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
                raise ValueError(f"the file has no key '{key}'; it has {_some(data)}")
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
    raise ValueError(f"no weights found: the file has {_some(data)}; say with key: where they are")


def _holds_tensors(value: object) -> bool:
    """Whether this is a mapping with a tensor at any depth: a model's settings stand under `model` as well."""
    return isinstance(value, Mapping) and any(isinstance(one, Tensor) or _holds_tensors(one) for one in value.values())


def _without_prefixes(state: dict[str, Tensor], network: nn.Module) -> tuple[dict[str, Tensor], list[str]]:
    """The state without the prefixes whose removal makes more names fit, and these prefixes."""
    best, best_stripped, stripped = state, list[str](), list[str]()
    while found := [p for p in PREFIXES if any(name.startswith(p) for name in state)]:
        prefix = found[0]
        state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
        stripped = [*stripped, prefix]
        if _fitting(state, network) > _fitting(best, network):
            best, best_stripped = state, stripped
    return best, best_stripped


def _fitting(state: Mapping[str, Tensor], network: nn.Module) -> int:
    ours = network.state_dict()
    return sum(_home(name, ours) is not None for name in state)


def _home(name: str, ours: Mapping[str, Tensor]) -> str | None:
    """The network's name for a tensor of the file: the same, or inside its backbone, or inside what it wraps."""
    choices = (name, ENCODER.sub("backbone.", name), f"network.{name}")
    return next((choice for choice in choices if choice in ours), None)


def _placed(network: nn.Module, state: Mapping[str, Tensor], new_head: bool) -> tuple[dict[str, Tensor], list[str]]:
    """The file's tensors under the network's names, and the names in the file that have no place there."""
    ours, classes, channels = network.state_dict(), _count(network, "num_classes"), _count(network, "in_channels")
    loaded, unused, wrong = dict[str, Tensor](), list[str](), list[str]()
    for name, tensor in state.items():
        home = _home(name, ours)
        if home is None or home in loaded:
            unused.append(name)
            continue
        there, here = tuple(tensor.shape), tuple(ours[home].shape)
        if there == here:
            loaded[home] = tensor
        elif len(here) == 4 and here[1] == channels and there == (here[0], 3, *here[2:]):
            loaded[home] = tensor.sum(1, keepdim=True).expand(here) / channels
        elif here[:1] == (classes,) and there[1:] == here[1:]:
            if not new_head:
                raise ValueError(
                    f"{home} is for {there[0]} classes, the network for {classes}; `head: new` starts it anew"
                )
            unused.append(name)
        elif len(there) == len(here):
            wrong.append(f"{home} is {there} in the file and {here} in the network")
        else:
            unused.append(name)
    if wrong:
        more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
        raise ValueError(f"{wrong[0]}{more}; these are the weights of another network")
    return loaded, unused


def _loaded(network: nn.Module, loaded: Mapping[str, Tensor]) -> str:
    ours = list(filter(_counts, network.state_dict()))
    missing = [name for name in ours if name not in loaded]
    text = f"loaded {len(ours) - len(missing)} of {len(ours)} tensors"
    return f"{text}; from scratch: {_grouped(missing, ours)}" if missing else text


def _grouped(names: list[str], among: list[str]) -> str:
    """Names, with the whole module instead where all of its tensors are meant: `aspp (30), backbone.0.0.weight`."""
    meant, groups = set(names), Counter[str]()
    for name in names:
        parts = name.split(".")
        above = (".".join(parts[:depth]) for depth in range(1, len(parts) + 1))
        groups[next(a for a in above if all(n in meant for n in among if f"{n}.".startswith(f"{a}.")))] += 1
    return ", ".join(f"{group} ({count})" if count > 1 else group for group, count in groups.items())


def _counts(name: str) -> bool:
    """Whether a tensor is worth a word: not a counter, and not the constants of the normalisation."""
    return not name.endswith("num_batches_tracked") and not name.startswith("normalize.")


def _count(network: nn.Module, what: str) -> int:
    return int(getattr(network, what, -1))


def _some(names: object) -> str:
    """The first few names of a mapping, or what it is instead."""
    if not isinstance(names, Mapping):
        return f"a {type(names).__name__}"
    first = [f"'{name}'" for name in list(names)[:3]]
    return ", ".join(first) + (" …" if len(names) > len(first) else "") if first else "nothing"


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
