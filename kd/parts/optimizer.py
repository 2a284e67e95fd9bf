"""The optimizer of a run: parameter groups by name, and the steps at which its phases end."""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from kd.components import Maker
from kd.errors import RecipeError
from kd.recipe import Recipe
from kd.units import as_steps

LARGEST = torch.finfo(torch.float32).max


def make_optimizer(recipe: Recipe, maker: Maker, student: nn.Module) -> Optimizer:
    """The recipe's optimizer of all trainable parameters of `student`; each group records its `initial_lr`.

    Raises:
        RecipeError: it is no optimizer with a learning rate; a group's pattern matches no parameter; a group sets a
            weight decay that the optimizer lacks; a number is beyond float32.
    """
    trained = {name: parameter for name, parameter in student.named_parameters() if parameter.requires_grad}
    factors, groups = _grouped(recipe, trained)
    use = recipe.optimizer.factory
    optimizer: Optimizer = maker.build(use, params=groups)
    if not (isinstance(optimizer, Optimizer) and all("lr" in group for group in optimizer.param_groups)):
        raise RecipeError(
            f"{use.where()}: {use.use} is no torch.optim.Optimizer with a learning rate, `lr`, which the schedule sets"
        )
    if "weight_decay" not in optimizer.defaults and any("weight_decay" in group for group in groups):
        raise RecipeError([f"{use.where()}: {use.use} has no weight decay; remove it from optimizer.groups"])
    for factor, group in zip(factors, optimizer.param_groups, strict=True):
        group["lr"] *= factor
        group["lr_factor"] = factor
        group.setdefault("initial_lr", group["lr"])
        for name, value in group.items():
            if isinstance(value, float) and abs(value) > LARGEST:  # torch raises at the first update
                raise RecipeError([f"{use.where(name)}: {name} is {value:g}, above {LARGEST:.3g}, the largest float32"])
    return optimizer


def stay_on_gpu(optimizer: Optimizer) -> bool:
    """Let an optimizer of CUDA parameters run without the processor reading or holding any of its numbers.

    Returns:
        False if it cannot: it keeps a count on the processor, or its class overrides the step of one of torch's, which
        alone is known to run there.
    """
    kind = type(optimizer)
    of_torch = any(base.__module__.startswith("torch.optim.") for base in kind.__mro__ if base is not Optimizer)
    if of_torch and not kind.step.__module__.startswith("torch.optim."):
        return False
    for group in optimizer.param_groups:
        if kind in (SGD, Adam, AdamW):  # of SGD only this form reads a rate on the device
            group.update(fused=True, foreach=None)
        if "capturable" in group:
            group["capturable"] = True
        elif kind is not SGD:
            return False
    return True


def load_optimizer(optimizer: Optimizer, state: dict[str, Any]) -> None:
    """Load the state of a checkpoint; how the optimizer runs on this machine does not change."""
    groups = [dict(group) for group in state["param_groups"]]
    for group, own in zip(groups, optimizer.param_groups, strict=False):  # torch reports another number of groups
        here = ("capturable", "foreach", "fused", "lr")  # the learning rate is set before every step
        group.update({key: own[key] for key in here if key in own})
    optimizer.load_state_dict(state | {"param_groups": groups})


def _grouped(recipe: Recipe, trained: Mapping[str, nn.Parameter]) -> tuple[list[float], list[dict[str, Any]]]:
    """Factors of the learning rate, and torch's groups; parameters that no pattern matches come first."""
    rules, decay_all = recipe.optimizer.groups, recipe.optimizer.decay_norms_and_biases
    members: dict[tuple[int, bool], list[nn.Parameter]] = {}  # (rule or -1, whether it decays) -> parameters
    for name, parameter in trained.items():
        rule = next((index for index, rule in enumerate(rules) if fnmatchcase(name, rule.match)), -1)
        members.setdefault((rule, parameter.ndim > 1 or decay_all), []).append(parameter)
    used = {rule for rule, _ in members}
    mistakes = [
        f"{recipe.at('optimizer', 'groups', index)}: optimizer.groups.{index}.match: {_unused(rule.match, trained)}"
        for index, rule in enumerate(rules)
        if index not in used and (recipe.distill or not rule.match.startswith(("adapters.", "losses.")))
    ]  # the baseline has neither adapters nor losses with parameters
    if mistakes:
        raise RecipeError(mistakes)
    factors, groups = [], []
    for (index, decayed), parameters in sorted(members.items(), key=lambda item: item[0]):
        weight_decay = (rules[index].weight_decay if index >= 0 else None) if decayed else 0.0
        factors.append(rules[index].lr if index >= 0 else 1.0)
        groups.append({"params": parameters} | ({} if weight_decay is None else {"weight_decay": weight_decay}))
    return factors, groups


def _unused(pattern: str, trained: Mapping[str, nn.Parameter]) -> str:
    if any(fnmatchcase(name, pattern) for name in trained):
        return f"'{pattern}' matches only parameters that an earlier pattern matches; move it up"
    closest = ", ".join(get_close_matches(pattern.replace("*", ""), trained, n=3, cutoff=0.0))
    return f"'{pattern}' matches no trainable parameter; the closest are {closest}"


def phase_ends(recipe: Recipe, steps: int) -> list[int]:
    """The first step after each phase except the last.

    Raises:
        RecipeError: a phase ends before the previous one, or after the run.
    """
    ends = [as_steps(phase.until, steps) for phase in recipe.phases if phase.until is not None]
    for index, (before, end) in enumerate(zip([0, *ends], ends, strict=False)):
        if not before < end < steps:
            raise RecipeError(
                [
                    f"{recipe.at('phases', index, 'until')}: phases.{index}.until: step {end} must be between "
                    f"step {before}, where the phase begins, and the run's last step {steps}"
                ]
            )
    return ends


def frozen_in(always: Sequence[str], phase: Sequence[str]) -> tuple[str, ...]:
    """The modules that are frozen in a phase, without repetition."""
    return tuple(dict.fromkeys((*always, *phase)))
