"""The path of a run directory, its lock and its recipe."""

import os
import platform
import re
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from kd.errors import LockedError, RecipeError, StorageError
from kd.files.manifest import MANIFEST, RESULT, read_manifest, read_verified
from kd.files.reading import exists, read_bytes, read_text, special
from kd.inputs import has_inputs, read_copies, read_inputs
from kd.recipe import Recipe, read_recipe
from kd.recipe.shipped.recipes import name_of
from kd.recipe.sources import Code, Sources

LOOK = 0.2  # seconds; whoever looks whether a run is locked holds the lock for a moment


def run_directory(recipe: Recipe, runs: Path, seed: int) -> Path:
    """`runs/<stem>-<id>/seed<k>`, or the directory of a recipe with another name and the same id, if it exists.

    Distilled recipes that share a baseline therefore train it once. A run of version 0.1 or 0.2 is found by its old id.
    """
    name = f"{recipe.stem}-{recipe.id}"
    if not os.path.isdir(runs / name):
        name = min((path.name for path in runs.glob(f"*-{recipe.id}")), default=name)
    run_dir = runs / name / f"seed{seed}"
    if os.path.isdir(run_dir) or not recipe.old_id:
        return run_dir
    return min(runs.glob(f"*-{recipe.old_id}/seed{seed}"), default=run_dir)


def in_its_folder(run_dir: Path) -> Path:
    """A run directory by a path that ends in `<stem>-<id>/seed<k>`: from inside that folder, its path is `seed<k>`."""
    end = run_dir.parts[-2:]
    return run_dir if len(end) == 2 and ".." not in end else Path(os.path.abspath(run_dir))


def id_of(run_dir: Path) -> str:
    """The id in a run directory's path; the recipe's, or its old one for a run that an old version began."""
    return in_its_folder(run_dir).parent.name.rpartition("-")[2]


def short_name(run_dir: Path) -> str:
    """`<stem>-<id>/seed<k>`: how files name another run, so that they hold wherever both are moved."""
    return "/".join(in_its_folder(run_dir).parts[-2:])


def is_finished(run_dir: Path) -> bool:
    """Whether the run has a result, as far as its files' names show: reading it may find it damaged.

    A result without its manifest is not finished if it can still be continued: its writer was killed between the two.
    A directory of another user, into which nobody else may look, is not finished either; see `may_be_finished`.
    """
    try:
        return _has_result(run_dir)
    except StorageError:
        return False


def may_be_finished(run_dir: Path) -> bool:
    """As `is_finished`; a directory that nobody may look into counts, and reading its result shows why it cannot."""
    try:
        return _has_result(run_dir)
    except StorageError:
        return True


def refuse_inside(option: str, path: Path | None) -> None:
    """Refuse to write into the directory of a finished run, which stays as the run left it.

    Raises:
        RecipeError: `path` is in one.
    """
    if path is None:
        return
    place = Path(os.path.realpath(path))
    for folder in (place, *place.parents):
        if is_finished(folder) and (folder / "recipe.yaml").is_file():  # others have a manifest.json, too
            raise RecipeError(
                f"{option} {path}: is in the run directory {folder}, to which nothing is added; choose another place"
            )


def _has_result(run_dir: Path) -> bool:
    if exists(run_dir / MANIFEST, StorageError):
        return True
    if not exists(run_dir / RESULT, StorageError):
        return False
    return not (_needs_manifest(run_dir / RESULT) and any((run_dir / "checkpoints").glob("step-*.pt")))


def _needs_manifest(result: Path) -> bool:
    """Whether a version of kd has written it that writes a manifest next."""
    try:
        content = read_bytes(result, "a result", StorageError, inside=result.parent)
    except StorageError:
        return False
    return re.search(rb'"format": [2-9]', content) is not None


def read_run_recipe(run_dir: Path, overrides: Sequence[str] = (), *, trust: bool = False) -> Recipe:
    """Read the recipe in a run directory, with its code as the run keeps it; no other file that it names is opened.

    Args:
        run_dir: the run directory.
        overrides: `path=value` texts that change how the run is used, not how it was trained.
        trust: whether the recipe, or an override, may name code outside kd.

    Raises:
        RecipeError: there is no recipe, or it is wrong, or names code that is not trusted.
        StorageError: it is not the one that the finished run was trained by; or its inputs, or its code, are damaged.
    """
    manifest, file = read_manifest(run_dir), run_dir / "recipe.yaml"
    if manifest is not None:
        read_verified(run_dir, file.name)
    elif not exists(file, StorageError):
        raise RecipeError(f"{run_dir}: no run directory; name one, such as x-0123abcd/seed0 (kd list shows all)")
    sources = Sources()
    if has_inputs(run_dir):
        inputs = read_inputs(run_dir)
        code = {file: Code(Path(file), modules) for file, modules in read_copies(run_dir, inputs).items()}
        sources = Sources(code, inputs.files, of_run=True)
    id = id_of(run_dir) if manifest is None else manifest.id  # a run may be named by a link elsewhere
    return read_recipe(file, overrides, trust=trust, id=id, sources=sources)


def run_command(recipe: Recipe, runs: Path, *options: str) -> str:
    """The `kd run …` of a recipe."""
    folder = [] if runs == Path("runs") else ["--runs", str(runs)]
    trust = ["--trust"] if recipe.trust else []
    return shlex.join(["kd", "run", str(name_of(recipe.file)), *recipe.overrides, *folder, *trust, *options])


def teacher_directories(recipe: Recipe, runs: Path) -> list[Path]:
    """The run directories of a recipe's teacher, one per seed of its recipe; none for a teacher without a run."""
    if recipe.teacher is None:
        return []
    if recipe.teacher.run is not None:
        return [Path(recipe.teacher.run)]
    teacher = recipe.teacher_recipe
    return [run_directory(teacher, runs, seed) for seed in teacher.train.seeds] if teacher else []


@contextmanager
def locked(run_dir: Path) -> Iterator[None]:
    """Lock a run directory against all other processes while the block runs.

    Raises:
        LockedError: another process uses the directory; the message names that process.
        StorageError: the directory cannot be created.
    """
    owner = run_dir / ".owner"
    lock = FileLock(run_dir / ".lock")
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        _refuse_special(run_dir)
        lock.acquire(timeout=LOOK, poll_interval=LOOK / 10)
        owner.write_text(f"process {os.getpid()} on {platform.node()}", encoding="utf-8")
    except Timeout:
        name = "another process"
        if owner.is_file():
            name = read_text(owner, "the name of a process", StorageError, inside=run_dir)
        raise LockedError(f"{run_dir}: in use by {name}") from None
    except OSError as error:
        lock.release()  # unless it was not taken
        raise StorageError(f"{run_dir}: cannot be written ({error.strerror}); choose --runs DIR") from None
    try:
        yield
    finally:
        owner.unlink(missing_ok=True)
        lock.release()


def _refuse_special(run_dir: Path) -> None:
    """Refuse to write through a link, into a folder too: in a stranger's run, `checkpoints` may lead anywhere.

    What training no longer needs is removed, so a folder elsewhere would lose its files. A pipe would block.
    """
    for file in run_dir.iterdir():
        if kind := special(file):
            fix = "put the folder itself there, or choose --runs DIR" if file.is_dir() else "remove it"
            raise StorageError(f"{file}: {kind}, and this run would write to it; {fix}")
