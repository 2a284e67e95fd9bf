"""The recipes and studies that come with kd: their folder, their names, and the file of a name."""

from difflib import get_close_matches
from pathlib import Path

from kd.errors import RecipeError, shorten


def shipped_recipes() -> Path:
    """The folder of the recipes that come with kd: in the package, or beside it in a checkout."""
    package = Path(__file__).resolve().parents[2]
    inside = package / "_recipes"
    return inside if inside.is_dir() else package.parent / "recipes"


def list_recipes() -> list[str]:
    """The names of the shipped recipes, such as `shapes/mobilenetv3_kl_cwd.yaml`."""
    return [name for name in _names() if not _is_study(name)]


def list_studies() -> list[str]:
    """The names of the shipped studies, such as `camvid/study.yaml`."""
    return [name for name in _names() if _is_study(name)]


def _names() -> list[str]:
    folder = shipped_recipes()
    return sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*.yaml"))


def _is_study(name: str) -> bool:
    return Path(name).stem.rpartition("_")[2] == "study"


def name_of(file: Path) -> Path:
    """The short name under which `find` returns a shipped recipe's file; any other file as it is."""
    shipped = shipped_recipes()
    name = file.relative_to(shipped) if file.is_relative_to(shipped) else file
    return file if name.exists() else name


def find(path: str | Path) -> Path:
    """Return `path` if it exists, else the shipped recipe of that name.

    Raises:
        RecipeError: neither exists.
    """
    path, shipped = Path(path), shipped_recipes()
    try:
        if path.exists() or path.is_absolute() or ".." in path.parts:
            return path
        parts = path.parts[1:] if path.parts[:1] == ("recipes",) else path.parts
        if shipped.joinpath(*parts).is_file():
            return shipped.joinpath(*parts)
        known = _names()
    except (OSError, ValueError):  # a name too long, a NUL: reading it reports which
        return path
    close = get_close_matches(Path(*parts).as_posix(), known, n=1) if parts else []
    hint = f"; did you mean the shipped '{close[0]}'?" if close else ""
    raise RecipeError(f"{shorten(str(path))}: no such file, here or among the shipped recipes{hint}")
