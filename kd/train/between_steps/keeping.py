"""What a finished run keeps for the page of a comparison: its predictions of some validation images."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import nn

from kd.data.dataset import read
from kd.parts.assemble import Parts
from kd.runs import KEPT, MOST, spread, write_predictions
from kd.scoring import evaluating, predict_sample


def keep_predictions(parts: Parts, run_dir: Path) -> None:
    """Predict images that are spread evenly over the validation split, and write what network and teacher predict."""
    networks = [parts.network, *([] if parts.teacher is None else [parts.teacher.network])]
    maps = [_maps(parts, network) for network in networks]
    write_predictions(run_dir, maps[0], maps[1] if len(maps) > 1 else {})


def _maps(parts: Parts, network: nn.Module) -> dict[str, NDArray[np.uint8]]:
    """The predicted classes by image, of as many images as may be kept."""
    found: dict[str, NDArray[np.uint8]] = {}
    pixels = 0
    with evaluating(network):
        for index in spread(len(parts.val), KEPT):
            sample = read(parts.val, index)
            pixels += sample.image[0].numel()
            if pixels > MOST:
                break
            found[sample.name] = predict_sample(network, parts.recipe, parts.precision, sample)
    return found
