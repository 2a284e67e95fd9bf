"""The JSON of `kd study --json`, as `kd schema study` publishes it."""

from typing import Annotated, Literal

from pydantic import Field

from kd.compare.output import Network
from kd.files.checked import Model


class StudyRun(Model):
    """One run that the study asks for."""

    run: Annotated[str, Field(description="`<variant>/<seed>`, as `--only` takes it")]
    variant: str
    seed: int
    role: Literal["teacher", "baseline", "student"]
    directory: str
    state: Literal["finished", "running", "failed", "stopped", "missing"]
    step: Annotated[int, Field(description="of its newest report; 0 where it is finished or missing")]
    why: Annotated[str | None, Field(description="it failed")]


class Ranked(Model):
    """A row of the leaderboard."""

    variant: str
    pareto: Annotated[bool, Field(description="no other network has this score or a higher one with fewer parameters")]
    network: Network


class StudyOutput(Model):
    """What `kd study --json` prints: scores in percent, differences in points, the best network first."""

    schema_version: Literal[2] = 2
    study: str
    runs: list[StudyRun]
    leaderboard: list[Ranked]
