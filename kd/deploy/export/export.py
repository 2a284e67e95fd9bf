"""A trained network as a folder for another runtime: `kd export` and `kd.export`."""

import json
import math
import os
from collections.abc import Iterable
from pathlib import Path

from kd.components import Maker
from kd.console import Say, silent
from kd.data.images.decode import size_text
from kd.deploy.export.card import card
from kd.deploy.export.folder import (
    CLASSES,
    README,
    as_texts,
    as_trained,
    facts_of,
    new_folder,
    passes_beyond_one,
    write_script,
)
from kd.deploy.export.formats import format_of
from kd.deploy.export.gate import check_file
from kd.deploy.export.graph import Form
from kd.deploy.export.to_int8 import file_network, size_of_files, write_int8
from kd.errors import RecipeError
from kd.evaluation.trained import open_trained


def export(
    run: str | os.PathLike[str],
    out: str | os.PathLike[str],
    overrides: Iterable[str] = (),
    *,
    to: str = "onnx",
    size: tuple[int, int] | None = None,
    dynamic: bool = False,
    argmax: bool = False,
    uint8: bool = False,
    int8: bool = False,
    max_drop: float = 1.0,
    runs: str | os.PathLike[str] = "runs",
    trust: bool = False,
    say: Say = silent,
) -> Path:
    """As `kd.export`; `say` gets a line for the user on each thing that was done."""
    out, chosen = Path(out), format_of(to)
    if size is not None and min(size) < 32:
        raise RecipeError(f"--size {size[0]} {size[1]}: at least 32 pixels each")
    if not 0 <= max_drop <= 100:
        raise RecipeError(f"--max-drop {max_drop:g}: points of mIoU, from 0 to 100")
    if int8 and chosen.convert is None:
        raise RecipeError(f"--int8: {chosen.file} stays in float32; use --to onnx or --to openvino")
    trained = open_trained(run, overrides, runs=runs, trust=trust)
    own, origin = as_trained(trained)
    say(str(trained))
    dataset = Maker(trained.recipe).dataset("val")
    form = Form(trained.in_channels, size or trained.recipe.scored_size, dynamic, argmax, uint8)
    with new_folder(out) as folder:
        file = folder / chosen.file
        facts = facts_of(own, origin, chosen, form)
        quantized = None
        if int8:
            quantized = write_int8(
                file,
                trained,
                chosen,
                form,
                dataset,
                Maker(trained.recipe).dataset("train"),
                max_drop=max_drop,
                metadata=lambda tried: origin | as_texts(facts | tried.facts()),
            )
            facts |= quantized.facts()
        else:
            chosen.write(file, trained.network, form, origin | as_texts(facts))
        compute, drop = chosen.open(file), None if quantized is None else math.inf  # its drop is known
        verdict = str(check_file(compute, trained.network, dataset, trained.classes, form, max_drop=drop))
        megabytes = size_of_files(folder) / 1e6
        network = trained.network if quantized is None else file_network(chosen, file, form, len(trained.classes))
        scripted = write_script(folder, trained, network, dataset, form)
        (folder / CLASSES).write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
        text = card(
            own, origin, chosen, form, verdict=verdict, megabytes=megabytes, scripted=scripted, quantized=quantized
        )
        (folder / README).write_text(text, encoding="utf-8")
    for line in [] if quantized is None else quantized.lines():
        say(line)
    taken = "any batch and size" if dynamic else f"one image of {size_text(form.size)}"
    say(f"{out / chosen.file}: {megabytes:.1f} MB, takes {taken}; {verdict}")
    if left_out := passes_beyond_one(trained.recipe):
        say(f"not in the file: {left_out}; it computes one pass over the image")
    return out / chosen.file
