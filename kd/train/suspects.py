"""Which component of a run cannot be captured: one whose code waits for the device, or keeps its state elsewhere."""

import random
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from kd import distributed
from kd.parts.roles import Teacher
from kd.train.step import TrainState

PLAIN = (bool, int, float, str)
CONTAINERS = (list, dict, set, deque)
GENERATORS: list[tuple[Callable[[], Any], Callable[[Any], None]]] = [  # on the processor, as users' code may draw
    (random.getstate, random.setstate),
    (np.random.get_state, np.random.set_state),
]


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
    for frame, _ in reversed(list(traceback.walk_tb(error.__traceback__))):
        for known in (frame.f_locals.get("self"), frame.f_code):
            if id(known) in names:
                return names[id(known)]
    return "the backward pass"


@contextmanager
def state_unchanged(run: TrainState) -> Iterator[None]:
    """Refuse a block in which a component changes what a captured step would not: anything but the values of tensors.

    All is put back after the block.

    Raises:
        NotCapturableError: a component has changed an attribute, or random numbers were drawn on the processor.
    """
    before = [(name, part, _attributes(part)) for name, part in _parts(run)]
    drawn = [read() for read, _ in GENERATORS]
    try:
        yield
        for name, part, attributes in before:
            for key, value in _attributes(part).items():
                if key not in attributes or not _same(value, attributes[key]):
                    raise NotCapturableError(name, f"it changes its attribute {key}, not a tensor in place")
        if str([read() for read, _ in GENERATORS]) != str(drawn):
            raise NotCapturableError("a component", "it draws random numbers on the processor")
    finally:
        for _, part, attributes in before:
            _put_back(part, attributes)
        for state, (_, write) in zip(drawn, GENERATORS, strict=True):
            write(state)


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


def _attributes(part: Any) -> dict[str, Any]:
    """The attributes that hold plain values, tensors and containers, which are copied."""
    held = {} if isinstance(part, torch.optim.Optimizer) else getattr(part, "__dict__", {})
    kept = {key: value for key, value in held.items() if isinstance(value, (*PLAIN, *CONTAINERS, tuple, Tensor))}
    return {key: value.copy() if isinstance(value, CONTAINERS) else value for key, value in kept.items()}


def _same(value: Any, before: Any) -> bool:
    if isinstance(value, Tensor) or type(value) is not type(before):
        return value is before
    if isinstance(value, dict):
        return value.keys() == before.keys() and all(_same(value[key], before[key]) for key in value)
    if isinstance(value, (list, tuple, deque)):
        return len(value) == len(before) and all(map(_same, value, before))
    return value is before or (isinstance(value, (*PLAIN, set)) and value == before)


def _put_back(part: Any, attributes: dict[str, Any]) -> None:
    for key in _attributes(part).keys() - attributes.keys():
        del vars(part)[key]
    for key, value in attributes.items():
        now = vars(part).get(key)
        if isinstance(value, CONTAINERS) and type(now) is type(value):  # other code may hold this very object
            now.clear()
            (now.extend if isinstance(now, (list, deque)) else now.update)(value)
        else:
            vars(part)[key] = value
