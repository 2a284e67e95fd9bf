"""Dice of each image."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from kd.metrics.confusion import Confusion

if TYPE_CHECKING:
    from torch import Tensor


class ImageDice:
    """Dice of every image and foreground class, then their mean: a small object counts as much as a large one.

        Dice = 2 |G ∩ P| / (|G| + |P|)

    G and P are the labelled and predicted pixels of a class in one image. An image in which a class is neither labelled
    nor predicted has no Dice for it and is left out; if it is only labelled or only predicted, its Dice is 0.

    Source: Dice, "Measures of the Amount of Ecologic Association Between Species", Ecology 26, 1945; the mean over
        images is that of medical challenges.
    Differs: MONAI's default leaves out images in which a class is not labelled, even if it is predicted, and averages
        over the classes of an image first.

    Args:
        num_classes: K; class 0 is the background and is not scored.
    """

    unit = "%"
    direction = "higher"

    def __init__(self, num_classes: int) -> None:
        self.num_classes = num_classes
        self._state = {"dice": np.zeros(num_classes - 1), "images": np.zeros(num_classes - 1, np.int64)}

    def update(self, labels: "Tensor", probabilities: "Tensor") -> None:
        """Add one image."""
        confusion = Confusion(self.num_classes)
        confusion.update(labels, probabilities)
        hits, predicted, labelled = confusion.images[0][1:].T
        occurs = predicted + labelled > 0
        self._state["images"] += occurs
        self._state["dice"][occurs] += 2 * hits[occurs] / (predicted + labelled)[occurs]

    def state(self) -> dict[str, NDArray[Any]]:
        """`dice`: float64 (K − 1,), the sum over the images in which the class occurs; `images`: their number."""
        return self._state

    def value(self, state: dict[str, NDArray[Any]]) -> dict[str, float | None]:
        """`dice`, the mean of the classes' means, then each foreground class by its index; shares from 0 to 1."""
        return by_class("dice", state["dice"], state["images"])


def by_class(name: str, sums: NDArray[Any], numbers: NDArray[Any]) -> dict[str, float | None]:
    """The mean of the foreground classes' means by that name, then each class's mean; None where there is none."""
    means = [total / number if number else None for total, number in zip(sums.tolist(), numbers.tolist(), strict=True)]
    known = [mean for mean in means if mean is not None]
    values: dict[str, float | None] = {name: sum(known) / len(known) if known else None}
    return values | {f"class {index}": mean for index, mean in enumerate(means, 1)}
