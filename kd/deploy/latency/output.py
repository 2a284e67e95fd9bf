"""The JSON of `kd latency --json`, as `kd schema latency` publishes it.

A key that is added, removed or changed raises `schema_version`.
"""

from typing import Annotated, Literal

from pydantic import Field

from kd.files.checked import Model


class BudgetOutput(Model):
    """What a row may cost at most."""

    fps: Annotated[float | None, Field(description="images per second that 95 % of the calls must reach")]
    max_mb: Annotated[float | None, Field(description="size of the file, in 10⁶ bytes")]


class LatencyRow(Model):
    """One network in one runtime, with batches of one size."""

    network: str
    parameters: Annotated[int | None, Field(description="null where only an exported file is known")]
    macs: Annotated[int | None, Field(description="multiply-accumulates of one image; null where they are not counted")]
    runtime: Literal["torch", "compiled", "onnx", "openvino"]
    precision: Literal["fp32", "int8"]
    batch: int
    channels: int
    height: int
    width: int
    median_seconds: Annotated[float, Field(description="of one call")]
    p95_seconds: Annotated[float, Field(description="that 95 % of the calls took at most")]
    images_per_second: Annotated[float, Field(description="the batch divided by the median")]
    peak_bytes: Annotated[
        int | None, Field(description="the process at its peak, above what it held before it loaded the network")
    ]
    file_bytes: Annotated[int, Field(description="of the file, or of the parameters")]
    within: Annotated[bool | None, Field(description="whether the row is within the budget; null without one")]


class LatencyOutput(Model):
    """What `kd latency --json` prints."""

    schema_version: Literal[1] = 1
    hardware: dict[str, str | int]
    versions: Annotated[dict[str, str], Field(description="of the installed runtimes")]
    threads: int
    warm_up: Annotated[int, Field(description="calls before the timed ones")]
    rounds: Annotated[int, Field(description="timed calls")]
    budget: BudgetOutput | None
    rows: list[LatencyRow]
    not_measured: Annotated[list[str], Field(description="a line on each network or runtime, with the reason")]
