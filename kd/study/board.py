"""What a study has found so far: its networks in the order of their scores."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from kd.compare import answer, plain, tables
from kd.compare.comparison import Comparison, Entry
from kd.compare.gathering.gather import gather
from kd.recipe import Recipe
from kd.runs import may_be_finished, run_directory
from kd.study.output import Ranked
from kd.study.reader import Plan
from kd.units import NOTHING, data_size


class Row(NamedTuple):
    """One network of a study."""

    entry: Entry
    seeds: int  # that the study asks for
    best: bool  # no other network has a higher score with no more parameters


class Board(NamedTuple):
    """The finished runs of a study, the best network first."""

    comparison: Comparison
    rows: list[Row]


def board(plan: Plan, folder: Path) -> Board | None:
    """Compare the finished runs of a study; None if there is none.

    Raises:
        RecipeError: the runs were not scored on the same images.
        StorageError: no run can be read.
    """
    recipes = plan.recipes
    begun = {
        name: recipe
        for name, recipe in recipes.items()
        if any(may_be_finished(run_directory(recipe, folder, seed)) for seed in recipe.train.seeds)
    }
    if not begun:
        return None
    names = {run.recipe.id: run.name for run in plan.runs()} | {recipe.id: name for name, recipe in recipes.items()}
    comparison = gather(list(begun.values()), runs=folder, names=names, baselines=plan.pairs)
    rows = [
        Row(entry, _asked(entry, recipes.values()), _on_front(entry, comparison.entries))
        for entry in sorted(comparison.entries, key=lambda entry: -entry.miou)
    ]
    return Board(comparison, rows)


def _asked(entry: Entry, recipes: Iterable[Recipe]) -> int:
    """The seeds that the study asks for; of a teacher those that teach, though it may be a variant with more."""
    asked = {recipe.id: len(recipe.train.seeds) for recipe in recipes}
    return asked.get(entry.id, len(entry.splits)) if entry.role != "teacher" else len(entry.splits)


def _on_front(entry: Entry, entries: Sequence[Entry]) -> bool:
    """Whether no other network has at least this score with fewer parameters, or a higher one with as many."""
    return not any(
        other.id != entry.id  # as a teacher, a variant is the seed that teaches
        and other.miou >= entry.miou
        and other.parameters <= entry.parameters
        and (other.miou, -other.parameters) != (entry.miou, -entry.parameters)
        for other in entries
    )


def table(found: Board) -> tuple[list[str], list[list[str]]]:
    """The leaderboard as text: header and rows."""
    comparison = found.comparison
    header = ["variant", "network", f"{comparison.score} %", "vs baseline", "seeds", "params", "min", "memory", "front"]
    return header, [_cells(comparison, row) for row in found.rows]


def _cells(comparison: Comparison, row: Row) -> list[str]:
    entry = row.entry
    done = len(entry.splits)
    return [
        comparison.name(entry),
        tables.short(entry.network),
        tables.spread(entry.figure("miou")),
        tables.gain(comparison, entry),
        NOTHING if not entry.run_dirs else str(done) if done == row.seeds else f"{done} of {row.seeds}",
        tables.count(entry.parameters),
        tables.minutes(entry.seconds),
        NOTHING if entry.peak_memory is None else data_size(entry.peak_memory),
        "●" if row.best else "",
    ]


def lines(found: Board) -> list[str]:
    """What the table means, and what must be known of its scores."""
    comparison = found.comparison
    meaning = "min: training of one seed; ● no other network scores higher with as few parameters"
    left_out = ("unfinished", "no baseline", "seeds differ")  # the list of runs has them
    notes = [note.text for note in comparison.notes if note.kind not in left_out]
    return [*answer.warnings(comparison), f"{tables.facts(comparison)}; {meaning}", *notes]


def ranked(found: Board | None) -> list[Ranked]:
    """The leaderboard for JSON; empty before a run has finished."""
    if found is None:
        return []
    comparison = found.comparison
    return [
        Ranked(variant=comparison.name(row.entry), pareto=row.best, network=plain.network(comparison, row.entry))
        for row in found.rows
    ]
