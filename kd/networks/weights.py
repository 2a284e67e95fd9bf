"""Load weights into a network: torchvision's, those of a run, or a file that another code base saved."""

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from kd.networks.backbones import Stages
from kd.networks.weight_files import PICKLES, download, first_names, read_weights
from kd.types import Network

PREFIXES = ("module.", "model.", "network.", "architecture.", "_orig_mod.")  # what wrapping a network adds to names

# Where other code bases keep an encoder; the rest of a name is torchvision's.
ENCODER = re.compile(r"^(backbone\.|encoder\.)?(features\.|low_level_features\.|high_level_features\.)?")


def load_into(network: nn.Module, spec: str | Mapping[str, Any] | None) -> str:
    """Load the weights that a recipe names into a network, as far as they fit.

    Names match as they are, or after removing the prefixes that wrapping adds (`module.` …); those of a file that
    holds only an encoder match inside the network's `backbone`. A first convolution for RGB becomes one for C channels
    by `Σ_rgb weight / C`: an image with one value in all channels gets the same result as before.

    Args:
        network: changed in place, and only if nothing is wrong.
        spec: None or "none"; "imagenet" (torchvision's weights, for a `backbone` that `kd.networks.backbones` built); a
            torchvision name such as "FCN_ResNet50_Weights.COCO_WITH_VOC_LABELS_V1"; a run directory; a .safetensors
            file or a file by `torch.save`; or a mapping with `file`, and optionally `key` (of the weights in the file;
            dots go deeper), `rename` (old: new beginnings of names) and `head: new` (leave out a classifier for other
            classes).

    Returns:
        One line about what was loaded and what was not.

    Raises:
        ValueError: the source does not exist or cannot be read, no tensor fits, the number of classes differs, or a
            tensor has another shape.
    """
    options: dict[str, Any] = {"file": spec} if isinstance(spec, str) or spec is None else dict(spec)
    if unknown := options.keys() - {"file", "key", "rename", "head"}:
        raise ValueError(f"unknown key '{min(unknown)}'; known: file, head, key, rename")
    if options.get("head", "new") != "new":
        raise ValueError(f"head: must be `new` or left out, got '{options['head']}'")
    source = options.get("file")
    if source is None or source == "none":
        return "no weights loaded: all layers start from scratch"
    key = options.get("key")
    if key is not None and not str(source).endswith(PICKLES):
        raise ValueError(f"key: {source} holds one set of weights; only {', '.join(PICKLES)} files have keys")
    state, label = _imagenet(network) if source == "imagenet" else read_weights(str(source), key)
    for old, new in (options.get("rename") or {}).items():
        if not any(name.startswith(old) for name in state):
            raise ValueError(f"rename: no name in {label} starts with '{old}'; {label} has {first_names(state)}")
        state = {new + name.removeprefix(old) if name.startswith(old) else name: t for name, t in state.items()}
    state, stripped = _without_prefixes(state, network)
    loaded, unused = _placed(network, state, new_head="head" in options)
    if not any(_is_reported(name) for name in loaded):
        raise ValueError(
            f"no tensor of {label} fits: {label} has {first_names(state)}, the network has "
            f"{first_names(network.state_dict())}; map names with rename: {{'old.': 'new.'}}"
        )
    network.load_state_dict(loaded, strict=False)
    parts = [f"{label}: {_loaded(network, loaded)}"]
    if stripped:
        parts.append(f"without the prefix {', '.join(stripped)}")
    if unused := [name for name in unused if _is_reported(name)]:
        parts.append(f"not used: {_grouped(unused, list(filter(_is_reported, state)))}")
    return "; ".join(parts)


def _imagenet(network: nn.Module) -> tuple[dict[str, Tensor], str]:
    """Torchvision's weights of the network's encoder, without their classifier."""
    backbone = dict(network.named_children()).get("backbone")
    if not isinstance(backbone, Stages):
        raise ValueError(f"{type(network).__name__} has no backbone with ImageNet weights; name a file")
    state = download(backbone.imagenet)
    return {name: t for name, t in state.items() if not name.startswith(("fc.", "classifier."))}, backbone.imagenet


def _without_prefixes(state: dict[str, Tensor], network: nn.Module) -> tuple[dict[str, Tensor], list[str]]:
    """The state without the prefixes whose removal makes more names fit, and these prefixes."""
    expected = network.state_dict()

    def fitting(state: Mapping[str, Tensor]) -> int:
        return sum(_place(name, expected) is not None for name in state)

    best, best_stripped, stripped = state, list[str](), list[str]()
    while prefix := next((p for p in PREFIXES if any(name.startswith(p) for name in state)), None):
        state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
        stripped = [*stripped, prefix]
        if fitting(state) > fitting(best):
            best, best_stripped = state, stripped
    return best, best_stripped


def _place(name: str, expected: Mapping[str, Tensor]) -> str | None:
    """The network's name for a tensor of the file: the same, or inside its backbone, or inside what it wraps."""
    choices = (name, ENCODER.sub("backbone.", name), f"network.{name}")
    return next((choice for choice in choices if choice in expected), None)


def _placed(network: nn.Module, state: Mapping[str, Tensor], new_head: bool) -> tuple[dict[str, Tensor], list[str]]:
    """The tensors of the file by the network's names, and the names in the file that have no place in the network."""
    expected = network.state_dict()
    classes, channels = (network.num_classes, network.in_channels) if isinstance(network, Network) else (-1, -1)
    loaded, unused, wrong = dict[str, Tensor](), list[str](), list[str]()
    for name, tensor in state.items():
        place = _place(name, expected)
        if place is None or place in loaded:
            unused.append(name)
            continue
        shape, wanted = tuple(tensor.shape), tuple(expected[place].shape)
        if shape == wanted:
            loaded[place] = tensor
        elif len(wanted) == 4 and wanted[1] == channels and shape == (wanted[0], 3, *wanted[2:]):
            loaded[place] = tensor.sum(1, keepdim=True).expand(wanted) / channels
        elif wanted[:1] == (classes,) and shape[1:] == wanted[1:]:
            if not new_head:
                raise ValueError(
                    f"{place} is for {shape[0]} classes, the network for {classes}; `head: new` trains a new head"
                )
            unused.append(name)
        elif len(shape) == len(wanted):
            wrong.append(f"{place} is {shape} in the file and {wanted} in the network")
        else:
            unused.append(name)
    if wrong:
        more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
        raise ValueError(f"{wrong[0]}{more}; these are the weights of another network")
    return loaded, unused


def _loaded(network: nn.Module, loaded: Mapping[str, Tensor]) -> str:
    expected = list(filter(_is_reported, network.state_dict()))
    missing = [name for name in expected if name not in loaded]
    text = f"loaded {len(expected) - len(missing)} of {len(expected)} tensors"
    return f"{text}; from scratch: {_grouped(missing, expected)}" if missing else text


def _grouped(names: list[str], among: list[str]) -> str:
    """Names, where a module stands for all of its tensors: `aspp (30), backbone.0.0.weight`."""
    listed, groups = set(names), Counter[str]()
    for name in names:
        parts = name.split(".")
        above = (".".join(parts[:depth]) for depth in range(1, len(parts) + 1))
        groups[next(a for a in above if all(n in listed for n in among if f"{n}.".startswith(f"{a}.")))] += 1
    return ", ".join(f"{group} ({count})" if count > 1 else group for group, count in groups.items())


def _is_reported(name: str) -> bool:
    """Whether messages count a tensor: not the counters of BatchNorm, nor the constants of the normalisation."""
    return not name.endswith("num_batches_tracked") and not name.startswith("normalize.")
