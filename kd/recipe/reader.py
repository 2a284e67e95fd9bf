"""The schema of a recipe and its reader: every mistake as `file:line:column: path: what`, all at once.

Never imports torch: `kd check` on a wrong recipe answers at once, and nothing a recipe names is imported here.
"""

import hashlib
import json
import os
import shlex
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, Field, PrivateAttr, ValidationError, ValidationInfo, field_validator

from kd.errors import Mistake, Path_, Position, RecipeError, fail, nearest
from kd.recipe import catalogue, moved, shipped
from kd.recipe import yaml12 as nodes
from kd.recipe.overrides import explained, override
from kd.recipe.schema import (
    CacheConfig,
    DataConfig,
    EvaluateConfig,
    Flag,
    LogConfig,
    OptimizerConfig,
    PhaseConfig,
    Section,
    StudentConfig,
    SupervisedConfig,
    TeacherConfig,
    TermConfig,
    Text,
    TrackConfig,
    TrainConfig,
    Use,
    WeightsConfig,
    components,
    held,
    term_name,
)
from kd.recipe.trust import untrusted

__all__ = [
    "EvaluateConfig",
    "Recipe",
    "TermConfig",
    "TrackConfig",
    "TrainConfig",
    "Use",
    "WeightsConfig",
    "baseline_of",
    "imports",
    "json_schema",
    "read_recipe",
    "teacher_recipe",
    "teachers",
    "to_yaml",
]

# Of the machine: no part of a run's id, and a teacher takes over its student's.
MACHINE = ("device", "deterministic", "log", "track")


class Recipe(Section):
    """One experiment."""

    teacher: TeacherConfig | None = Field(
        default=None, description="The network that teaches; without it, the student learns alone."
    )
    student: StudentConfig = Field(
        description="The network that learns; num_classes and in_channels come from the data."
    )
    data: DataConfig = Field(description="The dataset, and how its images reach the networks.")
    supervised: SupervisedConfig = Field(description="The loss against the labels.")
    distill: dict[Annotated[Text, AfterValidator(term_name)], TermConfig] = Field(
        default_factory=dict, description="The distillation terms by name.", validate_default=True
    )
    cache: CacheConfig | None = Field(
        default=None, description="Keep the teacher's outputs in files instead of computing them in every epoch."
    )
    optimizer: OptimizerConfig = Field(description="An optimizer of torch.optim; it gets the parameters.")
    schedule: Use = Field(
        default=Use(use="kd.schedules.poly", args={"power": 0.9}),
        description="Factor of the learning rate by step; it gets the number of steps.",
    )
    phases: tuple[PhaseConfig, ...] = Field(
        default=(), description="Parts of the run in order, each until a step, with resting modules and its own rate."
    )
    train: TrainConfig = Field(description="How long, how much at a time, and how.")
    evaluate: EvaluateConfig = Field(default=EvaluateConfig(), description="How images are scored.")
    log: LogConfig = Field(default=LogConfig(), description="What is shown and logged.")
    track: TrackConfig | None = Field(
        default=None, description="The Weights & Biases project that gets the curves too; keys and mode are W&B's own."
    )
    device: Literal["auto", "cpu", "cuda"] = Field(default="auto", description="`auto`: the GPU if there is one.")
    deterministic: Flag = Field(
        default=False, description="Whether a rerun on this machine gives the same bits; an error names what cannot."
    )

    _file: Path = PrivateAttr(default=Path("recipe.yaml"))
    _trust: bool = PrivateAttr(default=False)
    _overrides: tuple[str, ...] = PrivateAttr(default=())

    @field_validator("distill")
    @classmethod
    def _both_or_none(cls, distill: dict[str, TermConfig], info: ValidationInfo) -> dict[str, TermConfig]:
        if "teacher" in info.data and bool(distill) != (info.data["teacher"] is not None):
            raise ValueError(
                "terms need a teacher; add `teacher`, or remove `distill`"
                if distill
                else "a teacher needs at least one term; add `distill`, or remove `teacher`"
            )
        return distill

    @field_validator("cache")
    @classmethod
    def _lasting(cls, cache: CacheConfig | None, info: ValidationInfo) -> CacheConfig | None:
        teacher = info.data.get("teacher")
        if cache is not None and teacher is not None and teacher.ema is not None:
            raise ValueError("an average that teaches changes with every step and cannot be kept; remove `cache`")
        return cache

    @field_validator("train")
    @classmethod
    def _one_average(cls, train: TrainConfig, info: ValidationInfo) -> TrainConfig:
        teacher = info.data.get("teacher")
        taught = teacher.ema if teacher is not None else None
        if train.fold_batchnorm and taught is not None:
            raise ValueError("fold_batchnorm: an average that teaches changes with every step; remove fold_batchnorm")
        if None not in (train.ema, taught) and train.ema != taught:
            raise ValueError(
                f"ema {train.ema} and teacher.ema {taught}: there is one moving average; give both one decay"
            )
        return train

    @field_validator("phases")
    @classmethod
    def _until_the_end(cls, phases: tuple[PhaseConfig, ...]) -> tuple[PhaseConfig, ...]:
        if any((phase.until is None) != (phase is phases[-1]) for phase in phases):
            raise ValueError("every phase but the last needs `until`, and the last has none")
        return phases

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Recipe) and self.resolved() == other.resolved()

    def at(self, *keys: str | int) -> str:
        """`file:line:column` of what stands at `keys`; "recipe" if it was made in Python.

        What is not in the file (a default) has the position of the section around it.
        """
        return str(nearest(self._positions, keys))

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
        """Whether it may name code outside `kd.recipe.trust.TRUSTED`."""
        return self._trust

    @property
    def scored_size(self) -> tuple[int, int]:
        """(height, width) of images that are scored."""
        return self.evaluate.size or self.data.size

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
        for key in MACHINE:
            tree.pop(key, None)
        tree.get("cache", {}).pop("folder", None)
        teacher = teacher_recipe(self)
        if teacher is not None:
            tree["teacher"] = {"recipe": teacher.id}
        return hashlib.sha256(json.dumps(_canonical(tree), sort_keys=True).encode()).hexdigest()[:8]

    def resolved(self) -> dict[str, Any]:
        """Plain data with the defaults, readable from any folder; read again it gives an equal recipe."""
        tree: dict[str, Any] = _tree(self, lambda text: _absolute(self.folder, text), defaults=True)
        if self.teacher is not None and self.teacher.recipe is not None:
            tree["teacher"]["recipe"] = os.path.abspath(self.folder / self.teacher.recipe)
        return tree


def read_recipe(path: str | Path, overrides: Iterable[str] = (), *, trust: bool = False) -> Recipe:
    """Read and check one recipe file.

    Args:
        path: the file, or the name of a shipped recipe (`shapes/x.yaml`).
        overrides: `path=value` texts in YAML syntax, list items by index; `null` takes a term or an optional value out.
        trust: whether it may name code outside `kd.recipe.trust.TRUSTED`. Nothing is imported here in any case.

    Raises:
        RecipeError: with every mistake in it.
    """
    return _read(shipped.find(path), tuple(overrides), trust)


def teacher_recipe(recipe: Recipe) -> Recipe | None:
    """The recipe of the teacher, if it has one: with the machine settings and trust of `recipe` and nothing else of it.

    The data root is taken over where both use the same dataset class.

    Raises:
        RecipeError: it cannot be read, is wrong, or leads back to a recipe on the way.
    """
    return next(iter(teachers(recipe)), None)


def teachers(recipe: Recipe) -> list[Recipe]:
    """The recipe of the teacher, of the teacher's teacher, and so on; as `teacher_recipe`."""
    seen = [] if recipe.overrides else [recipe.file.resolve()]
    found: list[Recipe] = []
    one = recipe
    while one.teacher is not None and one.teacher.recipe is not None:
        where = f"{one.at('teacher', 'recipe')}: teacher.recipe"
        file = one.folder / one.teacher.recipe
        if not file.is_file():
            raise RecipeError(f"{where}: no file {file}")
        if file.resolve() in seen:
            raise RecipeError(f"{where}: {file} leads back to itself; a teacher cannot need its own student")
        seen.append(file.resolve())
        one = _with_machine_of(recipe, _read(file, (), recipe.trust, asked=recipe))
        found.append(one)
    return found


def first_seed(recipe: Recipe) -> Recipe:
    """The same with the first of its seeds alone: the one that teaches, whatever else was trained."""
    return recipe.model_copy(update={"train": recipe.train.model_copy(update={"seeds": recipe.train.seeds[:1]})})


def baseline_of(recipe: Recipe) -> Recipe:
    """The same without `teacher` and `distill`: the student alone, a run with an id of its own, on the same images."""
    cache = None if recipe.cache is None else CacheConfig(views=recipe.cache.views)
    return recipe.model_copy(update={"teacher": None, "distill": {}, "cache": cache})


def to_yaml(recipe: Recipe) -> str:
    """`recipe.resolved()` as YAML text."""
    return nodes.dump(recipe.resolved())


def imports(path: str | Path) -> list[str]:
    """Every component that a recipe names, its teacher's recipe included; nothing is imported.

    `kd.recipe.trust.is_trusted` says which of them need `--trust`.

    Raises:
        RecipeError: the recipe is wrong.
    """
    first = read_recipe(path, trust=True)
    found = []
    for recipe in (first, *teachers(first)):
        folder = os.path.relpath(recipe.folder, first.folder)
        named = (use.use for use in components(recipe))
        found += [os.path.normpath(f"{folder}/{name}") if ":" in name else name for name in named]
    return list(dict.fromkeys(found))


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a recipe, for editors."""
    schema: dict[str, Any] = Recipe.model_json_schema()
    schema |= {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "kd recipe"}
    catalogue.offer_names(schema)
    return schema


def _read(file: Path, overrides: tuple[str, ...], trust: bool, asked: Recipe | None = None) -> Recipe:
    """Read `file`; `asked` is the recipe that names it as its teacher's."""
    root = nodes.compose(nodes.read_text(file), str(file))
    if not isinstance(root, yaml.MappingNode):
        raise RecipeError(f"{file}: holds no mapping; a recipe starts with its sections, such as `student:`")
    mistakes: list[Mistake] = []
    for text in overrides:
        mistakes += override(root, text, Recipe)
    data, positions, found = nodes.plain(root)
    mistakes += found
    moved.update(data, positions, warn=True)
    if not trust:
        named, given = (asked.file, asked.overrides) if asked else (file, overrides)
        mistakes += untrusted(data, positions, shlex.join(["kd", "run", str(named), *given, "--trust"]))
    try:
        recipe = Recipe.model_validate(data)
    except ValidationError as error:
        said = {mistake.path for mistake in found}
        mistakes += [m for m in explained(error, Recipe, positions) if m.path not in said]
    fail(mistakes)
    recipe._file, recipe._trust, recipe._overrides = file, trust, overrides
    _locate(recipe, positions, ())
    return recipe


def _locate(value: Any, positions: dict[Path_, Position], path: Path_) -> None:
    """Tell every section where it stands."""
    if isinstance(value, Section) and path in positions:  # a default stands nowhere
        value._positions, value._path = positions, path
    for key, item in held(value):
        _locate(item, positions, (*path, key))


def _tree(value: Any, component: Callable[[str], str], *, defaults: bool) -> Any:
    """Plain data of a value; `component` says what stands for a `file.py:Name`."""
    if isinstance(value, Section):
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
        return moved.first_path(component)
    try:
        return f"{hashlib.sha256((recipe.folder / file).read_bytes()).hexdigest()}:{name}"
    except OSError as error:
        where = next(use.at() for use in components(recipe) if use.use == component)
        raise RecipeError(f"{where}: {component}: {error.strerror}: {recipe.folder / file}") from None


def _canonical(value: Any) -> Any:
    """`value` with text keys only, so that JSON can sort them."""
    if isinstance(value, dict):
        return {k if isinstance(k, str) else f"!{k!r}": _canonical(v) for k, v in value.items()}
    return [_canonical(v) for v in value] if isinstance(value, list) else value


def _with_machine_of(recipe: Recipe, teacher: Recipe) -> Recipe:
    data = teacher.data.model_copy(update={"workers": recipe.data.workers})
    if data.use == recipe.data.use and "root" in recipe.data.args:
        data = data.model_copy(update={"args": data.args | {"root": recipe.data.args["root"]}})
    cache = teacher.cache
    if cache is not None and recipe.cache is not None:
        cache = cache.model_copy(update={"folder": recipe.cache.folder})
    machine = {key: getattr(recipe, key) for key in MACHINE}
    return teacher.model_copy(update={"data": data, "cache": cache} | machine)
