"""The results of the runs of a comparison, without those that are damaged."""

from collections.abc import Sequence
from pathlib import Path

from kd.compare.comparison import Note
from kd.errors import StorageError
from kd.runs import OLD_FORMAT, Result, read_result


class Results:
    """Reads each run's result once; those that are damaged are left out.

    Attributes:
        damaged: why, by run directory.
    """

    def __init__(self) -> None:
        self.damaged: dict[Path, str] = {}
        self._results: dict[Path, Result] = {}

    def read(self, run_dirs: Sequence[Path]) -> tuple[list[Path], list[Result]]:
        """The run directories with a good result, and the results."""
        for run_dir in run_dirs:
            if run_dir not in self._results and run_dir not in self.damaged:
                try:
                    self._results[run_dir] = read_result(run_dir)
                except StorageError as error:
                    self.damaged[run_dir] = str(error)
        good = [run_dir for run_dir in run_dirs if run_dir in self._results]
        return good, [self._results[run_dir] for run_dir in good]

    def has_damaged(self, folder: str | None) -> bool:
        """Whether a damaged run is of the recipe whose runs are in `folder`, or in another of the same id."""
        id = str(folder).rpartition("-")[2]
        return any(run_dir.parent.name.endswith(f"-{id}") for run_dir in self.damaged)

    def notes(self) -> list[Note]:
        """What a reader must know of the files that were read."""
        notes = [Note("damaged", f"left out: {why}") for why in self.damaged.values()]
        if old := [str(run_dir) for run_dir, result in self._results.items() if result.format == OLD_FORMAT]:
            line = f"not verified, because kd 0.2 or older wrote no manifest.json: {', '.join(old)}"
            notes.append(Note("not verified", line))
        return notes
