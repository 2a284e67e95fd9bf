"""A trained network as a folder for another runtime: `kd export` and `kd.export`."""

import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from kd.components import Maker, missing
from kd.console import Say
from kd.data.decode import size_text
from kd.deploy.gate import check_file
from kd.deploy.to_onnx import NEEDED, open_onnx, write_onnx
from kd.deploy.trained import Trained, open_trained
from kd.errors import RecipeError, StorageError
from kd.machine import versions
from kd.manifest import WEIGHTS, read_verified
from kd.metrics import scores
from kd.recipe.schema import EvaluateConfig
from kd.runs import Origin, origin_of, read_run_recipe

MODEL, CLASSES = "model.onnx", "classes.json"
FORMATS = ("onnx",)


def export(
    run: str | os.PathLike[str],
    out: str | os.PathLike[str],
    overrides: Iterable[str] = (),
    *,
    to: str = "onnx",
    size: tuple[int, int] | None = None,
    dynamic: bool = False,
    argmax: bool = False,
    runs: str | os.PathLike[str] = "runs",
    trust: bool = False,
    say: Say = lambda line: None,
) -> Path:
    """As `kd.export`; `say` gets a line for the user on each thing that was done."""
    out = Path(out)
    if to not in FORMATS:
        raise RecipeError(f"--to {to}: unknown; known: {', '.join(FORMATS)}")
    if size is not None and min(size) < 32:
        raise RecipeError(f"--size {size[0]} {size[1]}: at least 32 pixels each")
    trained = open_trained(run, overrides, runs=runs, trust=trust)
    _check_extra()
    say(str(trained))
    dataset = Maker(trained.recipe).dataset("val")
    height, width = size or trained.recipe.scored_size
    shape = (trained.in_channels, height, width)
    with _new_folder(out) as folder:
        file = folder / MODEL
        facts = _facts(trained)
        metadata = _origin(trained) | {
            name: value if isinstance(value, str) else json.dumps(value) for name, value in facts.items()
        }
        write_onnx(file, trained.network, shape, dynamic=dynamic, argmax=argmax, metadata=metadata)
        verdict = check_file(
            open_onnx(file), trained.network, dataset, trained.classes, size=shape[1:], dynamic=dynamic, argmax=argmax
        )
        (folder / CLASSES).write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
        megabytes = file.stat().st_size / 1e6
    taken = "any batch and size" if dynamic else f"one image of {size_text(shape[1:])}"
    say(f"{out / MODEL}: {megabytes:.1f} MB, takes {taken}; {verdict}")
    how = trained.recipe.evaluate
    left_out = [key for key in ("window", "scales", "flip") if getattr(how, key) != getattr(EvaluateConfig(), key)]
    if left_out:
        say(f"not in the file: {', '.join(f'evaluate.{key}' for key in left_out)}; it computes one pass over the image")
    return out / MODEL


def _check_extra() -> None:
    for package in NEEDED:
        if find_spec(package) is None:
            raise RecipeError(f"--to onnx: {missing(package, 'onnx')}")


def _origin(trained: Trained) -> Origin:
    """What the file states on its run, its recipe too, whatever overrides the command has."""
    recipe = read_run_recipe(trained.run_dir, trust=trained.recipe.trust)
    return origin_of(recipe, trained.result, in_channels=trained.in_channels, colors=trained.colors)


def _facts(trained: Trained) -> dict[str, object]:
    """What a user of the file needs to know: its metadata, and the content of `classes.json`."""
    result = trained.result
    return {
        "classes": list(trained.classes),
        "colors": [list(color) for color in trained.colors],
        "input": "images (N, C, H, W), RGB or one channel, float32 in [0, 1]; not normalised",
        "network": trained.recipe.student.use,
        "recipe": f"{result.name}-{result.id}",
        "seed": result.seed,
        "miou": {name: scores(split.confusion).miou for name, split in result.splits.items()},
        "weights_sha256": hashlib.sha256(read_verified(trained.run_dir, WEIGHTS)).hexdigest(),
        "versions": versions(),
    }


@contextmanager
def _new_folder(out: Path) -> Iterator[Path]:
    """A folder that gets the name `out` when the block ends, and is removed if it fails.

    Raises:
        RecipeError: `out` is there already, and is not an empty folder.
        StorageError: it cannot be made.
    """
    if os.path.lexists(out) and not (out.is_dir() and not any(out.iterdir())):
        raise RecipeError(f"{out}: already there; choose another --out, or remove it")
    folder = out.absolute().parent / f".tmp-{secrets.token_hex(8)}"
    try:
        folder.mkdir(parents=True)
        yield folder
        if out.is_dir():
            out.rmdir()
        folder.rename(out)
    except OSError as error:
        raise StorageError(f"{out}: cannot be written ({error.strerror}); choose another --out") from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)
