"""The pages do what they say: Python blocks run, links lead somewhere, and the index knows every page."""

import inspect
import re
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import ModuleType

import pytest

import kd
from kd.recipe.shipped.recipes import shipped_recipes

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
LINK = re.compile(r"\]\(([^)\s]+)\)")


def links(page):
    """The relative links of a page, without those in code."""
    text = re.sub(r"```.*?```|`[^`\n]*`", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    return [link for link in LINK.findall(text) if "://" not in link and not link.startswith("#")]


def test_python_blocks_run_in_order(folder, capsys, monkeypatch):
    """The page's own code; what is shortened is the training of the shipped recipes, by copies in the folder."""
    monkeypatch.setattr("kd.data.datasets.shapes._HELD_OUT", 16)  # images of val and of test
    (folder / "shapes").mkdir()
    for name in ("mobilenetv3_kl_cwd.yaml", "teacher_deeplabv3plus.yaml"):
        recipe = (shipped_recipes() / "shapes" / name).read_text()
        recipe = re.sub(r"(steps|epochs): \d+(.*), evaluate_every: 50%", r"\1: 2\2", recipe)
        (folder / "shapes" / name).write_text(
            recipe.replace("count: 100}", "count: 16}").replace("count: 2000}", "count: 32}")
        )
    names: dict[str, object] = {}
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / "python.md").read_text(encoding="utf-8"), re.DOTALL)
    for block in blocks:
        exec(block, names)
    out = capsys.readouterr().out
    for text in ("baseline ", "% mIoU", "dashed bar", "tensor(0.", "did you mean 'epochs'", "did you mean 'weight'"):
        assert text in out


def test_readmes_python_is_that_of_the_page():
    """README's lines are lines of docs/python.md, which the test above runs."""
    block = re.search(r"## From Python\n\n```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)[1]
    page = (DOCS / "python.md").read_text(encoding="utf-8").splitlines()
    assert [line for line in block.splitlines() if line and line not in page] == []


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CONTRIBUTING.md"], ids=lambda page: page.stem)
def test_links_lead_somewhere(page):
    for link in links(page):
        assert (page.parent / link.partition("#")[0]).exists(), link


def test_the_index_lists_every_page_and_folder():
    listed = {(DOCS / link).resolve() for link in links(DOCS / "index.md")}
    pages = set(DOCS.glob("*.md")) - {DOCS / "index.md"}
    folders = {page.parent for page in PAGES if page.parent != DOCS}
    for path in pages | folders:
        assert path in listed or {page for page in PAGES if page.parent == path} & listed, path


def test_the_api_page_names_every_public_package_and_error():
    text = (DOCS / "api.md").read_text(encoding="utf-8")
    packages = {name for name in kd.__all__ if isinstance(getattr(kd, name), ModuleType) and name != "compare"}
    for package in {f"kd.{name}" for name in packages} | {"kd.types", "teachers", "students"}:
        assert f".. automodule:: {package}\n" in text, package
    for name in set(kd.__all__) - {"IGNORE", "__version__"}:
        assert name in text, name
    listed = set(re.search(r"automodule:: kd.errors\n +:members: (.+)", text)[1].split(", "))
    assert listed == {
        name
        for name, value in vars(kd.errors).items()
        if name.endswith("Error") and isinstance(value, type) and name[0] != "_"
    }


def test_the_api_page_has_what_the_functions_return_and_what_networks_are_made_of():
    text = (DOCS / "api.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\.\. auto\w+:: ([\w.]+)", text, re.MULTILINE)
    functions = [kd.compare.compare, *filter(inspect.isfunction, map(partial(getattr, kd), kd.__all__))]
    returned = {name for f in functions for name in re.findall(r"[A-Z]\w+", str(f.__annotations__["return"]))}
    assert "RunResult" in returned
    assert returned - {name.rpartition(".")[2] for name in listed} == {"Iterator", "Module", "Path"}
    pages = "".join((DOCS / f"add-a-{what}.md").read_text(encoding="utf-8") for what in ("network", "dataset"))
    assert set(re.findall(r"kd\.networks\.\w+|kd\.data\.images\.read", pages)) <= set(listed)


def test_the_documentation_builds_without_a_warning(tmp_path):
    pytest.importorskip("sphinx")
    pytest.importorskip("myst_parser")
    options = ["-q", "-W", "--keep-going", "-b", "dummy", "-c", str(DOCS), str(ROOT), str(tmp_path)]
    done = subprocess.run([sys.executable, "-m", "sphinx", *options], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
