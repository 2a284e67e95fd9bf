"""What to write where a teacher's channels turn out to be of other classes than those that were stated for them."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from kd.networks.class_names import folded
from kd.parts.loading import MAPPED
from kd.parts.teacher.output import Channels
from kd.recipe import Use
from kd.recipe.identity import plain
from kd.recipe.overrides import as_override
from kd.recipe.schema import TeacherConfig
from kd.types import Network


def corrected(
    teacher: TeacherConfig, network: nn.Module, recorded: Sequence[str], names: Sequence[str], order: Sequence[int]
) -> str:
    """The setting that gives each class its channel.

    Args:
        teacher: as the recipe states it.
        network: the teacher's.
        recorded: the names of its classes by its weights, which `teacher.classes` cannot contradict; () if unknown.
        names: those of the data.
        order: for each class, the channel of what the teacher returns now, in the order that was stated or recorded.
    """
    before = Channels.of(network).order or range(len(names))
    channels = [before[channel] for channel in order]  # of the network itself
    if teacher.use is not None and teacher.use == MAPPED:
        return _remapped(teacher.args, channels)
    if teacher.use is not None and not recorded:
        return as_override("teacher.classes", [names[channels.index(channel)] for channel in range(len(names))])
    if teacher.use is None or (isinstance(network, Network) and network.num_classes != len(names)):  # a single logit
        where = teacher.recipe or teacher.run or teacher.use
        return f"{where} has learned its classes in another order than it names them: correct the names of its data"
    merge = {
        name: [recorded[c]] for name, c in zip(names, channels, strict=True) if folded(recorded[c]) != folded(name)
    }
    own = Use(use=teacher.use, args=teacher.args | {"num_classes": len(names)})
    args = {"network": own, "source": list(recorded), "target": list(names), "merge": merge}
    rest = {key: value for key, value in plain(teacher, defaults=False).items() if key != "classes"}
    return as_override("teacher", rest | {"use": MAPPED, "args": plain(args, defaults=False)})


def _remapped(args: Mapping[str, Any], channels: Sequence[int]) -> str:
    """The rows of a `teachers.ClassMapped` in another order."""
    if args.get("matrix") is not None:
        return as_override("teacher.args.matrix", [args["matrix"][channel] for channel in channels])
    target, given = args["target"], args.get("merge") or {}
    alike = {name: [own for own in args["source"] if own.casefold() == name.casefold()] for name in target}
    covered = {
        name: given.get(target[channel], alike[target[channel]]) for name, channel in zip(target, channels, strict=True)
    }
    return as_override("teacher.args.merge", {name: parts for name, parts in covered.items() if parts != alike[name]})
