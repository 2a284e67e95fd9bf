"""Check a call against the component's signature before it is made."""

import inspect
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Union

from kd.errors import did_you_mean, shown
from kd.recipe.schema import Use


def misfits(use: Use, component: Any, supplied: Sequence[str] | Mapping[str, Any]) -> list[str]:
    """The mistakes in a call of `component` with the recipe's arguments and those of the engine."""
    given = [n for n in use.args if n in supplied]
    mistakes = [f"{use.where(name)}: '{name}' is set by the engine; remove it" for name in given]
    known = parameters(component)
    if known is None:  # calling it is the only check
        return mistakes
    named = {n: p for n, p in known.items() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    if not _takes_any(component):
        free = [name for name in named if name not in supplied]
        mistakes += [
            f"{use.where(name)}: {use.use} takes no '{name}'{did_you_mean(name, free)}"
            for name in use.args
            if name not in named and name not in given
        ]
        mistakes += [
            f"{use.where()}: {use.use} takes no '{name}', which kd passes to every component here; "
            "add it, or use another component"
            for name in supplied
            if name not in named
        ]
    mistakes += [
        f"{use.where()}: {use.use} needs '{name}'"
        for name, parameter in named.items()
        if parameter.default is parameter.empty and name not in use.args and name not in supplied
    ]
    annotations = _annotations(component)
    mistakes += [
        f"{use.where(name)}: {use.use} takes {_type_name(annotations[name])} as '{name}', got {shown(value)}"
        for name, value in use.args.items()
        if name in named and name in annotations and name not in given and not _fits(value, annotations[name])
    ]
    return mistakes


def parameters(component: Any) -> Mapping[str, inspect.Parameter] | None:
    """The parameters of a call; None if it is written in C and does not show them."""
    try:
        return inspect.signature(component).parameters
    except (ValueError, TypeError):
        return None


def _takes_any(component: Any) -> bool:
    """Whether a call takes any keyword; a wrapper may show the narrower signature of the function that it wraps."""
    signatures = (inspect.signature(component, follow_wrapped=followed) for followed in (True, False))
    return any(p.kind is p.VAR_KEYWORD for signature in signatures for p in signature.parameters.values())


def _annotations(component: Any) -> dict[str, Any]:
    target = component.__init__ if isinstance(component, type) else component  # type: ignore[misc]
    try:
        return typing.get_type_hints(target)
    except Exception:  # noqa: BLE001  # a description, or a name for type checkers: evaluating a text may raise anything
        return {}


def _fits(value: Any, kind: Any) -> bool:
    """Whether a recipe's value can be of the annotated type; True wherever that is not certain."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if isinstance(value, Use) or kind is Any:
        return True
    if origin in (Union, types.UnionType):
        return any(_fits(value, option) for option in inner)
    if origin is Literal:
        return value in inner
    if kind is None or kind is type(None):
        return value is None
    if kind is bool or kind is str:
        return isinstance(value, kind)
    if kind is int or kind is float:
        return isinstance(value, (int, kind)) and not isinstance(value, bool)
    outer = origin or kind
    if outer in (list, tuple, Sequence):
        if not isinstance(value, (list, tuple)):
            return False
        if outer is tuple and inner and inner[-1] is not Ellipsis:
            return len(value) == len(inner) and all(map(_fits, value, inner))
        return not inner or all(_fits(item, inner[0]) for item in value)
    if outer in (dict, Mapping):
        return isinstance(value, dict) and (
            not inner or all(_fits(k, inner[0]) and _fits(v, inner[1]) for k, v in value.items())
        )
    # a plain value is neither a tensor nor a module; about other classes nothing is certain
    return not (isinstance(kind, type) and kind.__module__.partition(".")[0] == "torch")


def _type_name(kind: Any) -> str:
    return kind.__name__ if isinstance(kind, type) and not typing.get_args(kind) else str(kind).replace("typing.", "")
