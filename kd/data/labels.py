"""The check of labels, whoever read them."""

import numpy as np
from torch import Tensor

from kd.errors import DataError
from kd.types import IGNORE
from kd.units import counted


def check_labels(labels: Tensor, num_classes: int, where: str, source: str = "a dataset") -> None:
    """Refuse labels uint8 (H, W) that are neither a class nor IGNORE: in a loss they would break the CUDA context.

    Raises:
        DataError: with `where`, the wrong values and their pixel counts, and the first position.
    """
    found = labels.cpu().numpy()
    wrong = (found >= num_classes) & (found != IGNORE)
    if not wrong.any():
        return
    values, counts = np.unique(found[wrong], return_counts=True)
    listed = [f"{value} ({counted(count, 'pixel')})" for value, count in zip(values, counts, strict=True)]
    row, column = np.argwhere(wrong)[0].tolist()
    raise DataError(
        f"{where}: label{'s' if len(listed) > 1 else ''} {', '.join(listed)} in no class, first at row {row}, column "
        f"{column}; {source} returns 0 … {num_classes - 1}, and {IGNORE} for ignored pixels"
    )
