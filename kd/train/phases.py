"""The phases of a run: what is frozen, and at which learning rate the rest trains."""

from bisect import bisect_right

from torch.optim import Optimizer

from kd import distributed
from kd.parts.optimizer import phase_ends, resting
from kd.parts.roles import Student
from kd.recipe import Recipe
from kd.train.step import Run


class Phases:
    """What rests in a step, and at which learning rate the others train: a pure function of the step.

    The optimizer holds all parameters from the start and passes over those that rest: they have no gradient, so
    neither momentum nor weight decay moves them.

    Args:
        recipe: its `student.freeze` rests in every phase.
        student: the role.
        optimizer: as `make_optimizer` made it.
        steps: the run's length.

    Raises:
        RecipeError: the phases do not follow one another; a module is not there, or nothing would train.
    """

    def __init__(self, recipe: Recipe, student: Student, optimizer: Optimizer, steps: int) -> None:
        self._phases = recipe.phases
        self._always = recipe.student.freeze
        self._ends = phase_ends(recipe, steps)
        self._student, self._optimizer = student, optimizer
        self._entered = -1

    def enter(self, run: Run) -> None:
        """Put the student and the optimizer into the phase of step `run.step`."""
        index = bisect_right(self._ends, run.step)
        if index == self._entered or not self._phases:
            return
        self._entered = index
        self._student.freeze(resting(self._always, self._phases[index].freeze))
        run.student = distributed.wrapped(self._student)  # DDP looks at what trains once, when it is made
        lr = self._phases[index].lr
        lr = self._optimizer.defaults["lr"] if lr is None else lr
        for group in self._optimizer.param_groups:
            group["initial_lr"] = lr * group["lr_factor"]
