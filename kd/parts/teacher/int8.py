"""A teacher whose forward pass is computed in INT8 by ONNX Runtime, on the CPU (`teacher.precision: int8`)."""

import math
from collections.abc import Callable, Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from kd.components import missing
from kd.console import Say
from kd.errors import RecipeError
from kd.machine import Precision, random_state, set_random_state
from kd.parts.loading import Notes
from kd.parts.roles import Teacher, to_device
from kd.recipe import Recipe
from kd.runtimes.exported import INPUT, onnx_program, onnx_session
from kd.runtimes.quantize import IMAGES, NEEDED, SCALES, quantize
from kd.types import Batch, Maps, Tapped, as_tuple

AGREEMENT = 0.95  # smallest share of pixels whose class is the float teacher's
COMPARED = 16  # images, after those that calibrate


class Fit(NamedTuple):
    """How near a teacher in INT8 is to the float teacher, on images of training."""

    scales: str
    agreement: float  # share of the logits' pixels with the same class
    error: float  # of the map that differs most: root mean square of the difference ÷ that of the map


class Int8Teacher:
    """A teacher in INT8, quantised at its first batch; it returns float32 maps.

    Args:
        teacher: the role, in float.
        recipe: names this teacher.
        batches: begins the run's micro-batches anew and returns so many: the first ones calibrate, the others compare.
        precision: how the float teacher runs.
        trained: whether the teacher has been trained; the agreement of one that has not is not judged.
        say: takes the line on the agreement.

    Shape: as the teacher; `aux` is empty.

    Raises:
        RecipeError: (by call) the teacher cannot be exported or quantised, or agrees too little with the float teacher.
    """

    def __init__(
        self,
        teacher: Teacher,
        recipe: Recipe,
        batches: Callable[[int], Iterator[Batch]],
        precision: Precision,
        *,
        trained: bool,
        say: Say,
    ) -> None:
        self.teacher, self.recipe = teacher, recipe
        self.network, self.taps, self.sight = teacher.network, teacher.taps, teacher.sight
        self._batches, self._precision, self._trained, self._say = batches, precision, trained, say
        self._addresses = tuple(
            dict.fromkeys(a for term in ("logits", *teacher.taps.addresses.values()) for a in as_tuple(term))
        )
        self._shape: torch.Size | None = None
        self._compute: Callable[[Tensor], dict[str, Tensor]] | None = None

    def __call__(self, batch: Batch) -> Tapped:
        images = self.sight.of(batch)
        if self._compute is None or images.shape != self._shape:
            states = random_state(self._precision.device)
            with torch.autocast("cpu", enabled=False):
                self._quantize(images)
            set_random_state(self._precision.device, states)  # a run that resumes quantises at another step
        assert self._compute is not None
        return self._tapped(self._compute(images))

    def _tapped(self, maps: dict[str, Tensor]) -> Tapped:
        at: dict[str, Maps] = {}
        for term, tap in self.taps.addresses.items():
            at[term] = tuple(maps[address] for address in tap) if isinstance(tap, tuple) else maps[tap]
        return Tapped(maps["logits"], {}, at)

    @torch.no_grad()
    def _quantize(self, example: Tensor) -> None:
        """Make the graph for images of this shape; of scales per tensor and per channel, those that agree better."""
        count = math.ceil(IMAGES / len(example))
        batches = self._batches(count + math.ceil(COMPARED / len(example)))
        seen = [self.sight.of(to_device(batch, self._precision)) for batch in batches]
        calibrating, compared = seen[:count], seen[count:]
        float_maps = [self._float(images) for images in compared]
        fits: list[tuple[Fit, Callable[[Tensor], dict[str, Tensor]]]] = []
        with TemporaryDirectory(prefix="kd-teacher-") as folder:
            floats = Path(folder, "float.onnx")
            self._export(floats, example)
            try:
                for name, per_channel in SCALES.items():
                    file = Path(folder, f"{name}.onnx")
                    quantize(floats, file, map(_as_array, calibrating), per_channel=per_channel)
                    compute = self._open(file)
                    fits.append((_fit(name, [compute(images) for images in compared], float_maps), compute))
            except RecipeError as error:
                raise RecipeError(f"{self._where}: {error}; remove teacher.precision") from None
        fit, self._compute = max(fits, key=lambda pair: pair[0].agreement)
        self._shape = example.shape
        self._judge(fit, len(calibrating) * len(example), len(compared) * len(example))

    def _export(self, file: Path, example: Tensor) -> None:
        graph = _Graph(self.teacher, self._addresses)
        try:
            program = onnx_program(graph, example.contiguous(), self._addresses)
        except Exception as error:  # noqa: BLE001  # torch.export and onnxscript raise nearly anything
            reason = " ".join(str(error.__cause__ or error).split())[:200]
            raise RecipeError(
                f"{self._where}: the teacher cannot be exported to ONNX: {reason}; remove teacher.precision"
            ) from None
        program.save(file, external_data=False)

    def _judge(self, fit: Fit, calibrated: int, compared: int) -> None:
        found = (
            f"in INT8 ({fit.scales}, {calibrated} images), the teacher predicts the float teacher's class at "
            f"{100 * fit.agreement:.1f} % of the pixels of {compared} others"
        )
        if self._trained and fit.agreement < AGREEMENT:
            raise RecipeError(f"{self._where}: {found} (at least {100 * AGREEMENT:g} %); remove teacher.precision")
        self._say(f"  {found}; its maps differ by at most {100 * fit.error:.1f} % (root mean square)")

    @property
    def _where(self) -> str:
        return f"{self.recipe.at('teacher', 'precision')}: teacher.precision"

    def _float(self, images: Tensor) -> dict[str, Tensor]:
        with self._precision.autocast():
            return dict(zip(self._addresses, _Graph(self.teacher, self._addresses)(images), strict=True))

    def _open(self, file: Path) -> Callable[[Tensor], dict[str, Tensor]]:
        # threads that wait by spinning would take the cores from the student's step
        session = onnx_session(file, threads=torch.get_num_threads(), spinning=False)
        return lambda images: dict(
            zip(self._addresses, map(torch.from_numpy, session.run(None, {INPUT: _as_array(images)})), strict=True)
        )


class _Graph(nn.Module):
    """A teacher as a function of images alone: its maps, one for each address."""

    def __init__(self, teacher: Teacher, addresses: Iterable[str]) -> None:
        super().__init__()
        self.teacher, self.addresses = teacher, tuple(addresses)
        self.eval()

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        output = self.teacher.seeing(images)
        maps = {"logits": output.logits}
        for term, address in self.teacher.taps.addresses.items():
            maps |= zip(as_tuple(address), as_tuple(output.at[term]), strict=True)
        return tuple(maps[address] for address in self.addresses)


def _as_array(images: Tensor) -> NDArray[np.float32]:
    array: NDArray[np.float32] = images.float().contiguous().numpy()
    return array


def _fit(name: str, found: list[dict[str, Tensor]], expected: list[dict[str, Tensor]]) -> Fit:
    pairs = list(zip(found, expected, strict=True))
    same = [(a["logits"].argmax(1) == b["logits"].argmax(1)).float().mean() for a, b in pairs]
    errors = []
    for address in found[0]:
        squares = sum(_squares(a[address] - b[address].float()) for a, b in pairs)
        errors.append(math.sqrt(squares / (sum(_squares(b[address].float()) for b in expected) or 1.0)))
    return Fit(name, float(torch.stack(same).mean()), max(errors))


def _squares(values: Tensor) -> float:
    return float(values.square().sum())


def check_int8(recipe: Recipe, precision: Precision, notes: Notes) -> None:
    """Refuse a teacher in INT8 where it cannot run; note where it will not be faster.

    Raises:
        RecipeError: the run is not on the CPU, its images have several sizes, or a package is missing.
    """
    if not recipe.teaches_in_int8:
        return
    where = f"{recipe.at('teacher', 'precision')}: teacher.precision"
    if precision.device.type != "cpu":
        raise RecipeError(
            f"{where}: int8 runs on the CPU, and this run is on {precision.device.type}; remove teacher.precision"
        )
    if set(recipe.train.scales) != {1.0}:
        raise RecipeError(
            f"{where}: int8 computes images of one size, and train.scales changes it; remove teacher.precision"
        )
    for package in (*NEEDED, "onnxscript"):
        if find_spec(package) is None:
            raise RecipeError(f"{where}: {missing(package, 'onnx')}")
    if not torch.cpu._is_vnni_supported():
        notes.append("teacher: int8, but this processor has no VNNI: perhaps no faster than float")
