"""Studies that are refused, and what they are asked to say instead."""

from collections.abc import Callable
from pathlib import Path

from command import kd
from following import Row, succeeds
from recipe_text import ALONE

from kd.study.reader import read_study


def study(text: str) -> object:
    """Read a study of a recipe that trains for ten steps."""
    Path("r.yaml").write_text(ALONE)
    Path("s.yaml").write_text(text)
    return read_study("s.yaml", runs=Path("runs"))


def refused(text: str, *followed: str) -> tuple[Callable[[], object], Callable[[str], object]]:
    return lambda: study(text), lambda _: [study(each) for each in followed]


TIMED = "base: r.yaml\nbudget: {match: time}\nvariants: {a: {}}"


def damaged() -> object:
    """A study whose measured times are damaged."""
    study(TIMED)
    file = read_study("s.yaml", runs=Path("runs")).unmeasured
    assert file is not None
    file.parent.mkdir(parents=True)
    file.write_text("{}")
    return study(TIMED)


ROWS = [
    Row(
        "s-{}.json: cut or changed (it does not end with its own SHA-256); remove it: the times are measured again",
        damaged,
        lambda text: (Path(text.partition(": ")[0]).unlink(), study(TIMED)),
    ),
    Row(
        "s.yaml: not a mapping; a study has `base`, `variants` and `seeds` (docs/studies.md)",
        *refused("- r.yaml", "base: r.yaml\nvariants: {a: {}}\nseeds: [0]"),
    ),
    Row(
        "studies: {}, shapes/losses_study.yaml; kd study NAME --list shows the runs of one",
        lambda: kd("copy"),
        lambda _: succeeds("study", "shapes/losses_study.yaml", "--list"),
    ),
    Row(
        "s.yaml: a study, not a recipe; kd study s.yaml trains it",
        lambda: (study("base: r.yaml\nvariants: {a: {}}"), kd("run", "s.yaml")),
        lambda text: succeeds("study", "s.yaml", "--list"),
    ),
    Row(
        "s.yaml: a recipe, not a study; give a file with `base` and `variants` (docs/studies.md)",
        *refused(ALONE, "base: r.yaml\nvariants: {a: {}}"),
    ),
    Row(
        "overrides.train.seeds: the seeds of every variant are the study's `seeds` ({}); give them there",
        *refused(
            "base: r.yaml\noverrides: {train.seeds: [7]}\nvariants: {a: {}}",
            "base: r.yaml\nseeds: [7]\nvariants: {a: {}}",
        ),
    ),
    Row(
        "variants.b: is the same as variants.a (id {}); change a value, or remove one of them",
        *refused(
            "base: r.yaml\nvariants: {a: {}, b: {}}",
            "base: r.yaml\nvariants: {a: {}, b: {train.steps: 3}}",
            "base: r.yaml\nvariants: {a: {}}",
        ),
    ),
    Row(
        "budget.match: epochs, but a has train.steps 10; give train.epochs",
        *refused(
            "base: r.yaml\nbudget: {match: epochs}\nvariants: {a: {}}",
            "base: r.yaml\nbudget: {match: epochs}\nvariants: {a: {train.steps: null, train.epochs: 3}}",
        ),
    ),
    Row(
        "variants.b.train.steps: differs from train.steps 10 of a, and budget.match is steps; remove one of them",
        *refused(
            "base: r.yaml\nbudget: {match: steps}\nvariants: {a: {}, b: {train.steps: 3}}",
            "base: r.yaml\nvariants: {a: {}, b: {train.steps: 3}}",
            "base: r.yaml\nbudget: {match: steps}\nvariants: {a: {}, b: {train.batch_size: 2}}",
        ),
    ),
    Row(
        "--only: no run 'a/7' in s.yaml; did you mean 'a/0'?",
        lambda: (
            study("base: r.yaml\nseeds: [0]\nvariants: {a: {train.steps: 1, device: cpu, data.args.count: 8}}"),
            kd("study", "s.yaml", "--only", "a/7"),
        ),
        lambda text: succeeds("study", "s.yaml", "--only", text.rpartition("did you mean '")[2].partition("'")[0]),
    ),
]
