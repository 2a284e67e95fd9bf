"""The trees in docs/architecture.md and README.md are the tree on disk."""

import re
from collections import Counter
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MOST = 14  # modules of a folder; kd/cli has one for each command
FOLDERS = {"teachers/", "students/", "recipes/", "tests/", "docs/"}


def tree(page):
    """The first block that begins with `kd/`: what stands below kd/, and beside it, each with its line."""
    block = re.search(r"```text\nkd/.*?\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL)[1]
    lines = [re.fullmatch(r"( *)(\S+) +(\S.*)", line) for line in block.splitlines()]
    assert all(lines), "an entry without a line"
    below = [line[2] for line in lines if line[1] == "  "]
    beside = [line[2] for line in lines if line[1] == ""]
    assert len(below) + len(beside) == len(lines)
    assert len({*below, *beside}) == len(lines)
    return set(below), set(beside)


def on_disk():
    """The packages and the modules of kd/."""
    packages = {f"{file.parent.name}/" for file in (ROOT / "kd").glob("*/__init__.py")}
    return packages, {file.name for file in (ROOT / "kd").glob("*.py")}


def test_the_architecture_page_lists_every_package_and_module():
    packages, modules = on_disk()
    below, beside = tree("docs/architecture.md")
    assert below == packages | modules
    assert beside == FOLDERS


def test_readme_lists_every_package():
    packages, modules = on_disk()
    below, beside = tree("README.md")
    assert packages <= below <= packages | modules
    assert beside == FOLDERS


@pytest.mark.parametrize("page", ["docs/architecture.md", "README.md"])
def test_every_named_module_exists(page):
    """`kd.train.one_run` and `kd/train/step.py` in the text are files or packages."""
    text = (ROOT / page).read_text(encoding="utf-8")
    for path in re.findall(r"`(kd/[\w/]+\.py)`", text):
        assert (ROOT / path).is_file(), path


def test_a_folder_has_few_modules():
    counts = Counter(
        file.parent.relative_to(ROOT).as_posix()
        for package in ("kd", "teachers", "students")
        for file in (ROOT / package).rglob("*.py")
        if file.name != "__init__.py"
    )
    assert {folder for folder, count in counts.items() if count > MOST} == {"kd/cli"}


def test_the_floors_are_those_of_the_linter():
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    floors = re.search(r"## Floors.*?```text\n(.*?)```", text, re.DOTALL)[1].splitlines()
    layers = re.search(r"^layers = \[(.*?)^\]", (ROOT / "pyproject.toml").read_text(), re.DOTALL | re.MULTILINE)[1]
    assert floors == [layer.replace("kd.", "") for layer in re.findall(r'"(.+)"', layers)]


def test_the_routes_lead_through_modules_that_exist():
    page = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    routes = page.partition("\n## Routes\n")[2].partition("\n## ")[0]
    keys = re.findall(r"^\| `([^`]+)` \|", (ROOT / "docs/recipes.md").read_text(encoding="utf-8"), re.MULTILINE)
    for name in set(re.findall(r"`((?:[a-z_]+\.)+[a-z_]+)`", routes)) - set(keys):
        package, _, last = f"kd.{name}".rpartition(".")
        assert hasattr(import_module(package), last) or find_spec(f"kd.{name}"), name
