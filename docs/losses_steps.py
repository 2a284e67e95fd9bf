"""Measure a step of each variant of recipes/shapes/losses_study.yaml, in steps of the student alone.

    OMP_NUM_THREADS=1 python docs/losses_steps.py    # writes docs/results/data/losses/steps.json

Both steps run in turn on one thread, and the processor's time counts: other programs change the ratio little. A step is
the forward pass of the teacher, forward and backward pass of the student and the terms, and the optimizer's update.
"""

import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from kd.files.checkout import state_of_kd
from kd.machine import choose, hardware
from kd.parts.checks.dry_run import open_parts
from kd.parts.roles import to_device
from kd.parts.stream import in_this_process, stream
from kd.recipe import Recipe
from kd.study.reader import read_study
from kd.train.start import start
from kd.train.step import distill_step, set_numbers

FILE = Path(__file__).resolve().parent / "results" / "data" / "losses" / "steps.json"
ROUNDS = 8
NOWHERE = Path("no-runs")  # the time of a step does not depend on the teacher's weights


def stepper(recipe: Recipe) -> Callable[[], float]:
    """A function that trains one step on the same batch, and returns the seconds of the processor."""
    parts = open_parts(in_this_process(recipe), runs=NOWHERE, trained=False)
    run = start(parts, seed=0, say=lambda _: None)
    batch = to_device(next(stream(parts, seed=0)), run.precision)
    run.student.train()
    set_numbers(run)

    def step() -> float:
        began = time.process_time()
        distill_step(run, batch)["total"].backward()  # type: ignore[no-untyped-call]
        run.optimizer.step()
        run.optimizer.zero_grad()
        return time.process_time() - began

    return step


def ratio(step: Callable[[], float], alone: Callable[[], float]) -> float:
    """The median of step / alone over rounds of one each, after two rounds of warm-up."""
    pairs = [(step(), alone()) for _ in range(ROUNDS + 2)][2:]
    return round(statistics.median(ours / theirs for ours, theirs in pairs), 3)


def measure() -> dict[str, object]:
    """The content of the file: where the figures are from, and of each variant its run directory and its ratio."""
    plan = read_study("shapes/losses_study.yaml", runs=NOWHERE)
    baseline = plan.baselines["baseline"]
    alone = stepper(baseline)
    variants = {}
    for name, recipe in {**plan.baselines, **plan.variants}.items():
        same = not recipe.distill and recipe.supervised == baseline.supervised
        step = 1.0 if same else ratio(stepper(recipe), alone)
        variants[name] = {"run": f"{recipe.stem}-{recipe.id}", "step": step}
        print(name, variants[name]["step"], flush=True)
    return {"commit": state_of_kd(), "machine": hardware(choose().device)["processor"], "variants": variants}


if __name__ == "__main__":
    FILE.parent.mkdir(parents=True, exist_ok=True)
    FILE.write_text(json.dumps(measure(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
