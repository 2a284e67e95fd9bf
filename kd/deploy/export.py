"""A trained network as a folder for another runtime: `kd export` and `kd.export`."""

import json
import os
from collections.abc import Iterable
from pathlib import Path

from kd.components import Maker
from kd.console import Say
from kd.data.decode import size_text
from kd.deploy.card import card
from kd.deploy.folder import CLASSES, README, as_texts, facts_of, new_folder, origin_of_run, write_script
from kd.deploy.formats import format_of
from kd.deploy.gate import check_file
from kd.deploy.graph import Form
from kd.deploy.trained import open_trained
from kd.errors import RecipeError
from kd.recipe.schema import EvaluateConfig


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
    runs: str | os.PathLike[str] = "runs",
    trust: bool = False,
    say: Say = lambda line: None,
) -> Path:
    """As `kd.export`; `say` gets a line for the user on each thing that was done."""
    out, chosen = Path(out), format_of(to)
    if size is not None and min(size) < 32:
        raise RecipeError(f"--size {size[0]} {size[1]}: at least 32 pixels each")
    trained = open_trained(run, overrides, runs=runs, trust=trust)
    say(str(trained))
    dataset = Maker(trained.recipe).dataset("val")
    form = Form(trained.in_channels, size or trained.recipe.scored_size, dynamic, argmax, uint8)
    with new_folder(out) as folder:
        file, origin = folder / chosen.file, origin_of_run(trained)
        facts = facts_of(trained, origin, chosen, form)
        chosen.write(file, trained.network, form, origin | as_texts(facts))
        verdict = str(check_file(chosen.open(file), trained.network, dataset, trained.classes, form))
        megabytes = sum(part.stat().st_size for part in folder.iterdir()) / 1e6
        scripted = write_script(folder, trained, dataset, form)
        (folder / CLASSES).write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
        text = card(trained, origin, chosen, form, verdict=verdict, megabytes=megabytes, scripted=scripted)
        (folder / README).write_text(text, encoding="utf-8")
    taken = "any batch and size" if dynamic else f"one image of {size_text(form.size)}"
    say(f"{out / chosen.file}: {megabytes:.1f} MB, takes {taken}; {verdict}")
    how = trained.recipe.evaluate
    left_out = [key for key in ("window", "scales", "flip") if getattr(how, key) != getattr(EvaluateConfig(), key)]
    if left_out:
        say(f"not in the file: {', '.join(f'evaluate.{key}' for key in left_out)}; it computes one pass over the image")
    return out / chosen.file
