"""Read a study: its recipes, with every mistake at its place. Never imports torch."""

import shlex
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import ValidationError

from kd.errors import Mistake, Path_, Position, RecipeError, fail, nearest
from kd.files.reading import read_text
from kd.recipe import Recipe, baseline_of, first_seed, read_recipe, teachers, yaml12
from kd.recipe.explain import explained
from kd.recipe.overrides import listed
from kd.recipe.shipped import recipes as shipped
from kd.runs import run_directory
from kd.study.budget import read_steps, times_file
from kd.study.schema import Study


@dataclass(frozen=True, eq=False)
class Run:
    """One run of a study."""

    name: str  # of the recipe in this study, such as "kl"
    role: Literal["teacher", "baseline", "student"]
    recipe: Recipe  # with this seed alone
    needs: "tuple[Run, ...]" = ()  # its teacher's run

    @property
    def seed(self) -> int:
        """The seed."""
        return self.recipe.train.seeds[0]

    @property
    def label(self) -> str:
        """What a line for the user calls it, and `--only` takes: `kl/0`."""
        return f"{self.name}/{self.seed}"

    def run_dir(self, runs: Path) -> Path:
        """Its run directory."""
        return run_directory(self.recipe, runs, self.seed)


@dataclass(frozen=True)
class Plan:
    """A study as it was read.

    Attributes:
        file: the study's file.
        words: of the command that reads it again, after `kd`.
        variants: the recipes by the variants' names, each with all its seeds.
        baselines: those that no variant says already, by name.
        study: the content of the file.
        pairs: the ids of students with those of their baselines, where these have lengths of their own.
        unmeasured: the file for the times of training, which the lengths depend on and which is not there yet.
    """

    file: Path
    words: tuple[str, ...]
    variants: Mapping[str, Recipe]
    baselines: Mapping[str, Recipe]
    study: Study
    pairs: Mapping[str, str] = field(default_factory=dict)
    unmeasured: Path | None = None

    @property
    def recipes(self) -> dict[str, Recipe]:
        """The variants and the baselines, by name."""
        return {**self.variants, **self.baselines}

    def runs(self) -> list[Run]:
        """Every run once: teachers first, and each baseline before the first variant that is compared with it."""
        found: dict[tuple[str, int], Run] = {}
        teaching = {recipe.id: recipe for variant in self.variants.values() for recipe in teachers(variant)}
        names = _teacher_names(list(teaching.values()), self.recipes.keys())

        def add(name: str, role: Literal["teacher", "baseline", "student"], recipe: Recipe) -> Run:
            needs: tuple[Run, ...] = ()
            if recipe.teacher_recipe is not None:
                teacher = first_seed(recipe.teacher_recipe)
                needs = (add(names[teacher.id], "teacher", teacher),)
            return found.setdefault((recipe.id, recipe.train.seeds[0]), Run(name, role, recipe, needs))

        for variant in self.variants.values():
            if variant.teacher_recipe is not None:
                teacher = first_seed(variant.teacher_recipe)
                add(names[teacher.id], "teacher", teacher)
        for name, variant in self.variants.items():
            ordered = [(name, variant)]
            baseline = self.pairs.get(variant.id, baseline_of(variant).id)
            ordered = [(n, r) for n, r in self.baselines.items() if r.id == baseline] + ordered
            for each, recipe in ordered:
                for seed in recipe.train.seeds:
                    one = recipe.changed(train=recipe.train.model_copy(update={"seeds": (seed,)}))
                    add(each, "student" if recipe.distill else "baseline", one)
        assert {r.id for r in self.baselines.values()} <= {id for id, _ in found}, "a baseline that no variant needs"
        return list(found.values())


def read_study(path: str | Path, overrides: Iterable[str] = (), *, trust: bool = False, runs: Path) -> Plan:
    """Read and check a study, and the recipes of its variants.

    Args:
        path: the file, or the name of a shipped study.
        overrides: `path=value` texts for the recipe of every variant.
        trust: whether recipes may name code from outside kd.
        runs: the folder of run directories, for the command in messages.

    Raises:
        RecipeError: with every mistake; two variants that are the same are one.
    """
    file, overrides = shipped.find(path), listed(overrides)
    study, positions = _read_file(file)
    folder = [] if runs == Path("runs") else ["--runs", str(runs)]
    words = ("study", str(shipped.name_of(file)), *overrides, *folder, *(["--trust"] if trust else []))
    command = shlex.join(["kd", *words])
    reader = _Reader(file, study, positions, overrides, trust, command)
    recipes = reader.read()
    match = None if study.budget is None else study.budget.match
    lengths: dict[str, tuple[str, ...]] = {}
    if match in ("epochs", "steps"):
        lengths = _equal_lengths(match, recipes, study, positions)
        recipes = reader.read(lengths)
    _refuse_equal(recipes, positions)
    named = _baselines(recipes) if study.baselines else {}
    baselines = {name: reader.baseline(of, recipes[of], lengths.get(of, ())) for name, of in named.items()}
    plan = Plan(file, words, recipes, baselines, study)
    return plan if match != "time" else _timed(plan, reader, named, runs)


@dataclass(frozen=True)
class _Reader:
    """Reads the recipes of a study's variants."""

    file: Path
    study: Study
    positions: Mapping[Path_, Position]
    overrides: tuple[str, ...]
    trust: bool
    command: str

    def baseline(self, variant: str, recipe: Recipe, lengths: tuple[str, ...]) -> Recipe:
        """The baseline of a variant, as `kd run` with these overrides trains it."""
        cache = [] if recipe.cache is None else [f"cache={{views: {recipe.cache.views}}}"]
        labelled = ["data.unlabelled=null"] if recipe.data.unlabelled else []
        alone = ("teacher=null", "distill=null", *labelled, *cache)
        return self._read(variant, recipe.file, (*self.overrides, *alone, *lengths))

    def _read(self, name: str, file: Path, last: tuple[str, ...]) -> Recipe:
        texts = (text for text, _ in self._texts(name))
        return read_recipe(file, (*texts, *last), trust=self.trust, command=self.command)

    def read(self, lengths: Mapping[str, tuple[str, ...]] | None = None) -> dict[str, Recipe]:
        """The recipes by the variants' names; `lengths` are overrides by which the study makes their budgets equal.

        Raises:
            RecipeError: with the mistakes of all of them.
        """
        mistakes: list[str] = []
        recipes: dict[str, Recipe] = {}
        for name, changes in self.study.variants.items():
            file = changes.get("recipe", self.study.base)
            if not isinstance(file, str):
                at = nearest(self.positions, ("variants", name))
                mistakes.append(f"{at}: variants.{name}: needs 'recipe', as the study has no 'base'")
                continue
            try:
                found = shipped.find(self.file.parent / file)
            except RecipeError as error:
                place: Path_ = ("variants", name, "recipe") if "recipe" in changes else ("base",)
                mistakes.append(str(Mistake(nearest(self.positions, place), place, str(error))))
                continue
            last = (*self.overrides, *(lengths or {}).get(name, ()))
            try:
                recipes[name] = self._read(name, found, last)
            except RecipeError as error:
                mistakes += [_placed(line, self._texts(name), self.positions) for line in error.mistakes]
        if mistakes:
            raise RecipeError(list(dict.fromkeys(mistakes)))
        return recipes

    def _texts(self, name: str) -> list[tuple[str, Path_]]:
        """The overrides of a variant as on the command line, in their order, with their places in the study."""
        changes = self.study.variants[name]
        values: list[tuple[Path_, Any]] = [(("overrides", key), value) for key, value in self.study.overrides.items()]
        values += [(("variants", name, key), value) for key, value in changes.items() if key != "recipe"]
        texts: list[tuple[str, Path_]] = [(f"{place[-1]}={yaml12.in_flow(value)}", place) for place, value in values]
        if _states_seeds(changes) is None:  # after them: `train: {…}` replaces the section
            texts.append((f"train.seeds={yaml12.in_flow(list(self.study.seeds))}", ("seeds",)))
        return texts


def _states_seeds(changes: Mapping[str, Any]) -> str | None:
    """The key among changed values that states seeds; None without one."""
    for key, value in changes.items():
        in_section = key == "train" and isinstance(value, Mapping) and "seeds" in value
        if in_section or key.split(".")[:2] == ["train", "seeds"]:
            return key
    return None


def _equal_lengths(
    match: str, recipes: Mapping[str, Recipe], study: Study, positions: Mapping[Path_, Position]
) -> dict[str, tuple[str, ...]]:
    """Overrides that give every variant the epochs, or the steps, of the first one.

    Raises:
        RecipeError: the first one states no such length, or a variant states another one itself.
    """
    (first, reference), *_ = recipes.items()
    length = getattr(reference.train, match)
    if length is None:
        other = "steps" if match == "epochs" else "epochs"
        what = f"{match}, but {first} has train.{other} {getattr(reference.train, other)}; give train.{match}"
        raise RecipeError(str(Mistake(nearest(positions, ("budget", "match")), ("budget", "match"), what)))
    mistakes = []
    for name, recipe in recipes.items():
        stated = [key for key in ("train", "train.epochs", "train.steps") if key in study.variants[name]]
        if stated and (recipe.train.epochs, recipe.train.steps) != (reference.train.epochs, reference.train.steps):
            place: Path_ = ("variants", name, stated[0])
            what = f"differs from train.{match} {length} of {first}, and budget.match is {match}; remove one of them"
            mistakes.append(Mistake(nearest(positions, place), place, what))
    fail(mistakes)
    texts = ("train.steps=null", f"train.epochs={length}")
    return dict.fromkeys(recipes, texts if match == "epochs" else ("train.epochs=null", f"train.steps={length}"))


def _read_file(file: Path) -> tuple[Study, dict[Path_, Position]]:
    root = yaml12.compose(read_text(file, "a study", RecipeError), str(file))
    if not isinstance(root, yaml.MappingNode):
        raise RecipeError(f"{file}: not a mapping; a study has `base`, `variants` and `seeds` (docs/studies.md)")
    data, positions, mistakes = yaml12.plain(root)
    if "student" in data and "variants" not in data:
        raise RecipeError(f"{file}: a recipe, not a study; give a file with `base` and `variants` (docs/studies.md)")
    try:
        study = Study.model_validate(data)
    except ValidationError as error:
        known = {mistake.path for mistake in mistakes}
        mistakes += [mistake for mistake in explained(error, Study, positions) if mistake.path not in known]
    else:
        if (key := _states_seeds(study.overrides)) is not None:
            where = ("overrides", key)
            what = f"the seeds of every variant are the study's `seeds` ({list(study.seeds)}); give them there"
            mistakes.append(Mistake(nearest(positions, where), where, what))
    fail(mistakes)
    return study, positions


def _placed(line: str, texts: Iterable[tuple[str, Path_]], positions: Mapping[Path_, Position]) -> str:
    """A mistake in an override at its place in the study; any other mistake as it is."""
    for text, where in texts:
        if line.startswith(f"<{text}>: "):
            what = line.removeprefix(f"<{text}>: ").removeprefix(f"{text.partition('=')[0]}: ")
            return str(Mistake(nearest(positions, where), where, what))
    return line


def _refuse_equal(recipes: Mapping[str, Recipe], positions: Mapping[Path_, Position]) -> None:
    """Refuse two variants that say the same.

    Raises:
        RecipeError: there are some.
    """
    first: dict[str, str] = {}
    mistakes = []
    for name, recipe in recipes.items():
        same = first.setdefault(recipe.id, name)
        if same != name:
            where: Path_ = ("variants", name)
            what = f"is the same as variants.{same} (id {recipe.id}); change a value, or remove one of them"
            mistakes.append(Mistake(nearest(positions, where), where, what))
    fail(mistakes)


def _baselines(recipes: Mapping[str, Recipe]) -> dict[str, str]:
    """The baselines that are no variants themselves, by their names: the first variant of each."""
    given = {recipe.id for recipe in recipes.values()}
    missing: dict[str, str] = {}
    for name, recipe in recipes.items():
        identifier = baseline_of(recipe).id
        if recipe.distill and identifier not in given:
            missing.setdefault(identifier, name)
    alone = len(missing) == 1 and "baseline" not in recipes
    return {
        _free("baseline" if alone else f"baseline of {name}", identifier, recipes): name
        for identifier, name in missing.items()
    }


def _timed(plan: Plan, reader: _Reader, named: Mapping[str, str], runs: Path) -> Plan:
    """The plan with lengths that take equally long; as it is, and `unmeasured`, before they have been measured."""
    file = times_file(runs, plan.file.stem, plan.recipes)
    steps = read_steps(file, plan.recipes)
    if steps is None:
        return replace(plan, unmeasured=file)
    lengths = {name: ("train.epochs=null", f"train.steps={number}") for name, number in steps.items()}
    variants = reader.read(lengths)
    baselines = {name: reader.baseline(of, plan.variants[of], lengths[name]) for name, of in named.items()}
    before = {recipe.id: name for name, recipe in plan.recipes.items()}
    timed = replace(plan, variants=variants, baselines=baselines)
    pairs = {}
    for name, recipe in plan.variants.items():
        found = before.get(baseline_of(recipe).id)
        if recipe.distill and found is not None:
            pairs[variants[name].id] = timed.recipes[found].id
    return replace(timed, pairs=pairs)


def _free(name: str, identifier: str, taken: Container[str]) -> str:
    """A name for what is no variant: with its id where a variant has the name."""
    return f"{name} {identifier}" if name in taken else name


def _teacher_names(recipes: list[Recipe], taken: Container[str]) -> dict[str, str]:
    """The teachers' names in a study, by id."""
    if len(recipes) == 1 and "teacher" not in taken:
        return {recipes[0].id: "teacher"}
    return {recipe.id: _free(f"teacher {recipe.stem}-{recipe.id}", recipe.id, taken) for recipe in recipes}
