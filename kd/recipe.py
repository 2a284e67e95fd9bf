"""The schema of a recipe and its reader: every mistake as `file:line:column: path: what`, all at once.

Never imports torch: `kd check` on a wrong recipe answers at once, and nothing a recipe names is imported here.
"""

import hashlib
import json
import os
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from kd import nodes
from kd.nodes import Mistake, Path_, Position, RecipeError, did_you_mean, dotted, shown

__all__ = [
    "TRUSTED",
    "At",
    "Data",
    "Log",
    "Optimizer",
    "Recipe",
    "RecipeError",
    "Student",
    "Supervised",
    "Teacher",
    "Term",
    "Train",
    "Use",
    "as_steps",
    "baseline_of",
    "did_you_mean",
    "imports",
    "is_trusted",
    "json_schema",
    "read_recipe",
    "shipped_recipes",
    "teacher_recipe",
    "to_yaml",
]

TRUSTED = ("kd.losses", "kd.adapters", "kd.data", "kd.engine.schedule", "teachers", "students", "torch.optim")


def is_trusted(component: str) -> bool:
    """Whether a component is one name directly under a module of `TRUSTED`; decided on the text alone."""
    module, _, name = component.rpartition(".")
    return module in TRUSTED and name.isidentifier()


def as_steps(amount: int | str, total: int) -> int:
    """Steps in an amount: `7` is 7, `"5%"` is that share of `total`, rounded, and at least 1 if it is above 0.

    Raises:
        ValueError: `amount` is neither.
    """
    amount = _amount(amount)
    if isinstance(amount, int):
        return amount
    share = float(amount.removesuffix("%"))
    return max(1, round(total * share / 100)) if share > 0 else 0


# A validator here gets the plain value of one node, so every error's location is a path in the file. Unions are
# decided by the value's kind before pydantic sees them: one mistake is one error.


def _amount(value: Any) -> int | str:
    if type(value) is int and value >= 0:
        return value
    if isinstance(value, str) and value.endswith("%"):
        number = value.removesuffix("%")
        if number.replace(".", "", 1).isdecimal() and number.isascii() and float(number) <= 100:
            return value
    raise ValueError(f"must be steps (200) or a share (5%, at most 100%), got {shown(value)}")


def _address(value: Any) -> str | tuple[str, ...]:
    if isinstance(value, (list, tuple)) and value and all(isinstance(v, str) and v for v in value):
        return tuple(value)
    if isinstance(value, str) and value:
        return value
    raise ValueError(f"must be a tap ('logits', 'high', a module's path) or a list of them, got {shown(value)}")


def _factor(value: Any) -> Any:
    if isinstance(value, (Mapping, Use)):
        return Use.model_validate(value)
    if type(value) not in (int, float):
        raise ValueError(f"must be a number or a schedule (use, args), got {shown(value)}")
    if not 0 <= value < float("inf"):
        raise ValueError(f"must be at least 0, got {shown(value)}")
    return float(value)


def _height_width(value: Any) -> Any:
    if not isinstance(value, (list, tuple)) or len(value) != 2:
        raise ValueError(f"must be [height, width] in pixels, got {shown(value)}")
    return value


def _argument(value: Any) -> Any:
    """An argument; a mapping with the key `use`, at any depth, becomes a component."""
    if isinstance(value, Mapping):
        return Use.model_validate(value) if "use" in value else _MAPPING.validate_python(value)
    if isinstance(value, (list, tuple)):
        return _SEQUENCE.validate_python(value)
    return value


def _argument_name(name: str) -> str:
    if not name.isidentifier():
        raise ValueError("an argument's name must be an identifier")
    return name


def _component_path(text: str) -> str:
    module, colon, name = text.rpartition(":")
    if colon:
        good = module.endswith(".py") and name.isidentifier() and text.isprintable()
    else:
        good = "." in text and all(part.isidentifier() for part in text.split("."))
    if not good:
        raise ValueError(f"must be package.module.Name or file.py:Name, got {shown(text)}{_hint(text)}")
    return text


def _term_name(name: str) -> str:
    if not name.isidentifier() or name in ("supervised", "total"):
        raise ValueError("a term's name must be an identifier, and not 'supervised' or 'total'")
    return name


def _distinct(seeds: tuple[int, ...]) -> tuple[int, ...]:
    if len(set(seeds)) < len(seeds):
        raise ValueError("each seed must be given once")
    return seeds


Text = Annotated[str, Field(strict=True, min_length=1)]
Number = Annotated[float, Field(strict=True)]
Whole = Annotated[int, Field(strict=True)]
Flag = Annotated[bool, Field(strict=True)]
Amount = Annotated[int | str, BeforeValidator(_amount)]
Address = Annotated[str | tuple[str, ...], BeforeValidator(_address)]
Side = Annotated[int, Field(strict=True, ge=32, le=16_384)]
Size = Annotated[tuple[Side, Side], BeforeValidator(_height_width)]
Argument = Annotated[Any, BeforeValidator(_argument)]
_MAPPING: TypeAdapter[dict[Any, Any]] = TypeAdapter(dict[Any, Argument])
_SEQUENCE: TypeAdapter[list[Any]] = TypeAdapter(list[Argument])


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    _positions: dict[Path_, Position] = PrivateAttr(default_factory=dict)
    _path: Path_ = PrivateAttr(default=())

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.__dict__ == other.__dict__  # positions are not in __dict__


class _Component(_Section):
    use: Annotated[Text, AfterValidator(_component_path)] = Field(
        description="The component: `package.module.Name`, or `file.py:Name` relative to the recipe."
    )
    args: dict[Annotated[Text, AfterValidator(_argument_name)], Argument] = Field(
        default_factory=dict, description="The component's own keyword arguments; a mapping with `use` is built first."
    )

    def at(self, *keys: str | int) -> str:
        """`file:line:column` of the component or of the argument at `keys`; its `use` if it was made in Python."""
        return str(_nearest(self._positions, (*self._path, "args", *keys) if keys else self._path, self.use))

    def where(self, *keys: str | int) -> str:
        """As `at`, and the path: how a message about the component or an argument begins."""
        path = (*self._path, "args", *keys) if keys else self._path
        return f"{self.at(*keys)}: {dotted(path)}" if path else self.at()

    def _as_use(self) -> "Use":
        use = Use(use=self.use, args=self.args)
        use._positions, use._path = self._positions, self._path
        return use


class Use(_Component):
    """A component and its arguments."""


class Teacher(_Section):
    """The network that teaches: exactly one of `recipe`, `run` and `use`."""

    recipe: Text | None = Field(
        default=None, description="Its recipe, relative to this one; trained first if it has not been."
    )
    run: Text | None = Field(default=None, description="A finished run directory, relative to the current folder.")
    use: Annotated[Text, AfterValidator(_component_path)] | None = Field(
        default=None, description="A network that needs no run; num_classes and in_channels come from the data."
    )
    args: dict[Annotated[Text, AfterValidator(_argument_name)], Argument] = Field(
        default_factory=dict, description="The network's own keyword arguments; only with `use`."
    )
    weights: Text | None = Field(
        default=None,
        description="File of trained weights, relative to the current folder; only with `use`.",
        validate_default=True,
    )

    @field_validator("weights")
    @classmethod
    def _one_form(cls, weights: str | None, info: ValidationInfo) -> str | None:
        given = [name for name in ("recipe", "run", "use") if info.data.get(name) is not None]
        known = {"recipe", "run", "use", "args"} <= info.data.keys()
        if known and len(given) != 1:
            raise ValueError(f"give one of recipe, run and use, got {' and '.join(given) or 'none'}")
        if known and given != ["use"] and (weights is not None or info.data["args"]):
            raise ValueError(f"args and weights belong to use, not to {given[0]}; remove them")
        return weights

    @property
    def network(self) -> Use | None:
        """The network as a component, if it is given by `use`."""
        if self.use is None:
            return None
        network = Use(use=self.use, args=self.args)
        network._positions, network._path = self._positions, self._path
        return network


class Student(_Component):
    """The network that learns."""

    weights: Text | None = Field(
        default=None, description="File of weights to start from, relative to the current folder."
    )

    @property
    def network(self) -> Use:
        """The network as a component."""
        return self._as_use()


class Data(_Component):
    """The images, and how they reach the networks."""

    size: Size = Field(
        description="[height, width] in pixels of all images, >= 32; scores are at the labels' own size."
    )
    crop: Size | None = Field(default=None, description="[height, width] in pixels of the random training crop, >= 32.")
    augment: tuple[Use, ...] = Field(
        default=(), description="Transforms of training images, in order, before the crop."
    )
    workers: Whole = Field(
        default=2, ge=0, le=256, description="Processes that load images; 0: none beside the main one."
    )

    @property
    def dataset(self) -> Use:
        """The dataset as a component."""
        return self._as_use()


class Supervised(_Component):
    """The loss against the labels."""

    aux_weight: Number = Field(
        default=0.4, ge=0, description="Factor of each auxiliary head's loss in the supervised loss."
    )

    @property
    def loss(self) -> Use:
        """The loss as a component."""
        return self._as_use()


class Optimizer(_Component):
    """The optimizer."""

    @property
    def factory(self) -> Use:
        """The optimizer as a component; it is built with `params`."""
        return self._as_use()


class At(_Section):
    """Where a term reads each network: `logits`, `aux.<name>`, a tap, or a module path; or lists of equal length."""

    student: Address = Field(description="Where in the student.")
    teacher: Address = Field(description="Where in the teacher.")

    @field_validator("teacher")
    @classmethod
    def _equal_length(cls, teacher: Any, info: ValidationInfo) -> Any:
        if "student" in info.data:
            here, there = info.data["student"], teacher
            lengths = [len(a) if isinstance(a, tuple) else "one name" for a in (here, there)]
            if lengths[0] != lengths[1]:
                raise ValueError(f"must be as many taps as the student's: {lengths[0]} and {lengths[1]}")
        return teacher


class Term(_Section):
    """One distillation term."""

    loss: Use = Field(description="The loss, called with the student's map, the teacher's and the labels.")
    at: At | None = Field(default=None, description="Where it reads; without it, the logits.")
    adapter: Use | None = Field(
        default=None, description="Brings the student's channels to the teacher's; trained with it."
    )
    weight: Annotated[float | Use, BeforeValidator(_factor)] = Field(
        default=1.0, description="Factor in the total loss: a number >= 0, or a schedule of the step."
    )
    resize: Literal["student", "teacher"] = Field(
        default="student", description="Whose map is resized to the other's size."
    )
    pixels: Literal["valid", "all", "unlabelled"] = Field(
        default="valid",
        description="`all` and `unlabelled`: the teacher's argmax labels what has an image but no label.",
    )


class Train(_Section):
    """How long, how much at a time, and how."""

    epochs: Annotated[Whole, Field(ge=1)] | None = Field(default=None, description="Passes over the data; or `steps`.")
    steps: Annotated[Whole, Field(ge=1)] | None = Field(
        default=None, description="Optimizer updates; or `epochs`.", validate_default=True
    )
    batch_size: Whole = Field(ge=1, description="Images a step, over all processes and micro-batches.")
    accumulate: Whole = Field(default=1, ge=1, description="Micro-batches a step; divides batch_size.")
    seeds: Annotated[tuple[Annotated[Whole, Field(ge=0, lt=2**32)], ...], AfterValidator(_distinct)] = Field(
        default=(0,), min_length=1, description="One run for each."
    )
    clip_norm: Number | None = Field(
        default=None, gt=0, description="Largest norm of a step's gradient; null: not clipped."
    )
    precision: Literal["auto", "bf16", "fp32"] = Field(
        default="auto", description="`auto`: bf16 where the machine is fast at it."
    )
    memory_format: Literal["auto", "channels_last", "contiguous"] = Field(
        default="auto", description="How images lie in memory."
    )
    evaluate_every: Amount = Field(
        default="20%", description="Steps, or a share of all, between evaluations; 0: only at the end."
    )
    save_every: Amount = Field(
        default="10%", description="Steps, or a share of all, between checkpoints; 0: only at the end."
    )
    select: Literal["last", "best"] = Field(
        default="last", description="Whose weights are the result: the last step's, or the best's."
    )
    reestimate_batchnorm: Whole = Field(
        default=0, ge=0, description="Batches to estimate BatchNorm's statistics on before the last evaluation; 0: off."
    )

    @field_validator("steps")
    @classmethod
    def _one_length(cls, steps: int | None, info: ValidationInfo) -> int | None:
        if "epochs" in info.data and (steps is None) == (info.data["epochs"] is None):
            raise ValueError(f"give either epochs or steps, got {'none' if steps is None else 'both'}")
        return steps

    @field_validator("accumulate")
    @classmethod
    def _equal_parts(cls, accumulate: int, info: ValidationInfo) -> int:
        size = info.data.get("batch_size")
        if size is not None and size % accumulate:
            good = sorted({max(accumulate, size // accumulate * accumulate), (size // accumulate + 1) * accumulate})
            raise ValueError(
                f"batch_size {size} is not divisible by accumulate {accumulate}; "
                f"the nearest that are: {' and '.join(map(str, good))}"
            )
        return accumulate


class Log(_Section):
    """What is shown and logged; no part of a run's id."""

    every: Whole = Field(default=10, ge=1, description="Steps between two lines.")
    panels: Whole = Field(default=4, ge=0, le=64, description="Images shown with labels and predictions; 0: none.")
    tensorboard: Flag = Field(default=True, description="Whether TensorBoard events are written.")


class Recipe(_Section):
    """One experiment."""

    teacher: Teacher | None = Field(
        default=None, description="The network that teaches; without it, the student learns alone."
    )
    student: Student = Field(description="The network that learns; num_classes and in_channels come from the data.")
    data: Data = Field(description="The dataset, and how its images reach the networks.")
    supervised: Supervised = Field(description="The loss against the labels.")
    distill: dict[Annotated[Text, AfterValidator(_term_name)], Term] = Field(
        default_factory=dict, description="The distillation terms by name.", validate_default=True
    )
    optimizer: Optimizer = Field(description="An optimizer of torch.optim; it gets the parameters.")
    schedule: Use = Field(
        default=Use(use="kd.engine.schedule.poly", args={"power": 0.9}),
        description="Factor of the learning rate by step; it gets the number of steps.",
    )
    train: Train = Field(description="How long, how much at a time, and how.")
    log: Log = Field(default=Log(), description="What is shown and logged.")
    device: Literal["auto", "cpu", "cuda"] = Field(default="auto", description="`auto`: the GPU if there is one.")

    _file: Path = PrivateAttr(default=Path("recipe.yaml"))
    _trust: bool = PrivateAttr(default=False)
    _overrides: tuple[str, ...] = PrivateAttr(default=())

    @field_validator("distill")
    @classmethod
    def _both_or_none(cls, distill: dict[str, Term], info: ValidationInfo) -> dict[str, Term]:
        if "teacher" in info.data and bool(distill) != (info.data["teacher"] is not None):
            raise ValueError(
                "terms need a teacher; add `teacher`, or remove `distill`"
                if distill
                else "a teacher needs at least one term; add `distill`, or remove `teacher`"
            )
        return distill

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Recipe) and self.resolved() == other.resolved()

    def at(self, *keys: str | int) -> str:
        """`file:line:column` of what stands at `keys`; "recipe" if it was made in Python.

        What is not in the file (a default) has the position of the section around it.
        """
        return str(_nearest(self._positions, keys))

    @property
    def file(self) -> Path:
        """The file it was read from."""
        return self._file

    @property
    def folder(self) -> Path:
        """The file's folder, which `recipe:` and `file.py:` are relative to."""
        return self._file.parent

    @property
    def stem(self) -> str:
        """The file's name without suffix."""
        return self._file.stem

    @property
    def trust(self) -> bool:
        """Whether it may name code outside `TRUSTED`."""
        return self._trust

    @property
    def overrides(self) -> tuple[str, ...]:
        """The `path=value` texts it was read with."""
        return self._overrides

    @property
    def id(self) -> str:
        """8 hex digits that name its runs.

        SHA-256 of the recipe without defaults, seeds and machine settings; a teacher's recipe counts by its own id, a
        component of `file.py` by the file's SHA-256.

        Raises:
            RecipeError: a file that it names cannot be read.
        """
        tree = _tree(self, lambda text: _fingerprint(self, text), defaults=False)
        for section, key in (("train", "seeds"), ("data", "workers")):
            tree[section].pop(key, None)
        tree["data"].get("args", {}).pop("root", None)
        if not tree["data"].get("args", True):
            del tree["data"]["args"]
        for key in ("log", "device"):
            tree.pop(key, None)
        teacher = teacher_recipe(self)
        if teacher is not None:
            tree["teacher"] = {"recipe": teacher.id}
        return hashlib.sha256(json.dumps(_canonical(tree), sort_keys=True).encode()).hexdigest()[:8]

    def resolved(self) -> dict[str, Any]:
        """Plain data with the defaults, readable from any folder; read again it gives an equal recipe."""
        tree = _tree(self, lambda text: _absolute(self.folder, text), defaults=True)
        if self.teacher is not None and self.teacher.recipe is not None:
            tree["teacher"]["recipe"] = os.path.abspath(self.folder / self.teacher.recipe)
        return tree

    def components(self) -> Iterator[Use]:
        """Every component, those in arguments too, in the file's order."""
        return _uses(self)


def read_recipe(path: str | Path, overrides: Iterable[str] = (), *, trust: bool = False) -> Recipe:
    """Read and check one recipe file.

    Args:
        path: the file, or the name of a shipped recipe (`shapes/x.yaml`).
        overrides: `path=value` texts in YAML syntax, list items by index; `null` takes a term or an optional value out.
        trust: whether it may name code outside `TRUSTED`. Nothing is imported here in any case.

    Raises:
        RecipeError: with every mistake in it.
    """
    return _read(_find(path), tuple(overrides), trust)


def teacher_recipe(recipe: Recipe) -> Recipe | None:
    """The recipe of the teacher, if it has one: with the machine settings and trust of `recipe` and nothing else of it.

    The data root is taken over where both use the same dataset class.

    Raises:
        RecipeError: it cannot be read, is wrong, or leads back to a recipe on the way.
    """
    seen = [] if recipe.overrides else [recipe.file.resolve()]
    one, first = recipe, None
    while one.teacher is not None and one.teacher.recipe is not None:
        where = f"{one.at('teacher', 'recipe')}: teacher.recipe"
        file = one.folder / one.teacher.recipe
        if not file.is_file():
            raise RecipeError(f"{where}: no file {file}")
        if file.resolve() in seen:
            raise RecipeError(f"{where}: {file} leads back to itself; a teacher cannot need its own student")
        seen.append(file.resolve())
        one = _with_machine_of(recipe, _read(file, (), recipe.trust, asked=recipe))
        first = first or one
    return first


def baseline_of(recipe: Recipe) -> Recipe:
    """The same without `teacher` and `distill`: the student alone, a run with an id of its own."""
    return recipe.model_copy(update={"teacher": None, "distill": {}})


def to_yaml(recipe: Recipe) -> str:
    """`recipe.resolved()` as YAML text."""
    return nodes.dump(recipe.resolved())


def imports(path: str | Path) -> list[str]:
    """Every component that a recipe names, its teacher's recipe included; nothing is imported.

    `is_trusted` says which of them need `--trust`.

    Raises:
        RecipeError: the recipe is wrong.
    """
    recipe: Recipe | None = read_recipe(path, trust=True)
    found: dict[str, None] = {}
    start = recipe.folder if recipe else Path()
    while recipe is not None:
        folder = os.path.relpath(recipe.folder, start)
        for use in recipe.components():
            found[use.use if is_trusted(use.use) or ":" not in use.use else os.path.normpath(f"{folder}/{use.use}")] = (
                None
            )
        recipe = teacher_recipe(recipe)
    return list(found)


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a recipe, for editors."""
    schema: dict[str, Any] = Recipe.model_json_schema()
    schema |= {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "kd recipe"}
    return schema


def shipped_recipes() -> Path:
    """The folder of the recipes that come with kd: in the package, or beside it in a checkout."""
    package = Path(__file__).resolve().parent
    inside = package / "_recipes"
    return inside if inside.is_dir() else package.parent / "recipes"


# --- reading


def _find(path: str | Path) -> Path:
    """`path` if it exists, else the shipped recipe of that name."""
    path, shipped = Path(path), shipped_recipes()
    try:
        if path.exists() or path.is_absolute() or ".." in path.parts:
            return path
        parts = path.parts[1:] if path.parts[:1] == ("recipes",) else path.parts
        if shipped.joinpath(*parts).is_file():
            return shipped.joinpath(*parts)
        known = [file.relative_to(shipped).as_posix() for file in shipped.rglob("*.yaml")]
    except (OSError, ValueError):  # a name too long, a NUL: reading it says so
        return path
    close = get_close_matches(Path(*parts).as_posix(), known, n=1) if parts else []
    hint = f"; did you mean the shipped '{close[0]}'?" if close else ""
    raise RecipeError(f"{nodes.shorten(str(path))}: no such file, here or among the shipped recipes{hint}")


def _read(file: Path, overrides: tuple[str, ...], trust: bool, asked: Recipe | None = None) -> Recipe:
    """Read `file`; `asked` is the recipe that names it as its teacher's."""
    root = nodes.compose(nodes.read_text(file), str(file))
    if not isinstance(root, yaml.MappingNode):
        raise RecipeError(f"{file}: holds no mapping; a recipe starts with its sections, such as `student:`")
    mistakes: list[Mistake] = []
    for text in overrides:
        _override(root, text, mistakes)
    data, positions, found = nodes.plain(root)
    mistakes += found
    if not trust:
        mistakes += _untrusted(
            data, positions, _command(asked.file if asked else file, asked.overrides if asked else overrides)
        )
    try:
        recipe = Recipe.model_validate(data)
    except ValidationError as error:
        mistakes += [_explain(e, positions) for e in error.errors(include_url=False)]
    nodes.fail(mistakes)
    recipe._file, recipe._trust, recipe._overrides = file, trust, overrides
    _locate(recipe, positions, ())
    return recipe


def _command(file: Path, overrides: tuple[str, ...]) -> str:
    return shlex.join(["kd", "run", str(file), *overrides, "--trust"])


def _untrusted(data: Any, positions: dict[Path_, Position], command: str) -> list[Mistake]:
    """One mistake that names all components outside `TRUSTED`, if there are any."""
    found = [(path, text) for path, text in _named(data, ()) if not is_trusted(text) and _is_component(text)]
    if not found:
        return []
    listed = ", ".join(
        f"'{nodes.shorten(text)}'{_hint(text, '({})', ' ')}" for text in dict.fromkeys(t for _, t in found)
    )
    path = (*found[0][0], "use")
    what = f"{listed} would be imported, and is no part of kd; if you trust this recipe: {command}"
    return [Mistake(positions[path], path, what)]


def _named(data: Any, path: Path_) -> Iterator[tuple[Path_, str]]:
    if isinstance(data, dict):
        if isinstance(data.get("use"), str):
            yield path, data["use"]
        for key, value in data.items():
            yield from _named(value, (*path, key))
    elif isinstance(data, list):
        for index, value in enumerate(data):
            yield from _named(value, (*path, index))


def _is_component(text: str) -> bool:
    try:
        _component_path(text)
    except ValueError:
        return False
    return True


def _hint(text: str, form: str = "; {}", gap: str = "") -> str:
    """`did you mean` where a component is nearly a trusted one."""
    module, _, name = text.rpartition(".")
    if ":" in text or not name.isidentifier() or not module or len(module) > nodes.MAX_WORD:
        return ""
    deeper = [t for t in TRUSTED if module.startswith(f"{t}.") or t.endswith(f".{module}")]
    near = deeper or get_close_matches(module, TRUSTED, n=1, cutoff=0.75)
    return gap + form.format(f"did you mean '{near[0]}.{nodes.shorten(name)}'?") if near else ""


def _nearest(positions: dict[Path_, Position], path: Path_, otherwise: str = "recipe") -> Position:
    """The position of `path`, or of the nearest thing around it."""
    while path and path not in positions:
        path = path[:-1]
    return positions.get(path, Position(otherwise))


def _locate(value: Any, positions: dict[Path_, Position], path: Path_) -> None:
    """Tell every section where it stands."""
    if isinstance(value, _Section):
        if path in positions:  # a default stands nowhere
            value._positions, value._path = positions, path
        value = {name: getattr(value, name) for name in type(value).model_fields}
    if isinstance(value, dict):
        for key, item in value.items():
            _locate(item, positions, (*path, key))
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            _locate(item, positions, (*path, index))


# --- pydantic's errors in our words

_SAY = {
    "invalid_key": "unknown key",
    "int_type": "must be an integer, got {got}",
    "int_from_float": "must be an integer, got {got}",
    "float_type": "must be a number, got {got}",
    "finite_number": "must be a finite number, got {got}",
    "bool_type": "must be true or false, got {got}",
    "string_type": "must be text, got {got}",
    "string_too_short": "must not be empty",
    "literal_error": "must be {expected}, got {got}",
    "greater_than_equal": "must be at least {ge}, got {got}",
    "greater_than": "must be above {gt}, got {got}",
    "less_than_equal": "must be at most {le}, got {got}",
    "less_than": "must be below {lt}, got {got}",
    "model_type": "must be a mapping, got {got}",
    "dict_type": "must be a mapping, got {got}",
    "tuple_type": "must be a list, got {got}",
    "too_short": "must have at least {min_length} items, got {actual_length}",
    "value_error": "{error}",
}


def _explain(error: Any, positions: dict[Path_, Position]) -> Mistake:
    path = tuple(key for key in error["loc"] if key != "[key]")
    kind, got = error["type"], error["input"]
    if kind == "missing":
        *parent, name = path
        return Mistake(_nearest(positions, tuple(parent)), tuple(parent), f"needs '{name}'")
    if kind in ("extra_forbidden", "invalid_key"):
        section = _section_at(path[:-1]) or Use
        what = "unknown key" + did_you_mean(str(path[-1]), section.model_fields)
    else:
        what = _SAY.get(kind, error["msg"]).format(got=shown(got), **error.get("ctx", {}))
        if kind == "literal_error" and isinstance(got, str):
            what += did_you_mean(got, error["ctx"]["expected"].replace("'", "").replace(" or ", ", ").split(", "))
    if path not in positions:  # a default, wrong only together with other keys: say it of the section
        while path and path not in positions:
            path = path[:-1]
    return Mistake(_nearest(positions, path), path, what)


def _section_at(path: Path_) -> type[_Section] | None:
    """The model of the section at `path`; None for a mapping of names (`distill`, `args`)."""
    section: type[_Section] | None = Recipe
    inner: type[_Section] | None = None  # of the entries of a container
    for key in path:
        if section is None:
            section, inner = inner, None
            continue
        field = section.model_fields.get(str(key))
        if field is None:
            return Use
        found, container = _model_in(field.annotation)
        section, inner = (None, found) if container else (found, None)
        if section is None and inner is None:
            return Use if key == "args" and len(path) > path.index(key) + 1 else None
    return section


def _model_in(annotation: Any) -> tuple[type[_Section] | None, bool]:
    """The section's class in an annotation, and whether a container of such sections stands there."""
    if isinstance(annotation, type) and issubclass(annotation, _Section):
        return annotation, False
    container = getattr(annotation, "__origin__", None) in (dict, tuple)
    models = [model for inner in get_args(annotation) if (model := _model_in(inner)[0])]
    return (models[0] if models else None), container


# --- overrides


def _override(root: yaml.MappingNode, text: str, mistakes: list[Mistake]) -> None:
    """Put `path=value` into the tree; whether the schema allows it there is checked with everything else."""
    name, sign, value = text.partition("=")
    here = Position(f"<{text}>")
    keys = name.split(".")
    if not sign or not all(keys) or len(keys) > nodes.MAX_DEPTH:
        mistakes.append(Mistake(here, (), "an override is written path=value, such as train.batch_size=8"))
        return
    try:
        new = nodes.compose(value, str(here))
    except RecipeError as error:
        mistakes.append(Mistake(here, (), error.mistakes[0].removeprefix(f"{here}: ")))
        return
    mark = yaml.Mark(str(here), 0, 0, 0, None, 0)
    new = new or yaml.ScalarNode("tag:yaml.org,2002:null", "", mark, mark)
    node: yaml.Node = root
    for depth, key in enumerate(keys):
        path, last = tuple(keys[:depth]), depth == len(keys) - 1
        around = f" in {dotted(path)}" if path else ""
        if isinstance(node, yaml.SequenceNode):
            if not (key.isdecimal() and int(key[:9]) < len(node.value)):
                what = f"{dotted(path)} has {len(node.value)} items, counted from 0; there is no '{nodes.shorten(key)}'"
                mistakes.append(Mistake(here, (), what))
                return
            index = int(key)
            if last and _is_null(new) and "args" not in path:
                del node.value[index]
            elif last:
                node.value[index] = new
            else:
                node = node.value[index]
            continue
        if not isinstance(node, yaml.MappingNode):
            mistakes.append(Mistake(here, (), f"{dotted(path)} is one value and has no '{nodes.shorten(key)}'"))
            return
        section = _section_at(path)
        fields = section.model_fields if section else {}
        index = next((i for i, (k, _) in enumerate(node.value) if k.value == key), -1)
        remove = last and _is_null(new) and "args" not in path
        if index < 0 and key not in fields and (not last or remove):
            known = {str(k.value) for k, _ in node.value if isinstance(k, yaml.ScalarNode)} | fields.keys()
            mistakes.append(Mistake(here, (), f"no '{nodes.shorten(key)}'{around}{did_you_mean(key, known)}"))
            return
        if remove:
            node.value[index : index + 1 or None] = [] if index >= 0 else node.value[index:]
            continue
        item = new if last else node.value[index][1] if index >= 0 else None
        if item is None or (not last and _is_null(item)):
            item = yaml.MappingNode("tag:yaml.org,2002:map", [], mark, mark)
        tag = "int" if key.isdecimal() and not fields else "str"
        entry = (yaml.ScalarNode(f"tag:yaml.org,2002:{tag}", key, mark, mark), item)
        if index < 0:
            node.value.append(entry)
        elif last or item is not node.value[index][1]:
            node.value[index] = entry
        node = item


def _is_null(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.tag.endswith(":null")


# --- what a recipe comes to


def _tree(value: Any, component: Callable[[str], str], *, defaults: bool) -> Any:
    """Plain data of a value; `component` says what stands for a `file.py:Name`."""
    if isinstance(value, _Section):
        tree = {}
        for name, field in type(value).model_fields.items():
            item = getattr(value, name)
            if defaults or field.is_required() or item != field.get_default(call_default_factory=True):
                tree[name] = component(item) if name == "use" and item else _tree(item, component, defaults=defaults)
        return tree
    if isinstance(value, dict):
        return {key: _tree(item, component, defaults=defaults) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_tree(item, component, defaults=defaults) for item in value]
    return value


def _absolute(folder: Path, component: str) -> str:
    file, colon, name = component.rpartition(":")
    return f"{os.path.abspath(folder / file)}:{name}" if colon else component


def _fingerprint(recipe: Recipe, component: str) -> str:
    file, colon, name = component.rpartition(":")
    if not colon:
        return component
    try:
        return f"{hashlib.sha256((recipe.folder / file).read_bytes()).hexdigest()}:{name}"
    except OSError as error:
        where = next(use.at() for use in recipe.components() if use.use == component)
        raise RecipeError(f"{where}: {component}: {error.strerror}: {recipe.folder / file}") from None


def _canonical(value: Any) -> Any:
    """`value` with text keys only, so that JSON can sort them."""
    if isinstance(value, dict):
        return {k if isinstance(k, str) else f"!{k!r}": _canonical(v) for k, v in value.items()}
    return [_canonical(v) for v in value] if isinstance(value, list) else value


def _uses(value: Any) -> Iterator[Use]:
    if isinstance(value, _Component):
        yield value._as_use()
    elif isinstance(value, Teacher) and value.network is not None:
        yield value.network
    if isinstance(value, _Section):
        value = {name: getattr(value, name) for name in type(value).model_fields}
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        for item in value:
            yield from _uses(item)


def _with_machine_of(recipe: Recipe, teacher: Recipe) -> Recipe:
    data = teacher.data.model_copy(update={"workers": recipe.data.workers})
    if data.use == recipe.data.use and "root" in recipe.data.args:
        data = data.model_copy(update={"args": data.args | {"root": recipe.data.args["root"]}})
    return teacher.model_copy(update={"data": data, "device": recipe.device, "log": recipe.log})
