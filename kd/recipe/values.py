"""The kinds of values in a recipe as annotated types: what each accepts, and the message for anything else.

A validator here receives the plain value of one node, so the location of every error is a path in the file. Unions are
decided by the kind of the value before pydantic sees it: one mistake is one error.
"""

from collections import Counter
from functools import partial
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from kd.errors import shown
from kd.recipe.trust import is_component, nearly_trusted
from kd.units import amount


def not_a(kind: str, value: Any) -> ValueError:
    """The error for a value of another kind."""
    return ValueError(f"must be {kind}, got {shown(value)}")


def _address(value: Any) -> str | tuple[str, ...]:
    if isinstance(value, (list, tuple)) and value and all(isinstance(tap, str) and tap for tap in value):
        return tuple(value)
    if isinstance(value, str) and value:
        return value
    raise not_a("a tap ('logits', 'high', a module's path) or a list of them", value)


def _names(value: Any) -> tuple[str, ...]:
    names = value if isinstance(value, (list, tuple)) else (value,)
    if not all(isinstance(name, str) and name for name in names):
        raise not_a("a module's path ('backbone') or a list of them", value)
    return tuple(names)


def _height_width(value: Any) -> Any:
    if not isinstance(value, (list, tuple)) or len(value) != 2:
        raise not_a("[height, width] in pixels", value)
    return value


def _scales(value: Any) -> Any:
    if not isinstance(value, (list, tuple)) or not value:
        raise not_a("a list of factors of the image's size, such as [0.75, 1.0, 1.25]", value)
    return value


def _distinct(seeds: tuple[int, ...]) -> tuple[int, ...]:
    seed, times = Counter(seeds).most_common(1)[0]
    if times > 1:
        raise ValueError(f"each seed must be given once, got {seed} {times} times")
    return seeds


def _auto_or(least: int, most: int, value: Any) -> Any:
    if value == "auto" or (type(value) is int and least <= value <= most):
        return value
    if type(value) is int:
        limit = f"least {least}" if value < least else f"most {most}"
        raise ValueError(f"must be at {limit}, got {value}")
    raise not_a("'auto' or an integer", value)


def _argument_name(name: str) -> str:
    if not name.isidentifier():
        raise ValueError("an argument's name must be an identifier")
    return name


def _component(text: str) -> str:
    if not is_component(text):
        hint = nearly_trusted(text)
        raise ValueError(
            f"must be package.module.Name or file.py:Name, got {shown(text)}" + (f"; {hint}" if hint else "")
        )
    return text


def term_name(name: str) -> str:
    """Check that `name` can name a term, and return it.

    Raises:
        ValueError: it cannot.
    """
    if not name.isidentifier() or name in ("supervised", "total"):
        raise ValueError("a term's name must be an identifier, and not 'supervised' or 'total'")
    return name


Text = Annotated[str, Field(strict=True, min_length=1)]
Number = Annotated[float, Field(strict=True)]
Whole = Annotated[int, Field(strict=True)]
Flag = Annotated[bool, Field(strict=True)]
Decay = Annotated[float, Field(strict=True, gt=0, lt=1)]
Amount = Annotated[
    int | str,
    BeforeValidator(amount),
    WithJsonSchema(
        {"anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": r"^(100|\d{1,2}(\.\d+)?)%$"}]}
    ),
]
Workers = Annotated[
    int | str,
    BeforeValidator(partial(_auto_or, 0, 256)),
    WithJsonSchema({"anyOf": [{"const": "auto", "type": "string"}, {"type": "integer", "minimum": 0, "maximum": 256}]}),
]
MicroBatches = Annotated[
    int | str,
    BeforeValidator(partial(_auto_or, 1, 65_536)),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 1}, {"const": "auto", "type": "string"}]}),
]
Side = Annotated[int, Field(strict=True, ge=32, le=16_384)]
Size = Annotated[tuple[Side, Side], BeforeValidator(_height_width)]
Scales = Annotated[tuple[Annotated[Number, Field(gt=0, le=4)], ...], BeforeValidator(_scales)]
Seeds = Annotated[tuple[Annotated[Whole, Field(ge=0, lt=2**32)], ...], Field(min_length=1), AfterValidator(_distinct)]
Address = Annotated[str | tuple[str, ...], BeforeValidator(_address)]
Names = Annotated[
    tuple[str, ...],
    BeforeValidator(_names),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}),
]
ArgumentName = Annotated[Text, AfterValidator(_argument_name)]
ComponentPath = Annotated[Text, AfterValidator(_component)]
