"""Jobs timed in turn, and their ratios round by round: in a round, a machine whose speed drifts is equally fast."""

import statistics
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

Job = Callable[[], object]
Times = Mapping[str, list[float]]  # seconds of each job, in each round

WARM_UP = 2  # rounds: in the first, a capture gives back the memory that torch holds, and the next ones take it anew


class Ratio(NamedTuple):
    """What one job takes beside others, over the rounds; the extremes show how many digits of the median count."""

    median: float
    lowest: float
    highest: float

    def __format__(self, spec: str) -> str:
        return f"{self.median:{spec}} ({self.lowest:{spec}} to {self.highest:{spec}})"


def time_in_turn(jobs: Mapping[str, Job], rounds: int, timed: Callable[[Job], float]) -> dict[str, list[float]]:
    """The seconds of each job in each of the rounds that follow the warm-up.

    Args:
        jobs: run once a round, in this order: those that are compared follow on one another.
        rounds: how many count.
        timed: seconds of a job.
    """
    times: dict[str, list[float]] = {name: [] for name in jobs}
    for _ in range(WARM_UP + rounds):
        for name, job in jobs.items():
            times[name].append(timed(job))
    return {name: values[WARM_UP:] for name, values in times.items()}


def medians_of(times: Times) -> dict[str, float]:
    """The median over the rounds, of each job."""
    return {name: statistics.median(values) for name, values in times.items()}


def ratio_of(times: Times, job: str, others: Iterable[str]) -> Ratio:
    """The seconds of a job, divided in each round by those of others together."""
    sums = map(sum, zip(*(times[name] for name in others), strict=True))
    ratios = [seconds / whole for seconds, whole in zip(times[job], sums, strict=True)]
    return Ratio(statistics.median(ratios), min(ratios), max(ratios))
