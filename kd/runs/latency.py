"""How long the network of a run takes for an image, as `kd latency` measured it: `latency.json`.

It depends on the machine, so that a finished run's manifest does not cover it, and a later measurement replaces it. It
holds its own SHA-256 and the run that it is of; what kd 0.5 or older wrote has neither, and is read as it is.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

from pydantic import BaseModel, Field

from kd.errors import StorageError
from kd.files.checked import STRICT, Count, checked, seal, unsealed
from kd.files.manifest import Id, read_manifest
from kd.files.reading import read_bytes
from kd.files.storage import write_atomic

LATENCY = "latency.json"

Seconds = Annotated[float, Field(gt=0, le=1e9)]


class Measured(BaseModel):
    """One measurement."""

    model_config = STRICT

    runtime: str
    precision: str
    batch: Annotated[int, Field(ge=1)]
    height: Annotated[int, Field(ge=1)]
    width: Annotated[int, Field(ge=1)]
    median_seconds: Seconds  # of a call
    p95_seconds: Seconds


class _File(BaseModel):
    """The content of `latency.json`."""

    model_config = STRICT

    processor: str
    threads: Annotated[int, Field(ge=1)]
    rows: list[Measured]
    id: Id | None = None  # of the run
    seed: Count | None = None


class Latency(NamedTuple):
    """Of one image, in torch and float32."""

    milliseconds: float
    how: str  # in words: equal for measurements that can be compared
    size: tuple[int, int]  # of the image, height and width


def write_latency(run_dir: Path, rows: Sequence[Measured], *, processor: str, threads: int) -> None:
    """Write the measurements of a run's network.

    Raises:
        StorageError: the directory cannot be written; or its manifest is damaged.
    """
    manifest = read_manifest(run_dir)
    content = _File(
        processor=processor,
        threads=threads,
        rows=list(rows),
        id=None if manifest is None else manifest.id,
        seed=None if manifest is None else manifest.seed,
    )
    write_atomic(run_dir / LATENCY, seal(content.model_dump(exclude_none=True)))


def read_latency(run_dir: Path) -> Latency | None:
    """The latency of a run's network; None if it has not been measured in torch.

    Raises:
        StorageError: the file is damaged, or of another run.
    """
    file = run_dir / LATENCY
    if not file.is_file():
        return None
    data = read_bytes(file, "a JSON file of kd", StorageError, inside=run_dir)
    content, manifest = checked(unsealed(data, str(file)), _File, str(file)), read_manifest(run_dir)
    if content.id is not None and manifest is not None and (content.id, content.seed) != (manifest.id, manifest.seed):
        raise StorageError(f"{file}: is of run {content.id}, seed {content.seed}")
    for row in content.rows:
        if (row.runtime, row.precision, row.batch) == ("torch", "fp32", 1):
            threads = f"{content.threads} thread{'s' * (content.threads > 1)}"
            how = f"one image of the recipe's size, torch in float32, {threads} of {content.processor}"
            return Latency(1000 * row.median_seconds, how, (row.height, row.width))
    return None
