"""What depends only on the step: which modules are frozen, and the learning rate."""

from bisect import bisect_right
from collections.abc import Callable

from torch import nn
from torch.optim import Optimizer

from kd import distributed
from kd.parts.optimizer import frozen_in, phase_ends
from kd.parts.roles import Student
from kd.recipe import Recipe
from kd.train.scalars import Scalars


class Phases:
    """The phases of a run and its schedule.

    The optimizer holds all parameters from the start. It skips frozen ones, which have no gradient: neither momentum
    nor weight decay changes them.

    Args:
        recipe: its `student.freeze` applies to every phase.
        student: the role.
        optimizer: of `make_optimizer`.
        factor: step -> factor of each group's initial learning rate, >= 0.
        steps: the length of the run.
        scalars: how a step reads the learning rates; None: as floats.

    Attributes:
        rates: the learning rate of each group in the last step.
        entries: how often a phase was entered, or another state loaded.

    Raises:
        RecipeError: a phase ends before the previous one, or after the run.
    """

    def __init__(
        self,
        recipe: Recipe,
        student: Student,
        optimizer: Optimizer,
        factor: Callable[[int], float],
        steps: int,
        scalars: Scalars | None = None,
    ) -> None:
        self.factor = factor
        self.scalars = scalars or Scalars()
        self.rates: list[float] = []
        self.entries = 0
        self._phases, self._always = recipe.phases, recipe.student.freeze
        self._ends = phase_ends(recipe, steps)
        self._student, self._optimizer = student, optimizer
        self._entered = -1

    def enter(self, step: int, student: nn.Module) -> nn.Module:
        """Freeze the modules that the phase of a step freezes, and set its base learning rate; once per phase.

        Args:
            step: the next step.
            student: the role that has trained so far, wrapped by DDP under torchrun.

        Returns:
            The role that trains from this step on.
        """
        index = bisect_right(self._ends, step)
        if index == self._entered or not self._phases:
            return student
        self._entered = index
        self.entries += 1
        self._student.freeze(frozen_in(self._always, self._phases[index].freeze))
        lr = self._phases[index].lr
        lr = self._optimizer.defaults["lr"] if lr is None else lr
        for group in self._optimizer.param_groups:
            group["initial_lr"] = lr * group["lr_factor"]
        return distributed.wrapped(self._student)  # DDP reads `requires_grad` only when it wraps

    def forget(self) -> None:
        """Enter the phase again at the next step: the learning rates of another state were loaded."""
        self._entered = -1
        self.entries += 1

    def set_learning_rate(self, step: int) -> None:
        """Set every group's learning rate: a pure function of the step, and of the scores with `plateau`."""
        self.rates = [group["initial_lr"] * float(self.factor(step)) for group in self._optimizer.param_groups]
        for index, (group, rate) in enumerate(zip(self._optimizer.param_groups, self.rates, strict=True)):
            group["lr"] = self.scalars.put(f"lr/{index}", rate)
