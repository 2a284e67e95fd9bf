"""The README of an exported folder: a model card."""

import os
from collections.abc import Iterator, Mapping
from typing import Any

from kd.constants import __version__
from kd.data.images.decode import size_text
from kd.deploy.export.folder import input_text, passes_beyond_one
from kd.deploy.export.formats import Format
from kd.deploy.export.graph import Form
from kd.deploy.export.to_int8 import Quantized
from kd.evaluation.trained import Trained
from kd.intervals import interval
from kd.markup import escaped, table
from kd.metrics import scores
from kd.runs import Origin, SplitResult, read_counts
from kd.runs.origin import RECIPE
from kd.types import parameter_count
from kd.units import counted

_LOADED = ("file", "files", "folder")  # arguments of networks

USE = """
```bash
pip install numpy pillow {runtime}
python predict.py photo.jpg --out predictions   # index masks, shown in the colours of the classes
python predict.py --check                       # compares with the expected masks in samples/
python predict.py --benchmark                   # milliseconds for an image
```
"""
BY_HAND = """
```bash
pip install numpy {runtime}
```
"""
INT8 = """\
Weights and activations are integers of 8 bits, with scales from {images}. Scored on the validation images, and
timed on the machine that exported it:

"""


def card(
    trained: Trained,
    origin: Origin,
    chosen: Format,
    form: Form,
    *,
    verdict: str,
    megabytes: float,
    scripted: bool,
    quantized: Quantized | None = None,
) -> str:
    """The text, in Markdown.

    Args:
        trained: the run, with its own recipe: the scores are by that, not by overrides of the command.
        origin: where its weights come from.
        chosen: the format.
        form: what the file takes and gives.
        verdict: how the file compares with its network.
        megabytes: of the file.
        scripted: whether `predict.py` and samples are in the folder.
        quantized: of a file in INT8, what was tried.
    """
    recipe, result = trained.recipe, trained.of_run
    passes = passes_beyond_one(recipe)
    how = "any number and size" if form.dynamic else f"one image of {size_text(form.size)} pixels"
    output = "`classes`, int64 (N, H, W): class indices" if form.argmax else "`logits`, float32 (N, K, H, W)"
    teacher = result.teacher
    taught = f"distilled from {escaped(teacher.name)} ({escaped(teacher.network)})" if teacher else "trained alone"
    sections = [
        f"# {escaped(result.name)}",
        f"Semantic segmentation of images into {len(trained.classes)} classes: {escaped(origin['network'])}, "
        f"{parameter_count(trained.network):,} parameters, {taught}. Exported by kd {__version__}.",
        "## The file",
        f"`{chosen.file}`, {megabytes:.1f} MB.",
        f"- input `images`, (N, C, H, W): {how}, {input_text(trained, form)}. The scores are those of "
        f"images of {size_text(recipe.scored_size)} pixels.",
        f"- output {output}, at the size of the input.",
        f"- checked against the network when it was exported: {verdict}.",
        (USE if scripted else BY_HAND).format(runtime=" ".join(chosen.runtime)).strip(),
        *(["## INT8", _int8(quantized)] if quantized else []),
        "## Scores",
        _scores(trained)
        + (" They are those of the network in float32." if quantized else "")
        + (f" They were taken with {passes}; the file computes one pass over the image." if passes else ""),
        "## Classes",
        _classes(trained),
        "## Data",
        f"{escaped(os.path.basename(recipe.data.use))}, {_arguments(recipe.data.args)}. Images were resized to "
        f"{size_text(recipe.data.size)} for training and to {size_text(recipe.scored_size)} for the "
        f"scores.{_inputs(trained)}",
        "## License",
        f"{_start(trained)} kd does not know under which terms these weights and the data may be used: a network may "
        "be bound by the license of its training images and of the weights that it started from. `predict.py` is part "
        "of kd: Apache-2.0.",
        "## Limits",
        "- It gives one of its classes to every pixel, also of an image unlike those that it was trained on.",
        "- The scores hold for images like those of the splits above, prepared in the same way.",
        *(f"- {escaped(remark)}" for remark in [*result.remarks, *result.marks]),
        "## Recipe",
        f"Run {result.id}, seed {result.seed}:",
        f"```yaml\n{origin[RECIPE].strip()}\n```",
    ]
    return "\n\n".join(sections).replace("\n\n- ", "\n- ") + "\n"


def _int8(quantized: Quantized) -> str:
    return INT8.format(images=counted(quantized.calibrated, "training image")) + quantized.markdown()


def _scores(trained: Trained) -> str:
    counts = read_counts(trained.path)
    rows = []
    for name, split in trained.of_run.splits.items():
        score, per_image, between = scores(split.confusion), counts.get(name), "–"
        if per_image is not None and len(per_image.names) > 1:
            found = interval([(1.0, [per_image.counts])], per_image.groups)
            between = f"{100 * found.low:.1f} to {100 * found.high:.1f}"
        row = [name, f"{100 * score.miou:.1f}", between, f"{100 * score.pixel_accuracy:.1f}", str(split.images)]
        rows.append(row)
    header = [f"split, {_what(trained)}", "mIoU %", "95 % interval over images", "pixel accuracy %", "images"]
    return f"{table(header, rows, left=1)}\n\nThe noise of training (other seeds) is not in the interval."


def _what(trained: Trained) -> str:
    split: SplitResult = next(iter(trained.of_run.splits.values()))
    return "against the labels" if split.against == "labels" else "against the teacher's classes"


def _classes(trained: Trained) -> str:
    name, split = next(iter(trained.of_run.splits.items()))
    iou = scores(split.confusion).iou
    rows = [
        [str(index), label, "#{:02x}{:02x}{:02x}".format(*color), "–" if value is None else f"{100 * value:.1f}"]
        for index, (label, color, value) in enumerate(zip(trained.classes, trained.colors, iou, strict=True))
    ]
    return table(["index", "class", "colour", f"IoU % ({name})"], rows, left=3)


def _arguments(args: dict[str, Any]) -> str:
    stated = ", ".join(f"{name} {value}" for name, value in args.items() if name != "root")
    return escaped(stated) or "without arguments"


def _inputs(trained: Trained) -> str:
    inputs = trained.of_run.inputs
    if inputs is None:
        return ""
    return f" SHA-256 of the training files: {inputs.train[:16]}, of the validation files: {inputs.val[:16]}."


def _start(trained: Trained) -> str:
    """What the network was before its training."""
    student = trained.recipe.student
    weights = student.weights if student.weights is None or isinstance(student.weights, str) else student.weights.file
    loaded = [*([weights] if weights else []), *_loaded(student.args)]
    named = escaped(", ".join(loaded))
    return f"The training started from {named}." if named else "kd loaded no weights before the training."


def _loaded(value: Any, *, names: bool = False) -> Iterator[str]:
    """The files and folders that arguments name, at any depth: a network loads weights of them by itself."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _loaded(inner, names=key in _LOADED)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from _loaded(inner, names=names)
    elif names and isinstance(value, str):
        yield value
