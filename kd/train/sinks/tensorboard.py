"""TensorBoard."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.tensorboard import SummaryWriter


class TensorBoard:
    """TensorBoard scalars, pictures and, with the final score, hparams; steps after the resumed one are replaced.

    Args:
        run_dir: the run directory.
        step: where the run starts or resumes.
        config: the resolved recipe and the seed, as plain data.
    """

    def __init__(self, run_dir: Path, step: int, config: Mapping[str, Any]) -> None:
        self._writer = SummaryWriter(str(run_dir), purge_step=step + 1)
        self._config = config

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        final = {name: value for name, value in values.items() if name.startswith("final/")}
        if final:  # this writes its scalars too
            self._writer.add_hparams(dict(_leaves(self._config)), final, run_name=".", global_step=step)
        for name, value in values.items():
            if name not in final:
                self._writer.add_scalar(name, value, step)

    def image(self, step: int, name: str, picture: np.ndarray) -> None:
        self._writer.add_image(name, picture, step, dataformats="HWC")

    def close(self) -> None:
        self._writer.close()


def _leaves(tree: Any, path: str = "") -> Iterator[tuple[str, str | float]]:
    """The values of plain data by their dotted paths; nulls are left out."""
    if isinstance(tree, Mapping) and tree:
        for key, value in tree.items():
            yield from _leaves(value, f"{path}.{key}" if path else str(key))
    elif tree is not None:
        yield path, tree if isinstance(tree, (str, int, float)) else json.dumps(tree)
