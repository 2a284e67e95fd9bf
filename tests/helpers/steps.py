"""Call a function at every step of a run."""

from kd.train import loop, one_run
from kd.train.between_steps.watch import Watch
from kd.train.loop import train
from kd.train.phases import Phases


def train_and_look(run, look=lambda run, losses: None):
    """Train, and call `look(run, losses)` after each step, with the mean losses of its micro-batches as numbers."""
    watch = Watch()
    watch.reports.add = lambda numbers: look(run, numbers.means())
    train(run, watch)


def losses_of(run):
    """Train; the losses of each step."""
    steps = []
    train_and_look(run, lambda run, losses: steps.append(losses))
    return steps


def at_each_step(monkeypatch, *, before=None, after=None):
    """Call `before(recipe, step)` after the update of a step, before its report, evaluation and checkpoint.

    And `after(recipe, step)` after the report, the evaluation and the checkpoint.
    """
    made = []
    settle, enter, trains = loop.settle, Phases.enter, one_run.train

    def settles(run, watch, **options):
        if watch.reports._parts is not None:  # not while a plan is measured
            made[:] = [(watch.reports._parts.recipe, run.step)]
            if before is not None:
                before(*made[0])
        settle(run, watch, **options)

    def enters(self, step, student):
        if after is not None and made and made[0][1] == step:
            after(*made.pop())
        return enter(self, step, student)

    def to_the_end(*arguments):
        trains(*arguments)
        if after is not None and made:
            after(*made.pop())

    monkeypatch.setattr(one_run, "train", to_the_end)
    monkeypatch.setattr(loop, "settle", settles)
    monkeypatch.setattr(Phases, "enter", enters)
