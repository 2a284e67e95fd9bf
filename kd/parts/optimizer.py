"""The optimizer of a run: parameter groups by name, and where its phases end."""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Any

from torch import nn
from torch.optim import Optimizer

from kd.components import Maker
from kd.errors import RecipeError
from kd.recipe import Recipe
from kd.units import as_steps


def make_optimizer(recipe: Recipe, maker: Maker, student: nn.Module) -> Optimizer:
    """The recipe's optimizer over all that trains in `student`; each group remembers its `initial_lr`.

    Raises:
        RecipeError: a group's pattern names no parameter; a group asks for weight decay that this optimizer lacks.
    """
    trained = {name: parameter for name, parameter in student.named_parameters() if parameter.requires_grad}
    factors, groups = _grouped(recipe, trained)
    use = recipe.optimizer.factory
    optimizer: Optimizer = maker.build(use, params=groups)
    if "weight_decay" not in optimizer.defaults and any("weight_decay" in group for group in groups):
        raise RecipeError([f"{use.where()}: {use.use} has no weight decay; remove it from optimizer.groups"])
    for factor, group in zip(factors, optimizer.param_groups, strict=True):
        group["lr"] *= factor
        group["lr_factor"] = factor
        group.setdefault("initial_lr", group["lr"])
    return optimizer


def _grouped(recipe: Recipe, trained: Mapping[str, nn.Parameter]) -> tuple[list[float], list[dict[str, Any]]]:
    """Factors of the learning rate, and torch's groups; parameters that no pattern names come first."""
    rules, decay_all = recipe.optimizer.groups, recipe.optimizer.decay_norms_and_biases
    found: dict[tuple[int, bool], list[nn.Parameter]] = {}
    for name, parameter in trained.items():
        rule = next((index for index, rule in enumerate(rules) if fnmatchcase(name, rule.match)), -1)
        found.setdefault((rule, parameter.ndim > 1 or decay_all), []).append(parameter)
    used = {rule for rule, _ in found}
    mistakes = [
        f"{recipe.at('optimizer', 'groups', index)}: optimizer.groups.{index}.match: {_unused(rule.match, trained)}"
        for index, rule in enumerate(rules)
        if index not in used and (recipe.distill or not rule.match.startswith(("adapters.", "losses.")))
    ]  # the baseline has neither adapters nor losses with parameters
    if mistakes:
        raise RecipeError(mistakes)
    factors, groups = [], []
    for (index, decayed), parameters in sorted(found.items(), key=lambda item: item[0]):
        own = rules[index].weight_decay if index >= 0 else None
        decay = {"weight_decay": own} if own is not None else {}
        factors.append(rules[index].lr if index >= 0 else 1.0)
        groups.append({"params": parameters} | (decay if decayed else {"weight_decay": 0.0}))
    return factors, groups


def _unused(pattern: str, trained: Mapping[str, nn.Parameter]) -> str:
    if any(fnmatchcase(name, pattern) for name in trained):
        return f"'{pattern}' names only parameters that an earlier pattern names; move it up"
    closest = ", ".join(get_close_matches(pattern.replace("*", ""), trained, n=3, cutoff=0.0))
    return f"'{pattern}' names no parameter that trains; the closest are {closest}"


def phase_ends(recipe: Recipe, steps: int) -> list[int]:
    """The first step after each phase but the last.

    Raises:
        RecipeError: a phase ends before the previous one, or after the run.
    """
    ends = [as_steps(phase.until, steps) for phase in recipe.phases if phase.until is not None]
    for index, (before, end) in enumerate(zip([0, *ends], ends, strict=False)):
        if not before < end < steps:
            raise RecipeError(
                [
                    f"{recipe.at('phases', index, 'until')}: phases.{index}.until: step {end} must lie between "
                    f"step {before}, where the phase begins, and the run's last step {steps}"
                ]
            )
    return ends


def frozen_in(always: Sequence[str], phase: Sequence[str]) -> tuple[str, ...]:
    """The modules that are frozen in a phase, each once."""
    return tuple(dict.fromkeys((*always, *phase)))
