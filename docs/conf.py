"""How Sphinx makes the HTML pages: `make docs`. The sources are the Markdown pages and the docstrings.

The source folder is the repository, so that a page's links to README.md and CONTRIBUTING.md work here as on GitHub.
"""

import inspect
import re
import sys
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from pydoc import locate
from typing import Any

from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import kd  # noqa: E402

project = "kd"
version = release = kd.__version__
root_doc = "docs/index"
include_patterns = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/**"]
exclude_patterns = [".*", "build", "runs"]

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_heading_anchors = 3
default_role = "literal"  # docstrings write `code` in single backticks
napoleon_use_ivar = True
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
toc_object_entries = False

html_theme = "alabaster"
html_theme_options = {
    "description": "Knowledge distillation for semantic segmentation",
    "fixed_sidebar": True,
    "page_width": "1120px",
    "body_max_width": "auto",
}
html_show_sourcelink = html_show_copyright = False
html_copy_source = False

FIELD = re.compile(r"(Source|Differs|Shape|Returns \(of forward\)):( |$)")
SECTION = re.compile(r"(Args|Attributes|Raises|Returns|Yields):$|[-*] |\d+\. ")
SIGN = re.compile(r"`\s*([^`]*?)\s*`|(\|)")


def add_contents(app: Sphinx, docname: str, content: list[str]) -> None:
    """Give the index page its contents: the pages in the order of its links, a list per folder, what lies outside."""
    if docname == root_doc:
        docs = ROOT / "docs"
        links = re.findall(r"\]\(([\w-]+)\.md\)", content[0])
        pages = sorted({page.stem for page in docs.glob("*.md")} - {"index"})
        pages.sort(key=lambda page: links.index(page) if page in links else len(links))
        content[0] += _toctree("Guide", *pages)
        for folder in sorted({page.parent.name for page in docs.glob("*/*.md")}):
            content[0] += _toctree(folder.capitalize(), f"{folder}/*")
        content[0] += _toctree("Project", "../README", "../CONTRIBUTING", "../CHANGELOG")


def _toctree(caption: str, *entries: str) -> str:
    return "\n".join(["", "```{toctree}", ":hidden:", ":glob:", f":caption: {caption}", "", *entries, "```", ""])


def to_rst(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Make reStructuredText of a docstring, apart from the sections, which napoleon reads.

    An indented paragraph outside of sections and lists is a formula, a drawing or an example: a literal block.
    `Source:`, `Differs:` and `Shape:` begin fields. A bar is the sign of a norm, not of a substitution.
    """
    if what == "class" and is_dataclass(obj) and "Attributes:" not in lines:
        attributes = (f"    {field.name}: {_comment(name, field.name)}" for field in fields(obj))
        lines[:] = ["\n".join(lines).rstrip(), "", "Attributes:", *attributes]
    if lines and lines[0].startswith("Alias for field number"):
        lines[:] = [_comment(*name.rsplit(".", 1))]
    rst: list[str] = []
    section = False
    for paragraph in "\n".join(lines).split("\n\n"):
        first, *_ = text = paragraph.splitlines() or [""]
        if first.startswith(" ") and not section:
            rst += ["::", "", *text, ""]
            continue
        section = (section and first.startswith(" ")) or bool(SECTION.match(first))
        text = [SIGN.sub(lambda sign: f"`{sign[1]}`" if sign[1] else r"\|", line) for line in text]
        rst += [*(text if section else _fields(text)), ""]
    lines[:] = rst


def _comment(owner: str, field: str) -> str:
    """The comment after the field of a NamedTuple or dataclass, which has no docstring."""
    found = re.search(rf"^    {field}: [^#\n]+# (.+)", inspect.getsource(locate(owner)), re.MULTILINE)
    return found[1] if found else ""


def _fields(text: list[str]) -> Iterator[str]:
    """The lines of a paragraph, those from `Source:` on as fields."""
    inside = False
    for line in text:
        if FIELD.match(line):
            yield from [f":{line}"] if inside else ["", f":{line}"]
            inside = True
        else:
            yield f"    {line.strip()}" if inside else line.strip()


def setup(app: Sphinx) -> None:
    """Register both; docstrings are prepared before napoleon (priority 500) reads them."""
    app.connect("source-read", add_contents)
    app.connect("autodoc-process-docstring", to_rst, priority=400)
