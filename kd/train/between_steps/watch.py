"""What happens between the steps of a run: reports, evaluations, checkpoints, signals."""

import time
from dataclasses import dataclass, field

import torch

from kd import distributed, memory
from kd.train.between_steps.checkpoint import Checkpoints
from kd.train.between_steps.evaluation import Evaluations
from kd.train.between_steps.guard import Guard
from kd.train.between_steps.reports import Reports
from kd.train.capture.graph import StepGraph
from kd.train.provenance.description import Description
from kd.train.readback import Readback
from kd.train.signals import Stop
from kd.train.step import TrainState


@dataclass
class Watch:
    """What happens between the steps of a run; nothing by default.

    Attributes:
        reports: the numbers of the steps.
        evaluations: the scores so far, and when the next one is due.
        guard: handles losses that are not finite.
        readback: the numbers of the steps on their way from the device.
        graph: how the steps run: as they are, or captured and replayed.
        stop: whether a signal has arrived.
        description: of the run, kept until its end, on rank 0; None: none is kept.
        checkpoints: where the state is saved; None: nowhere.
        save_every: steps between two checkpoints; 0: only at the end.
        network: the student's type of network; a checkpoint of another type is refused.
        seconds_before: the time of earlier sessions of this run.
        peak_before: the peak memory of earlier sessions, in bytes.
        save_seconds: the time that the last checkpoint took to write.
        began: when this session began.
    """

    reports: Reports = field(default_factory=Reports)
    evaluations: Evaluations = field(default_factory=Evaluations)
    guard: Guard = field(default_factory=Guard)
    readback: Readback = field(default_factory=lambda: Readback(torch.device("cpu")))
    graph: StepGraph = field(default_factory=StepGraph)
    stop: Stop = field(default_factory=Stop)
    description: Description | None = None
    checkpoints: Checkpoints | None = None
    save_every: int = 0
    network: str = ""
    seconds_before: float = 0.0
    peak_before: int | None = None
    save_seconds: float = 0.0
    began: float = field(default_factory=time.monotonic)

    def saves_at(self, step: int) -> bool:
        """Whether a checkpoint is due after a step by `save_every`."""
        return self.save_every > 0 and step % self.save_every == 0

    def reads_at(self, run: TrainState) -> bool:
        """Whether the run waits for the numbers of all steps so far: what follows depends on them.

        With several processes it does so at every step, so that all find a loss that is not finite at the same one.
        """
        due = self.reports.measures_at(run.step) or self.evaluations.is_due(run) or self.saves_at(run.step)
        return due or run.step == run.steps or self.guard.policy == "restore" or distributed.world() > 1

    def seconds(self) -> float:
        """Seconds of training, over all sessions."""
        return self.seconds_before + time.monotonic() - self.began

    def peak_memory(self, device: torch.device) -> int | None:
        """Bytes of this process at the peak, over all sessions; None where they are not measured."""
        peaks = [peak for peak in (self.peak_before, memory.peak_memory(device)) if peak is not None]
        return max(peaks, default=None)
