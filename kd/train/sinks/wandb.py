"""Weights & Biases: tracks the numbers and pictures of a run. The package is an extra, which `track:` requires."""

import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel

from kd.files.checked import STRICT, Count, read_checked
from kd.files.storage import write_json
from kd.recipe.schema import TrackConfig
from kd.runs import read_metrics

# Seconds that training waits for an answer at the start and for uploads at the end: torchrun kills 30 s after a signal.
# WANDB_INIT_TIMEOUT and WANDB_FINISH_TIMEOUT override it.
PATIENCE = "20"


class _Sent(BaseModel):
    """The content of `wandb.json`."""

    model_config = STRICT

    id: str
    told: dict[str, Count]  # name -> the last step at which it was logged


class WeightsAndBiases:
    """One W&B run for all sessions of a run; its id is kept in the run directory.

    A resumed run repeats the steps after its checkpoint. Values that W&B has of these steps are kept and not logged
    again, because on a GPU they may differ. `step` is a separate axis, because W&B's own step counts calls. The key,
    the mode (`WANDB_MODE=offline`) and all other settings are W&B's own.

    Args:
        run_dir: the run directory, whose `metrics.jsonl`, not yet cut to the resumed step, shows what W&B has.
        track: the project.
        role: "teacher", "student" or "baseline", for the name.
        config: the resolved recipe and the seed, as plain data.

    Raises:
        Exception: whatever W&B raises, for example without a key or an answer.
    """

    def __init__(self, run_dir: Path, track: TrackConfig, role: str, config: Mapping[str, Any]) -> None:
        for end in ("INIT", "FINISH"):
            os.environ.setdefault(f"WANDB_{end}_TIMEOUT", PATIENCE)
        import wandb  # an extra, and slow to import

        file = run_dir / "wandb.json"
        state = _Sent(id=secrets.token_hex(4), told={})
        if file.is_file():
            state = read_checked(file, _Sent)
            for line in read_metrics(run_dir):
                state.told |= {name: max(line["step"], state.told.get(name, 0)) for name in line}
        write_json(file, state.model_dump())
        self._last_steps: dict[str, int] = state.told  # name -> the last step at which an earlier session logged it
        self._picture = wandb.Image
        self._run = wandb.init(
            project=track.project,
            entity=track.entity,
            id=state.id,
            resume="allow",
            name=f"{run_dir.parent.name}/{run_dir.name}/{role}",
            group=run_dir.parent.name,
            dir=str(run_dir),
            config=dict(config),
            allow_val_change=True,  # a resumed run may have other machine settings
            reinit="create_new",  # never an earlier, failed run of this process
            settings=wandb.Settings(console="off"),  # the terminal is ours
        )
        self._run.define_metric("*", step_metric="step")

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        new = {name: value for name, value in values.items() if step > self._last_step(name)}
        if new:
            self._run.log({"step": step} | new)

    def image(self, step: int, name: str, picture: np.ndarray) -> None:
        if step > self._last_step(f"{name.partition('/')[0]}/miou"):  # the score of the same evaluation
            self._run.log({"step": step, name: self._picture(picture)})

    def close(self) -> None:
        self._run.finish()

    def _last_step(self, name: str) -> int:
        """The last step at which an earlier session logged `name`; a speed, which no file keeps, with any report."""
        return self._last_steps.get("step" if name.startswith("speed/") else name, -1)
