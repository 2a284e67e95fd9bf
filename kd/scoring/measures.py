"""The further metrics of a recipe: built for one evaluation, and called so that a mistake in them is a line."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np
from jaxtyping import Float, Int64, Integer
from numpy.typing import NDArray
from torch import Tensor

from kd.components import Maker, check_has, refused_by
from kd.errors import RecipeError
from kd.metrics import Metric
from kd.recipe import Recipe, Use
from kd.runs import MetricResult
from kd.runs.result import LARGEST
from kd.scoring.predicting import at_size

T = TypeVar("T")


class Measure(NamedTuple):
    """A further metric of a recipe, built for one evaluation."""

    use: Use
    metric: Metric

    def update(
        self,
        labels: Int64[Tensor, "H W"],
        probabilities: Float[Tensor, "K H W"],
        spacing: tuple[float, float] | None = None,
    ) -> None:
        """Add one image, as `Metric.update`, with the size of its pixels in mm if the metric takes it."""
        known = {"spacing": spacing} if "spacing" in inspect.signature(self.metric.update).parameters else {}
        self._call(lambda: self.metric.update(labels, probabilities, **known))

    def state(self) -> dict[str, NDArray[Any]]:
        """The metric's state on the images so far."""
        return self._call(lambda: {name: np.asarray(array) for name, array in self.metric.state().items()})

    def result(self, states: Sequence[Mapping[str, NDArray[Any]]]) -> MetricResult:
        """The values of the summed states of all processes."""

        def compute() -> dict[str, float | None]:
            total = {name: np.sum([state[name] for state in states], axis=0) for name in states[0]}
            return {name: _number(value) for name, value in self.metric.value(total).items()}

        values = self._call(compute)
        if not values:
            raise RecipeError(
                f"{self.use.where()}: {self.use.use}: value() returned no numbers; return at least one, by name"
            )
        return MetricResult(values, self.metric.unit, self.metric.direction)

    def _call(self, call: Callable[[], T]) -> T:
        try:
            return call()
        except (Exception, SystemExit) as error:  # noqa: BLE001  # a bug of ours is raised as it is
            raise refused_by(self.use, error) from None


def make_metrics(recipe: Recipe, num_classes: int) -> dict[str, Measure]:
    """Build the further metrics of a recipe for one evaluation, by their labels.

    Raises:
        RecipeError: a component cannot be built, or is not a metric.
    """
    return {use.label: _make_metric(recipe, use, num_classes) for use in recipe.evaluate.metrics}


def _make_metric(recipe: Recipe, use: Use, num_classes: int) -> Measure:
    facts = {"num_classes": lambda: num_classes}
    metric = Maker(recipe).build(use, facts=facts)
    check_has(use, metric, ("unit", "direction", "update", "state", "value"), "docs/add-a-metric.md")
    if not (isinstance(metric.unit, str) and metric.unit.isprintable()):
        raise RecipeError(f"{use.where()}: {use.use}: unit must be text, such as '%' or '', got {metric.unit!r:.80}")
    if metric.direction not in ("higher", "lower"):
        raise RecipeError(f"{use.where()}: {use.use}: direction must be 'higher' or 'lower', got {metric.direction!r}")
    return Measure(use, metric)


def check_metrics(recipe: Recipe, labels: Integer[Tensor, "H W"], logits: Float[Tensor, "K h w"]) -> list[str]:
    """Build and call each further metric of a recipe once.

    Args:
        recipe: checked in shape and calls.
        labels: 0 … K-1 and IGNORE.
        logits: of K >= 2 classes.

    Returns:
        The mistakes in the metrics, one line each.
    """
    mistakes: list[str] = []
    for use in recipe.evaluate.metrics:
        try:
            measure = _make_metric(recipe, use, len(logits))
            given = (labels.long(), at_size(logits.detach().float(), labels.shape).softmax(0))
            versions = [tensor._version for tensor in given]
            measure.update(*given)
            if [tensor._version for tensor in given] != versions:
                raise RecipeError(
                    f"{use.where()}: {use.use}: update() changes its labels or probabilities, which other metrics "
                    "read, in place; change a copy of them, such as labels.clone()"
                )
            measure.result([measure.state()])
        except RecipeError as error:
            mistakes += error.mistakes
    return mistakes


def _number(value: float | None) -> float | None:
    return None if value is None or not abs(value) <= LARGEST else float(value)
