"""The networks whose compilation shortens a run: `train.compile: auto`."""

import time
from collections.abc import Sequence
from dataclasses import replace

from kd import distributed
from kd.parts.assemble import Parts
from kd.parts.checks.dry_run import untouched
from kd.parts.compiling import is_compiled
from kd.parts.roles import Student, Teacher
from kd.parts.stream import stream
from kd.train.auto.measuring import time_steps
from kd.train.start import compile_for, start
from kd.units import duration

CHOICES: dict[str, tuple[str, ...]] = {  # what each compiles, the soonest first: a teacher has no backward pass
    "off": (),
    "teacher": ("teacher",),
    "student": ("student",),
    "all": ("student", "teacher"),
}
MEASURED = 10.0  # seconds of steps for each choice
WORTH = 600.0  # seconds; compiling, which takes minutes, does not shorten a run that takes less


def found_compile(parts: Parts) -> tuple[str, str]:
    """The networks that a recipe with `train.compile: auto` compiles: those with which the run takes the least time.

    The time to compile counts. What is chosen stays compiled; a network that cannot be compiled is not chosen.

    Returns:
        A key of `CHOICES`, and a line for the user.
    """
    recipe, seed = parts.recipe, parts.recipe.train.seeds[0]
    uncached = replace(parts, recipe=recipe.changed(cache=None))
    roles: dict[str, Student | Teacher] = {"student": parts.student}
    if parts.teaching is not None and not recipe.teaches_in_int8 and recipe.cache is None:
        roles["teacher"] = parts.teaching
    compiled = {name: role.taps.run for name, role in roles.items()}
    spent: dict[str, float] = {}  # seconds of compiling, by role
    steps: dict[str, float] = {}  # seconds of a step, by choice
    runs: dict[str, float] = {}  # seconds of the run

    def use(names: Sequence[str]) -> None:
        for name, role in roles.items():
            role.taps.run = compiled[name] if name in names else role.network

    with untouched(parts):
        run = start(uncached, seed=seed)
        for choice, names in CHOICES.items():
            for name in names:
                if name in roles and name not in spent:
                    began = time.monotonic()
                    compile_for(uncached, [roles[name]])
                    compiled[name], spent[name] = roles[name].taps.run, time.monotonic() - began
            use(names)
            if not all(distributed.gathered(all(name in roles and is_compiled(roles[name]) for name in names))):
                continue
            again = replace(run, step=0, steps=parts.steps, batches=stream(uncached, seed=seed))
            steps[choice] = time_steps(again, uncached, MEASURED)
            runs[choice] = max(distributed.gathered(sum(spent[name] for name in names) + parts.steps * steps[choice]))
            if runs["off"] < WORTH:
                return "off", f"train.compile: auto: off, as the run takes about {duration(runs['off'])}"
    best = min(runs, key=lambda choice: runs[choice])
    use(CHOICES[best])
    times = ", ".join(f"{choice} {seconds:.3g}" for choice, seconds in steps.items())
    return best, (
        f"train.compile: auto: {best} (seconds a step: {times}, after {duration(sum(spent.values()))} of compiling)"
    )
