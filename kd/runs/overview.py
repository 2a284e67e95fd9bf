"""What a list of runs shows of a result, read in a fraction of the time: the rest is what the manifest proves."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from kd.files.checked import checked
from kd.files.manifest import RESULT, read_manifest, read_verified
from kd.runs.result import Folder, ResultInputs, RunPath, Splits, marks_of, read_result


class _Teacher(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore")

    run: RunPath | None


class Overview(BaseModel):
    """The keys of `result.json` that a list of runs shows."""

    model_config = ConfigDict(strict=True, extra="ignore")

    baseline: Folder | None
    teacher: _Teacher | None
    splits: Splits
    inputs: ResultInputs | None = None
    format: int

    @property
    def marks(self) -> tuple[str, ...]:
        """As of a `Result`."""
        return marks_of(self.inputs)


def read_overview(run_dir: Path) -> Overview:
    """Read what a list of runs shows of a finished run.

    Raises:
        StorageError: as `read_result`.
    """
    if read_manifest(run_dir) is None:  # of kd 0.2: nothing proves the rest
        return Overview.model_validate(vars(read_result(run_dir)), from_attributes=True)
    return checked(read_verified(run_dir, RESULT), Overview, str(run_dir / RESULT))
