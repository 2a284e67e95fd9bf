"""One recipe's run from start to finished directory: its teacher first, its seeds, its baseline twin."""

import shlex
import sys
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kd.data.dataset import survey, warnings
from kd.data.loader import evaluation_batches
from kd.engine.assemble import Parts, assemble, make_run, stream
from kd.engine.bookkeeping import Bookkeeping, load_best
from kd.engine.check import meet
from kd.engine.checkpoint import Checkpoints
from kd.engine.progress import duration, make_progress
from kd.engine.stop import Stop, stopping
from kd.engine.train import train
from kd.evaluate import full_size, predict, reestimate_batchnorm, score
from kd.metrics import scores
from kd.precision import slow_path
from kd.recipe import Recipe, as_steps, baseline_of, teacher_recipe, to_yaml
from kd.runs import (
    Result,
    SplitResult,
    TeacherResult,
    is_finished,
    locked,
    parameter_count,
    peak_memory,
    read_json,
    read_result,
    run_directory,
    versions,
    write_atomic,
    write_json,
    write_result,
    write_weights,
)
from kd.types import IGNORE

Say = Callable[[str], None]


def run_recipe(
    recipe: Recipe,
    *,
    runs: Path,
    fresh: bool = False,
    baseline: bool = False,
    role: str | None = None,
    say: Say = print,
    quiet: bool = False,
) -> list[Path]:
    """Train what a recipe asks for, or finish what an earlier call began.

    Args:
        recipe: checked in shape and calls.
        runs: where run directories are.
        fresh: move this recipe's own old directories aside first; its teacher's stay.
        baseline: train the twin without distillation too.
        role: what the result says the network is for; by default "student" with distillation, else "baseline".
        say: takes the lines for the user.
        quiet: no live line.

    Returns:
        The run directories of the recipe, one a seed; then the twin's.
    """
    its_teacher = teacher_recipe(recipe)
    if its_teacher is not None:  # its first seed teaches all of ours
        run_recipe(_first_seed(its_teacher), runs=runs, role="teacher", say=say, quiet=quiet)
    done = [_run_seed(recipe, runs, seed, fresh, role, say, quiet) for seed in recipe.train.seeds]
    if baseline and recipe.distill:
        done += run_recipe(baseline_of(recipe), runs=runs, fresh=fresh, say=say, quiet=quiet)
    return done


def _run_seed(recipe: Recipe, runs: Path, seed: int, fresh: bool, role: str | None, say: Say, quiet: bool) -> Path:
    run = run_directory(recipe, runs, seed)
    if fresh and run.exists():
        say(f"{run}: moved to {_move_aside(run)}")
    if is_finished(run):
        say(f"{run}: finished ({_headline(read_result(run).splits['val'])})")
        return run
    parts = assemble(recipe, runs=runs, seed=seed)
    lines = [*parts.notes, *meet(parts)]  # before anything is written: a recipe that cannot run leaves no directory
    lines += warnings(survey(parts.train), survey(parts.val), parts.train.class_names)
    slow = slow_path(parts.precision, recipe.train.precision)
    with locked(run), stopping() as stop:
        say(f"{run}: {_title(recipe, seed)} on {parts.precision}")
        for line in [*lines, *([slow] if slow else [])]:
            say(f"  {line}")
        write_atomic(run / "recipe.yaml", to_yaml(recipe).encode())
        write_json(run / "environment.json", _environment(parts))
        teacher = _score_teacher(parts, run, stop, say)
        role = role or ("student" if recipe.distill else "baseline")
        result = _train(parts, run, seed, role, stop, teacher, say, quiet)
        say(f"{run}: {_headline(result.splits['val'])} after {duration(result.seconds)}")
    return run


def _train(
    parts: Parts, run: Path, seed: int, role: str, stop: Stop, teacher: TeacherResult | None, say: Say, quiet: bool
) -> Result:
    recipe = parts.recipe
    checkpoints = Checkpoints(run / "checkpoints")
    found = checkpoints.newest()
    state, complaints = found if found else (None, [])
    for line in complaints:
        say(f"  {line}; using the one before")
    start = int(state["step"]) if state else 0
    if state:
        say(f"  goes on from step {start} of {parts.steps}")
    progress = make_progress(
        run, recipe.stem, steps=parts.steps, start=start, tensorboard=recipe.log.tensorboard, quiet=quiet
    )
    network = f"{recipe.student.use}, {len(parts.train.class_names)} classes"
    book = Bookkeeping(
        checkpoints,
        progress,
        lambda: _score(parts, stop),
        report_every=recipe.log.every,
        evaluate_every=as_steps(recipe.train.evaluate_every, parts.steps) or parts.steps,
        save_every=as_steps(recipe.train.save_every, parts.steps) or parts.steps,
        batch_size=recipe.train.batch_size,
        stop=stop,
        network=network,
    )
    training = make_run(parts, seed=seed, start=start, due=book)
    torch.manual_seed(
        seed + 1
    )  # dropout: the same with and without distillation, whatever was drawn to build the parts
    if state:
        book.restore(training, state)
    try:
        train(training)
        if recipe.train.select == "best":
            load_best(checkpoints, parts.student)
        final = _finish(parts, book, seed, stop)
        values = {"final/miou": scores(torch.tensor(final.confusion)).miou}
        progress.scalars(parts.steps, values)
        for name, picture in _panels(parts, recipe.log.panels):
            progress.image(parts.steps, name, picture)
    finally:
        progress.close()
    write_weights(run, parts.student.network)
    seconds = book.spent()
    result = Result(
        id=recipe.id,
        name=recipe.stem,
        seed=seed,
        role=role,
        network=recipe.student.use,
        teacher=teacher,
        baseline=run_directory(baseline_of(recipe), run.parents[1], seed).parent.name if recipe.distill else None,
        select=recipe.train.select,
        splits={"val": final},
        parameters=parameter_count(parts.student.network),
        seconds=seconds,
        images_per_second=parts.steps * recipe.train.batch_size / max(seconds, 1e-9),
        peak_memory=peak_memory(parts.precision.device),
        versions=versions(),
    )
    write_result(run, result)
    return result


def _finish(parts: Parts, book: Bookkeeping, seed: int, stop: Stop) -> SplitResult:
    """The score that goes into the result, BatchNorm re-estimated first where the recipe says so."""
    batches = parts.recipe.train.reestimate_batchnorm
    if batches:
        images: Iterator[Tensor] = (batch.images for batch in stream(parts, seed=seed, steps=batches))
        reestimate_batchnorm(parts.student.network, images, parts.precision)
    elif book.latest is not None and book.latest[0] == parts.steps and parts.recipe.train.select == "last":
        return book.latest[1]
    return _score(parts, stop)


def _score(parts: Parts, stop: Stop) -> SplitResult:
    """The student's score on the validation split."""
    return score(
        parts.student.network,
        parts.val,
        size=parts.recipe.data.size,
        precision=parts.precision,
        batch_size=parts.recipe.train.batch_size,
        workers=parts.recipe.data.workers,
    )


def _score_teacher(parts: Parts, run: Path, stop: Stop, say: Say) -> TeacherResult | None:
    """The teacher by the same code on the same images, once a run."""
    if parts.teacher is None:
        return None
    recipe, file = parts.recipe, run / "teacher.json"
    assert recipe.teacher is not None
    if not file.is_file():
        result = score(
            parts.teacher.network,
            parts.val,
            size=recipe.data.size,
            precision=parts.precision,
            batch_size=recipe.train.batch_size,
            workers=recipe.data.workers,
        )
        write_json(file, {"confusion": result.confusion, "classes": result.classes, "images": result.images})
    split = SplitResult(**read_json(file))
    say(f"  the teacher scores {_headline(split)} on the same images")
    its_run = read_result(parts.teacher_run) if parts.teacher_run else None
    network = its_run.network if its_run else recipe.teacher.network.use if recipe.teacher.network else ""
    return TeacherResult(
        name=its_run.name if its_run else network,
        network=network,
        run=str(parts.teacher_run) if parts.teacher_run else None,
        parameters=parameter_count(parts.teacher.network),
        splits={"val": split},
    )


def _panels(parts: Parts, count: int) -> Iterator[tuple[str, Any]]:
    """A few validation images: image, labels and prediction side by side, uint8 RGB (H, 3·W, 3)."""
    palette = torch.tensor([*parts.val.colors, *[(0, 0, 0)] * (256 - len(parts.val.colors))], dtype=torch.uint8)
    training = parts.student.training
    parts.student.eval()
    for batch in islice(evaluation_batches(parts.val, parts.recipe.data.size, batch_size=1), count):
        logits = predict(parts.student.network, batch.images, parts.precision)[0]
        size = (batch.images.shape[-2], batch.images.shape[-1])
        image = batch.images[0].expand(3, -1, -1) if batch.images.shape[1] == 1 else batch.images[0, :3]
        labels = torch.nn.functional.interpolate(batch.labels[0][None, None], size, mode="nearest-exact")[0, 0]
        columns = [image.permute(1, 2, 0), palette[labels.long()], palette[full_size(logits, size).cpu()]]
        yield f"val/{batch.names[0]}", torch.cat(columns, 1).numpy()
    parts.student.train(training)


def _environment(parts: Parts) -> dict[str, Any]:
    return {
        "command": shlex.join(["kd", *sys.argv[1:]]),
        "versions": versions(),
        "precision": str(parts.precision),
        "threads": torch.get_num_threads(),
        "in_channels": parts.train.in_channels,
        "classes": list(parts.train.class_names),
        "ignore": IGNORE,
    }


def _first_seed(recipe: Recipe) -> Recipe:
    return recipe.model_copy(update={"train": recipe.train.model_copy(update={"seeds": recipe.train.seeds[:1]})})


def _title(recipe: Recipe, seed: int) -> str:
    return f"{recipe.student.use}, {'distilled' if recipe.distill else 'from labels alone'}, seed {seed}"


def _headline(split: SplitResult) -> str:
    return f"val mIoU {100 * scores(torch.tensor(split.confusion)).miou:.1f} %"


def _move_aside(run: Path) -> Path:
    target = run.with_name(f"{run.name}-before-{time.strftime('%Y%m%d-%H%M%S')}")
    run.rename(target)
    return target
