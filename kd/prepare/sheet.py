"""`kd data`: a recipe's training images as the networks see them, what their labels hold, and how fast they come."""

import base64
import sys
from collections.abc import Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import NamedTuple

import numpy as np

from kd.components import Maker
from kd.console import make_table, print_line, stdout
from kd.constants import IGNORE, __version__
from kd.data.dataset import sample_name
from kd.data.loader import training_batches
from kd.data.speed import TIMED, WARM, images_per_second, workers_text
from kd.errors import RecipeError
from kd.files.storage import write_atomic
from kd.machine import loader_workers
from kd.markup import printable
from kd.parts.data import Data
from kd.parts.stream import training_split
from kd.pictures import RGB, Labels, as_rgb, jpeg, overlay, panel
from kd.recipe import Recipe
from kd.units import counted

MEASURED = 64  # augmented images that are drawn for the shares
ACROSS = 4  # images in a row of the PNG
FIX = "free space or choose --out FILE"


class Shown(NamedTuple):
    """One augmented image."""

    name: str
    image: RGB
    labels: Labels  # (h, w); IGNORE for ignored pixels and padding


class Sheet(NamedTuple):
    """A recipe's training images in pictures and numbers."""

    title: str
    classes: tuple[str, ...]
    colors: tuple[tuple[int, int, int], ...]
    shares: tuple[list[float | None], list[float | None]]  # of train and val: of the labelled pixels; None: no pixel
    lines: list[str]  # facts and warnings
    shown: list[Shown]

    def rows(self) -> list[tuple[str, str, str]]:
        """The table of classes: name, share of train, share of val."""
        rows = zip(self.classes, *self.shares, strict=True)
        return [(name, _percent(train), _percent(val)) for name, train, val in rows]


def data_command(recipe: Recipe, *, out: Path | None, images: int) -> None:
    """Print the table of classes and the lines; write the page, and the PNG beside it.

    Raises:
        RecipeError: no image is asked for, or the page would have the PNG's name; as `make_sheet`.
    """
    if images < 1:
        raise RecipeError(f"--images: must be at least 1, got {images}")
    if out is not None and (not out.name or out.suffix.lower() == ".png"):
        raise RecipeError(f"--out: must name the page, such as sheet.html, beside which a PNG is written, got {out}")
    sheet = make_sheet(recipe, images=images)
    print_line(sheet.title)
    stdout().print(make_table(("class", "train", "val"), sheet.rows()))
    for line in sheet.lines:
        print_line(line)
    page = out or Path(f"{Path(recipe.file).stem}-data.html")
    write_atomic(page.with_suffix(".png"), sheet_png(sheet), fix=FIX)
    write_atomic(page, sheet_page(sheet).encode(), fix=FIX)
    print_line(f"{len(sheet.shown)} training images as they are augmented: {page} and {page.with_suffix('.png').name}")


def make_sheet(recipe: Recipe, *, images: int, warm: float = WARM, timed: float = TIMED) -> Sheet:
    """Read both splits, augment images evenly spread over the training split, and time the loader.

    Args:
        recipe: no network of it is built.
        images: to show, at most.
        warm: as for `images_per_second`, like `timed`.
        timed: in seconds.

    Raises:
        RecipeError: the dataset or a transform cannot be built, or fails.
        DataError: an image or its labels cannot be read.
    """
    data = Data(recipe)
    training, seed = data.training(recipe), recipe.train.seeds[0]
    split = training_split(recipe, Maker(recipe), training, seed=seed, hold=True)
    count = min(len(split), max(images, MEASURED))
    indices = [number * len(split) // count for number in range(count)]
    padded, ignored, shown = 0.0, 0.0, []
    for place, index in enumerate(indices):
        item = split[index, 0]
        padded += float((~item.inside).float().mean()) / count
        ignored += float((item.labels == IGNORE).float().mean()) / count
        if place * images // count != (place - 1) * images // count:
            shown.append(Shown(sample_name(training, index), as_rgb(item.image.numpy()), item.labels.numpy()))
    workers = loader_workers(recipe.data.workers)
    speed = images_per_second(
        training_batches(
            split,
            steps=sys.maxsize,
            batch_size=recipe.train.batch_size,
            labelled=len(data.train),
            unlabelled_size=recipe.unlabelled_size,
            seed=seed,
            workers=workers,
        ),
        len(split),
        warm=warm,
        timed=timed,
    )
    height, width = split.crop.size
    lines = [
        f"augmented: {100 * ignored:.1f} % of the pixels have no label, {100 * padded:.1f} % of all are padding "
        f"({counted(count, 'image')} of {width}×{height})",
        f"loader: {speed:.0f} images/s ({workers_text(workers)})",
        *dict.fromkeys(note for split in (data.train, data.val) for note in getattr(split, "notes", ())),
        *data.lines(recipe),
    ]
    surveys = [data.survey(name).counts for name in ("train", "val")]
    train, val = ([count / sum(counts) if count else None for count in counts] for counts in surveys)
    title = f"{recipe.file}: {len(data.train)} training and {counted(len(data.val), 'validation image')}"
    return Sheet(title, data.train.class_names, data.train.colors, (train, val), lines, shown)


def sheet_png(sheet: Sheet) -> bytes:
    """The images in pairs, each beside its labels."""
    cells = [
        cell
        for shown in sheet.shown
        for cell in (("image", shown.image), ("labels", overlay(shown.image, shown.labels, sheet.colors)))
    ]
    across = min(2 * ACROSS, len(cells))
    cells += [("", np.full_like(sheet.shown[0].image, 255))] * (-len(cells) % across)
    return panel(*(cells[start : start + across] for start in range(0, len(cells), across)), width=180)


def sheet_page(sheet: Sheet) -> str:
    """The page, with its pictures inside it."""
    warnings = [line for line in sheet.lines if line.startswith("warning: ")]
    facts = [line for line in sheet.lines if line not in warnings]
    template = Template(files("kd.prepare").joinpath("sheet.html").read_text(encoding="utf-8"))
    page = template.substitute(
        title=escape(sheet.title),
        warnings="".join(f'<p class="warning">{escape(line)}</p>' for line in warnings),
        facts="".join(f"<p>{escape(line)}</p>" for line in facts),
        rows="".join(_row(row, color) for row, color in zip(sheet.rows(), sheet.colors, strict=False)),
        figures="\n".join(_figure(shown, sheet.colors) for shown in sheet.shown),
        version=__version__,
    )
    return printable(page)


def _row(row: Sequence[str], color: tuple[int, int, int]) -> str:
    swatch = f'<i class="swatch" style="background: rgb{tuple(color)}"></i>'
    cells = "".join(f"<td>{escape(text)}</td>" for text in row[1:])
    return f'<tr><th scope="row">{swatch}{escape(row[0])}</th>{cells}</tr>'


def _figure(shown: Shown, colors: Sequence[tuple[int, int, int]]) -> str:
    pictures = "".join(
        f'<img alt="{what}" src="data:image/jpeg;base64,{base64.b64encode(jpeg(picture)).decode()}">'
        for what, picture in (("image", shown.image), ("labels", overlay(shown.image, shown.labels, colors)))
    )
    return f"<figure>{pictures}<figcaption>{escape(shown.name)}</figcaption></figure>"


def _percent(share: float | None) -> str:
    """A share as the table shows it; small ones keep a digit."""
    return "–" if share is None else f"{100 * share:.2g} %" if share < 0.1 else f"{100 * share:.1f} %"
