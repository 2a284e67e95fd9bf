"""Where a run's numbers go: terminal, metrics.jsonl, TensorBoard, W&B. A sink that fails never stops training."""

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
    """Takes a run's numbers."""

    def scalars(self, step: int, values: Mapping[str, float]) -> None: ...

    def close(self) -> None: ...


@runtime_checkable
class Shows(Sink, Protocol):
    """Takes pictures too."""

    def image(self, step: int, name: str, picture: np.ndarray) -> None: ...


class Progress:
    """Hands every report to all sinks; one that raises is dropped with one warning.

    Args:
        sinks: name -> sink.
    """

    def __init__(self, sinks: Mapping[str, Sink]) -> None:
        self._sinks = dict(sinks)
        self._draws = True

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Numbers of one step, by name."""
        self._all(lambda sink: sink.scalars(step, values))

    def pictures(self, step: int, draw: Callable[[], Iterable[tuple[str, np.ndarray]]]) -> None:
        """Pictures by name, uint8 RGB (H, W, 3); drawn only for a sink that shows them."""
        if not self._draws or not any(isinstance(sink, Shows) for sink in self._sinks.values()):
            return
        try:
            drawn = list(draw())
        except Exception as error:  # noqa: BLE001  # as below
            self._draws = False
            warnings.warn(f"pictures: not drawn ({_why(error)}); training continues", stacklevel=2)
            return

        def show(sink: Sink) -> None:
            if isinstance(sink, Shows):
                for name, picture in drawn:
                    sink.image(step, name, picture)

        self._all(show)

    def close(self) -> None:
        """Finish all sinks."""
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


def make_progress(run: Path, recipe: Recipe, *, seed: int, steps: int, start: int, quiet: bool = False) -> Progress:
    """The sinks of a run that starts or resumes.

    Args:
        run: the run directory.
        recipe: what is trained; `log` and `track` say where it is shown.
        seed: of this run.
        steps: its length.
        start: the step that it starts from.
        quiet: no live line.
    """
    makers: dict[str, Callable[[], Sink]] = {}
    config = recipe.resolved() | {"seed": seed}
    if recipe.track is not None:
        track = recipe.track
        makers["Weights & Biases"] = lambda: WeightsAndBiases(run, track, config)
    makers["metrics.jsonl"] = lambda: JsonLines(run, start)
    makers["log.txt"] = lambda: LogFile(run)
    if recipe.log.tensorboard:
        makers["TensorBoard"] = lambda: TensorBoard(run, start, config)
    if not quiet:
        makers["console"] = lambda: Terminal(recipe.stem, steps, start)
    sinks: dict[str, Sink] = {}
    for name, make in makers.items():
        try:
            sinks[name] = make()
        except Exception as error:  # noqa: BLE001  # as in Progress
            warnings.warn(f"{name}: not written ({_why(error)}); training continues", stacklevel=2)
    return Progress(sinks)
