"""Errors of the code that a recipe names: whose they are, and the one line for each."""

import inspect
from collections.abc import Iterable
from itertools import chain
from operator import index
from pathlib import Path
from typing import Any

from torch import nn
from torch.nn.parameter import is_lazy

from kd.errors import NotDeterministicError, RecipeError, is_unicode, place, raised, user_frame
from kd.memory import ran_out
from kd.recipe import Use
from kd.recipe.schema import components
from kd.recipe.trust import is_trusted
from kd.types import SegmentationDataset
from kd.units import counted

MEMBERS = ("class_names", "colors", "in_channels", "__len__", "__getitem__")  # what kd reads of a dataset
MAX_CLASSES = 254  # 8-bit labels, without the two for padding and for pixels without a label


def is_ours(use: Use) -> bool:
    """Whether a component and those in its arguments are all parts of kd."""
    return all(is_trusted(each.use) for each in (use, *components(use.args)))


def is_users(use: Use, error: BaseException) -> bool:
    """Whether an error of a component in use is the user's to correct, and not an error of ours that passes through."""
    if isinstance(error, NotDeterministicError) or ran_out(error) or getattr(error, "exit_status", None) is not None:
        return False
    return isinstance(error, ValueError) or not is_ours(use) or user_frame(error) is not None


def refused_by(use: Use, error: BaseException) -> BaseException:
    """What to raise for the error of a component in use: a RecipeError, or `error` itself if it is not the user's."""
    return RecipeError(f"{use.where()}: {refusal(use, error)}") if is_users(use, error) else error


def refusal(use: Use, error: BaseException) -> str:
    """What a component refused or raised; for code of the user's, with its file and line."""
    if isinstance(error, ValueError) or (is_ours(use) and isinstance(error, (TypeError, OSError))):
        return f"{use.use}: {error}{place(error)}"
    return f"{use.use} raised {raised(error)}"


def check_has(use: Use, component: object, names: Iterable[str], page: str) -> None:
    """Check that a component has the attributes that kd reads.

    Args:
        use: the component.
        component: as it was built.
        names: of the attributes.
        page: the page of the documentation that describes them.

    Raises:
        RecipeError: an attribute is missing, or raises something when it is read.
    """
    missing = []
    for name in names:
        try:
            getattr(component, name)
        except AttributeError:
            missing.append(name)
        except (Exception, SystemExit) as error:  # noqa: BLE001  # a property may raise anything
            raise refused_by(use, error) from None
    if missing:
        raise RecipeError(f"{use.where()}: {use.use} has no {', '.join(missing)}{defined_at(component)}; see {page}")


def check_dataset(use: Use, dataset: SegmentationDataset) -> None:
    """Check what a dataset declares: class names, colours, channels and its two methods.

    Raises:
        RecipeError: something is missing or of another kind.
    """
    check_has(use, dataset, MEMBERS, "docs/add-a-dataset.md")
    declared: Any = dataset
    names, colors, channels = declared.class_names, declared.colors, declared.in_channels
    mistakes = []
    if not (isinstance(names, (tuple, list)) and all(isinstance(name, str) and is_unicode(name) for name in names)):
        mistakes.append(f"class_names must be a tuple of names, got {names!r:.80}")
    elif not 2 <= len(names) <= MAX_CLASSES:
        mistakes.append(f"{counted(len(names), 'class', 'classes')}; give 2 to {MAX_CLASSES}, the background included")
    elif not _are_colors(colors, len(names)):
        mistakes.append(
            f"colors must be {len(names)} colours (r, g, b), integers 0 … 255, one for each class, got {colors!r:.80}"
        )
    if not isinstance(channels, int) or channels < 1:
        mistakes.append(f"in_channels must be an integer, 1 or above, got {channels!r:.80}")
    if mistakes:
        raise RecipeError([f"{use.where()}: {use.use}: {mistake}{defined_at(dataset)}" for mistake in mistakes])
    try:
        len(dataset)
    except (Exception, SystemExit) as error:  # noqa: BLE001  # a user's dataset may raise anything
        raise refused_by(use, error) from None


def _are_colors(colors: Any, count: int) -> bool:
    try:
        levels = [[index(level) for level in color] for color in colors]
    except TypeError:
        return False
    return len(levels) == count and all(len(color) == 3 and 0 <= min(color) <= max(color) <= 255 for color in levels)


def check_shapes(use: Use, module: nn.Module) -> None:
    """Check that all parameters and buffers of a component have a shape: without one, they cannot be counted or kept.

    Raises:
        RecipeError: one has none yet.
    """
    tensors = chain(module.named_parameters(), module.named_buffers())
    if lazy := next((name for name, tensor in tensors if is_lazy(tensor)), None):
        raise RecipeError(
            f"{use.where()}: {use.use}: {lazy} has no shape before the first forward (torch.nn.Lazy…); give the number "
            f"of channels{defined_at(module)}"
        )


def defined_at(component: Any) -> str:
    """` (file.py:line)` of a component's class; an empty text if it is not in a file."""
    kind = component if inspect.isroutine(component) else type(component)
    try:
        return f" ({Path(inspect.getfile(kind)).name}:{inspect.getsourcelines(kind)[1]})"
    except (OSError, TypeError):
        return ""
