"""Whether a value fits a parameter's annotation: a mistake only where that is certain."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import pytest
from torch import nn

from kd.components.signatures import misfits
from kd.recipe.schema import Use


def takes(
    a: list[float] = [],  # noqa: B006
    b: tuple[int, int] = (0, 0),
    c: Sequence[str] = (),
    d: Mapping[str, int] = {},
    e: Literal["x", "y"] = "x",
    f: Any = None,
    g: Path | str = "",
    h: nn.Module | None = None,
    i: tuple[float, ...] = (),
) -> None: ...


def takes_unknown(b: tuple[int, int] = (0, 0), j: "Unknown" = None) -> None: ...  # type: ignore[name-defined]  # noqa: F821


def described(a: "share, 0 to 1" = 0.5, b: "1/0" = 1, c: int = 1) -> None: ...  # type: ignore[valid-type,syntax]


def test_annotations_that_are_no_types_decide_nothing() -> None:
    assert misfits(Use(use="mine.described", args={"a": 1, "b": "x", "c": 2}), described, ()) == []


@pytest.mark.parametrize(
    ("name", "right", "wrong"),
    [
        ("a", [[], [1, 2.5]], [1, "x", ["x"], {}]),
        ("b", [[1, 2]], [[1], [1, 2, 3], [1, 2.5], 1]),
        ("c", [[], ["x"]], ["x", [1]]),
        ("d", [{}, {"x": 1}], [[], {"x": "y"}, {1: 1}]),
        ("e", ["x"], ["z", 1]),
        ("f", [1, "x", None, {}], []),
        ("g", ["x"], []),
        ("h", [None, {"use": "torch.nn.ReLU"}], [1, "x"]),
        ("i", [[1, 2, 3.5]], [["x"], 1.0]),
    ],
)
def test_types_are_checked_where_they_are_certain(name: str, right: list[Any], wrong: list[Any]) -> None:
    for value in right:
        assert misfits(Use(use="mine.takes", args={name: value}), takes, ()) == []
    for value in wrong:
        [line] = misfits(Use(use="mine.takes", args={name: value}), takes, ())
        assert f" as '{name}', got " in line


def test_annotations_that_cannot_be_read_are_no_mistake() -> None:
    assert misfits(Use(use="mine.takes", args={"b": "anything", "j": 1}), takes_unknown, ()) == []
