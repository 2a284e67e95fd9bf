"""How long the network of a run takes for an image, as `kd latency` measured it: `latency.json`.

It depends on the machine, so that a finished run's manifest does not cover it, and a later measurement replaces it.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

from pydantic import BaseModel, Field

from kd.checked import STRICT, read_checked
from kd.storage import write_json

LATENCY = "latency.json"

Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


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


class Latency(NamedTuple):
    """Of one image, in torch and float32."""

    milliseconds: float
    how: str  # in words: equal for measurements that can be compared


def write_latency(run_dir: Path, rows: Sequence[Measured], *, processor: str, threads: int) -> None:
    """Write the measurements of a run's network.

    Raises:
        StorageError: the directory cannot be written.
    """
    content = _File(processor=processor, threads=threads, rows=list(rows))
    write_json(run_dir / LATENCY, content.model_dump())


def read_latency(run_dir: Path) -> Latency | None:
    """The latency of a run's network; None if it has not been measured in torch.

    Raises:
        StorageError: the file is damaged.
    """
    if not (run_dir / LATENCY).is_file():
        return None
    content = read_checked(run_dir / LATENCY, _File)
    for row in content.rows:
        if (row.runtime, row.precision, row.batch) == ("torch", "fp32", 1):
            threads = f"{content.threads} thread{'s' * (content.threads > 1)}"
            how = f"one image of the recipe's size, torch in float32, {threads} of {content.processor}"
            return Latency(1000 * row.median_seconds, how)
    return None
