"""The training loop, once, for every method, dataset and network."""

from functools import partial

from kd.errors import StoppedError
from kd.train.between_steps.saving import save, settle
from kd.train.between_steps.watch import Watch
from kd.train.readback import Sent
from kd.train.step import TrainState, loss_names, set_numbers


def train(run: TrainState, watch: Watch | None = None) -> None:
    """Train a run from step `run.step` to step `run.steps`, or until its patience runs out.

    Args:
        run: the state; advanced in place.
        watch: what happens between the steps; without it, nothing is reported, evaluated or saved.

    Raises:
        DivergedError: a loss or the gradient is not finite; the parameters are those of the previous step.
        StoppedError: a signal arrived; the state is saved.
    """
    watch = watch or Watch()
    evaluations, signal, is_best = watch.evaluations, None, False
    if run.step:  # a run that was stopped after its last step enters no phase below
        run.student = run.phases.enter(run.step - 1, run.student)
    run.student.train()
    while run.step < run.steps and not evaluations.ended_early:
        run.student = run.phases.enter(run.step, run.student)
        set_numbers(run)
        batches = [next(run.batches) for _ in range(run.accumulate)]
        numbers = watch.graph.step(run, batches)  # forward, backward, clipping, update: nothing waits for a GPU
        run.step += 1
        watch.readback.send(numbers, Sent(run.step, batches, loss_names(run), run.phases.rates))

        settle(run, watch, wait=watch.reads_at(run))
        watch.reports.write_gradients(run.step, batches[-1], watch.graph.making_room)
        signal = watch.stop.agreed()
        evaluations.pending = evaluations.is_due(run)
        is_best = False
        if evaluations.pending and signal is None:
            try:
                is_best = watch.graph.making_room(partial(evaluations.evaluate, run))  # waits for the device
                watch.reports.restart(run.step)
            except StoppedError as stopped:  # the evaluation is repeated when the run resumes
                signal = stopped.signal
        last = run.step == run.steps or evaluations.ended_early
        leaving = signal is not None and (evaluations.pending or not last)
        if watch.saves_at(run.step) or last or is_best or leaving:
            save(run, watch, best=is_best, needed=last or leaving)
            watch.reports.restart(run.step)
        if leaving:
            assert signal is not None
            raise StoppedError(signal)
