"""The networks whose compilation shortens a run: `train.compile: auto`."""

import time
from dataclasses import replace

from kd import distributed
from kd.parts.assemble import Parts
from kd.parts.checks.dry_run import untouched
from kd.parts.roles import Student, Teacher
from kd.parts.stream import stream
from kd.train.measuring import time_steps
from kd.train.start import compile_for, start
from kd.units import duration

MEASURED = 10.0  # seconds of steps for each choice
WORTH = 600.0  # seconds; compiling, which takes minutes, does not shorten a run that takes less


def found_compile(parts: Parts) -> tuple[str, str]:
    """The networks that a recipe with `train.compile: auto` compiles: those with which the run takes the least time.

    The time to compile counts. What is chosen stays compiled.

    Returns:
        `off`, `student` or `all`; and a line for the user.
    """
    recipe, seed = parts.recipe, parts.recipe.train.seeds[0]
    uncached = replace(parts, recipe=recipe.changed(cache=None))
    roles: dict[str, Student | Teacher] = {"student": parts.student}
    if parts.teaching is not None and not recipe.teaches_in_int8 and recipe.cache is None:
        roles["all"] = parts.teaching
    steps: dict[str, float] = {}  # seconds of a step, by choice
    runs: dict[str, float] = {}  # seconds of the run
    spent = 0.0
    with untouched(parts):
        run = start(uncached, seed=seed)
        for choice in ("off", *roles):
            if choice in roles:
                began = time.monotonic()
                compile_for(uncached, [roles[choice]])
                spent += time.monotonic() - began
            again = replace(run, step=0, steps=parts.steps, batches=stream(uncached, seed=seed))
            steps[choice] = time_steps(again, uncached, MEASURED)
            runs[choice] = max(distributed.gathered(spent + parts.steps * steps[choice]))
            if runs["off"] < WORTH:
                return "off", f"train.compile: auto: off, as the run takes about {duration(runs['off'])}"
    best = min(runs, key=lambda choice: runs[choice])
    for choice, role in roles.items():
        if list(runs).index(choice) > list(runs).index(best):
            role.taps.run = role.network
    times = ", ".join(f"{choice} {seconds:.3g}" for choice, seconds in steps.items())
    return best, f"train.compile: auto: {best} (seconds a step: {times}, after {duration(spent)} of compiling)"
