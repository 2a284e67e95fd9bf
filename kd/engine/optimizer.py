"""The optimizer of a run."""

from typing import Any

from torch import nn
from torch.optim import Optimizer

from kd.build import build
from kd.recipe import Recipe


def make_optimizer(recipe: Recipe, student: nn.Module) -> Optimizer:
    """The recipe's optimizer over all that trains in `student`; each group remembers its `initial_lr`."""
    use = recipe.optimizer.factory
    trained: list[Any] = [parameter for parameter in student.parameters() if parameter.requires_grad]
    optimizer: Optimizer = build(use, folder=recipe.folder, trust=recipe.trust, params=trained)
    for group in optimizer.param_groups:
        group.setdefault("initial_lr", group["lr"])
    return optimizer
