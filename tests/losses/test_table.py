"""docs/losses.md is what its script writes."""

import re
import runpy
from pathlib import Path

DOCS = Path(__file__).resolve().parents[2] / "docs"
TEXT = (DOCS / "losses.md").read_text(encoding="utf-8")


def test_the_table_is_up_to_date() -> None:
    assert runpy.run_path(str(DOCS / "losses_table.py"))["page"]() == TEXT, "run make generated"


def test_every_case_of_published_code_is_counted() -> None:
    rows = re.findall(r"\| (\d+) \| (?:equal|differs)", (DOCS / "methods" / "cases.md").read_text(encoding="utf-8"))
    cells = re.findall(r"(\d+) (?:equal|by a factor|different on purpose)", TEXT)
    assert sum(map(int, cells)) == sum(map(int, rows))


def test_its_links_exist() -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", TEXT):
        assert (DOCS / target).exists(), target
