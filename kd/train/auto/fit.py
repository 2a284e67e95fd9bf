"""What a step takes at its peak, and the fewest micro-batches with which it fits: `train.accumulate: auto`.

On a GPU the real step is tried, with more and more micro-batches until one fits and leaves a share free. Processors do
not report that they run out: the system ends a process. There, small micro-batches are measured, and the others
computed from them.
"""

import gc
from collections.abc import Callable
from contextlib import suppress
from itertools import cycle, islice
from typing import NamedTuple, Protocol

import torch

from kd import distributed
from kd.errors import DivergedError, RecipeError
from kd.memory import free_memory, give_back, peak_memory, ran_out, resident, restart_peak
from kd.parts.assemble import Parts, in_micro_batches
from kd.parts.checks.dry_run import untouched
from kd.parts.checks.independence import across_images
from kd.parts.optimizer import phase_ends
from kd.parts.stream import in_this_process
from kd.recipe import Recipe
from kd.train.loop import train
from kd.train.start import start

LEFT = 0.1  # share of the free memory that a peak leaves: for evaluations, a captured step, gaps between tensors
STEPS = 2  # of each phase: the optimizer's state is there from the second on
MEASURED = 3  # sizes of micro-batches
MICRO_BATCHES = 2  # of each step: from the second on, there are gradients


class Memory(Protocol):
    """The memory of a device, or a test's replacement."""

    tries: bool  # whether running out of it is an error that can be caught

    def free(self) -> int | None:
        """Bytes that are free; None: unknown."""

    def peak_of(self, job: Callable[[], None]) -> int:
        """Bytes that a job takes at its peak, beyond those taken before it.

        Raises:
            OutOfMemoryError: it takes more than there are; what it held is free again.
        """


class Fit(NamedTuple):
    """How a step fits into memory."""

    micro_batches: int
    peak: int  # bytes
    free: int  # bytes

    @property
    def fits(self) -> bool:
        """Whether the step leaves enough memory free."""
        return self.peak <= (1 - LEFT) * self.free

    def __str__(self) -> str:
        return f"{self.peak / 1e6:.0f} of {self.free / 1e6:.0f} MB"


class DeviceMemory:
    """The memory of a device that measures it.

    Args:
        device: CUDA's, or the CPU.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.tries = device.type == "cuda"

    def free(self) -> int | None:
        """As `Memory.free`."""
        return None if self._held() is None else free_memory(self._device)

    def peak_of(self, job: Callable[[], None]) -> int:
        """As `Memory.peak_of`."""
        self._free_unused()
        restart_peak(self._device)
        before = self._held() or 0
        try:
            job()
            return (peak_memory(self._device) or before) - before
        finally:
            self._free_unused()

    def _held(self) -> int | None:
        return torch.cuda.memory_allocated(self._device) if self.tries else resident()

    def _free_unused(self) -> None:
        gc.collect()
        if self.tries:
            torch.cuda.empty_cache()
        else:
            give_back()


def found_accumulate(parts: Parts, memory: Memory | None = None) -> tuple[int, str]:
    """The fewest micro-batches with which a step of a recipe with `train.accumulate: auto` fits into memory.

    Returns:
        Their number, and a line for the user.

    Raises:
        RecipeError: none fits; or the number would change what is computed, and so belongs to the recipe.
    """
    recipe = parts.recipe
    where, size = f"{recipe.at('train', 'accumulate')}: train.accumulate: auto", recipe.images_per_step
    memory = memory or DeviceMemory(parts.precision.device)
    free = memory.free()
    if free is None:
        return 1, "train.accumulate: auto: 1, as this system does not state how much memory is free"
    if memory.tries:
        fit = _first_that_runs(parts, memory, free)
    else:
        fit = next((fit for fit in foreseen(parts, memory) if fit.fits), None)
    if fit is None:
        raise RecipeError(
            f"{where}: even the smallest micro-batch does not fit into the {free / 1e6:.0f} MB that are free; use a "
            "smaller data.size or data.crop"
        )
    if fit.micro_batches > 1 and (across := across_images(parts)):
        raise RecipeError(
            f"{where}: the fewest micro-batches of {size} images that fit are {fit.micro_batches} ({fit}), and what "
            f"{' and '.join(across)} compute{'' if len(across) > 1 else 's'} depends on all images of a micro-batch, "
            f"so the number belongs to the recipe; set train.accumulate={fit.micro_batches}"
        )
    return fit.micro_batches, f"train.accumulate: auto: {fit.micro_batches} (a step takes {fit})"


def foreseen(parts: Parts, memory: Memory | None = None) -> list[Fit]:
    """How a step in each number of micro-batches fits, the fewest first; [] where the system does not measure it.

    The smallest micro-batches are measured, the others lie on the line through the last two of them. The first
    measurement is too high, as libraries begin to work in it; a larger micro-batch is only run if it fits even when all
    of the memory grows with the images.
    """
    recipe, memory = parts.recipe, memory or DeviceMemory(parts.precision.device)
    free, step = memory.free(), recipe.images_per_step
    if free is None or recipe.teaches_in_int8:
        return []
    peaks: dict[int, int] = {}  # by images
    images, slope = 1, 0.0
    for number in reversed(recipe.divisors):
        if len(peaks) == MEASURED or (peaks and not Fit(number, round(slope * step / number), free).fits):
            break
        peak = _peak(parts, number, memory)
        if peak is not None:
            images = step // number
            peaks[images] = peak
            slope = peak / images
    if not peaks:
        return []
    if len(peaks) == MEASURED:
        (less, lower), (_, higher) = list(peaks.items())[-2:]
        slope = max(higher - lower, 0) / (images - less)
    expected = {number: peaks[images] + slope * (step / number - images) for number in recipe.divisors}
    return [
        Fit(number, peaks.get(step // number, round(peak)), free)
        for number, peak in expected.items()
        if step // number >= min(peaks)
    ]


def _first_that_runs(parts: Parts, memory: Memory, free: int) -> Fit | None:
    for number in parts.recipe.divisors:
        peak = _peak(parts, number, memory)
        if peak is not None and (fit := Fit(number, peak, free)).fits:
            return fit
    return None


def _peak(parts: Parts, micro_batches: int, memory: Memory) -> int | None:
    """`step_peak`; None if memory runs out, or a network does not train on micro-batches of one image."""
    try:
        return step_peak(parts, micro_batches, memory)
    except RuntimeError as error:
        if not ran_out(error):
            raise
        return None
    except ValueError:  # of BatchNorm after pooling
        if parts.recipe.images_per_step > micro_batches or micro_batches == 1:
            raise
        return None


def step_peak(parts: Parts, micro_batches: int, memory: Memory) -> int:
    """Bytes that the steps of a run take at their peak; weights, buffers and random state do not change.

    Raises:
        OutOfMemoryError: more than there are.
    """
    trial = _trial(parts, micro_batches)
    run = start(trial, seed=trial.recipe.train.seeds[0])
    run.accumulate = min(micro_batches, MICRO_BATCHES)
    run.batches = cycle(list(islice(run.batches, run.accumulate)))

    def job() -> None:
        for first in (0, *phase_ends(trial.recipe, trial.steps)):
            run.step, run.steps = first, min(first + STEPS, trial.steps)
            with suppress(DivergedError):  # the run itself does what `on_nan` sets
                train(run)

    with untouched(trial):
        try:
            return memory.peak_of(job)
        finally:
            for parameter in trial.student.parameters():
                parameter.grad = None


def _trial(parts: Parts, micro_batches: int) -> Parts:
    """The parts of the largest steps of a run, computed as written and without anything that is kept."""
    recipe = in_this_process(parts.recipe)
    train_config = recipe.train.model_copy(
        update={"accumulate": micro_batches, "scales": (max(recipe.train.scales),), "compile": "off"}
    )
    data = recipe.data.model_copy(update={"decoded": "off"})
    return in_micro_batches(parts, recipe.changed(cache=None, track=None, train=train_config, data=data))


def out_of_memory(recipe: Recipe, error: Exception) -> RecipeError:
    """What to raise where a GPU runs out of memory while a recipe trains."""
    size, accumulate, processes = recipe.train.batch_size, recipe.accumulate, distributed.world()
    larger = next((parts for parts in recipe.divisors if parts > accumulate and size % (processes * parts) == 0), None)
    fix = f"set train.accumulate={larger}" if larger else "use a smaller data.size or data.crop"
    return RecipeError(
        [
            f"{recipe.at('train', 'batch_size')}: out of GPU memory with train.batch_size {size} in micro-batches of "
            f"{size // processes // accumulate} (train.accumulate {accumulate}, {processes} "
            f"process{'es' if processes > 1 else ''}); {fix} ({' '.join(str(error).split())[:120]})"
        ]
    )
