"""A loss or gradient that is not finite: stop, skip the step, or return to the last checkpoint."""

import io
import warnings
from collections.abc import Callable
from pathlib import Path

import torch

from kd import distributed
from kd.errors import DivergedError, StorageError
from kd.files.storage import write_atomic
from kd.train.readback import StepNumbers
from kd.units import counted

ADVICE = "lower optimizer.args.lr, or set train.clip_norm"
SHOWN = 4  # images named in a message


class Guard:
    """Handles a step whose update would have made the parameters NaN. Its batch is written to the run directory.

    Args:
        policy: "stop"; "skip": the step leaves no trace in the student; "restore": student and optimizer return to the
            last checkpoint, and the stream of images continues.
        at_most: steps that may be skipped or restored; one more stops the run.
        run_dir: where the batch is written; None: nowhere.
        name: the name of an image in messages, by its index.

    Attributes:
        count: the number of such steps so far.
    """

    def __init__(
        self,
        policy: str = "stop",
        at_most: int = 0,
        *,
        run_dir: Path | None = None,
        name: Callable[[int], str] = "sample {}".format,
    ) -> None:
        self.policy, self.at_most, self.run_dir = policy, at_most, run_dir
        self.count = 0
        self._name = name

    def leave_out(self, trouble: StepNumbers) -> None:
        """Count a step that was left out, and warn of it; every rank must call this equally often.

        Raises:
            DivergedError: the policy is "stop", or too many steps have been left out.
        """
        self.count += 1
        text = f"step {trouble.step}: {self._report(trouble)}"
        if self.policy == "stop":
            raise DivergedError(f"{text}; {ADVICE}")
        if self.count > self.at_most:
            raise DivergedError(f"{text}; this is one more than train.nan_limit {self.at_most}; {ADVICE}")
        outcome = "skipped" if self.policy == "skip" else "back to the last checkpoint's weights"
        if distributed.rank() == 0:
            warnings.warn(f"{text}; {outcome} ({self.count} of at most {self.at_most})", stacklevel=2)

    def _report(self, trouble: StepNumbers) -> str:
        """What is not finite, and on which images: of the first process that has such a loss, as its step has it."""
        written = "" if self.run_dir is None else f"; {self._write(self.run_dir, trouble)}"
        own = (trouble.has_finite_losses(), f"{trouble}, on {self._images(trouble)}", written)
        of_ranks = distributed.gathered(own)
        (_, what, written), *others = [report for report in of_ranks if not report[0]] or of_ranks
        also = f" and those of {counted(len(others), 'other process', 'other processes')}" if others else ""
        return f"{what}{also}{written}"

    def _images(self, trouble: StepNumbers) -> str:
        indices = [index for i in trouble.culprits() for index in trouble.batches[i].keys[:, 0].tolist()]
        more = f" and {len(indices) - SHOWN} more" if len(indices) > SHOWN else ""
        return f"images {', '.join(self._name(index) for index in indices[:SHOWN])}{more}"

    def _write(self, run_dir: Path, trouble: StepNumbers) -> str:
        """Write the step's batches on this rank, losses and names for `torch.load`; return a note with the file."""
        ranks = f"-rank{distributed.rank()}" if distributed.world() > 1 else ""
        file = run_dir / f"not-finite-step{trouble.step}{ranks}.pt"
        content = {
            "step": trouble.step,
            "losses": trouble.losses,
            "gradient_norm": trouble.norm,
            "batches": [batch._asdict() for batch in trouble.batches],
            "images": [[self._name(index) for index in batch.keys[:, 0].tolist()] for batch in trouble.batches],
        }
        buffer = io.BytesIO()
        torch.save(content, buffer)
        try:
            write_atomic(file, buffer.getvalue())
        except StorageError as error:  # the message about the loss is more important
            return f"the batch: {error}"
        return f"the batch is in {file}"
