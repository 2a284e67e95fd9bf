"""Orders of a network's channels that would explain its predictions."""

import numpy as np
from numpy.typing import NDArray

from kd.metrics import scores


def shifted(confusion: NDArray[np.int64]) -> list[int]:
    """All channels moved by one, in the direction that scores better."""
    channels = list(range(len(confusion)))
    return max((channels[1:] + channels[:1], channels[-1:] + channels[:-1]), key=lambda o: scores(confusion[:, o]).miou)


def matched(confusion: NDArray[np.int64]) -> list[int]:
    """The channel of each class that maximises the mIoU: the IoU of a class depends on its own channel only."""
    union = confusion.sum(1, keepdims=True) + confusion.sum(0, keepdims=True) - confusion
    return best_assignment(confusion / np.maximum(union, 1))


def best_assignment(gain: NDArray[np.float64]) -> list[int]:
    """The column of each row, no column twice, that maximises the sum of `gain` (K, K).

    The Hungarian method with potentials, O(K³): it adds one row at a time, along a shortest augmenting path.
    """
    cost, count = gain.max() - gain, len(gain)
    rows, columns = np.zeros(count + 1), np.zeros(count + 1)  # potentials; index 0 is the row being added
    owner, before = np.zeros(count + 1, dtype=int), np.zeros(count + 1, dtype=int)
    for row in range(1, count + 1):
        owner[0], column = row, 0
        least, used = np.full(count + 1, np.inf), np.zeros(count + 1, dtype=bool)
        while owner[column]:
            used[column] = True
            reduced = cost[owner[column] - 1] - rows[owner[column]] - columns[1:]
            better = np.append(False, ~used[1:] & (reduced < least[1:]))
            least[better], before[better] = reduced[better[1:]], column
            column = int(np.where(used, np.inf, least).argmin())
            step = least[column]
            rows[owner[used]] += step
            columns[used] -= step
            least[~used] -= step
        while column:  # augment along the path
            owner[column] = owner[before[column]]
            column = int(before[column])
    return [int(np.flatnonzero(owner[1:] == row)[0]) for row in range(1, count + 1)]
