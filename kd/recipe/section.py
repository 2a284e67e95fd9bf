"""What the sections of a recipe have in common: their place in the file, components, and a walk through them."""

import types
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Union, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PrivateAttr, TypeAdapter

from kd.errors import Path_, Position, dotted, nearest, shown
from kd.recipe.values import ArgumentName, ComponentPath


def _argument(value: Any) -> Any:
    """An argument; a mapping with the key `use`, at any depth, becomes a component."""
    if isinstance(value, Mapping):
        return Use.model_validate(value) if "use" in value else _MAPPING.validate_python(value)
    if isinstance(value, (list, tuple)):
        return _SEQUENCE.validate_python(value)
    return value


Argument = Annotated[Any, BeforeValidator(_argument)]
_MAPPING: TypeAdapter[dict[Any, Any]] = TypeAdapter(dict[Any, Argument])
_SEQUENCE: TypeAdapter[list[Any]] = TypeAdapter(list[Argument])
Arguments = dict[ArgumentName, Argument]


class Section(BaseModel):
    """A mapping of the recipe, with its place in the file."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    _positions: dict[Path_, Position] = PrivateAttr(default_factory=dict)
    _path: Path_ = PrivateAttr(default=())

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.__dict__ == other.__dict__  # positions are not in __dict__

    def _placed(self, use: str, args: dict[str, Any]) -> "Use":
        placed = Use(use=use, args=args)
        placed._positions, placed._path = self._positions, self._path
        return placed


class Component(Section):
    """A section that names a component."""

    machine_args: ClassVar[frozenset[str]] = frozenset()  # arguments that are machine settings (kd.recipe.identity)

    use: ComponentPath = Field(
        description="The component: `package.module.Name`, or `file.py:Name` relative to the recipe."
    )
    args: Arguments = Field(
        default_factory=dict, description="Keyword arguments of the component; a mapping with `use` is built first."
    )

    def at(self, *keys: str | int) -> str:
        """`file:line:column` of the component or of the argument at `keys`; its `use` if it was made in Python."""
        return str(nearest(self._positions, (*self._path, "args", *keys) if keys else self._path, self.use))

    def where(self, *keys: str | int) -> str:
        """The beginning of a message about the component or an argument: as `at`, with the path."""
        path = (*self._path, "args", *keys) if keys else self._path
        return f"{self.at(*keys)}: {dotted(path)}" if self._path else self.at()

    def _as_use(self) -> "Use":
        return self._placed(self.use, self.args)


class Use(Component):
    """A component and its arguments."""

    @property
    def label(self) -> str:
        """The component's name without its path, with any arguments: `BoundaryIoU(ratio=0.01)`."""
        name = self.use.replace(":", ".").rpartition(".")[2]
        arguments = ", ".join(f"{key}={shown(value)}" for key, value in self.args.items())
        return f"{name}({arguments})" if arguments else name


def held(value: Any) -> Iterator[tuple[str | int, Any]]:
    """The items of a section, mapping or list with their keys or indices; a plain value has none."""
    if isinstance(value, Section):
        yield from value
    elif isinstance(value, dict):
        yield from value.items()
    elif isinstance(value, (list, tuple)):
        yield from enumerate(value)


def fields_at(model: type[BaseModel], path: Sequence[str | int]) -> Mapping[str, Any]:
    """The fields of the section at `path`; empty where any key is allowed (`distill`, `args`)."""
    kind: Any = model
    for key in path:
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            field = kind.model_fields.get(str(key))
            kind = _core(field.annotation) if field else None
        else:  # the type of the entries is the last argument of a mapping and the first of a list
            inner = get_args(kind)
            kind = _core(inner[1 if get_origin(kind) is dict else 0]) if inner else None
    return kind.model_fields if isinstance(kind, type) and issubclass(kind, BaseModel) else {}


def _core(kind: Any) -> Any:
    """An annotation without `Annotated` and `None`; of a union, its section."""
    if get_origin(kind) is Annotated:
        return _core(get_args(kind)[0])
    if get_origin(kind) in (Union, types.UnionType):
        cores = [_core(inner) for inner in get_args(kind)]
        return next((core for core in cores if isinstance(core, type) and issubclass(core, BaseModel)), cores[0])
    return kind
