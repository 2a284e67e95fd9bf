"""What depends on the step alone: which modules are frozen, and the learning rate."""

from bisect import bisect_right
from collections.abc import Callable

from torch import nn
from torch.optim import Optimizer

from kd import distributed
from kd.parts.optimizer import frozen_in, phase_ends
from kd.parts.roles import Student
from kd.recipe import Recipe


class Phases:
    """The phases of a run and its schedule.

    The optimizer holds all parameters from the start and passes over frozen ones: they have no gradient, so neither
    momentum nor weight decay moves them.

    Args:
        recipe: its `student.freeze` holds in every phase.
        student: the role.
        optimizer: as `make_optimizer` made it.
        factor: step -> factor of each group's initial learning rate, >= 0.
        steps: the run's length.

    Raises:
        RecipeError: the phases do not follow one another; a module does not exist, or nothing would train.
    """

    def __init__(
        self, recipe: Recipe, student: Student, optimizer: Optimizer, factor: Callable[[int], float], steps: int
    ) -> None:
        self.factor = factor
        self._phases, self._always = recipe.phases, recipe.student.freeze
        self._ends = phase_ends(recipe, steps)
        self._student, self._optimizer = student, optimizer
        self._entered = -1

    def enter(self, step: int, student: nn.Module) -> nn.Module:
        """Freeze what the phase of a step freezes, and take its base learning rate; once a phase.

        Args:
            step: the step that comes next.
            student: the role as it has trained so far, wrapped by DDP under torchrun.

        Returns:
            The role as it trains from here on.
        """
        index = bisect_right(self._ends, step)
        if index == self._entered or not self._phases:
            return student
        self._entered = index
        self._student.freeze(frozen_in(self._always, self._phases[index].freeze))
        lr = self._phases[index].lr
        lr = self._optimizer.defaults["lr"] if lr is None else lr
        for group in self._optimizer.param_groups:
            group["initial_lr"] = lr * group["lr_factor"]
        return distributed.wrapped(self._student)  # DDP looks at what trains once, when it is made

    def forget(self) -> None:
        """Enter the phase anew at the next step: another state was loaded, with the learning rates of its own phase."""
        self._entered = -1

    def set_learning_rate(self, step: int) -> None:
        """Set every group's learning rate: a pure function of the step, and of the scores with `plateau`."""
        for group in self._optimizer.param_groups:
            group["lr"] = group["initial_lr"] * self.factor(step)
