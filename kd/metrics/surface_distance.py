"""Distances between the surfaces of labelled and predicted objects."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from kd.constants import IGNORE
from kd.metrics.image_dice import by_class

if TYPE_CHECKING:
    from torch import Tensor

Mask = NDArray[np.bool_]
Floats = NDArray[np.float64]


class _Distances:
    """The sum over images of one number of the distances between two surfaces, for each foreground class."""

    def __init__(
        self,
        num_classes: int,
        spacing: float | Sequence[float] | None,
        unit: str | None,
        summary: Callable[[Floats, Floats], float],
    ) -> None:
        self.of_data = spacing is None and unit is None  # the dataset's spacing counts, if it has one
        self.unit = unit or "px"
        given = 1.0 if spacing is None else spacing
        rows, columns = (given, given) if isinstance(given, int | float) else given
        self.spacing = (float(rows), float(columns))
        if not (rows > 0 and columns > 0):
            raise ValueError(f"spacing must be above 0, got {spacing}")
        self.summary = summary  # of the distances from the prediction's surface to the labels', and of those back
        foreground = num_classes - 1
        self.state = {"distance": np.zeros(foreground), "images": np.zeros(foreground, np.int64)}
        self.state["missed"] = np.zeros(foreground, np.int64)
        self.state["in_mm"] = np.zeros(2, np.int64)  # images whose dataset does not, and does, state a pixel's size

    def add(self, labels: "Tensor", probabilities: "Tensor", spacing: tuple[float, float] | None) -> None:
        """Add one image, whose dataset may state the height and width of a pixel in mm."""
        if self.of_data:
            self.state["in_mm"][int(spacing is not None)] += 1
            self.unit = "px" if spacing is None else "mm"
        if spacing is None or not self.of_data:
            spacing = self.spacing
        given, predictions = labels.cpu().numpy(), probabilities.argmax(0).cpu().numpy()
        predictions[given == IGNORE] = 0
        for index in range(1, len(probabilities)):
            ours, theirs = predictions == index, given == index
            if ours.any() and theirs.any():
                self.state["distance"][index - 1] += self.summary(*surface_distances(ours, theirs, spacing))
                self.state["images"][index - 1] += 1
            else:
                self.state["missed"][index - 1] += ours.any() or theirs.any()


def _values(state: dict[str, NDArray[Any]]) -> dict[str, float | None]:
    """`distance`, the mean of the classes' means; each foreground class by its index; `missed` images."""
    without, known = state["in_mm"].tolist()
    if without and known:
        raise ValueError(
            f"the dataset's spacing is None for {without} of {without + known} images, whose distances are in pixels "
            "and not in mm; state it for all, or give unit: px"
        )
    missed = int(state["missed"].sum())
    occurs = bool(missed or state["images"].any())
    values = by_class("distance", state["distance"], state["images"])
    return values | {"missed": float(missed) if occurs else None}


class HausdorffDistance:
    """HD95: the distance that 95 % of the surface of one object stay within from the other's, the worse direction.

        HD95 = max( P95 of d(p, ∂G) over p ∈ ∂P,  P95 of d(g, ∂P) over g ∈ ∂G )

    ∂ holds the pixels of an object with one of their four neighbours outside it; the edge of the image is outside. Each
    image and foreground class has one value; the result is the mean over images, then over classes. An image in which a
    class is labelled or predicted, but not both, has no distance: it is counted in `missed`, and in neither it is left
    out.

    Source: Huttenlocher et al., "Comparing Images Using the Hausdorff Distance", TPAMI 15(9), 1993; with the 95th
        percentile as MONAI computes it.

    Args:
        num_classes: K; class 0 is the background and is not scored.
        spacing: height of a pixel, or [height, width], in `unit`; None: the dataset's, of each image in mm, if it has
            one and `unit` is not given; else 1.
        unit: of `spacing`; None: mm if the dataset states the size of its pixels and `spacing` is not given, else px.
        percentile: of the distances, above 0; 100 for the maximum.

    Raises:
        ValueError: `spacing` is not above 0, or `percentile` not in (0, 100]; the dataset has the size of a pixel for
            some of the images only.
    """

    direction = "lower"

    def __init__(
        self,
        num_classes: int,
        spacing: float | Sequence[float] | None = None,
        unit: str | None = None,
        percentile: float = 95.0,
    ) -> None:
        if not 0 < percentile <= 100:
            raise ValueError(f"percentile must be above 0 and at most 100, got {percentile}")
        self._distances = _Distances(
            num_classes,
            spacing,
            unit,
            lambda forth, back: float(max(np.percentile(forth, percentile), np.percentile(back, percentile))),
        )

    @property
    def unit(self) -> str:
        """px, mm, or what the recipe gives."""
        return self._distances.unit

    def update(self, labels: "Tensor", probabilities: "Tensor", spacing: tuple[float, float] | None = None) -> None:
        """Add one image, whose dataset may state the height and width of a pixel in mm."""
        self._distances.add(labels, probabilities, spacing)

    def state(self) -> dict[str, NDArray[Any]]:
        """`distance` (sum), `images` (both sides have the class), `missed` (only one has): (K − 1,); `in_mm`: (2,)."""
        return self._distances.state

    def value(self, state: dict[str, NDArray[Any]]) -> dict[str, float | None]:
        """`distance`, the mean of the classes' means; each foreground class by its index; `missed` images."""
        return _values(state)


class SurfaceDistance:
    """ASSD: the average distance between the surfaces of the predicted and the labelled object, in both directions.

        ASSD = ( Σ_{p ∈ ∂P} d(p, ∂G) + Σ_{g ∈ ∂G} d(g, ∂P) ) / ( |∂P| + |∂G| )

    Surfaces, images, classes and what is left out are those of `HausdorffDistance`.

    Source: Heimann et al., "Comparison and Evaluation of Methods for Liver Segmentation From CT Datasets", TMI 28(8),
        2009; as MONAI computes it.

    Args:
        num_classes: K; class 0 is the background and is not scored.
        spacing: height of a pixel, or [height, width], in `unit`; None: the dataset's, of each image in mm, if it has
            one and `unit` is not given; else 1.
        unit: of `spacing`; None: mm if the dataset states the size of its pixels and `spacing` is not given, else px.

    Raises:
        ValueError: `spacing` is not above 0; the dataset has the size of a pixel for some of the images only.
    """

    direction = "lower"

    def __init__(
        self, num_classes: int, spacing: float | Sequence[float] | None = None, unit: str | None = None
    ) -> None:
        self._distances = _Distances(
            num_classes, spacing, unit, lambda forth, back: float(np.concatenate((forth, back)).mean())
        )

    @property
    def unit(self) -> str:
        """px, mm, or what the recipe gives."""
        return self._distances.unit

    def update(self, labels: "Tensor", probabilities: "Tensor", spacing: tuple[float, float] | None = None) -> None:
        """Add one image, whose dataset may state the height and width of a pixel in mm."""
        self._distances.add(labels, probabilities, spacing)

    def state(self) -> dict[str, NDArray[Any]]:
        """`distance` (sum), `images` (both sides have the class), `missed` (only one has): (K − 1,); `in_mm`: (2,)."""
        return self._distances.state

    def value(self, state: dict[str, NDArray[Any]]) -> dict[str, float | None]:
        """`distance`, the mean of the classes' means; each foreground class by its index; `missed` images."""
        return _values(state)


def surface_distances(ours: Mask, theirs: Mask, spacing: tuple[float, float]) -> tuple[Floats, Floats]:
    """From each surface pixel of one mask the distance to the other's surface, and the reverse; both are not empty."""
    from scipy.ndimage import distance_transform_edt

    box = _box(ours | theirs)  # distances depend on the objects alone
    surfaces = [_surface(mask[box]) for mask in (ours, theirs)]
    to_ours, to_theirs = (distance_transform_edt(~surface, sampling=spacing) for surface in surfaces)
    return to_theirs[surfaces[0]], to_ours[surfaces[1]]


def _surface(mask: Mask) -> Mask:
    from scipy.ndimage import binary_erosion

    surface: Mask = mask & ~binary_erosion(mask)  # outside the box nothing is part of an object
    return surface


def _box(mask: Mask) -> tuple[slice, slice]:
    rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)
