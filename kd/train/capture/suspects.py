"""Which component of a run cannot be captured: one whose code waits for the device, or keeps its state elsewhere."""

import random
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import copy
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from kd import distributed
from kd.parts.roles import Teacher
from kd.train.step import TrainState

PLAIN = (bool, int, float, str, torch.device)
CONTAINERS = (list, dict, set, deque)
CODE = (type, FunctionType, MethodType, BuiltinFunctionType, ModuleType)
OF_THEIR_OWN = (nn.Module, torch.optim.Optimizer)  # the other parts of the run
Generator = tuple[Callable[[], Any], Callable[[Any], None]]  # reads and writes its state
GENERATORS: list[Generator] = [  # on the processor, as users' code may draw
    (random.getstate, random.setstate),
    (np.random.get_state, np.random.set_state),
]
OF_TORCH: Generator = (
    lambda: torch.get_rng_state().tolist(),
    lambda state: torch.set_rng_state(torch.tensor(state, dtype=torch.uint8)),
)


class NotCapturableError(Exception):
    """A step cannot be captured because of one component.

    Attributes:
        component: its place in the recipe, and its class.
    """

    def __init__(self, component: str, reason: str) -> None:
        super().__init__(reason)
        self.component = component


def suspect(error: BaseException, run: TrainState) -> str:
    """The component of a run in whose code an error was raised: its place in the recipe, and its class."""
    if isinstance(error, NotCapturableError):
        return error.component
    names = {id(getattr(part, "__code__", part)): name for name, part in _parts(run)}
    raised: BaseException | None = error
    while raised is not None:  # the end of a capture that has failed raises an error of its own
        for frame, _ in reversed(list(traceback.walk_tb(raised.__traceback__))):
            for known in (frame.f_locals.get("self"), frame.f_code):
                if id(known) in names:
                    return names[id(known)]
        raised = raised.__context__
    return "the backward pass"


@contextmanager
def state_unchanged(run: TrainState) -> Iterator[None]:
    """Refuse a block in which a component changes what a captured step would not.

    That is anything but the values of tensors on the device of the run. All is put back after the block.

    Raises:
        NotCapturableError: a component has changed an attribute, or what is reached from there; or random numbers were
            drawn on the processor.
    """
    before = list(_held(run))
    generators = GENERATORS if run.precision.device.type == "cpu" else [*GENERATORS, OF_TORCH]  # dropout may draw
    drawn = [read() for read, _ in generators]
    try:
        yield
        for held in before:
            if changed := held.changed():
                what = "a tensor on the processor" if isinstance(held.place, Tensor) else "not a tensor in place"
                raise NotCapturableError(held.part, f"it changes its attribute {changed}, {what}")
        if str([read() for read, _ in generators]) != str(drawn):
            raise NotCapturableError("a component", "it draws random numbers on the processor")
    finally:
        for held in before:
            held.put_back()
        for state, (_, write) in zip(drawn, generators, strict=True):
            write(state)


class _Held(NamedTuple):
    """What a place in a part held before.

    Attributes:
        part: its name for messages.
        attribute: of the part, from which the place is reached; "": the place is all of its attributes.
        place: a container or a tensor, the very object, which other code may hold too.
        content: a copy of it; the containers in it are places of their own.
    """

    part: str
    attribute: str
    place: Any
    content: Any

    def changed(self) -> str:
        """The attribute of the part that holds something else now, or ""."""
        now, before = self.place, self.content
        if self.attribute:
            return "" if _holds(now, before) else self.attribute
        common = now.keys() & before.keys()
        return next((key for key in {**before, **now} if key not in common or not _same(now[key], before[key])), "")

    def put_back(self) -> None:
        """Let the place hold that again."""
        place = self.place
        if isinstance(place, Tensor):
            place.detach().copy_(self.content)
        elif not _holds(place, self.content):
            place.clear()
            (place.extend if isinstance(place, (list, deque)) else place.update)(self.content)


def _held(run: TrainState) -> Iterator[_Held]:
    """What every part of the run reaches without another part, as it is now: containers, tensors on the processor."""
    seen: set[int] = set()
    device = run.precision.device
    for name, part in _parts(run):
        if not isinstance(part, torch.optim.Optimizer) and hasattr(part, "__dict__"):
            yield _Held(name, "", vars(part), dict(vars(part)))
            for key, value in vars(part).items():
                for place in _reached(value, seen):
                    if not isinstance(place, Tensor):
                        yield _Held(name, key, place, copy(place))
                    elif place.device.type != device.type:
                        yield _Held(name, key, place, place.detach().clone())


def _reached(value: Any, seen: set[int]) -> Iterator[Any]:
    """The tensors, lists, dictionaries, sets and deques that a value is or reaches, and plain objects' attributes."""
    left = [value]
    while left:
        value = left.pop()
        if id(value) in seen or isinstance(value, (*PLAIN, *CODE, *OF_THEIR_OWN)):
            continue
        seen.add(id(value))
        if isinstance(value, Tensor):
            yield value
            continue
        if not isinstance(value, (*CONTAINERS, tuple)):
            if not hasattr(value, "__dict__"):
                continue
            value = vars(value)
        left += value.values() if isinstance(value, dict) else value
        if not isinstance(value, tuple):
            yield value


def _parts(run: TrainState) -> Iterator[tuple[str, Any]]:
    """Every module of the run, every other loss and the optimizer, with its name for messages."""
    student = distributed.bare(run.student)
    roots: dict[str, Any] = {"supervised": run.supervised.loss, "student": student.get_submodule("network")}
    if isinstance(run.teacher, Teacher):
        roots["teacher"] = run.teacher.network
    for name, term in run.terms.items():
        roots[f"distill.{name}"] = term.loss
    roots |= {f"distill.{name}.adapter": part for name, part in student.get_submodule("adapters").named_children()}
    for name, root in {**roots, "optimizer": run.optimizer}.items():
        for part in root.modules() if isinstance(root, nn.Module) else [root]:
            yield f"{name} ({getattr(part, '__name__', type(part).__name__)})", part


def _holds(place: Any, content: Any) -> bool:
    if isinstance(place, Tensor):  # NaN is no other value
        return bool(((place == content) | (place != place)).all())
    return _same(place, content)


def _same(value: Any, before: Any) -> bool:
    """Whether it is the very object, or one of those that consist of other values, which are the same."""
    if value is before or type(value) is not type(before) or isinstance(value, (*CODE, *OF_THEIR_OWN, Tensor)):
        return value is before
    if isinstance(value, (*PLAIN, set)):
        return bool(value == before)
    if isinstance(value, dict):
        return value.keys() == before.keys() and all(_same(value[key], before[key]) for key in value)
    if isinstance(value, (list, tuple, deque)):
        return len(value) == len(before) and all(map(_same, value, before))
    return hasattr(value, "__dict__") and _same(vars(value), vars(before))
