"""Interpret a pickle without running any of it: tensors, plain containers and inert stand-ins.

A pickle is a program. Here a small machine follows it: it makes lists, tuples, dictionaries, text, numbers and
tensors. Each class or function that the program names becomes an `Opaque`, which takes any arguments and state and
does nothing; the name is never looked up, so nothing is imported and nothing is called.
"""

import math
import pickletools
from collections.abc import Callable, Sequence
from typing import Any, BinaryIO, NamedTuple

import torch
from torch import Tensor

MAX_STEPS = 2_000_000  # of one pickle; a checkpoint with 1,000 tensors and its optimizer has about 100,000
_KEYS = (str, int, float, bool, bytes, type(None))  # hashed without recursion
_MARK = object()


class UnpickleError(ValueError):
    """A pickle is damaged, or does what no checkpoint does."""


class Opaque(dict[Any, Any]):
    """The stand-in for an object, a class or a function that is not made; entries that a pickle gives it are kept.

    Args:
        name: `module.Class`, as the pickle names it.

    Attributes:
        is_network: whether its state has the parts of an `nn.Module`.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name, self.is_network = name, False


class Storage(NamedTuple):
    """The kind of numbers in a storage, as a pickle names it: torch.FloatStorage."""

    dtype: torch.dtype


class _Rebuild(NamedTuple):
    """A function of torch that a pickle calls to make a tensor, as written here."""

    call: Callable[..., Any]


def _tensor(numbers: Any, offset: Any, size: Any, stride: Any, *_: Any) -> Tensor:
    """A view of a storage, checked against its length: torch would enlarge the storage instead."""
    if not isinstance(numbers, Tensor) or not all(isinstance(n, int) and n >= 0 for n in (offset, *size, *stride)):
        raise UnpickleError("a tensor without a storage, or with negative sizes")
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if math.prod(size) and last >= numbers.numel():
        raise UnpickleError(f"a tensor of shape {tuple(size)} in a storage of {numbers.numel()} numbers")
    return numbers.as_strided(size, stride, offset) if math.prod(size) else numbers.new_empty(size)


def _tensor_of_dtype(numbers: Any, offset: Any, size: Any, stride: Any, *rest: Any) -> Tensor:
    return _tensor(numbers.view(next(item for item in rest if isinstance(item, torch.dtype))), offset, size, stride)


def _first(value: Any, *_: Any) -> Any:
    return value


def _subclass(function: Any, kind: Any, args: Sequence[Any], *_: Any) -> Any:
    return function.call(*args) if isinstance(function, _Rebuild) else Opaque("a subclass of Tensor")


_REBUILDS = {
    "torch._utils._rebuild_tensor": _Rebuild(_tensor),
    "torch._utils._rebuild_tensor_v2": _Rebuild(_tensor),
    "torch._utils._rebuild_tensor_v3": _Rebuild(_tensor_of_dtype),
    "torch._utils._rebuild_parameter": _Rebuild(_first),
    "torch._utils._rebuild_parameter_with_state": _Rebuild(_first),
    "torch._tensor._rebuild_from_type_v2": _Rebuild(_subclass),
    "torch.nn.parameter.Parameter": _Rebuild(_first),
    "torch.Size": _Rebuild(lambda sizes=(), *_: tuple(sizes)),
    "collections.OrderedDict": _Rebuild(lambda pairs=(), *_: dict(pairs)),
    "collections.defaultdict": _Rebuild(lambda *_: {}),
    "builtins.dict": _Rebuild(lambda *_: {}),
    "builtins.set": _Rebuild(lambda items=(), *_: list(items)),
}
_STORAGES = {
    f"torch.{name}Storage": Storage(dtype)
    for name, dtype in {
        "Float": torch.float32, "Double": torch.float64, "Half": torch.float16, "BFloat16": torch.bfloat16,
        "Long": torch.int64, "Int": torch.int32, "Short": torch.int16, "Char": torch.int8, "Byte": torch.uint8,
        "Bool": torch.bool, "ComplexFloat": torch.complex64, "ComplexDouble": torch.complex128,
    }.items()
} | {"torch.storage.UntypedStorage": Storage(torch.uint8)}  # fmt: skip

_DTYPES = {f"torch.{name}": value for name, value in vars(torch).items() if isinstance(value, torch.dtype)}


def _named(module: str, name: str) -> Any:
    """What a pickle gets for a name: a kind of numbers, a function of this module, or an `Opaque`."""
    module = {"__builtin__": "builtins"}.get(module, module)
    full = f"{module}.{name}"
    return _REBUILDS.get(full) or _STORAGES.get(full) or _DTYPES.get(full) or Opaque(full)


def _called(function: Any, args: Any, passed: dict[str, None]) -> Any:
    if isinstance(function, _Rebuild):
        return function.call(*args)
    name = function.name if isinstance(function, Opaque) else type(function).__name__
    if not name.startswith("_codecs."):  # how bytes are written
        passed[name] = None
    return Opaque(name)


def _built(target: Any, state: Any) -> Any:
    """Give an object its state: only an `Opaque` looks at it, at its names."""
    if isinstance(target, Opaque):
        parts = state[0] if isinstance(state, tuple) and state else state
        target.is_network |= isinstance(parts, dict) and "_modules" in parts
    return target


def interpret(file: BinaryIO, load: Callable[[Any], Any], passed: dict[str, None]) -> Any:
    """Interpret one pickle.

    Args:
        file: read from its position to the end of the pickle.
        load: the storage that a persistent id names.
        passed: gets the names of the objects that were not made.

    Raises:
        UnpickleError: the pickle is damaged or has more than `MAX_STEPS` steps.
    """
    stack: list[Any] = []
    memo: dict[int, Any] = {}

    def above_mark() -> list[Any]:
        at = len(stack) - 1 - next(i for i, item in enumerate(reversed(stack)) if item is _MARK)
        items = stack[at + 1 :]
        del stack[at:]
        return items

    def keep(pairs: Sequence[Any]) -> None:
        for key, value in zip(pairs[::2], pairs[1::2], strict=True):
            if isinstance(key, _KEYS) and isinstance(stack[-1], dict):
                stack[-1][key] = value

    def extend(items: Sequence[Any]) -> None:
        if isinstance(stack[-1], list):
            stack[-1].extend(items)

    for count, (code, arg, _) in enumerate(pickletools.genops(file)):
        name = code.name
        if count >= MAX_STEPS:
            raise UnpickleError(f"more than {MAX_STEPS:,} steps")
        if name == "MARK":
            stack.append(_MARK)
        elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
            memo[int(str(arg))] = stack[-1]
        elif name == "MEMOIZE":
            memo[len(memo)] = stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(memo[int(str(arg))])
        elif name == "POP":
            stack.pop()
        elif name == "POP_MARK":
            above_mark()
        elif name == "DUP":
            stack.append(stack[-1])
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name]())
        elif name in ("LIST", "FROZENSET"):
            stack.append(above_mark())
        elif name == "TUPLE":
            stack.append(tuple(above_mark()))
        elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            items = _taken(stack, int(name[-1]))
            stack.append(tuple(items))
        elif name == "DICT":
            pairs = above_mark()
            stack.append({})
            keep(pairs)
        elif name == "SETITEM":
            keep(_taken(stack, 2))
        elif name == "SETITEMS":
            keep(above_mark())
        elif name == "APPEND":
            extend(_taken(stack, 1))
        elif name in ("APPENDS", "ADDITEMS"):
            extend(above_mark())
        elif name == "GLOBAL":
            stack.append(_named(*str(arg).split(" ", 1)))
        elif name == "STACK_GLOBAL":
            stack.append(_named(*map(str, _taken(stack, 2))))
        elif name in ("REDUCE", "NEWOBJ"):
            function, args = _taken(stack, 2)
            stack.append(_called(function, args, passed))
        elif name == "NEWOBJ_EX":
            function, args, _ = _taken(stack, 3)
            stack.append(_called(function, args, passed))
        elif name == "OBJ":
            function, *args = above_mark()
            stack.append(_called(function, args, passed))
        elif name == "INST":
            stack.append(_called(_named(*str(arg).split(" ", 1)), above_mark(), passed))
        elif name == "BUILD":
            target, state = _taken(stack, 2)
            stack.append(_built(target, state))
        elif name == "BINPERSID":
            stack.append(load(stack.pop()))
        elif name == "STOP" and stack and stack[-1] is not _MARK:
            return stack.pop()
        elif name in ("PROTO", "FRAME"):
            pass
        elif code.arg is not None and name not in ("PERSID", "EXT1", "EXT2", "EXT4"):
            stack.append(arg)  # a number or text that stands in the pickle itself
        else:
            raise UnpickleError(f"the operation {name}")
    raise UnpickleError("no end")


_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None, "NEWTRUE": lambda: True, "NEWFALSE": lambda: False,
    "EMPTY_LIST": list, "EMPTY_SET": list, "EMPTY_TUPLE": tuple, "EMPTY_DICT": dict,
}  # fmt: skip


def _taken(stack: list[Any], count: int) -> list[Any]:
    if len(stack) < count:
        raise UnpickleError("more operands than there are")
    items = stack[-count:]
    del stack[-count:]
    return items
