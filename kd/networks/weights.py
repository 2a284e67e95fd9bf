"""Load weights into a network: torchvision's, those of a run, or a file that another code base saved."""

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from torch import Tensor, nn

from kd.networks.backbones import Stages
from kd.networks.class_names import displaced
from kd.networks.weight_files import MisfitError, Weights, download, first_names, read_weights
from kd.types import Network, traits

# What wrapping a network adds to its names, in front or in the middle.
WRAPPING = {
    "module", "_orig_mod", "model", "network", "net", "architecture",
    "student", "teacher", "ema", "ema_model", "model_ema",
}  # fmt: skip

# Where other code bases keep an encoder; the rest of a name is torchvision's.
ENCODER = re.compile(r"^(backbone\.|encoder\.)?(features\.|low_level_features\.|high_level_features\.)?")


Role = Literal["student", "teacher"]


class Loaded(NamedTuple):
    """What was loaded into a network."""

    line: str  # what was loaded and what was not
    missing: str  # what starts from scratch though a file was named, "" if nothing: "206 of 255 tensors of a.pth; …"
    classes: tuple[str, ...] | None = None  # the names of the classes, in the order of the channels; None: unknown


class PartialError(MisfitError):
    """A tensor of the network is not in the source."""


class ClassCountError(MisfitError):
    """Weights are for another number of classes.

    Args:
        place: the tensor of the network that differs.
        found: the number of classes in the source.
        wanted: the number of classes of the network.
        classes: the names of the classes in the source, if it has them.
    """

    def __init__(self, place: str, found: int, wanted: int, classes: tuple[str, ...] | None) -> None:
        super().__init__(f"{place} is for {found} classes, the network for {wanted}", {"head": "new"})
        self.found, self.classes = found, classes if classes is not None and len(classes) == found else None


def load_into(
    network: nn.Module, spec: str | Mapping[str, Any] | None, *, role: Role = "student", partial: bool = False
) -> Loaded:
    """Load the weights that a recipe names into a network.

    Names match as they are, or without the parts that wrapping adds anywhere in them (`module.`, `_orig_mod.` …);
    those of a file that holds only an encoder match inside the network's `backbone`. A first convolution for RGB
    becomes one for C channels by `Σ_rgb weight / C`: an image with one value in all channels gets the same result as
    before.

    Args:
        network: changed in place, and only if nothing is wrong.
        spec: None or "none"; "imagenet" (torchvision's weights, for a `backbone` that `kd.networks.backbones` built); a
            torchvision name such as "FCN_ResNet50_Weights.COCO_WITH_VOC_LABELS_V1"; a run directory; a .safetensors
            file or a file by `torch.save`; or a mapping with `file`, and optionally `key` (of the weights in the file;
            dots go deeper), `rename` (old: new beginnings of names) and `head: new` (leave out a classifier for other
            classes).
        role: what the network is for; a teacher must be loaded whole, a student may start its classifier from scratch
            with `head: new` or "imagenet".
        partial: whether any part of the student may start from scratch.

    Returns:
        What was loaded and what was not.

    Raises:
        PartialError: a tensor of the network is not in the source.
        ClassCountError: the number of classes differs.
        MisfitError: the source holds weights of two networks.
        ValueError: the source does not exist or cannot be read, no tensor fits, a tensor has another shape, or the
            names of the classes are in another order than the network states (`source_names`).
    """
    options: dict[str, Any] = {"file": spec} if isinstance(spec, str) or spec is None else dict(spec)
    if unknown := options.keys() - {"file", "key", "rename", "head"}:
        raise ValueError(f"unknown key '{min(unknown)}'; known: file, head, key, rename")
    if options.get("head", "new") != "new":
        raise ValueError(f"head: must be `new` or left out, got '{options['head']}'")
    source, key, new_head = options.get("file"), options.get("key"), "head" in options
    if source is None or source == "none":
        return Loaded("no weights loaded: all layers start from scratch", "")
    if key is not None and (source == "imagenet" or "_Weights." in str(source)):
        raise ValueError(f"key: {source} is one set of weights; only files have keys")
    weights = _imagenet(network) if source == "imagenet" else read_weights(str(source), key)
    state, label = weights.tensors, weights.label
    for old, new in (options.get("rename") or {}).items():
        if not any(name.startswith(old) for name in state):
            raise ValueError(f"rename: no name in {label} starts with '{old}'; {label} has {first_names(state)}")
        state = {new + name.removeprefix(old) if name.startswith(old) else name: t for name, t in state.items()}
    places = _places(network, state, label)
    loaded, unused, heads = _placed(network, state, places, new_head, weights.classes)
    expected = {name for name, tensor in network.state_dict().items() if _is_reported(name, tensor)}
    if not expected & loaded.keys():
        names = f"{label} has {first_names(state)}, the network has {first_names(network.state_dict())}"
        if fix := _rename(sorted(expected), unused, state, network.state_dict()):
            raise MisfitError(f"no tensor of {label} fits: {names}", fix)
        raise ValueError(f"no tensor of {label} fits: {names}; map names with rename: {{'old.': 'new.'}}")
    missing = [name for name in network.state_dict() if name in expected and name not in loaded]
    parts = [f"{label}: loaded {len(expected) - len(missing)} of {len(expected)} tensors"]
    if missing:
        parts.append(f"from scratch: {_grouped(missing, [n for n in network.state_dict() if n in expected])}")
    if stripped := _stripped(places):
        parts.append(f"without the prefix {', '.join(stripped)}")
    if unused := [name for name in unused if _is_reported(name, state[name])]:
        parts.append(f"not used: {_grouped(unused, [n for n, t in state.items() if _is_reported(n, t)])}")
    if weights.passed:
        more = " …" if len(weights.passed) > 3 else ""
        parts.append(f"not read: {', '.join(weights.passed[:3])}{more}")
    meant = heads | {name for name in missing if source == "imagenet" and not name.startswith("backbone.")}
    if missing and (role == "teacher" or not (partial or set(missing) <= meant)):
        raise PartialError(
            "; ".join(parts),
            _rename([name for name in missing if name not in heads], unused, state, network.state_dict()),
        )
    source_names = traits(network).source_names
    if weights.classes and source_names and displaced(source_names, weights.classes):
        raise ValueError(
            f"{label} has its classes in the order {', '.join(weights.classes)}, but source is "
            f"{', '.join(source_names)}; set source: [{', '.join(weights.classes)}]"
        )
    network.load_state_dict(loaded, strict=False)
    line = "; ".join(parts)
    return Loaded(line, line if missing and source != "imagenet" else "", weights.classes)


def _imagenet(network: nn.Module) -> Weights:
    """Torchvision's weights of the network's encoder, without their classifier."""
    backbone = dict(network.named_children()).get("backbone")
    if not isinstance(backbone, Stages):
        raise ValueError(f"{type(network).__name__} has no backbone with ImageNet weights; name a file")
    state = download(backbone.imagenet)
    encoder = {name: t for name, t in state.items() if not name.startswith(("fc.", "classifier."))}
    return Weights(encoder, backbone.imagenet)


def _bare(name: str) -> str:
    """A name without the parts that wrapping adds."""
    return ".".join(part for part in name.split(".") if part not in WRAPPING)


def _places(network: nn.Module, state: Mapping[str, Tensor], label: str) -> dict[str, str]:
    """The network's name for each tensor of the file that has one.

    It is the same, the same but for what wrapping adds, or inside the network's backbone.

    Raises:
        MisfitError: two networks in the file fit.
    """
    expected = network.state_dict()
    times = Counter(map(_bare, expected))
    bare = {_bare(name): name for name in expected if times[_bare(name)] == 1}
    places = {name: name for name in state if name in expected}
    taken = {name: name for name in places}
    for rule in (lambda name: name, lambda name: ENCODER.sub("backbone.", name)):
        earlier = set(taken)
        for name in state:
            place = bare.get(rule(_bare(name)))
            if name in places or place is None or place in earlier:
                continue
            if place in taken:
                raise _two_networks(taken[place], name, label)
            places[name], taken[place] = place, name
    return places


def _two_networks(first: str, second: str, label: str) -> MisfitError:
    """The error for a file in which two tensors have the same place."""
    one, other = first.split("."), second.split(".")
    at = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), 0)
    keys = [".".join(parts[: at + 1]) for parts in (one, other)]
    return MisfitError(f"{label} holds two networks, under '{keys[0]}' and '{keys[1]}'", {"key": keys[0]})


def _stripped(places: Mapping[str, str]) -> list[str]:
    """The parts of the file's names that the network's do not have, in order of appearance."""
    parts = dict.fromkeys(
        part
        for name, place in places.items()
        for part in name.split(".")
        if part in WRAPPING and part not in place.split(".")
    )
    return [f"{part}." for part in parts]


def _rename(
    missing: list[str], unused: list[str], state: Mapping[str, Tensor], expected: Mapping[str, Tensor]
) -> dict[str, Any]:
    """The `rename` that would load all missing tensors: a beginning of unused names that is another, or too many."""
    for name in unused if missing else ():
        parts, wanted = name.split("."), missing[0].split(".")
        same = next((n for n in range(min(len(parts), len(wanted))) if parts[-1 - n] != wanted[-1 - n]), len(wanted))
        old, new = ("".join(f"{part}." for part in p[: len(p) - same]) for p in (parts, wanted))
        found = {n: old + n.removeprefix(new) for n in missing if n.startswith(new)}
        fits = all(other in unused and state[other].shape == expected[n].shape for n, other in found.items())
        if same and old and fits and len(found) == len(missing):
            return {"rename": {old: new}}
    return {}


def _placed(
    network: nn.Module,
    state: Mapping[str, Tensor],
    places: Mapping[str, str],
    new_head: bool,
    classes: tuple[str, ...] | None,
) -> tuple[dict[str, Tensor], list[str], set[str]]:
    """The tensors of the file by the network's names; the file's names without a use; and the network's new heads."""
    expected = network.state_dict()
    count, channels = (network.num_classes, network.in_channels) if isinstance(network, Network) else (-1, -1)
    loaded, unused, wrong, heads = dict[str, Tensor](), list[str](), list[str](), set[str]()
    for name, tensor in state.items():
        if (place := places.get(name)) is None:
            unused.append(name)
            continue
        shape, wanted = tuple(tensor.shape), tuple(expected[place].shape)
        if shape == wanted:
            loaded[place] = tensor
        elif len(wanted) == 4 and wanted[1] == channels and shape == (wanted[0], 3, *wanted[2:]):
            loaded[place] = tensor.sum(1, keepdim=True).expand(wanted) / channels
        elif wanted[:1] == (count,) and shape[1:] == wanted[1:]:
            if not new_head:
                raise ClassCountError(place, shape[0], count, classes)
            unused.append(name)
            heads.add(place)
        elif len(shape) == len(wanted):
            wrong.append(f"{place} is {shape} in the file and {wanted} in the network")
        else:
            unused.append(name)
    if wrong:
        more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
        raise ValueError(f"{wrong[0]}{more}; these are the weights of another network")
    return loaded, unused, heads


def _grouped(names: list[str], among: list[str]) -> str:
    """Names, where a module stands for all of its tensors: `aspp (30), backbone.0.0.weight`."""
    listed, groups = set(names), Counter[str]()
    for name in names:
        parts = name.split(".")
        above = (".".join(parts[:depth]) for depth in range(1, len(parts) + 1))
        groups[next(a for a in above if all(n in listed for n in among if f"{n}.".startswith(f"{a}.")))] += 1
    return ", ".join(f"{group} ({count})" if count > 1 else group for group, count in groups.items())


def _is_reported(name: str, tensor: Tensor) -> bool:
    """Whether messages count a tensor: not counters and indices, nor the constants of the normalisation."""
    return tensor.is_floating_point() and not re.search(r"(^|\.)normalize\.(mean|std)$", name)
