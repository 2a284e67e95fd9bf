"""The results of the runs of a comparison, without those that are damaged."""

from collections.abc import Sequence
from pathlib import Path

from kd.compare.comparison import Note
from kd.errors import RecipeError, StorageError
from kd.runs import OLD_FORMAT, Result, finished_below, read_result

APART = "move one of them into another folder"


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

    def read_seeds(self, run_dirs: Sequence[Path]) -> tuple[list[Path], list[Result]]:
        """As `read`, of runs that are the seeds of one recipe; only kd's own names of folders prove that they are.

        Raises:
            RecipeError: runs in one folder are of two recipes, or of one seed.
        """
        good, results = self.read(run_dirs)
        first: dict[Path, tuple[Path, Result]] = {}
        by_seed: dict[int, Path] = {}
        for run_dir, result in zip(good, results, strict=True):
            other, its = first.setdefault(run_dir.parent, (run_dir, result))
            if result.id != its.id:
                raise RecipeError(f"{run_dir}: is of run {result.id}, but {other} of run {its.id}; {APART}")
            same = by_seed.setdefault(result.seed, run_dir)
            if same != run_dir:
                raise RecipeError(f"{run_dir}: is seed {result.seed} of run {result.id}, as {same} is; {APART}")
        return good, results

    def unread(self, folder: Path) -> tuple[int, ...]:
        """The seeds of finished runs in a folder that no target names."""
        read = {run_dir.resolve() for run_dir in (*self._results, *self.damaged)}
        further = (run_dir for run_dir in finished_below(folder) if run_dir.resolve() not in read)
        return tuple(int(run_dir.name.removeprefix("seed")) for run_dir in further)

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
