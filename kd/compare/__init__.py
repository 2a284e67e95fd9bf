"""The effect of distillation: finished runs side by side, on the terminal, as JSON and as one page."""

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Literal

from rich.console import Console

from kd.compare import answer, plain, tables
from kd.compare.comparison import Comparison
from kd.compare.gathering.gather import Target, gather
from kd.compare.listing import list_rows, list_runs
from kd.compare.markdown import to_markdown
from kd.console import print_blocks, print_line, print_lines, print_text, stdout
from kd.errors import RecipeError, StorageError
from kd.files.storage import write_atomic
from kd.recipe.overrides import listed

Form = Literal["tables", "json", "markdown"]

__all__ = ["compare", "compare_command", "gather", "list_command"]


def compare(
    *targets: Target,
    runs: str | os.PathLike[str] = "runs",
    overrides: Sequence[str] = (),
    trust: bool = False,
) -> Comparison:
    """Compare finished runs: each student with its baseline and teacher.

    Args:
        targets: recipes; or run directories, of one seed (`runs/x-1234abcd/seed0`) or of all (`runs/x-1234abcd`).
        runs: where the runs of recipes are.
        overrides: `path=value` texts, for every recipe among the targets.
        trust: whether the recipes may name components from outside kd.

    Returns:
        The networks with their scores, gains and notes.

    Raises:
        RecipeError: a recipe is wrong, a run is missing, or the runs were not scored on the same images and classes.
        StorageError: a result cannot be read.
    """
    return gather(targets, runs=Path(runs), overrides=listed(overrides), trust=trust)


class _Callable(ModuleType):
    """The type of this package: `kd.compare(...)` calls the function of the same name."""

    __call__ = staticmethod(compare)


sys.modules[__name__].__class__ = _Callable


def compare_command(
    targets: Sequence[Target],
    *,
    runs: Path = Path("runs"),
    trust: bool = False,
    form: Form = "tables",
    csv_file: Path | None = None,
    html: Path | None = None,
    page: bool = True,
    images: int | None = None,
    named: Sequence[str] = (),
    console: Console | None = None,
) -> None:
    """`kd compare`: print the comparison and write its page.

    Args:
        targets: recipes or run directories.
        runs: where the runs of recipes are.
        trust: whether recipes, and networks whose predictions the page shows, may name code outside kd.
        form: what is printed; with JSON or Markdown nothing else is, and the page is written only if `html` is given.
        csv_file: receives a row for each network.
        html: the page's file; by default `report.html` in the first student's run directory.
        page: whether the page is written; without it, torch is not needed.
        images: number of images on the page; None: those whose predictions the runs have kept.
        named: images that it shows first.
        console: where to print, by default standard output.

    Raises:
        RecipeError: a recipe is wrong, a run or a named image is missing, the runs cannot be compared, or images are
            chosen and no page is written.
        StorageError: a result cannot be read, or the page cannot be written to `html`, or the rows to `csv_file`.
    """
    console, unwritten = console or stdout(), ""
    comparison = gather(targets, runs=runs, trust=trust)
    file = html or (_default_page(comparison) if form == "tables" else None) if page else None
    if file is None and (images is not None or named):
        raise RecipeError("--images and --image choose what the page shows, and none is written; add --html FILE")
    if file is not None:
        from kd.compare.page.predictions import pictures  # imports torch
        from kd.compare.page.report import render

        shown = pictures(comparison, count=images, named=named, quiet=form != "tables")
        if shown.latencies is not None:
            comparison = replace(comparison, latencies=shown.latencies)
        content = render(comparison, shown).encode()
        try:
            write_atomic(file, content, fix="choose another file with --html FILE")
        except StorageError as error:
            if html is not None:
                raise
            unwritten = f"not written: {error}"  # a finished run may be on a disk that is read-only
    if csv_file is not None:
        write_atomic(csv_file, plain.to_csv(comparison).encode(), fix="choose another file with --csv FILE")
    if form == "json":
        print_text(
            json.dumps(plain.to_json(comparison, None if file is None else str(file)), indent=1), console=console
        )
        return
    if form == "markdown":
        print_text(to_markdown(comparison).rstrip("\n"), console=console)
        return
    for line in answer.warnings(comparison):
        print_line(line, style="bold yellow", wrap=True, console=console)
    for line in answer.headline(comparison):
        print_line(line, style="bold", wrap=True, console=console)
    for line in answer.decision(comparison):
        print_line(line, wrap=True, console=console)
    print_line(tables.facts(comparison), wrap=True, console=console)
    console.print()
    print_blocks(*tables.summary_rows(comparison), left=2, styles=tables.colors(comparison), console=console)
    console.print()
    print_blocks(*tables.class_rows(comparison), styles=tables.class_colors(comparison), console=console)
    console.print()
    if comparison.latencies.milliseconds:
        print_line(f"ms: {comparison.latencies.how}", wrap=True, console=console)
    if csv_file is not None:
        print_line(f"rows: {csv_file}", console=console)
    if file is not None:
        print_line(f"report: {unwritten or file}", console=console)
    for note in comparison.notes:
        print_line(note.text, console=console)


def list_command(runs: Path = Path("runs"), *, as_json: bool = False) -> None:
    """`kd list`: print one line for each run directory, finished or not; or JSON."""
    lines = list_runs(runs)
    if as_json:
        print_text(json.dumps(plain.list_json(lines, str(runs)), indent=1))
    elif lines:
        header, rows = list_rows(lines)
        print_lines(header, rows, whole=len(header) - 1, numbers=("seed", "val mIoU %"))
    else:
        print_line(f"{runs}: holds no runs; kd run RECIPE trains one")


def _default_page(comparison: Comparison) -> Path | None:
    students = comparison.of_role("student")
    return students[0].run_dirs[0] / "report.html" if students else None
