"""How much a network's probabilities know of the labels, for every assignment of its channels to the classes.

One class of one image is one observation: pixels of an image are no independent witnesses. An observation's evidence
for a channel is `ln K + mean of ln p` over the pixels of the class, with p mixed with a tenth of an even guess, so that
one confident mistake does not count without limit. Under any assignment, the sum over the observations is the logarithm
of a likelihood ratio against even guessing, whose mean is 1 for a network that knows nothing. By Markov's inequality,
the best of M assignments exceeds ln(M / α) in at most a share α of such networks.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kd.types import in_float64

FALSE_ALARMS = 0.01  # α
KNOWS = 0.4  # the share of the information in the labels (ln K nats an observation) that a finding must explain
EVEN = 0.1  # the share of an even guess that is mixed into the probabilities


class Evidence:
    """A metric of kd whose state is the evidence.

    Args:
        num_classes: K.
    """

    unit, direction = "nats", "higher"

    def __init__(self, num_classes: int) -> None:
        self.sums = np.zeros((num_classes, num_classes))  # (class, channel): the sum over the observations
        self.observed = np.zeros(num_classes)
        self.entropy, self.images = 0.0, 0

    def update(self, labels: Tensor, probabilities: Tensor) -> None:
        """Add one image: labels (H, W), probabilities (K, H, W)."""
        classes = len(self.observed)
        logs = in_float64((1 - EVEN) * probabilities + EVEN / classes).log()
        self.entropy += float(torch.special.entr(probabilities).sum(0).mean())
        self.images += 1
        labels = labels.to(logs.device)
        for present in torch.unique(labels).tolist():
            if present < classes:
                self.sums[present] += math.log(classes) + logs[:, labels == present].mean(1).cpu().numpy()
                self.observed[present] += 1

    def state(self) -> dict[str, NDArray[Any]]:
        """The sums of evidence (class, channel), observations by class, the sum of entropies in nats, and images."""
        return {
            "sums": self.sums,
            "observed": self.observed,
            "entropy": np.array(self.entropy),
            "images": np.array(self.images),
        }

    def value(self, state: dict[str, NDArray[Any]]) -> dict[str, float | None]:
        """The share of the labels' information that the channels as they are explain."""
        return {"knows": knows(state, range(len(state["observed"])))}


def knows(state: dict[str, NDArray[Any]], order: Sequence[int]) -> float:
    """The share of the labels' information, at most 1, that a network explains with channel `order[class]`."""
    classes = len(state["observed"])
    total = float(state["sums"][range(classes), list(order)].sum())
    return total / max(float(state["observed"].sum()) * math.log(classes), 1e-9)


def is_beyond_chance(state: dict[str, NDArray[Any]], order: Sequence[int], hypotheses: float) -> bool:
    """Whether an assignment explains the labels as the best of so many would not by chance.

    Args:
        state: of `Evidence`.
        order: the channel of each class.
        hypotheses: ln M, for the M assignments and forms that were tried.
    """
    share, classes = knows(state, order), len(state["observed"])
    evidence = share * float(state["observed"].sum()) * math.log(classes)
    return share >= KNOWS and evidence >= hypotheses - math.log(FALSE_ALARMS)


def evenness(state: dict[str, NDArray[Any]]) -> float:
    """The mean entropy of the probabilities as a share of its maximum, ln K."""
    return float(state["entropy"] / max(int(state["images"]), 1)) / math.log(len(state["observed"]))
