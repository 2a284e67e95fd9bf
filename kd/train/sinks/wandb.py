"""Weights & Biases: a run's numbers and pictures there too. The package is an extra, and asked for by `track:`."""

import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from kd.recipe.schema import TrackConfig
from kd.runs import read_metrics
from kd.storage import read_json, write_json

# Seconds that training waits, at the start for an answer, at the end for what is not uploaded yet: torchrun kills 30 s
# after it asks for a stop. WANDB_INIT_TIMEOUT and WANDB_FINISH_TIMEOUT say otherwise.
PATIENCE = "20"


class WeightsAndBiases:
    """One W&B run for all sessions of a run: its id lies in the run directory.

    A resumed run repeats the steps since its checkpoint. What W&B was told of them stays, and is not told again: on a
    GPU the second time may differ. `step` is an axis of its own, because W&B's counts calls. The key, the mode
    (`WANDB_MODE=offline`) and all else are taken from W&B's own settings and environment.

    Args:
        run: the run directory; made before `metrics.jsonl` is cut back, which says what W&B knows.
        track: which project.
        config: what the recipe says, plain data.

    Raises:
        Exception: whatever W&B raises: there is no key, or no answer.
    """

    def __init__(self, run: Path, track: TrackConfig, config: Mapping[str, Any]) -> None:
        for end in ("INIT", "FINISH"):
            os.environ.setdefault(f"WANDB_{end}_TIMEOUT", PATIENCE)
        import wandb  # an extra, and slow to import

        file = run / "wandb.json"
        state: dict[str, Any] = {"id": secrets.token_hex(4), "told": {}}
        if file.is_file():
            state = read_json(file)
            for line in read_metrics(run):
                state["told"] |= {name: max(line["step"], state["told"].get(name, 0)) for name in line}
        write_json(file, state)
        self._told: dict[str, int] = state["told"]
        self._picture = wandb.Image
        self._run = wandb.init(
            project=track.project,
            entity=track.entity,
            id=state["id"],
            resume="allow",
            name=f"{run.parent.name}/{run.name}",
            group=run.parent.name,
            dir=str(run),
            config=dict(config),
            allow_val_change=True,  # a resumed run may have other machine settings
            reinit="create_new",  # never an earlier run of this process, had it failed
            settings=wandb.Settings(console="off"),  # the terminal is ours
        )
        self._run.define_metric("*", step_metric="step")

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        new = {name: value for name, value in values.items() if step > self._last(name)}
        if new:
            self._run.log({"step": step} | new)

    def image(self, step: int, name: str, picture: np.ndarray) -> None:
        if step > self._last(f"{name.partition('/')[0]}/miou"):  # it belongs to this score
            self._run.log({"step": step, name: self._picture(picture)})

    def close(self) -> None:
        self._run.finish()

    def _last(self, name: str) -> int:
        """The last step at which W&B was told `name`; speeds are in no file and come with each report."""
        return self._told.get("step" if name.startswith("speed/") else name, -1)
