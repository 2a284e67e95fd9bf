"""Whether the networks of a comparison were scored, and trained, on the same files, as their inputs record them."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from kd.compare.comparison import Entry, labelled
from kd.errors import RecipeError, StorageError
from kd.inputs import differing_files, read_inputs
from kd.runs import SPLIT


def on_other_data(entries: Sequence[Entry]) -> Iterator[str]:
    """A line for each entry that was scored on other files than the first, or trained on others than its baseline."""
    scored = [entry for entry in entries if entry.inputs and entry.role != "teacher"]  # scored in the student's run
    for entry in scored:
        what = f"were scored on different {SPLIT} data", "their scores cannot be compared"
        yield from _compared(scored[0], entry, "val", *what)
    for student in scored:
        baseline = next((entry for entry in scored if entry.key == student.baseline), None)
        if baseline is not None:
            what = "were trained on different data", "the difference is not the effect of distillation"
            yield from _compared(baseline, student, "train", *what)


def _compared(reference: Entry, entry: Entry, split: Literal["train", "val"], what: str, so: str) -> Iterator[str]:
    """A line if the runs of an entry, or of the reference, do not have the files of the reference's first run."""
    runs = [(e, *run) for e in (reference, entry) for run in zip(e.run_dirs, e.inputs, strict=True) if run[1]]
    for other, run_dir, inputs in runs[1:]:
        first, first_dir, expected = runs[0]
        assert inputs is not None
        assert expected is not None
        digests = getattr(expected, split), getattr(inputs, split)
        if digests[0] != digests[1] and all(digests) and (files := _difference(first_dir, run_dir, split)):
            names = f"{first.key} and {other.key}" if first.key != other.key else f"two seeds of {first.key}"
            yield f"warning: {names} {what} ({files}); {so}"
            return


def _difference(a: Path, b: Path, split: Literal["train", "val"]) -> str:
    """The number of files that differ, in words; empty if none does: images may be in another order, or unread."""
    try:
        of_a, of_b = (read_inputs(run_dir).splits[split] for run_dir in (a, b))
    except StorageError as error:
        return str(error)
    count = differing_files(of_a, of_b)
    return f"{count} file{'s differ' if count > 1 else ' differs'}" if count else ""


def refuse_other_data(entries: Sequence[Entry]) -> None:
    """Refuse scores on different classes or images: their difference has no meaning.

    The labelled pixels of each class distinguish two sets of equally many images.
    """
    (reference, expected), *others = [(entry, split) for entry in entries for split in (*entry.splits, *entry.taught)]
    for entry, split in others:
        for what, wanted, value in (
            ("scores", f"against {expected.against}", f"against {split.against}"),
            ("classes", expected.classes, split.classes),
            ("images", expected.images, split.images),
            ("labelled pixels of each class", labelled(expected), labelled(split)),
        ):
            if value != wanted:
                raise RecipeError(
                    f"{reference.key} and {entry.key} cannot be compared: their {SPLIT} {what} differ "
                    f"({_short(wanted)} and {_short(value)}); compare runs that were scored on the same data"
                )


def _short(value: object) -> str:
    if not isinstance(value, list):
        return str(value)
    return ", ".join(map(str, value[:6])) + (f", … {len(value)} in all" if len(value) > 6 else "")
