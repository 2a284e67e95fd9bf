"""Load the weights that a recipe names for a teacher or a student; refuse what cannot be right for the role."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from kd.errors import RecipeError, StorageError, WeightsError
from kd.networks.weight_files import MisfitError
from kd.networks.weights import ClassCountError, Loaded, PartialError, Role, load_into
from kd.recipe import Use, WeightsConfig
from kd.recipe.overrides import as_override
from kd.recipe.schema import components

MAPPED = "teachers.ClassMapped"
# What a key of `weights` does, in a message.
_WAYS = {"key": "choose a key", "rename": "bring the names together", "head": "train a new classifier"}


class Notes(list[str]):
    """Lines for the user on the parts of a recipe.

    Attributes:
        remarks: the lines that every table that shows the run repeats.
        drawn: the weights of the teacher that were drawn at random.
        recorded: the names of the teacher's classes in its weights, in the order of its channels; () if unknown.
    """

    def __init__(self) -> None:
        super().__init__()
        self.remarks: list[str] = []
        self.drawn: list[str] = []
        self.recorded: Sequence[str] = ()

    def remark(self, line: str) -> None:
        """Add a line that tables repeat."""
        self.append(line)
        self.remarks.append(line)


def load_for(
    role: Role,
    network: nn.Module,
    weights: str | WeightsConfig,
    use: Use,
    classes: Sequence[str],
    *,
    partial: bool = False,
) -> Loaded:
    """Load weights into a network.

    Args:
        role: of the network; a teacher is loaded whole.
        network: changed in place.
        weights: as the recipe names them.
        use: the network as a component.
        classes: the names of the data's classes.
        partial: whether a part of the student may start from scratch.

    Raises:
        RecipeError: the weights do not load, or do not fit; the message ends with what to write instead.
    """
    options = weights.options() if isinstance(weights, WeightsConfig) else {"file": weights}
    try:
        if role == "teacher" and "head" in options:
            raise ValueError("head: new gives a teacher a classifier that was never trained; remove it")
        return load_into(network, options, role=role, partial=partial)
    except (StorageError, WeightsError):  # of a run: they state what of it still holds
        raise
    except (ValueError, OSError) as error:
        fix = _fix(role, error, options, use, classes)
        raise RecipeError([f"{use.at()}: weights {options['file']}: {error}{fix}"]) from None


def _fix(role: Role, error: Exception, options: dict[str, Any], use: Use, classes: Sequence[str]) -> str:
    """What to write instead, as the end of a message."""
    if isinstance(error, ClassCountError) and role == "teacher":
        return _mapped(error, options, use, classes)
    if isinstance(error, MisfitError) and error.fix:
        (key,) = error.fix
        return f"; {_WAYS[key]}: {as_override(f'{role}.weights', options | error.fix)}"
    if isinstance(error, PartialError) and role == "teacher":
        return "; a teacher is loaded whole: name a file that holds all of it"
    if isinstance(error, PartialError):
        return "; to start from this part: student.partial=true"
    return ""


def _mapped(error: ClassCountError, options: dict[str, Any], use: Use, classes: Sequence[str]) -> str:
    """The teacher with its own classes, mapped to those of the data."""
    source = error.classes or [f"the names of its {error.found} classes in the order of the channels"]
    own = use.args["network"] if use.use == MAPPED else use
    network = _with_classes(own, error.found, at_least=True)
    args = {"network": network, "source": list(source), "target": list(classes)}
    weights = options if options.keys() - {"file"} else options["file"]
    teacher = {"use": MAPPED, "args": args, "weights": weights}
    inner = next((part for part in components(own.args) if "num_classes" not in part.args), None)
    also = f" (give {inner.use} {error.found} classes as well)" if inner else ""
    return f"; a teacher keeps its own classes, mapped to yours{also}: {as_override('teacher', teacher)}"


def _with_classes(value: Any, count: int, *, at_least: bool = False) -> Any:
    """A network for another number of classes, those in its arguments too where they state one.

    Args:
        value: the network, or any argument.
        count: the number.
        at_least: whether a network that states no number gets this one.
    """
    if isinstance(value, Use):
        stated = {"num_classes": count} if at_least or "num_classes" in value.args else {}
        return Use(use=value.use, args=_with_classes(value.args, count) | stated)
    if isinstance(value, dict):
        return {key: _with_classes(item, count) for key, item in value.items()}
    return [_with_classes(item, count) for item in value] if isinstance(value, list) else value


def drawn_at_random(network: nn.Module, rebuild: Callable[[], nn.Module]) -> list[str]:
    """The names of the weights that were drawn at random, not loaded: another seed gives other values.

    Args:
        network: as `rebuild` made it.
        rebuild: builds the network again.
    """
    random_state = torch.get_rng_state()
    torch.manual_seed(torch.initial_seed() + 1)
    values = rebuild().state_dict()
    torch.set_rng_state(random_state)
    return [name for name, value in network.state_dict().items() if not torch.equal(value, values[name])]
