"""A loss or gradient that is not finite: stop, skip the step, or go back to the last checkpoint."""

import io
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from kd import distributed
from kd.errors import DivergedError, StorageError
from kd.storage import write_atomic
from kd.train.loop import ADVICE
from kd.train.step import NotFinite, Run

SHOWN = 4  # images named in a message


class Guard:
    """Called in place of an update that would spoil the parameters. The batch is written to the run directory.

    Args:
        policy: "stop"; "skip": the step leaves no trace in the student; "restore": student and optimizer go back to the
            last checkpoint, and the stream of images goes on.
        at_most: steps that may be skipped or restored; one more stops the run.
        folder: the run directory.
        name: what a message calls the image of an index.
        restore: puts the last checkpoint's state back.
    """

    def __init__(
        self, policy: str, at_most: int, folder: Path, name: Callable[[int], str], restore: Callable[[Run], None]
    ) -> None:
        self.policy, self.at_most, self.folder = policy, at_most, folder
        self.count = 0
        self._name, self._restore = name, restore
        self._buffers: dict[str, Tensor] = {}

    def __call__(self, run: Run, trouble: NotFinite) -> None:
        """Deal with one such step.

        Raises:
            DivergedError: by policy, or because this has happened too often.
        """
        self.count += 1
        text = f"step {run.step + 1}: {trouble}, on {self._images(trouble)}; {self._write(run, trouble)}"
        if self.policy == "stop":
            raise DivergedError(f"{text}; {ADVICE}")
        if self.count > self.at_most:
            raise DivergedError(f"{text}; this is one more than train.nan_limit {self.at_most}; {ADVICE}")
        done = "skipped" if self.policy == "skip" else "back to the last checkpoint's weights"
        warnings.warn(f"{text}; {done} ({self.count} of at most {self.at_most})", stacklevel=2)
        if self.policy == "skip":
            with torch.no_grad():
                for name, buffer in distributed.bare(run.student).named_buffers():
                    buffer.copy_(self._buffers[name])
        else:
            self._restore(run)

    def remember(self, student: nn.Module) -> None:
        """Keep what a forward pass changes, for a skip: BatchNorm's statistics and the losses' queues."""
        if self.policy == "skip":
            self._buffers = {name: buffer.clone() for name, buffer in distributed.bare(student).named_buffers()}

    def _images(self, trouble: NotFinite) -> str:
        indices = [index for i in trouble.culprits() for index in trouble.batches[i].keys[:, 0].tolist()]
        more = f" and {len(indices) - SHOWN} more" if len(indices) > SHOWN else ""
        return f"images {', '.join(self._name(index) for index in indices[:SHOWN])}{more}"

    def _write(self, run: Run, trouble: NotFinite) -> str:
        """Write the step's batches on this rank, losses and names, as `torch.load` reads them; say where they are."""
        ranks = f"-rank{distributed.rank()}" if distributed.world() > 1 else ""
        file = self.folder / f"not-finite-step{run.step + 1}{ranks}.pt"
        content = {
            "step": run.step + 1,
            "losses": [{name: value.item() for name, value in one.items()} for one in trouble.losses],
            "gradient_norm": trouble.norm.item(),
            "batches": [batch._asdict() for batch in trouble.batches],
            "images": [[self._name(index) for index in batch.keys[:, 0].tolist()] for batch in trouble.batches],
        }
        buffer = io.BytesIO()
        torch.save(content, buffer)
        try:
            write_atomic(file, buffer.getvalue())
        except StorageError as error:  # what is wrong with the loss matters more
            return f"the batch: {error}"
        return f"the batch is in {file}"
