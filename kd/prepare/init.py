"""`kd init`: an export looked at, converted if it has to be, and recipes written for it."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from kd.console import Say, progress
from kd.errors import DataError, shell_word
from kd.files.storage import write_atomic
from kd.prepare.choose import choose
from kd.prepare.convert import ELSEWHERE, convert, new_folder
from kd.prepare.files import WRITTEN, list_tree
from kd.prepare.formats import find
from kd.prepare.formats.export import Export, Source
from kd.prepare.formats.splits import with_stated_splits
from kd.prepare.look import look
from kd.prepare.recipes import STUDENT, TEACHER, recipe_texts
from kd.recipe import json_schema


def init(
    images: Path,
    annotations: Path | None,
    out: Path,
    *,
    form: str | None = None,
    classes: Path | None = None,
    overlap: str | None = None,
    holes: bool = False,
    imagenet: bool = False,
    given: Mapping[str, Any] | None = None,
    examine: Callable[[Path, Path], None] = lambda recipe, root: None,
    say: Say,
) -> Path:
    """Look at an export and write recipes for it into a new folder.

    Args:
        images: folder of the images, or of the whole export.
        annotations: their folder or file; None: they are in the folder of the images.
        out: new folder: the recipes, and images and masks if they have to be converted. It appears whole or not at all.
        form: one of `kd.prepare.formats.FORMATS`; None: what the files show.
        classes: a class map; None: what the export has.
        overlap: `area` (the smaller object is on top) or `order` (the later one); None: as the tool's own masks.
        holes: whether a polygon within another one of the same object is a hole.
        imagenet: whether networks start from ImageNet's weights.
        given: a trained teacher, as recipes write it.
        examine: is called with the student's recipe and the folder of its images before `out` appears.
        say: takes lines for the user.

    Returns:
        The student's recipe.

    Raises:
        DataError: no labelled images are found, or one of them is damaged or wrong; `out` exists.
        StorageError: `out` cannot be written.
    """
    tree = list_tree(images)
    source = Source(tree, tree if annotations is None else list_tree(annotations), classes, overlap, holes)
    with new_folder(out) as folder:
        found = find(source, form)
        if isinstance(found, Export):
            found = with_stated_splits(found, source)
        say(f"found: {found.what}")
        for note in found.notes:
            say(note)
        if isinstance(found, Export):
            with progress("convert", len(found.items)) as advance:
                args, notes = convert(found, folder, advance)
            for note in notes:
                say(note)
            args, root = {"root": out.as_posix(), **args}, folder
        else:
            args, root = dict(found.args), Path(found.args["root"])
        looked = look({**args, "root": str(root)})
        for line in looked.lines:
            say(line.replace(str(folder), str(out)))
        if looked.only:
            raise DataError(f"{source.marks.root}: every labelled pixel is {looked.only}; draw another class")
        choices = choose(looked, gpu=torch.cuda.is_available())
        texts = recipe_texts(out, found.what, args, choices, given=given, imagenet=imagenet)
        for name, text in {**texts, WRITTEN: json.dumps(json_schema(), indent=2) + "\n"}.items():
            write_atomic(folder / name, text.encode(), fix=ELSEWHERE)
        examine(folder / STUDENT, root)
    for what, choice in (("size", choices.size), ("batch_size", choices.batch), ("epochs", choices.epochs)):
        say(f"{what}: {choice.value} ({choice.why})")
    for choice in choices.augment:
        say(f"augment: {choice.value} ({choice.why})")
    say(f"supervised: {choices.supervised.value} ({choices.supervised.why})")
    for name in (TEACHER, STUDENT):
        if name in texts:
            say(f"written: {out / name}")
    say(f"next: kd run {shell_word(str(out / STUDENT))} --baseline")
    return out / STUDENT
