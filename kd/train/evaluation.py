"""The scores of a run: its networks on the validation split, of this process or of all together."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
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
from kd.scoring import score_beside
from kd.train.signals import Stop
from kd.types import parameter_count


def evaluation(parts: Parts, stop: Stop) -> dict[str, SplitResult]:
    """The score of the network whose weights are the result, as "val"; of the other one, if there is an average.

    And its agreement with its teacher, as "agreement": a score with the teacher's classes in place of the labels.
    """
    found: dict[str, SplitResult] = {}
    for name, (network, teacher) in parts.scored.items():
        one = _score(parts, network, teacher, stop)
        found |= {name: one.pop("val")} | one
    return found


def score_network(parts: Parts, network: nn.Module, stop: Stop) -> SplitResult:
    """A network's score on the validation split; each process scores its share of the images."""
    return _score(parts, network, None, stop)["val"]


def _score(parts: Parts, network: nn.Module, teacher: nn.Module | None, stop: Stop) -> dict[str, SplitResult]:
    """A network's score as "val", and as "agreement" how far it is of one mind with a teacher."""
    mine = score_share(parts, network, teacher, interrupt=stop.check, waiting=stop.waiting)
    return {name: _summed(one) for name, one in zip(("val", "agreement"), mine, strict=True) if one is not None}


def score_share(
    parts: Parts,
    network: nn.Module,
    teacher: nn.Module | None,
    *,
    interrupt: Callable[[], None],
    waiting: Callable[[], None] = lambda: None,
) -> tuple[SplitResult, SplitResult | None]:
    """What `score_beside` counts on this process's share of the validation images, as the recipe scores."""
    recipe = parts.recipe
    return score_beside(
        network,
        teacher,
        parts.val,
        size=recipe.scored_size,
        precision=parts.precision,
        how=recipe.evaluate,
        batch_size=recipe.train.batch_size // distributed.world(),
        workers=recipe.data.workers,
        rank=distributed.rank(),
        world=distributed.world(),
        interrupt=interrupt,
        waiting=waiting,
    )


def _summed(mine: SplitResult) -> SplitResult:
    """The result of all processes."""
    every = distributed.gathered(mine)
    return replace(mine, confusion=np.sum([one.confusion for one in every], 0), images=sum(one.images for one in every))


def score_teacher(parts: Parts, run: Path, stop: Stop, say: Say) -> TeacherResult | None:
    """The teacher by the same code on the same images, once a run; an average that teaches is scored at the end."""
    if parts.teacher is None or parts.averages_teach:
        return None
    recipe = parts.recipe
    assert recipe.teacher is not None
    scored = distributed.first(lambda: has_teacher_score(run))
    if not scored:
        result = score_network(parts, parts.teacher.network, stop)
        distributed.first(lambda: write_teacher_score(run, result))
    split = distributed.first(lambda: read_teacher_score(run))
    say(f"  the teacher scores {headline(split)} on the same images")
    if not scored and scores(split.confusion).miou < twice_chance(split.confusion):
        say(f"  that is below twice chance; kd doctor: {distributed.first(lambda: diagnose(parts).advice)}")
    its_run = read_result(parts.teacher_run) if parts.teacher_run else None
    network = its_run.network if its_run else recipe.teacher.network.use if recipe.teacher.network else ""
    return TeacherResult(
        name=its_run.name if its_run else network,
        network=network,
        run=str(parts.teacher_run) if parts.teacher_run else None,
        parameters=parameter_count(parts.teacher.network),
        splits={"val": split},
    )


def headline(split: SplitResult) -> str:
    """The score in a line for the user."""
    return f"val mIoU {100 * scores(split.confusion).miou:.1f} %"
