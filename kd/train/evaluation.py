"""The scores of a run: its networks on the validation split, by this process or by all together."""

from collections.abc import Callable
from pathlib import Path

from torch import nn

from kd import distributed
from kd.console import Say
from kd.metrics import scores
from kd.parts.assemble import Parts
from kd.parts.examine import diagnose, twice_chance
from kd.runs import (
    SplitResult,
    TeacherResult,
    has_teacher_score,
    read_result,
    read_teacher_score,
    write_teacher_score,
)
from kd.scoring import Counted, make_metrics, score_beside
from kd.train.signals import Stop
from kd.types import parameter_count


def evaluation(parts: Parts, stop: Stop) -> dict[str, SplitResult]:
    """Score a run's networks.

    Returns:
        "val": the network whose weights are the result. "val_student" or "val_ema": the other network, where there is a
        moving average. "agreement": the first network with its teacher's classes in place of the labels.
    """
    results: dict[str, SplitResult] = {}
    for name, (network, teacher) in parts.scored.items():
        of_network = _score(parts, network, teacher, stop)
        results |= {name: of_network.pop("val")} | of_network
    return results


def score_network(parts: Parts, network: nn.Module, stop: Stop) -> SplitResult:
    """Score a network on the validation split; each process scores its share of the images."""
    return _score(parts, network, None, stop)["val"]


def _score(parts: Parts, network: nn.Module, teacher: nn.Module | None, stop: Stop) -> dict[str, SplitResult]:
    """A network's score as "val", and its agreement with a teacher as "agreement"."""
    counted = score_share(parts, network, teacher, interrupt=stop.check, waiting=stop.waiting)
    named = zip(("val", "agreement"), counted, strict=True)
    return {name: each.result(distributed.gathered(each.share)) for name, each in named if each is not None}


def score_share(
    parts: Parts,
    network: nn.Module,
    teacher: nn.Module | None,
    *,
    interrupt: Callable[[], None],
    waiting: Callable[[], None] = lambda: None,
) -> tuple[Counted, Counted | None]:
    """Count with `score_beside` on this process's share of the validation images, as the recipe scores."""
    recipe = parts.recipe
    return score_beside(
        network,
        teacher,
        parts.val,
        size=recipe.scored_size,
        precision=parts.precision,
        how=recipe.evaluate,
        metrics=make_metrics(recipe, len(parts.val.class_names)),
        batch_size=recipe.train.batch_size // distributed.world(),
        workers=recipe.data.workers,
        rank=distributed.rank(),
        world=distributed.world(),
        interrupt=interrupt,
        waiting=waiting,
    )


def score_teacher(parts: Parts, run_dir: Path, stop: Stop, say: Say) -> TeacherResult | None:
    """Score the teacher by the same code on the same images, once a run; None for an average, which is scored last."""
    if parts.teacher is None or parts.averages_teach:
        return None
    recipe = parts.recipe
    assert recipe.teacher is not None
    scored = distributed.first(lambda: has_teacher_score(run_dir))
    if not scored:
        result = score_network(parts, parts.teacher.network, stop)
        distributed.first(lambda: write_teacher_score(run_dir, result))
    split = distributed.first(lambda: read_teacher_score(run_dir))
    say(f"  the teacher scores {headline(split)} on the same images")
    if not scored and scores(split.confusion).miou < twice_chance(split.confusion):
        say(f"  that is below twice chance; kd doctor: {distributed.first(lambda: diagnose(parts).advice)}")
    teacher_run = read_result(parts.teacher_run) if parts.teacher_run else None
    network = teacher_run.network if teacher_run else recipe.teacher.network.use if recipe.teacher.network else ""
    return TeacherResult(
        name=teacher_run.name if teacher_run else network,
        network=network,
        run=str(parts.teacher_run) if parts.teacher_run else None,
        parameters=parameter_count(parts.teacher.network),
        splits={"val": split},
    )


def headline(split: SplitResult) -> str:
    """The score in a line for the user."""
    return f"val mIoU {100 * scores(split.confusion).miou:.1f} %"
