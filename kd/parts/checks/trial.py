"""A trial of what only training builds: the optimizer, the transforms and the schedules, before any hour is spent."""

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import nn

from kd.components import is_users, refused_by
from kd.errors import RecipeError
from kd.parts.assemble import Parts
from kd.parts.optimizer import make_optimizer
from kd.recipe import Use

CALLED = 10_000  # steps of a schedule


def refused_by_training(parts: Parts) -> list[str]:
    """The mistakes in the components that are built when training begins; the parameters may change."""
    recipe, maker = parts.recipe, parts.maker
    trials: list[Callable[[], object]] = [partial(_step, parts)]
    trials += [partial(maker.build, use) for use in recipe.data.augment]
    trials.append(lambda: _call(recipe.schedule, maker.build(recipe.schedule, steps=parts.steps), parts.steps))
    for name, term in recipe.distill.items():
        if isinstance(term.weight, Use):
            trials.append(partial(_call, term.weight, parts.terms[name].weight_at, parts.steps))
    mistakes: list[str] = []
    for trial in trials:
        try:
            trial()
        except RecipeError as error:
            mistakes += error.mistakes
    return mistakes


def _step(parts: Parts) -> None:
    """Build the optimizer; one of the user's also takes a step, with gradients of 0."""
    use = parts.recipe.optimizer.factory
    trained: list[nn.Parameter] = []
    try:
        optimizer = make_optimizer(parts.recipe, parts.maker, parts.student)
        if use.use.startswith("torch.optim."):
            return
        trained = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        for parameter in trained:
            parameter.grad = torch.zeros_like(parameter)
        optimizer.step()
    except (Exception, SystemExit) as error:  # noqa: BLE001  # a user's optimizer may raise anything
        raise refused_by(use, error) from None
    finally:
        for parameter in trained:
            parameter.grad = None


def _call(use: Use, factor: Callable[[int], float], steps: int) -> None:
    """Call a schedule at all its steps, or at `CALLED` of them; it must return a finite number, 0 or above."""
    for step in range(steps) if steps <= CALLED else [number * (steps - 1) // (CALLED - 1) for number in range(CALLED)]:
        try:
            value = factor(step)
            fits = 0 <= value < math.inf
        except (Exception, SystemExit) as error:
            if not is_users(use, error):
                raise
            raise refused_by(use, error) from None
        if not fits:
            raise RecipeError(
                f"{use.where()}: {use.use} returns {value} at step {step} of {steps}; a factor is finite, 0 or above"
            )
