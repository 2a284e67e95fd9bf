"""Where the numbers of a comparison's page come from: runs, commands, recipes, without the folders of this machine."""

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from html import escape
from pathlib import Path

from kd.compare.comparison import Comparison
from kd.errors import StorageError, WeightsError
from kd.files.reading import read_text
from kd.runs import Origin, read_environment, read_run_origin

# the folder of a recipe, of code or of a run in a run's recipe: a page may be passed on, and it is this machine's
_FOLDER = re.compile(r"""\b(recipe|use|run): (['"]?)(?:/|[A-Za-z]:[\\/])[^'",{}\n]*[\\/]""")


def origins(comparison: Comparison) -> Iterator[Origin]:
    """What the weights of the runs state on where they come from, for `kd recipe` of the page."""
    for entry in comparison.entries:
        for run_dir in entry.run_dirs:
            with suppress(StorageError, WeightsError):  # a run of kd 0.3 or older, or one without weights
                yield read_run_origin(run_dir)


def sources_html(comparison: Comparison) -> str:
    """The runs, the commands that trained them, and their texts."""
    run_dirs = [run_dir for entry in comparison.entries for run_dir in entry.run_dirs]
    first_seeds = [entry.run_dirs[0] for entry in comparison.entries if entry.run_dirs]
    named = named_folders(comparison)
    shown = [run_dir for run_dir in first_seeds if run_dir.resolve().parents[1] in named]
    listed = "".join(f"<li><code>{escape(_place(run_dir))}</code></li>" for run_dir in run_dirs)
    commands = "".join(f"<li><code>{escape(shared(text, named))}</code></li>" for text in _commands(shown))
    texts = "".join(
        f"<details><summary><code>{escape(shared(path, named))}</code></summary>"
        f"<pre>{escape(shared(text, named))}</pre></details>"
        for path, text in run_texts(shown)
    )
    trained = f"<h3>Commands</h3><ul>{commands}</ul>" if commands else ""
    return f"<h3>Runs</h3><ul>{listed}</ul>{trained}<h3>Recipes and environments</h3>{texts}"


def named_folders(comparison: Comparison) -> set[Path]:
    """The folders of runs that the user named: a result states where its teacher's run is, which may be elsewhere."""
    return {
        entry.run_dirs[0].resolve().parents[1] for entry in comparison.entries if entry.role in ("student", "alone")
    }


def _commands(run_dirs: Sequence[Path]) -> list[str]:
    """The commands that trained the runs, each once."""
    found: dict[str, None] = {}
    for run_dir in run_dirs:
        try:
            found[read_environment(run_dir).command] = None
        except StorageError:  # the text below shows why
            continue
    return [command for command in found if command]


def _place(run_dir: Path) -> str:
    """A run directory without the folders of this machine: `runs/x-1234abcd/seed0`."""
    return "/".join(run_dir.resolve().parts[-3:])


def shared(text: str, runs: Iterable[Path]) -> str:
    """A text without the folders of this machine: a page is sent to others."""
    for folder in (*(str(each.parent) for each in runs), os.getcwd(), os.path.expanduser("~")):
        if len(folder) > 1:
            text = text.replace(f"{folder}{os.sep}", "")
    return text


def run_texts(run_dirs: Sequence[Path]) -> list[tuple[str, str]]:
    """The recipes and environments of runs, as (path, text); of a file that cannot be read, why."""
    files = [(run_dir, run_dir / name) for run_dir in run_dirs for name in ("recipe.yaml", "environment.json")]
    texts = []
    for run_dir, file in files:
        try:
            text = read_text(file, "a page of text", StorageError, inside=run_dir)
            texts.append((str(file), _FOLDER.sub(r"\1: \2", text) if file.suffix == ".yaml" else text))
        except StorageError as error:
            texts.append((str(file), str(error)))
    return texts
