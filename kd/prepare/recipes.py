"""The text of the recipes that `kd init` writes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kd.errors import one_line, shell_word
from kd.prepare.choose import Choices
from kd.prepare.files import WRITTEN
from kd.recipe.yaml12 import in_flow

TEACHER, STUDENT = "teacher.yaml", "student.yaml"
_COLUMN = 62  # of the reasons
_LINE = 100  # characters from which a mapping takes a line for each entry


def recipe_texts(
    folder: Path,
    what: str,
    args: Mapping[str, Any],
    choices: Choices,
    *,
    given: Mapping[str, Any] | None,
    imagenet: bool,
) -> dict[str, str]:
    """The recipes by file name: the student's, and the teacher's if it is not trained yet.

    Args:
        folder: where they are written, for the commands in their comments.
        what: what was found.
        args: of Folders.
        choices: the settings that depend on the data.
        given: a trained teacher, as recipes write it; None: one is trained first.
        imagenet: whether networks start from weights that were trained on ImageNet.
    """
    data = [*_data(args, choices), _with(f"supervised: {choices.supervised.value}", choices.supervised.why)]
    end = _end(choices)
    weights = ", weights: imagenet" if imagenet else ""
    student, own = (shell_word((folder / name).as_posix()) for name in (STUDENT, TEACHER))
    start = "" if imagenet else ", from scratch (or weights: imagenet)"
    if given is None:
        teacher = _with("teacher: {recipe: teacher.yaml}", "trained first, by the same command")
    else:
        teacher = _with(f"teacher: {in_flow(given)}", "trained already")
    texts = {
        STUDENT: _page(
            f"A small network that learns from labels and from a teacher: {what}.",
            f"kd run {student} --baseline",
            teacher,
            _with(f"student: {{{choices.student.value}{weights}}}", choices.student.why + start),
            *data,
            "distill:",
            "  kl:",
            _with("    loss: {use: kd.losses.PixelKL, args: {temperature: 1.0}}", "the teacher's probabilities"),
            _with("    weight: 1.0", "as much as the labels"),
            *end,
        )
    }
    if given is None:
        texts[TEACHER] = _page(
            f"A teacher that learns from labels: {what}.",
            f"kd run {own}      (kd run {student} trains it too)",
            _with(f"student: {{{choices.teacher.value}{weights}}}", choices.teacher.why + start),
            *data,
            *end,
        )
    return texts


def _page(what: str, command: str, *lines: str) -> str:
    head = [
        f"# yaml-language-server: $schema={WRITTEN}",
        f"# {what}",
        f"# Run      {one_line(command)}",
        "# Result   none yet",
    ]
    return "\n".join([*head, *lines]) + "\n"


def _data(args: Mapping[str, Any], choices: Choices) -> list[str]:
    lines = ["data:", "  use: kd.data.Folders", "  args:"]
    for name, value in args.items():
        whole = f"    {name}: {in_flow(value)}"
        if len(whole) <= _LINE or not isinstance(value, (list, dict)):
            lines.append(_with(whole, "" if Path(str(value)).is_absolute() else _WHY.get(name, "")))
        elif isinstance(value, list):
            lines += [f"    {name}:", *(f"      - {in_flow(item)}" for item in value)]
        else:
            lines += [f"    {name}:", *(f"      {in_flow({key: item})[1:-1]}" for key, item in value.items())]
    if choices.channels.value == 1:
        lines.append(_with("    channels: 1", choices.channels.why))
    lines.append(_with(f"  size: {choices.size.value}", choices.size.why))
    return [*lines, "  augment:", *(_with(f"    - {choice.value}", choice.why) for choice in choices.augment)]


_WHY = {
    "root": "relative to the folder in which kd is called",
    "val": "held out by a hash of the names",
    "group": "parts or copies of one image stay in one split",
    "rest": "what is in no class",
    "threshold": "from this shade up: the second class",
}


def _end(choices: Choices) -> list[str]:
    return [
        _with("optimizer: {use: torch.optim.AdamW, args: {lr: 1e-3, weight_decay: 1e-2}}", "works without tuning"),
        "schedule: {use: kd.schedules.poly, args: {power: 0.9, warmup: 5%}}",
        "train:",
        _with(f"  epochs: {choices.epochs.value}", choices.epochs.why),
        _with(f"  batch_size: {choices.batch.value}", choices.batch.why),
    ]


def _with(line: str, why: str) -> str:
    """A line and its reason."""
    return f"{line.ljust(_COLUMN)}  # {why}" if why else line
