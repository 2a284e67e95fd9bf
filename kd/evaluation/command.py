"""`kd evaluate`."""

import json
from collections.abc import Sequence
from pathlib import Path

from kd.console import make_table, print_errors, print_line, print_text, stdout
from kd.errors import DataError, RecipeError, StorageError, WeightsError
from kd.evaluation import tables
from kd.evaluation.scored import Scored, score_run
from kd.evaluation.targets import Found
from kd.files.storage import write_atomic
from kd.runs import refuse_inside

REFUSALS = (RecipeError, DataError, WeightsError, StorageError)  # of one run: the others are scored all the same


def evaluate_command(
    found: Found,
    split: str,
    *,
    as_json: bool = False,
    csv_file: Path | None = None,
    predictions: Path | None = None,
    overwrite: bool = False,
) -> int:
    """Score runs on a split; print their tables, or JSON.

    A run that cannot be scored is a line on standard error, and does not hide the others.

    Args:
        found: the runs.
        split: "train", "val" or "test".
        as_json: print JSON in place of tables.
        csv_file: receives a row for each image.
        predictions: folder of the predicted masks; with several runs, each has a folder below it.
        overwrite: whether masks that are already there are replaced.

    Returns:
        The exit status: 0, or that of the first run that could not be scored.

    Raises:
        RecipeError: the CSV file, or the folder of masks, is in a run directory.
        StorageError: the CSV file cannot be written.
    """
    targets = found.targets
    refuse_inside("--csv", csv_file)
    refuse_inside("--predictions", predictions)
    runs: list[Scored] = []
    print_errors([*found.notes, *(line for error in found.damaged for line in error.mistakes)])
    exit_status = found.damaged[0].exit_status if found.damaged else 0
    try:
        for target in targets:
            folder = predictions
            if predictions is not None and len(targets) > 1:
                folder = predictions / target.path.parent.name / target.path.name
            try:
                runs.append(score_run(target, split, predictions=folder, overwrite=overwrite, quiet=as_json))
            except REFUSALS as error:
                print_errors(error.mistakes)
                exit_status = exit_status or error.exit_status
    finally:  # whatever ends it, the scores of the other runs are kept and shown
        try:
            if csv_file is not None and runs:  # first: nobody may read what is printed
                write_atomic(csv_file, tables.to_csv(runs).encode(), fix="choose another file with --csv FILE")
        finally:
            if as_json:
                print_text(json.dumps(tables.to_json(runs, split), indent=1))
            elif runs:
                _print(runs, split)
    for what, path in {"images": csv_file, "predictions": predictions}.items():
        if path is not None and runs and not as_json:
            print_line(f"{what}: {path}")
    return exit_status


def _print(runs: Sequence[Scored], split: str) -> None:
    console = stdout()
    number = f"{len(runs)} runs" if len(runs) > 1 else "the run"
    print_line(f"Scores of {number} on {split}, at the labels' own size", style="bold", wrap=True, console=console)
    console.print()
    for table in (tables.run_rows(runs), *tables.detail_tables(runs)):
        console.print(make_table(*table))
        console.print()
