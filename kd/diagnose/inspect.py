"""`kd inspect`: what every term reads, its value and its gradient, on one batch of the training data."""

from pathlib import Path

from rich.console import Console
from rich.table import Table

from kd.console import make_table, print_line, stdout
from kd.networks.taps import declared_taps
from kd.parts.assemble import Parts
from kd.parts.checks.dry_run import open_parts
from kd.parts.checks.gradients import gradient_norm
from kd.parts.roles import to_device
from kd.parts.stream import in_this_process, stream
from kd.recipe import Recipe
from kd.train.auto.settling import settled_outside_run
from kd.types import Batch, Maps, as_tuple, parameter_count
from kd.units import counted


def inspect_command(recipe: Recipe, *, runs: Path, console: Console | None = None) -> None:
    """Print the taps of both networks, and a row for each term."""
    opened = open_parts(in_this_process(recipe), runs=runs, trained=False)
    parts = settled_outside_run(opened, runs, ["accumulate"])
    console = console or stdout()
    for line in parts.notes:
        print_line(line, console=console)
    for side, role in (("student", parts.student), ("teacher", parts.teacher)):
        if role is not None:
            taps = declared_taps(role.network)
            listed = ", ".join(f"{name} ({tap.channels} at stride {tap.stride})" for name, tap in taps.items())
            print_line(
                f"{side}: {parameter_count(role.network):,} parameters; taps: {listed or 'none'}", console=console
            )
    batch = to_device(next(stream(parts, seed=0, steps=1)), parts.precision)
    of = counted(len(batch.images), "image")
    print_line(f"One batch of {of} of {tuple(batch.images.shape[1:])}", style="bold", console=console)
    console.print(_terms(parts, batch))


def _terms(parts: Parts, batch: Batch) -> Table:
    """One row a term: where it reads, shapes, adapter, value, and the norm of its gradient at the student's network."""
    parts.student.train()
    with parts.precision.autocast():
        teacher = parts.teacher(batch) if parts.teacher else None
        student = parts.student(batch.images)
    header = ("term", "student", "shape", "teacher", "shape", "adapter", "weight", "value", "gradient")
    loss = parts.supervised(student, batch.labels)
    gradient = f"{gradient_norm(loss, parts.student.network):.3g}"
    rows = [("supervised", "logits", _shape(student.logits), "", "", "", "1", f"{loss.item():.4g}", gradient)]
    for name, term in parts.terms.items():
        assert teacher is not None
        value = term(name, student, teacher, batch)
        adapter = dict(parts.student.adapters).get(name)
        row = (
            name,
            str(parts.student.taps.addresses[name]),
            _shape(student.at[name]),
            str(parts.teacher.taps.addresses[name]) if parts.teacher else "",
            _shape(teacher.at[name]),
            f"{type(adapter).__name__} ({parameter_count(adapter):,})" if adapter is not None else "none",
            f"{term.weight_at(0):g}",
            f"{value.item():.4g}",
            f"{gradient_norm(value, parts.student.network):.3g}",
        )
        rows.append(row)
    return make_table(header, rows, left=6)


def _shape(maps: Maps) -> str:
    return ", ".join("×".join(map(str, tensor.shape)) for tensor in as_tuple(maps))
