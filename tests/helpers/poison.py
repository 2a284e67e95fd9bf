"""A network, a loss or a gradient that is not finite, in the steps that a test names."""

from kd.train import step as module


def poison(monkeypatch, where, *steps):
    """Make the loss, the gradient, the teacher's or the student's output NaN in these steps (from 0)."""
    ordinary = module.distill_step

    def spoilt(run, batch, taught=None, mix=None):
        bad = run.step in steps
        if where == "student" and bad:
            batch = batch._replace(images=batch.images * float("nan"))
        teacher = run.teacher
        if where == "teacher" and bad:
            run.teacher = lambda batch: _nan(teacher(batch))
        losses = ordinary(run, batch, taught, mix)
        run.teacher = teacher
        if bad and where == "loss":
            losses["total"] = losses["total"] * float("nan")
        if bad and where == "gradient":
            losses["total"].register_hook(lambda gradient: gradient * float("nan"))
        return losses

    monkeypatch.setattr(module, "distill_step", spoilt)


def _nan(tapped):
    return tapped._replace(at={name: at * float("nan") for name, at in tapped.at.items()})
