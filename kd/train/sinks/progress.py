"""Where a run's numbers go: terminal, metrics.jsonl, TensorBoard, W&B. A sink that fails never stops training."""

import json
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from io import FileIO
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from rich.console import Console
from rich.live import Live
from rich.text import Text
from torch.utils.tensorboard import SummaryWriter

from kd.errors import StorageError
from kd.recipe import Recipe
from kd.runs import read_metrics
from kd.storage import write_atomic
from kd.train.sinks.wandb import WeightsAndBiases
from kd.units import duration


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
            warnings.warn(f"pictures: not drawn ({_why(error)}); training goes on", stacklevel=2)
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
                warnings.warn(f"{name}: stopped ({_why(error)}); training goes on", stacklevel=2)


def _why(error: Exception) -> str:
    """In one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


class JsonLines:
    """`metrics.jsonl`: the source of truth for curves. Lines after the step that the run resumes from are cut.

    So is a final score, which comes behind the last checkpoint.

    Args:
        run: the run directory.
        step: where the run starts or resumes.
    """

    def __init__(self, run: Path, step: int) -> None:
        kept = [line for line in read_metrics(run) if line["step"] <= step and "final/miou" not in line]
        self._path = run / "metrics.jsonl"
        self._unwritten = "".join(json.dumps(line) + "\n" for line in kept).encode()
        self._file: FileIO | None = None
        self._warned = False

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        # without times, so that a resumed run's file equals the uninterrupted one's
        kept = {name: value for name, value in values.items() if not name.startswith("speed/")}
        if not kept:
            return
        self._unwritten += (json.dumps({"step": step} | kept) + "\n").encode()
        try:
            self._write()
        except (OSError, StorageError) as error:  # a disk that is full for an hour must not tear a hole in the curves
            if not self._warned:
                warnings.warn(f"metrics.jsonl: {error}; its lines are kept and written later", stacklevel=2)
            self._warned = True

    def _write(self) -> None:
        """Write what is not yet written; after an error, from where it stopped."""
        if self._file is None:
            write_atomic(self._path, self._unwritten)
            self._unwritten, self._file = b"", self._path.open("ab", buffering=0)
        while self._unwritten:
            self._unwritten = self._unwritten[self._file.write(self._unwritten) :]

    def close(self) -> None:
        self._write()
        assert self._file is not None
        os.fsync(self._file.fileno())
        self._file.close()


class TensorBoard:
    """TensorBoard scalars, pictures and, with the final score, hparams; steps after the resumed one are replaced.

    Args:
        run: the run directory.
        step: where the run starts or resumes.
        config: what the recipe says, plain data.
    """

    def __init__(self, run: Path, step: int, config: Mapping[str, Any]) -> None:
        self._writer = SummaryWriter(str(run), purge_step=step + 1)
        self._config = config

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        final = {name: value for name, value in values.items() if name.startswith("final/")}
        if final:  # its scalars are among what this writes
            self._writer.add_hparams(dict(_leaves(self._config)), final, run_name=".", global_step=step)
        for name, value in values.items():
            if name not in final:
                self._writer.add_scalar(name, value, step)

    def image(self, step: int, name: str, picture: np.ndarray) -> None:
        self._writer.add_image(name, picture, step, dataformats="HWC")

    def close(self) -> None:
        self._writer.close()


def _leaves(tree: Any, path: str = "") -> Iterator[tuple[str, str | float]]:
    """The values of plain data by their dotted paths; null is none."""
    if isinstance(tree, Mapping) and tree:
        for key, value in tree.items():
            yield from _leaves(value, f"{path}.{key}" if path else str(key))
    elif tree is not None:
        yield path, tree if isinstance(tree, (str, int, float)) else json.dumps(tree)


class Terminal:
    """One live line on a terminal, plain lines about every ten seconds when piped.

    Args:
        title: what is trained, in front of each line.
        steps: the run's length.
        start: where it starts or resumes.
        console: where to write.
    """

    def __init__(self, title: str, steps: int, start: int = 0, console: Console | None = None) -> None:
        self._title, self._steps, self._start = title, steps, start
        self._console = console or Console(file=sys.stdout, highlight=False, soft_wrap=True)
        self._live = Live(console=self._console, refresh_per_second=4) if self._console.is_terminal else None
        self._began = self._printed = time.monotonic()
        self._latest: dict[str, float] = {}
        if self._live:
            self._live.start()

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        self._latest |= values
        evaluated = any(name.startswith("val/") for name in values)
        line = self._line(step)
        if self._live:
            self._live.update(Text(line, no_wrap=True, overflow="ellipsis"))
        elif evaluated or time.monotonic() - self._printed >= 10:  # the last step is evaluated
            self._printed = time.monotonic()
            print(line, file=self._console.file, flush=True)  # rich would end the program when its pipe is closed

    def close(self) -> None:
        if self._live:
            self._live.stop()

    def _line(self, step: int) -> str:
        spent = time.monotonic() - self._began
        left = spent / max(step - self._start, 1) * (self._steps - step)
        terms = [n for n in self._latest if n.startswith("loss/")]
        parts = [f"{self._title} {step}/{self._steps}"]
        parts += [f"{name.removeprefix('loss/')} {self._latest[name]:.3f}" for name in terms]
        if "val/miou" in self._latest:
            parts.append(f"val mIoU {100 * self._latest['val/miou']:.1f} %")
        if "speed/images_per_second" in self._latest:
            parts.append(f"{self._latest['speed/images_per_second']:.3g} images/s")
        return " · ".join([*parts, f"{duration(left)} left"])


def make_progress(run: Path, recipe: Recipe, *, seed: int, steps: int, start: int, quiet: bool = False) -> Progress:
    """The sinks of a run that starts or goes on.

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
    if recipe.log.tensorboard:
        makers["TensorBoard"] = lambda: TensorBoard(run, start, config)
    if not quiet:
        makers["console"] = lambda: Terminal(recipe.stem, steps, start)
    sinks: dict[str, Sink] = {}
    for name, make in makers.items():
        try:
            sinks[name] = make()
        except Exception as error:  # noqa: BLE001  # as in Progress
            warnings.warn(f"{name}: not written ({_why(error)}); training goes on", stacklevel=2)
    return Progress(sinks)
