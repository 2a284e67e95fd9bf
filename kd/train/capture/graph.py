"""`train.graph`: a whole step captured once, as a CUDA graph, and replayed: the processor launches one thing a step."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Protocol, TypeVar

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map_only

from kd import distributed
from kd.machine import random_state, set_random_state
from kd.memory import ran_out
from kd.parts.roles import restored
from kd.parts.teacher.cache import CachedTeacher
from kd.train.capture.suspects import state_unchanged, suspect
from kd.train.step import Micro, TrainState, accumulate_gradients, micro_batches, train_step
from kd.train.update import copies, put_back
from kd.types import Batch, Tapped

Result = TypeVar("Result")

WARM_UP = 3  # steps before a capture: they make the optimizer's state, and let libraries choose their kernels


class Recorder(Protocol):
    """What captures a step: CUDA, or a test's replacement."""

    def trial(self) -> AbstractContextManager[None]:
        """A context in which an operation raises if it waits for the device; nothing is captured yet."""

    def capture(self, work: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
        """Capture what `work` computes without computing it.

        Returns:
            A function that computes it, on the same memory; and the result, which holds values after that.
        """

    def fill(self, held: Sequence[Tensor], values: Sequence[Tensor]) -> None:
        """Copy values, of the processor or the device, to tensors that a captured step reads."""


class StepGraph:
    """Runs the steps of a run: as they are, or after a few of them captured and replayed.

    A step is captured again when a phase begins or another state is loaded. A step that cannot be captured runs as it
    is, after one warning that names the component.

    Args:
        recorder: captures; None: every step runs as it is.
    """

    def __init__(self, recorder: Recorder | None = None) -> None:
        self.recorder = recorder
        self._entries = -1
        self._forget()

    @property
    def captured(self) -> bool:
        """Whether the last step was a replay."""
        return self._replay is not None

    def step(self, run: TrainState, batches: list[Batch]) -> Tensor:
        """Make one step; return its numbers, as `packed` makes them."""
        if self.recorder is None:
            return train_step(run, micro_batches(run, batches))
        if self._entries != run.phases.entries:
            self._forget()
            self._entries = run.phases.entries
        micros = [micro._replace(taught=_taught(run, micro.batch)) for micro in micro_batches(run, batches)]
        if self._replay is None and self._steps >= WARM_UP and not run.update.waited:
            self._capture(self.recorder, run, micros)
        values = _tensors(micros)
        if self._replay is None or [value.shape for value in values] != [held.shape for held in self._held]:
            self._steps += 1
            return self._as_it_is(run, micros)
        self.recorder.fill(self._held, values)
        self._replay()
        return self._numbers

    def making_room(self, job: Callable[[], Result]) -> Result:
        """The result of a job that takes memory beside that of the captured step.

        Where it runs out, the capture gives its memory back, and the job is repeated. The step is captured again later.
        """
        try:
            return job()
        except RuntimeError as error:
            if self._replay is None or not ran_out(error):
                raise
        self.release()  # here, where no traceback holds the tensors of the job any more
        return job()

    def release(self) -> None:
        """Give back the memory of the captured step, if there is one; it is captured again after a few steps."""
        if self._replay is None:
            return
        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            torch.cuda.synchronize()  # it may still run
        self._forget()
        torch.cuda.empty_cache()

    def _as_it_is(self, run: TrainState, micros: list[Micro]) -> Tensor:
        """Make a step of a shape that is not captured, if need be without the captured one, from then on."""
        if self._replay is None:
            return train_step(run, micros)
        student = distributed.bare(run.student)
        buffers, drawn = copies(dict(student.named_buffers())), random_state(run.precision.device)

        def step() -> Tensor:
            if self._replay is None:
                warnings.warn(
                    "train.graph: the GPU's memory does not hold a step of another size beside the captured one; the "
                    "steps run without a graph",
                    stacklevel=2,
                )
                self.recorder = None
                run.optimizer.zero_grad()
                set_random_state(run.precision.device, drawn)
                put_back(dict(student.named_buffers()), buffers)
            return train_step(run, micros)

        return self.making_room(step)

    def _forget(self) -> None:
        self._replay: Callable[[], None] | None = None  # frees the memory of the capture
        self._held: list[Tensor] = []
        self._numbers = torch.empty(0)
        self._steps = 0

    def _capture(self, recorder: Recorder, run: TrainState, micros: list[Micro]) -> None:
        """Capture a step, after a trial that leaves no trace; or give up, with a warning."""
        held = tree_map_only(Tensor, lambda value: value.to(run.precision.device, copy=True), micros)
        try:
            with restored(run.precision, distributed.bare(run.student)), state_unchanged(run), recorder.trial():
                accumulate_gradients(run, held)
            run.optimizer.zero_grad()
            self._replay, self._numbers = recorder.capture(lambda: train_step(run, held))
            self._held = _tensors(held)
        except Exception as error:  # noqa: BLE001  # whatever a component or CUDA raises: training does not need it
            run.optimizer.zero_grad()
            self.recorder = None
            reason = " ".join(str(error).split())[:160]
            warnings.warn(
                f"train.graph: {suspect(error, run)} cannot be captured: {reason}; the steps run without a graph "
                "(docs/graphs.md shows what to write instead)",
                stacklevel=2,
            )


class CudaRecorder:
    """Captures CUDA graphs, and copies their inputs from page-locked memory while the step before still runs."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._copies = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    @contextmanager
    def trial(self) -> Iterator[None]:
        """As `Recorder.trial`."""
        before = torch.cuda.get_sync_debug_mode()
        torch.cuda.set_sync_debug_mode("error")
        try:
            yield
        finally:
            torch.cuda.set_sync_debug_mode(before)

    def capture(self, work: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
        """As `Recorder.capture`."""
        graph, pool = torch.cuda.CUDAGraph(), torch.cuda.graph_pool_handle()
        steps = torch.cuda.current_stream(self._device)
        generator = torch.cuda.default_generators[self._device.index]
        drawn = generator.clone_state()
        try:
            # "thread_local": the thread that makes page-locked memory of the workers' batches may go on meanwhile.
            with torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):
                result = work()
        except BaseException:
            # Where the end of a capture fails, torch 2.11 and 2.12 leave in it what would raise errors from then on:
            # the generator when it draws, the allocator when it empties its cache.
            generator.graphsafe_set_state(drawn)
            with suppress(RuntimeError):  # torch has ended it
                torch._C._cuda_endAllocateToPool(self._device.index, pool)
            raise
        finally:
            torch.cuda.set_stream(steps)  # torch leaves the stream of the capture current if its end fails
        return graph.replay, result

    def fill(self, held: Sequence[Tensor], values: Sequence[Tensor]) -> None:
        """As `Recorder.fill`."""
        steps = torch.cuda.current_stream(self._device)
        with torch.cuda.stream(self._copies):
            arrived = [value.to(self._device, non_blocking=True) for value in values]
        steps.wait_stream(self._copies)
        for target, value in zip(held, arrived, strict=True):
            target.copy_(value)
            value.record_stream(steps)


def _tensors(micros: list[Micro]) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(micros) if isinstance(leaf, Tensor)]


def _taught(run: TrainState, batch: Batch) -> Tapped | None:
    """The maps of a cached teacher, which the processor looks up; None: the step computes them."""
    if not isinstance(run.teacher, CachedTeacher):
        return None
    with run.precision.autocast():
        return run.teacher.of_loaded(batch)
