"""From recipes or run directories to a comparison: its networks, their scores, and the notes on them."""

import os
import shlex
import statistics
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

from kd.compare.comparison import Comparison, Entry, Note, Role
from kd.compare.gathering import notes as notes_on
from kd.compare.gathering.budgets import unequal_budgets, weak_baselines
from kd.compare.gathering.latencies import stored_latencies
from kd.compare.gathering.names import variant_names
from kd.compare.gathering.paired import Pairing
from kd.compare.gathering.results import Results
from kd.compare.gathering.rows import Rows
from kd.compare.gathering.same_data import on_other_data, refuse_other_data
from kd.errors import RecipeError, StorageError
from kd.recipe import Recipe, read_recipe
from kd.recipe.overrides import refuse_idle
from kd.runs import (
    SPLIT,
    Result,
    SplitResult,
    TeacherResult,
    by_seed,
    finished_at,
    finished_below,
    finished_of,
    in_its_folder,
    may_be_finished,
    read_environment,
    read_run_recipe,
    run_command,
    run_directory,
    short_name,
)

Target = str | os.PathLike[str] | Recipe  # a recipe or its file; or a run directory, of one seed or of all


@dataclass
class _Group:
    """The finished runs of one recipe, and the command that makes the others."""

    run_dirs: list[Path]
    command: str  # the `kd run …` of this recipe
    unfinished: tuple[int, ...]  # further seeds of the recipe

    @property
    def folder(self) -> Path:
        return self.run_dirs[0].parent


def gather(
    targets: Sequence[Target],
    *,
    runs: Path = Path("runs"),
    overrides: Sequence[str] = (),
    trust: bool = False,
    names: Mapping[str, str] | None = None,
    baselines: Mapping[str, str] | None = None,
) -> Comparison:
    """Find the runs to compare, with the teachers and the baselines that belong to them.

    Args:
        targets: recipes; or run directories, of one seed (`runs/x-1234abcd/seed0`) or of all (`runs/x-1234abcd`).
        runs: where the runs of recipes are.
        overrides: `path=value`, for every recipe that is read here.
        trust: whether those recipes, and the recipes in run directories, may name code outside kd.
        names: of networks, by the ids of their recipes; None: see `variant_names`.
        baselines: the ids of students with those of the baselines that they are compared with; None: their own.

    Raises:
        RecipeError: a target has no finished run; the runs were not scored on the same images or classes; runs in one
            folder are of two recipes, or of one seed.
        StorageError: no run's result can be read; one of several that cannot is left out, with a note.
    """
    named = [target for target in targets if isinstance(target, Recipe) or os.path.isdir(target)]
    refuse_idle(overrides, len(targets) - len(named), [target for target in named if not isinstance(target, Recipe)])
    groups = _groups(targets, runs, overrides, trust)
    rows = Rows()
    alone: list[Entry] = []
    notes: list[Note] = []
    reader = Results()
    for group in groups:
        run_dirs, results = reader.read_seeds(group.run_dirs)
        if not results:
            continue
        if group.unfinished:
            seeds = ", ".join(map(str, group.unfinished))
            line = f"{group.folder.name}: unfinished seeds: {seeds}; {group.command} finishes them"
            notes.append(Note("unfinished", line))
        notes += notes_on.on_start(results)
        if results[0].teacher is None:
            alone.append(_entry("alone", run_dirs, results))
            continue
        chosen = (baselines or {}).get(results[0].id)
        baseline = _baseline(f"-{chosen}" if chosen else results[0].baseline, group, groups, reader)
        student = replace(
            _entry("student", run_dirs, results, reader.unread(group.folder)),
            taught=_taught(results),
            teacher=rows.add(_teacher(results, group.folder, reader)),
            baseline=rows.add(baseline) if baseline else None,
        )
        rows.add(student)
        notes += notes_on.on_teacher(results)
        if not reader.has_damaged(results[0].baseline):
            notes += notes_on.on_baseline(student, baseline, group.command)
    for entry in alone:
        rows.add(entry)
    ordered = rows.ordered()
    if not ordered:
        raise StorageError(next(iter(reader.damaged.values())))
    refuse_other_data(ordered)
    first = ordered[0].splits[0]
    comparison = _with_differences(
        Comparison(
            tuple(ordered),
            tuple(first.classes),
            first.images,
            (),
            trust=trust,
            other_data=tuple(on_other_data(ordered)),
            names=variant_names(ordered) if names is None else {e.key: _named(e, names) for e in ordered},
        )
    )
    comparison = replace(comparison, weak=weak_baselines(comparison))
    latencies, on_latencies = stored_latencies(comparison)
    comparison = replace(comparison, latencies=latencies)
    remarks = (notes_on.on_scores(comparison), notes_on.on_intervals(comparison), unequal_budgets(comparison))
    notes = [*reader.notes(), *comparison.notes, *chain.from_iterable(remarks), *on_latencies, *notes]
    notes.sort(key=lambda note: note.kind == "no baseline")  # these last
    return replace(comparison, notes=tuple(notes))


def _with_differences(comparison: Comparison) -> Comparison:
    """The comparison with each student's differences from its baseline and its teacher."""
    pairing = Pairing()
    gains, to_teachers, closed = {}, {}, {}
    for student in comparison.of_role("student"):
        baseline = comparison.get(student.baseline)
        if student.taught:
            to_teachers[student.key] = pairing.with_teacher(student)
        if baseline is not None and (gain := pairing.with_baseline(student, baseline)) is not None:
            gains[student.key] = gain
            if (share := pairing.closed(student, baseline)) is not None:
                closed[student.key] = share
    notes = tuple(Note("damaged", f"left out, so that there is no interval: {why}") for why in pairing.damaged)
    return replace(comparison, gains=gains, to_teachers=to_teachers, closed=closed, notes=notes)


def _named(entry: Entry, names: Mapping[str, str]) -> str:
    """The name that its id has, with what distinguishes its row from others of that id."""
    return names.get(entry.id, entry.name) + entry.key.removeprefix(entry.folder)


def _groups(targets: Sequence[Target], runs: Path, overrides: Sequence[str], trust: bool) -> list[_Group]:
    """The groups of runs that the targets name; two seeds of one recipe are one group."""
    groups: dict[Path, _Group] = {}
    for target in targets:
        if isinstance(target, Recipe):
            group = _of_recipe(target, runs)
        elif os.path.isdir(target):
            group = _of_directory(Path(target), trust)
        else:
            group = _of_recipe(read_recipe(Path(target), overrides, trust=trust), runs)
        known = groups.setdefault(group.folder.resolve(), group)
        names = {run_dir.name for run_dir in known.run_dirs}
        known.run_dirs += [run_dir for run_dir in group.run_dirs if run_dir.name not in names]
    if not groups:
        raise RecipeError("nothing to compare: name a recipe or a run directory")
    return list(groups.values())


def _of_directory(path: Path, trust: bool) -> _Group:
    run_dirs = finished_at(path, trust=trust)
    return _Group(run_dirs, _command_of(run_dirs[0], trust), ())


def _of_recipe(recipe: Recipe, runs: Path) -> _Group:
    finished = finished_of(recipe, runs)
    unfinished = (seed for seed in recipe.train.seeds if run_directory(recipe, runs, seed) not in finished)
    return _Group(finished, run_command(recipe, runs), tuple(unfinished))


def _command_of(run_dir: Path, trust: bool) -> str:
    """The `kd run` that trained a run, from its directory; or one made from its name, if another command trained it.

    The directory may be a stranger's: only the recipe, the overrides and `--runs` are taken from its command. `--trust`
    is the user's own, of this command.
    """
    try:
        words = shlex.split(read_environment(run_dir).command)
    except (StorageError, ValueError):  # ValueError: an open quote
        words = []
    named = [word for word in words[2:] if word[0:1] != "-" and (word.endswith((".yaml", ".yml")) or "=" in word)]
    runs = [[flag, word] for flag, word in pairwise(words) if flag == "--runs" and word[0:1] != "-"]
    if words[:2] != ["kd", "run"] or not named:
        named = [f"{run_dir.parent.name.rpartition('-')[0]}.yaml"]
    return shlex.join(["kd", "run", *named, *(runs[0] if runs else []), *(["--trust"] if trust else [])])


def _entry(role: Role, run_dirs: Sequence[Path], results: Sequence[Result], unread: tuple[int, ...] = ()) -> Entry:
    return Entry(
        key=f"{role} {run_dirs[0].resolve().parent}",
        role=role,
        name=results[0].name,
        network=results[0].network,
        run_dirs=tuple(run_dirs),
        seeds=tuple(result.seed for result in results),
        unread=unread,
        splits=tuple(result.splits[SPLIT] for result in results),
        parameters=results[0].parameters,
        seconds=statistics.fmean(result.seconds for result in results),
        images_per_second=statistics.fmean(result.images_per_second for result in results),
        images_seen=statistics.fmean(result.images_per_second * result.seconds for result in results),
        peak_memory=max((result.peak_memory for result in results if result.peak_memory is not None), default=None),
        select=results[0].select,
        marks=tuple(dict.fromkeys(mark for result in results for mark in result.marks)),
        inputs=tuple(result.inputs for result in results),
    )


def _baseline(name: str | None, group: _Group, groups: Sequence[_Group], reader: Results) -> Entry | None:
    """The baseline of a student: beside it, or else beside another target.

    It is found by id, since another recipe may have trained it under another name.
    """
    if name is None:
        return None
    named = {target.folder.resolve(): target.run_dirs for target in groups}
    for parent in dict.fromkeys(each.folder.parent for each in (group, *groups)):
        for folder in (parent / name, *sorted(parent.glob(f"*-{name.rpartition('-')[2]}"))):
            run_dirs, of_baseline = reader.read_seeds(named.get(folder.resolve()) or finished_below(folder))
            if run_dirs:
                return _entry("baseline", run_dirs, of_baseline, reader.unread(folder))
    return None


def _taught(results: Sequence[Result]) -> tuple[SplitResult, ...]:
    """The teacher's score in each run; none where a run has no teacher, which kd never writes beside one that has."""
    found = tuple(result.teacher.splits[SPLIT] for result in results if result.teacher is not None)
    return found if len(found) == len(results) else ()


def _teacher(results: Sequence[Result], folder: Path, reader: Results) -> Entry:
    """The teacher, with the scores in this student's runs; times and memory from its own run."""
    by_run: dict[str, TeacherResult] = {}
    for result in results:
        if result.teacher is not None:
            run = result.teacher.run  # a path in kd 0.3 and older
            by_run.setdefault(short_name(Path(run)) if run else result.teacher.name, result.teacher)
    teachers = list(by_run.values())
    found = [run_dir for teacher in teachers if (run_dir := _run_dir_of(teacher, folder)) is not None]
    run_dirs, of_teacher = reader.read(found)
    first = teachers[0]
    scored: dict[str, Any] = {
        "key": f"teacher for {folder.resolve()}",
        "name": first.name,
        "network": first.network,
        "splits": tuple(teacher.splits[SPLIT] for teacher in teachers),
        "parameters": first.parameters,
    }
    if run_dirs:
        return replace(_entry("teacher", run_dirs, of_teacher), **scored)
    return Entry(role="teacher", **scored)


def _run_dir_of(teacher: TeacherResult, folder: Path) -> Path | None:
    """The teacher's run directory: beside the student's, or where the student's recipe names it."""
    if teacher.run is None:
        return None
    run_dir = Path(teacher.run)
    places = [folder.parent / run_dir.parent.name / run_dir.name, *([run_dir] if run_dir.is_absolute() else [])]
    for own in by_seed(folder.glob("seed*"))[:1]:
        with suppress(RecipeError, StorageError):
            named = read_run_recipe(own, trust=True).teacher
            places += [in_its_folder(Path(named.run))] if named is not None and named.run is not None else []
    return next((place for place in places if may_be_finished(place)), None)
