"""The JSON that `kd compare`, `kd list` and `kd diff` print: its models, from which the published schemas are made.

A key that is added, removed or changed raises the `schema_version` of its document.
"""

from typing import Annotated, Literal

from pydantic import Field

from kd.files.checked import Model, Number

ByName = dict[str, Number]


class Figure(Model):
    """A score over seeds."""

    mean: Annotated[Number, Field(description="null unless every seed defines it")]
    sd: Annotated[Number, Field(description="sample standard deviation; null for one seed")]
    seeds: Annotated[list[Number], Field(description="one value a seed, in the order of `seeds` of the network")]


class MetricValues(Model):
    """A further metric."""

    unit: Annotated[str, Field(description='"%": the values are percent')]
    direction: Annotated[str, Field(description='"higher" or "lower": which is better')]
    values: Annotated[dict[str, Figure], Field(description="by name; tables show the first")]


class Interval(Model):
    """A 95 % interval, in points; of `closed` in percent of the teacher's lead."""

    value: Number
    low: Number
    high: Number
    distinguishable: Annotated[bool, Field(description="whether the interval leaves 0 out")]
    p: Number
    seeds: int
    groups: Annotated[int, Field(description="independent groups of images")]


class ClassDifference(Model):
    """The difference of one class's IoU."""

    points: Number
    interval: Annotated[Interval | None, Field(description="null too where one group of images alone has the class")]


class Difference(Model):
    """A network minus another, over the seeds that both have."""

    points: Number
    seeds: list[int]
    interval: Interval | None
    p_holm: Annotated[Number, Field(description="the p-value adjusted for the number of gains (Holm)")]
    iou: dict[str, ClassDifference]


class Network(Model):
    """One row of the table: a network with all its seeds."""

    key: Annotated[
        str,
        Field(description="unique in a comparison: `<recipe>-<id>`, and what distinguishes it from other rows of that"),
    ]
    role: Literal["teacher", "baseline", "alone", "student"]
    name: Annotated[str, Field(description="the recipe's file name without its end")]
    label: Annotated[str, Field(description="what the tables call it: its role, or the settings in which it differs")]
    network: str
    runs: Annotated[list[str], Field(description="run directories, one a seed; none for a teacher without a run")]
    seeds: list[int]
    select: Annotated[str, Field(description='which weights were scored: "last" or "best"')]
    inputs: Annotated[list[str], Field(description="marks on what its runs read")]
    miou: Figure
    pixel_accuracy: Figure
    mean_accuracy: Figure
    mean_dice: Figure
    iou: Annotated[ByName, Field(description="by class, the mean over seeds; null: neither labelled nor predicted")]
    metrics: dict[str, MetricValues]
    teacher: Annotated[str | None, Field(description="the key of its teacher")]
    baseline: Annotated[str | None, Field(description="the key of its baseline")]
    vs_baseline: Difference | None
    vs_teacher: Difference | None
    weak_baseline: Annotated[
        str | None, Field(description="a better baseline of the same network, data and size, and its score")
    ]
    closed: Annotated[
        Interval | None,
        Field(description="percent of the teacher's lead over the baseline; null where the lead may be 0 or below"),
    ]
    parameters: int
    size: Annotated[float, Field(description="MB of the parameters in float32")]
    latency: Annotated[Number, Field(description="ms of one image, see `latency` of the document; null: not known")]
    seconds: Annotated[Number, Field(description="of training, the mean over seeds")]
    images_per_second: Annotated[Number, Field(description="of training, evaluations included; no speed of inference")]
    images_seen: Annotated[Number, Field(description="in training, the mean over seeds")]
    peak_memory: Annotated[int | None, Field(description="bytes, the highest of all seeds")]


class Units(Model):
    """The units of all numbers."""

    scores: Literal["percent"] = "percent"
    differences: Literal["points"] = "points"
    size: Literal["MB"] = "MB"
    latency: Literal["ms"] = "ms"
    seconds: Literal["s"] = "s"
    peak_memory: Literal["bytes"] = "bytes"


class CompareOutput(Model):
    """What `kd compare --json` prints: scores in percent, differences in points."""

    schema_version: Literal[4] = 4
    level: Annotated[float, Field(description="of the intervals: 0.95")]
    split: str
    images: int
    classes: list[str]
    absent: Annotated[list[str], Field(description="classes that no scored pixel is labelled with")]
    units: Units = Units()
    warnings: list[str]
    headline: list[str]
    decision: Annotated[list[str], Field(description="student or teacher, a sentence for the best student of each")]
    latency: Annotated[str | None, Field(description="how the latencies were measured; null: none is known")]
    networks: list[Network]
    notes: list[str]
    report: Annotated[str | None, Field(description="the page that was written")] = None


class ListedRun(Model):
    """A run directory."""

    run: Annotated[str, Field(description="its path")]
    name: str
    id: str
    seed: int
    role: Literal["teacher", "baseline", "alone", "student"]
    state: Annotated[
        str,
        Field(
            description='"finished"; also "finished, not verified" (of kd 0.2 or older) and either with ", weights not '
            'kept"; "unfinished, step 1,200", "failed, step 1,200: why", "damaged: why"'
        ),
    ]
    miou: Annotated[Number, Field(description="percent, of val; the latest of an unfinished run")]
    changed: Annotated[str, Field(description="ISO 8601, local time")]
    inputs: Annotated[list[str], Field(description="marks on what it read")]


class ListOutput(Model):
    """What `kd list --json` prints."""

    schema_version: Literal[1] = 1
    runs: list[ListedRun]


class KeyDifference(Model):
    """A key in which two sides differ; null where a side has no such key."""

    key: str
    a: str | None
    b: str | None


class DiffOutput(Model):
    """What `kd diff --json` prints."""

    schema_version: Literal[1] = 1
    a: str
    b: str
    differences: list[KeyDifference]
