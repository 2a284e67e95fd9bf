"""From recipes or run directories to a comparison: which networks, how they score, what may be said of them."""

import shlex
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kd.compare.comparison import ORDER, SPLIT, Comparison, Entry, Role, labelled, val
from kd.compare.listing import by_seed
from kd.errors import RecipeError
from kd.recipe import read_recipe
from kd.runs import Result, SplitResult, TeacherResult, is_finished, read_result, run_directory
from kd.storage import read_json
from kd.units import duration


@dataclass
class _Group:
    """The finished runs of one recipe, and how the user would make more of them."""

    runs: list[Path]
    command: str  # the `kd run …` of this recipe
    unfinished: tuple[int, ...]  # seeds that its recipe asks for

    @property
    def folder(self) -> Path:
        return self.runs[0].parent


def gather(
    targets: Sequence[str], *, runs: Path = Path("runs"), overrides: Sequence[str] = (), trust: bool = False
) -> Comparison:
    """Find the runs to compare, with the teachers and the twins that belong to them.

    Args:
        targets: recipes; or run directories, of one seed (`runs/x-1234abcd/seed0`) or of all (`runs/x-1234abcd`).
        runs: where the runs of recipes are.
        overrides: `path=value`, for every recipe among the targets.
        trust: whether recipes may name code that is not ours.

    Raises:
        RecipeError: a target has no finished run; the runs were not scored on the same images or classes.
        StorageError: a run's result cannot be read.
    """
    groups = _groups(targets, Path(runs), overrides, trust)
    entries: dict[str, Entry] = {}
    alone: list[Entry] = []
    notes: list[str] = []
    for group in groups:
        results = [read_result(run) for run in group.runs]
        if group.unfinished:
            listed = ", ".join(map(str, group.unfinished))
            notes.append(f"{group.folder.name}: seed {listed} has not finished; {group.command} finishes it")
        if results[0].teacher is None:
            alone.append(_entry("alone", group.runs, results))
            continue
        teacher = _teacher(results, group.folder, entries)
        baseline = _baseline(results, group, groups, entries)
        entry = replace(
            _entry("student", group.runs, results), teacher=teacher.key, baseline=baseline.key if baseline else None
        )
        entries |= {each.key: each for each in (teacher, entry, baseline) if each}
        notes += _of_twin(entry, baseline, group.command)
    for entry in alone:
        entries.setdefault(entry.key, entry)  # a baseline or a teacher has its row already
    ordered = sorted(entries.values(), key=lambda entry: ORDER.index(entry.role))
    _comparable(ordered)
    first = ordered[0].splits[0]
    comparison = Comparison(tuple(ordered), tuple(first.classes), first.images, (), trust)
    notes = sorted([*_of_scores(comparison), *notes], key=lambda note: note.startswith("no baseline"))
    return replace(comparison, notes=tuple(notes))


def _groups(targets: Sequence[str], runs: Path, overrides: Sequence[str], trust: bool) -> list[_Group]:
    """What each target stands for; two seeds of one recipe are one group."""
    groups: dict[Path, _Group] = {}
    for target in targets:
        found = _of_directory(Path(target)) if Path(target).is_dir() else _of_recipe(target, runs, overrides, trust)
        known = groups.setdefault(found.folder.resolve(), found)
        known.runs += [run for run in found.runs if run.name not in {each.name for each in known.runs}]
    if not groups:
        raise RecipeError("nothing to compare: name a recipe or a run directory")
    return list(groups.values())


def _of_directory(path: Path) -> _Group:
    runs = [path] if is_finished(path) else _finished(path)
    if not runs:
        raise RecipeError(f"{path}: holds no finished run (no result.json); kd list shows the runs there are")
    return _Group(runs, _command_of(runs[0]), ())


def _of_recipe(target: str, runs: Path, overrides: Sequence[str], trust: bool) -> _Group:
    recipe = read_recipe(target, overrides, trust=trust)
    options = [] if runs == Path("runs") else ["--runs", str(runs)]
    command = shlex.join(["kd", "run", target, *overrides, *options, *(["--trust"] if trust else [])])
    directories = {seed: run_directory(recipe, runs, seed) for seed in recipe.train.seeds}
    finished = [run for run in directories.values() if is_finished(run)]
    if not finished:
        raise RecipeError(f"{target}: no finished run in {next(iter(directories.values())).parent}; {command} makes it")
    return _Group(finished, command, tuple(seed for seed, run in directories.items() if run not in finished))


def _finished(folder: Path) -> list[Path]:
    """The finished runs of a recipe's folder, by seed."""
    return [run for run in by_seed(folder.glob("seed*")) if is_finished(run)]


def _command_of(run: Path) -> str:
    """The command that made a run, where the run remembers one that can be repeated."""
    file = run / "environment.json"
    words = shlex.split(str(read_json(file).get("command", ""))) if file.is_file() else []
    if words[:2] == ["kd", "run"]:
        return shlex.join(word for word in words if word not in ("--baseline", "--fresh"))
    return f"kd run {read_result(run).name}.yaml"


def _entry(role: Role, runs: Sequence[Path], results: Sequence[Result]) -> Entry:
    return Entry(
        key=runs[0].parent.name,
        role=role,
        name=results[0].name,
        network=results[0].network,
        runs=tuple(runs),
        seeds=tuple(result.seed for result in results),
        splits=tuple(val(result, run) for result, run in zip(results, runs, strict=True)),
        parameters=results[0].parameters,
        seconds=statistics.fmean(result.seconds for result in results),
        images_per_second=statistics.fmean(result.images_per_second for result in results),
        peak_memory=max(result.peak_memory for result in results),
        select=results[0].select,
    )


def _baseline(
    results: Sequence[Result], group: _Group, groups: Sequence[_Group], entries: Mapping[str, Entry]
) -> Entry | None:
    """The twin of a student. Its id says what it is: the twin that another recipe named so serves as well."""
    name = results[0].baseline
    if name is None:
        return None
    identifier = name.rpartition("-")[2]
    for entry in entries.values():
        if entry.role == "baseline" and entry.key.endswith(f"-{identifier}"):
            return entry
    parent = group.folder.parent
    given = {each.folder.resolve(): each.runs for each in groups}
    for folder in (parent / name, *sorted(parent.glob(f"*-{identifier}"))):
        if runs := given.get(folder.resolve()) or _finished(folder):
            return _entry("baseline", runs, [read_result(run) for run in runs])
    return None


def _teacher(results: Sequence[Result], folder: Path, entries: Mapping[str, Entry]) -> Entry:
    """The teacher with the scores that this student's runs took of it, and what its own run tells besides."""
    met: dict[str, TeacherResult] = {}  # one a run of the teacher
    for result in results:
        if result.teacher is not None:
            met.setdefault(result.teacher.run or result.teacher.name, result.teacher)
    teachers = list(met.values())
    runs = [run for teacher in teachers if (run := _run_of(teacher, folder)) is not None]
    first = teachers[0]
    met_here: dict[str, Any] = {
        "name": first.name,
        "network": first.network,
        "splits": tuple(val(teacher, folder) for teacher in teachers),
        "parameters": first.parameters,
    }
    if runs:
        entry = replace(_entry("teacher", runs, [read_result(run) for run in runs]), **met_here)
    else:
        entry = Entry(key=first.name, role="teacher", **met_here)
    known = [
        each
        for each in entries.values()
        if each.role == "teacher" and (each.name, each.runs) == (entry.name, entry.runs)
    ]
    for other in known:
        if abs(other.miou - entry.miou) < 5e-4:  # the same images at the same size; a GPU's last digits may differ
            return other
    return replace(entry, key=f"{entry.key} for {folder.name}") if known else entry


def _run_of(teacher: TeacherResult, folder: Path) -> Path | None:
    """The teacher's run: where it was from the current folder, or beside the student's, if the runs were moved."""
    if teacher.run is None:
        return None
    run = Path(teacher.run)
    places = (run, folder.parent / run.parent.name / run.name)
    return next((place for place in places if is_finished(place)), None)


def _comparable(entries: Sequence[Entry]) -> None:
    """Refuse scores of different classes or images: their difference would mean nothing.

    The number of labelled pixels of each class tells two sets of images apart even where both have as many images.
    """
    first, *others = [(entry, split) for entry in entries for split in entry.splits]
    for entry, split in others:
        for what, here, there in (
            ("classes", split.classes, first[1].classes),
            ("images", split.images, first[1].images),
            ("labelled pixels of each class", labelled(split), labelled(first[1])),
        ):
            if here != there:
                raise RecipeError(
                    f"{first[0].key} and {entry.key} cannot be compared: their {SPLIT} {what} differ "
                    f"({_short(there)} and {_short(here)}); compare runs that were scored on the same data"
                )


def _short(value: object) -> str:
    if not isinstance(value, list):
        return str(value)
    return ", ".join(map(str, value[:6])) + (f", … {len(value)} in all" if len(value) > 6 else "")


def _of_twin(student: Entry, baseline: Entry | None, command: str) -> list[str]:
    if baseline is None:
        assert student.seconds is not None
        spent = duration(student.seconds * len(student.seeds))
        return [f"no baseline: the gain is unknown; {command} --baseline adds it (about {spent})"]
    if set(baseline.seeds) != set(student.seeds):
        ours, theirs = (", ".join(map(str, entry.seeds)) for entry in (student, baseline))
        return [f"{student.key} has seed {ours}, its baseline seed {theirs}; {command} --baseline adds what is missing"]
    return []


def _of_scores(comparison: Comparison) -> list[str]:
    """What a sceptical reader would ask about the scores themselves."""
    notes = []
    if comparison.absent:
        notes.append(f"absent: no {SPLIT} pixel is labelled {', '.join(comparison.absent)}")
    for entry in comparison.entries:
        scored = {name for name, iou in zip(comparison.classes, entry.iou, strict=True) if iou is not None}
        predicted = [name for name in comparison.absent if name in scored]
        if predicted:
            listed = ", ".join(predicted)
            notes.append(f"{comparison.label(entry)} predicts {listed}, which is absent: it counts as 0 in this mIoU")
        only = {names[0] for split in entry.splits if len(names := _predicted(split)) == 1}
        if only:
            listed = ", or ".join(sorted(only))
            notes.append(f"{comparison.label(entry)} predicts nothing but {listed}: it has learned next to nothing")
    best = [comparison.label(entry) for entry in comparison.entries if entry.select == "best"]
    if best:
        notes.append(f"select: best ({', '.join(best)}): the step was chosen on these images, the score is optimistic")
    if comparison.of_role("student") and all(len(entry.seeds) <= 1 for entry in comparison.entries):
        notes.append("one seed a network: how far seeds spread is unknown; train.seeds=[0,1,2] tells")
    return notes


def _predicted(split: SplitResult) -> list[str]:
    return [name for name, predicted in zip(split.classes, split.confusion.sum(0).tolist(), strict=True) if predicted]
