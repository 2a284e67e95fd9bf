"""The components that come with kd, read from their source: nothing is imported, so torch is not either."""

import ast
import re
from collections.abc import Callable
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[3]  # kd, teachers and students are beside each other, installed or not
# Trainable here, in every torch that kd runs with; a newer torch may have more.
OPTIMIZERS = (
    "ASGD", "Adadelta", "Adafactor", "Adagrad", "Adam", "AdamW", "Adamax", "NAdam", "RAdam", "RMSprop", "Rprop", "SGD",
)  # fmt: skip

Definition = ast.ClassDef | ast.FunctionDef


class Entry(NamedTuple):
    """A component that comes with kd."""

    name: str  # as a recipe writes it: kd.losses.CWD
    reads: str  # of a loss: "logits", "features", "either", or "labels" for a supervised one; else empty
    summary: str  # first line of its docstring


class Family(NamedTuple):
    """Where a family's components are, and which of the names there belong to it."""

    modules: tuple[str, ...]
    belongs: Callable[[Definition], bool] = lambda definition: True


def _has(method: str) -> Callable[[Definition], bool]:
    return lambda definition: any(isinstance(part, ast.FunctionDef) and part.name == method for part in definition.body)


def _takes_split(definition: Definition) -> bool:
    """Whether a class or function is called with `split`, as datasets are."""
    parts = definition.body if isinstance(definition, ast.ClassDef) else [definition]
    calls = [
        part.args for part in parts if isinstance(part, ast.FunctionDef) and part.name in ("__init__", definition.name)
    ]
    return any(argument.arg == "split" for args in calls for argument in (*args.args, *args.kwonlyargs))


FAMILIES = {
    "losses": Family(("kd.losses",)),
    "networks": Family(("students", "teachers")),
    "datasets": Family(("kd.data",), _takes_split),
    "metrics": Family(("kd.metrics",), _has("update")),
    "adapters": Family(("kd.adapters",)),
    "schedules": Family(("kd.schedules",)),
    "transforms": Family(("kd.data",), lambda definition: not _takes_split(definition)),
}


@cache
def entries(family: str) -> tuple[Entry, ...]:
    """The components of a family of `FAMILIES`, by module and name."""
    modules, belongs = FAMILIES[family]
    definitions = ((f"{module}.{name}", _definition(module, name)) for module in modules for name in _public(module))
    return tuple(
        Entry(name, _reads(definition) if family == "losses" else "", _summary(definition))
        for name, definition in definitions
        if definition is not None and belongs(definition)
    )


@cache
def _tree(module: str) -> ast.Module:
    path = ROOT.joinpath(*module.split("."))
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return ast.parse(file.read_text(encoding="utf-8"))


def _public(module: str) -> list[str]:
    return sorted(ast.literal_eval(_assigned(_tree(module).body, "__all__")), key=str.lower)


def _definition(module: str, name: str) -> Definition | None:
    """The class or function that a module defines or imports under a name; None for a protocol or anything else."""
    for node in _tree(module).body:
        if isinstance(node, Definition) and node.name == name:
            return None if isinstance(node, ast.ClassDef) and "Protocol" in map(ast.unparse, node.bases) else node
        if isinstance(node, ast.ImportFrom) and node.module and any(alias.name == name for alias in node.names):
            return _definition(node.module, name)
    return None


def _assigned(body: list[ast.stmt], name: str) -> ast.expr:
    """The value of `name = …`; the empty text if there is no such line."""
    values = (
        node.value
        for node in body
        if isinstance(node, ast.Assign) and any(isinstance(to, ast.Name) and to.id == name for to in node.targets)
    )
    return next(values, ast.Constant(""))


def _reads(definition: Definition) -> str:
    return str(ast.literal_eval(_assigned(definition.body, "compares")) or "labels")


def _summary(definition: Definition) -> str:
    return (ast.get_docstring(definition) or "").partition("\n")[0]


def offer_names(schema: dict[str, Any]) -> None:
    """Offer the components that fit at each place of a recipe's JSON Schema, so that editors complete them.

    Others stay allowed: `file.py:Name`, and paths that are not directly in one of kd's modules.
    """
    sections = schema["$defs"] | {"Recipe": schema}
    losses = [entry.name for entry in entries("losses") if entry.reads != "labels"]
    supervised = [entry.name for entry in entries("losses") if entry.reads == "labels"]
    names = {family: [entry.name for entry in entries(family)] for family in FAMILIES}
    of_sections = {
        "StudentConfig": names["networks"],
        "TeacherConfig": names["networks"],
        "DataConfig": names["datasets"],
        "SupervisedConfig": supervised,
        "OptimizerConfig": [f"torch.optim.{name}" for name in OPTIMIZERS],
    }
    for section, known in of_sections.items():
        _offer(sections[section]["properties"]["use"], known)
    plain = schema["$defs"].pop("Use")
    for definition, known, places in (
        ("Loss", losses, (("TermConfig", "loss"),)),
        ("Adapter", names["adapters"], (("TermConfig", "adapter"),)),
        ("Schedule", names["schedules"], (("TermConfig", "weight"), ("Recipe", "schedule"))),
        ("Transform", names["transforms"], (("DataConfig", "augment"),)),
        ("Metric", names["metrics"], (("EvaluateConfig", "metrics"),)),
    ):
        schema["$defs"][definition] = deepcopy(plain) | {"title": definition}
        _offer(schema["$defs"][definition]["properties"]["use"], known)
        for section, key in places:
            field = sections[section]["properties"][key]
            for place in (field, field.get("items", {}), *field.get("anyOf", ())):
                if place.get("$ref") == "#/$defs/Use":
                    place["$ref"] = f"#/$defs/{definition}"


def _offer(field: dict[str, Any], names: list[str]) -> None:
    modules = sorted({re.escape(module) for family in FAMILIES.values() for module in family.modules})
    other = rf"^(?!({'|'.join(modules)})\.\w+$)\w+(\.\w+)+$|\.py:\w+$"
    nullable = [option for option in field.get("anyOf", ()) if option == {"type": "null"}]
    field.pop("type", None)
    field.pop("minLength", None)
    field["anyOf"] = [{"enum": names}, {"type": "string", "pattern": other}, *nullable]
