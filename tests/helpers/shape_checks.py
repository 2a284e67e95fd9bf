"""Check the shapes that annotations state, such as `Float[Tensor, "N C h w"]`, whenever a function is called."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import jaxtyping
import torch

# The numeric tower: an annotation `float` accepts the int of a recipe.
TYPECHECKER = "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))"


def check_shapes(*modules: str) -> None:
    """Check all calls of the functions in these modules; call it before they are imported.

    The hook of jaxtyping decorates every function with `jaxtyping.jaxtyped`, which `torch.compile` cannot trace:
    compiled code gets the undecorated functions.
    """
    jaxtyping.jaxtyped = functools.partial(_jaxtyped, jaxtyping.jaxtyped)
    jaxtyping.install_import_hook(modules, TYPECHECKER)


def _jaxtyped(jaxtyped: Callable[..., Any], function: Any = None, **options: Any) -> Any:
    if function is None:
        return functools.partial(_jaxtyped, jaxtyped, **options)
    if torch.compiler.is_compiling():  # a function inside a function
        return function
    checked = jaxtyped(function, **options)
    if not inspect.isfunction(function):
        return checked

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        return (function if torch.compiler.is_compiling() else checked)(*args, **kwargs)

    call.__signature__ = inspect.signature(function)  # type: ignore[attr-defined]
    # A separate code object: `torch.compile` limits the recompilations of each.
    call.__code__ = call.__code__.replace(co_name=function.__name__)
    return call
