"""The evaluations of a run on the validation split: when they are due, their scores, and which is the best."""

from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

from torch import nn

from kd import distributed
from kd.console import Say, progress
from kd.machine import loader_workers
from kd.metrics import scores
from kd.parts.assemble import Parts
from kd.parts.checks.examine import diagnose, twice_chance
from kd.runs import (
    SplitResult,
    TeacherResult,
    read_result,
    read_teacher_score,
    short_name,
    write_teacher_score,
)
from kd.schedules import Patience, ScoreDriven
from kd.scoring import Counted, make_metrics, score_beside
from kd.train.signals import Stop
from kd.train.sinks.panels import pictures
from kd.train.sinks.progress import Progress
from kd.train.step import TrainState
from kd.types import parameter_count


class Evaluations:
    """Scores the networks of a run on the validation split, and records the best evaluation.

    Args:
        parts: of the run; None: no evaluations.
        progress: where scores and pictures go.
        every: steps between two evaluations; the last step is always evaluated; 0: only that one.
        patience: the number of evaluations without a better mIoU that ends the run; None: no limit.
        stop: whether a signal has arrived.

    Attributes:
        best: step and mIoU of the best evaluation so far.
        latest: step and score of the newest one.
        pending: whether the last step still has to be evaluated, because a signal arrived first.
    """

    def __init__(
        self,
        parts: Parts | None = None,
        *,
        progress: Progress | None = None,
        every: int = 0,
        patience: int | None = None,
        stop: Stop | None = None,
    ) -> None:
        self._parts, self._progress, self._every = parts, progress or Progress({}), every
        self._patience = Patience(patience) if patience else None
        self._stop = stop or Stop()
        self.best: dict[str, float] | None = None
        self.latest: tuple[int, SplitResult] | None = None
        self.pending = False
        self._best_before: dict[str, float] | None = None

    @property
    def ended_early(self) -> bool:
        """Whether patience has run out."""
        return self._patience is not None and self._patience.has_run_out

    def is_due(self, run: TrainState) -> bool:
        """Whether the last step is to be evaluated."""
        due = run.step == run.steps or (self._every > 0 and run.step % self._every == 0)
        return due and self._parts is not None

    def evaluate(self, run: TrainState) -> bool:
        """Score the networks; return whether this is the best evaluation so far.

        Raises:
            StoppedError: a signal arrived; the evaluation stays pending.
        """
        assert self._parts is not None
        distributed.share_buffers(run.student)  # all ranks score the network that rank 0 saves
        parts, results = self._parts, evaluation(self._parts, self._stop)
        val = results["val"]
        self.latest = (run.step, val)
        values: dict[str, float] = {}
        mious: dict[str, float] = {}
        for split, result in results.items():
            name = split if result.against == "labels" else split.replace("val", "agreement")
            further = {f"{name}/{label}": metric.headline for label, metric in result.metrics.items()}
            values |= {label: value for label, value in further.items() if value is not None}
            score = scores(result.confusion)  # after the others: a user's metric may be named miou
            values |= {f"{name}/miou": score.miou, f"{name}/pixel_accuracy": score.pixel_accuracy}
            mious[split] = score.miou
        self._progress.scalars(run.step, values)
        self._progress.pictures(run.step, lambda: pictures(parts, val, "val" if "val/miou" in values else "agreement"))
        self.pending = False
        for part in self._score_driven(run).values():
            part.update(mious["val"])
        if self.best is not None and mious["val"] <= self.best["miou"]:
            return False
        self._best_before, self.best = self.best, {"step": run.step, "miou": mious["val"]}
        return True

    def forget_best(self) -> None:
        """Return to the previous best evaluation: the checkpoint of the best one could not be written."""
        self.best = self._best_before

    def state_dict(self, run: TrainState) -> dict[str, Any]:
        """The state that a checkpoint keeps."""
        score_driven = {name: part.state_dict() for name, part in self._score_driven(run).items()}
        return {"best": self.best, "pending": self.pending, "told": score_driven}

    def load_state_dict(self, run: TrainState, state: dict[str, Any]) -> None:
        """Restore the state of a checkpoint."""
        for name, part in self._score_driven(run).items():
            part.load_state_dict(state["told"][name])
        self.best, self.pending = state["best"], state["pending"]

    def _score_driven(self, run: TrainState) -> dict[str, ScoreDriven]:
        """What depends on the mIoU of the evaluations, by its name in checkpoints."""
        parts = {"schedule": run.phases.factor, "patience": self._patience}
        return {name: part for name, part in parts.items() if isinstance(part, ScoreDriven)}


def evaluation(parts: Parts, stop: Stop) -> dict[str, SplitResult]:
    """Score the networks of a run.

    Returns:
        "val": the network whose weights are the result. "val_student" or "val_ema": the other network, if there is a
        moving average. "agreement": the first network, with the teacher's predictions as labels; if val has no labels,
        "val" is this score.
    """
    results: dict[str, SplitResult] = {}
    for name, (network, teacher) in parts.scored.items():
        of_network = _score(parts, network, teacher, stop)
        results |= {name: of_network.pop("val")} | of_network
    return results


def score_network(
    parts: Parts, network: nn.Module, stop: Stop, advance: Callable[[int], None] = lambda done: None
) -> SplitResult:
    """Score a network on the validation split; each process scores its share of the images.

    `advance` takes the number of images that are done.
    """
    teacher = parts.teacher.network if parts.teacher is not None and parts.by_agreement else None
    batches = count(1)

    def after_batch() -> None:
        advance(min(next(batches) * parts.recipe.train.batch_size, len(parts.val)))
        stop.check()

    return _score(parts, network, teacher, stop, after_batch)["val"]


def _score(
    parts: Parts,
    network: nn.Module,
    teacher: nn.Module | None,
    stop: Stop,
    after_batch: Callable[[], None] | None = None,
) -> dict[str, SplitResult]:
    """A network's score as "val", and its agreement with a teacher as "agreement"."""
    interrupt = after_batch or stop.check
    by_labels, by_teacher = score_share(parts, network, teacher, interrupt=interrupt, waiting=stop.waiting)
    counts = {"val": by_labels} | ({} if by_teacher is None else {"agreement": by_teacher})
    return {name: counted.result(distributed.gathered(counted.share)) for name, counted in counts.items()}


def score_share(
    parts: Parts,
    network: nn.Module,
    teacher: nn.Module | None,
    *,
    interrupt: Callable[[], None],
    waiting: Callable[[], None] = lambda: None,
) -> tuple[Counted, Counted | None]:
    """Run `score_beside` on this process's share of the validation images, with the recipe's settings."""
    recipe = parts.recipe
    return score_beside(
        network,
        teacher,
        parts.val,
        size=recipe.scored_size,
        precision=parts.precision,
        how=recipe.evaluate,
        metrics=make_metrics(recipe, len(parts.val.class_names)),
        unlabelled=parts.by_agreement,
        batch_size=recipe.train.batch_size // distributed.world(),
        workers=loader_workers(recipe.data.workers, parts.precision.device),
        rank=distributed.rank(),
        world=distributed.world(),
        interrupt=interrupt,
        waiting=waiting,
    )


def score_teacher(
    parts: Parts, run_dir: Path, seed: int, stop: Stop, say: Say, *, quiet: bool = False
) -> TeacherResult | None:
    """Score the teacher by the same code on the same images, once per run; None for an average, scored at the end."""
    if parts.teacher is None or parts.averages_teach:
        return None
    recipe = parts.recipe
    assert recipe.teacher is not None
    kept = distributed.first(lambda: read_teacher_score(run_dir, id=recipe.id, seed=seed))
    if kept is not None:
        split = kept
    else:
        with progress("scores the teacher", len(parts.val), quiet=quiet) as advance:
            split = score_network(parts, parts.teacher.network, stop, advance)
        distributed.first(lambda: write_teacher_score(run_dir, split, id=recipe.id, seed=seed))
    if split.against == "teacher":
        say("  val has no labels: scores are the agreement with the teacher")
    else:
        say(f"  the teacher scores {headline(split)} on the same images")
    if kept is None and scores(split.confusion).miou < twice_chance(split.confusion):
        say(f"  that is below twice chance; kd doctor: {distributed.first(lambda: diagnose(parts).advice)}")
    teacher_run = read_result(parts.teacher_run) if parts.teacher_run else None
    network = teacher_run.network if teacher_run else recipe.teacher.network.use if recipe.teacher.network else ""
    return TeacherResult(
        name=teacher_run.name if teacher_run else network,
        network=network,
        run=short_name(parts.teacher_run) if parts.teacher_run else None,
        parameters=parameter_count(parts.teacher.network),
        splits={"val": split},
    )


def headline(split: SplitResult) -> str:
    """The score as lines for the user show it."""
    return f"val {split.title} {100 * scores(split.confusion).miou:.1f} %"
