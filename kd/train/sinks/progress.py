"""Where a run's numbers go: terminal, metrics.jsonl, TensorBoard, W&B. A failing sink never stops training."""

import math
import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from kd.recipe import Recipe
from kd.train.sinks.jsonl import JsonLines
from kd.train.sinks.log_file import LogFile
from kd.train.sinks.tensorboard import TensorBoard
from kd.train.sinks.terminal import Terminal
from kd.train.sinks.wandb import WeightsAndBiases


class Sink(Protocol):
    """A receiver of a run's numbers."""

    def scalars(self, step: int, values: Mapping[str, float]) -> None: ...

    def close(self) -> None: ...


@runtime_checkable
class PictureSink(Sink, Protocol):
    """A sink that takes pictures too."""

    def image(self, step: int, name: str, picture: np.ndarray) -> None: ...


class Progress:
    """Passes every report to all sinks; a sink that raises is dropped with one warning.

    Args:
        sinks: name -> sink.
    """

    def __init__(self, sinks: Mapping[str, Sink]) -> None:
        self._sinks = dict(sinks)
        self._draws = True

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Report numbers of one step, by name; those that are not finite are left out, as JSON has none."""
        finite = {name: value for name, value in values.items() if math.isfinite(value)}
        if finite:
            self._all(lambda sink: sink.scalars(step, finite))

    def pictures(self, step: int, draw: Callable[[], Iterable[tuple[str, np.ndarray]]]) -> None:
        """Report pictures by name, uint8 RGB (H, W, 3); they are drawn only if a sink takes them."""
        if not self._draws or not any(isinstance(sink, PictureSink) for sink in self._sinks.values()):
            return
        try:
            drawn = list(draw())
        except Exception as error:  # noqa: BLE001  # as below
            self._draws = False
            warnings.warn(f"pictures: not drawn ({_why(error)}); training continues", stacklevel=2)
            return

        def show(sink: Sink) -> None:
            if isinstance(sink, PictureSink):
                for name, picture in drawn:
                    sink.image(step, name, picture)

        self._all(show)

    def close(self) -> None:
        """Close all sinks."""
        self._all(lambda sink: sink.close())

    def _all(self, call: Callable[[Sink], None]) -> None:
        for name, sink in list(self._sinks.items()):
            try:
                call(sink)
            except Exception as error:  # noqa: BLE001  # a full disk or a closed pipe must not cost a week of training
                del self._sinks[name]
                warnings.warn(f"{name}: stopped ({_why(error)}); training continues", stacklevel=2)


def _why(error: Exception) -> str:
    """In one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


def make_progress(
    run_dir: Path, recipe: Recipe, *, role: str, seed: int, steps: int, start: int, quiet: bool = False
) -> Progress:
    """The sinks of a run that starts or resumes.

    Args:
        run_dir: the run directory.
        recipe: of the run; `log` and `track` select the sinks.
        role: "teacher", "student" or "baseline": the name of the curves in TensorBoard and Weights & Biases.
        seed: of the run.
        steps: the length of the run.
        start: the step at which it starts or resumes.
        quiet: no live line.
    """
    makers: dict[str, Callable[[], Sink]] = {}
    config = recipe.resolved() | {"seed": seed}
    if recipe.track is not None:
        track = recipe.track
        makers["Weights & Biases"] = lambda: WeightsAndBiases(run_dir, track, role, config)
    makers["metrics.jsonl"] = lambda: JsonLines(run_dir, start)
    makers["log.txt"] = lambda: LogFile(run_dir)
    if recipe.log.tensorboard:
        makers["TensorBoard"] = lambda: TensorBoard(run_dir / role, start, config)
    if not quiet:
        makers["console"] = lambda: Terminal(recipe.stem, steps, start)
    sinks: dict[str, Sink] = {}
    for name, make in makers.items():
        try:
            sinks[name] = make()
        except Exception as error:  # noqa: BLE001  # as in Progress
            warnings.warn(f"{name}: not written ({_why(error)}); training continues", stacklevel=2)
    return Progress(sinks)
