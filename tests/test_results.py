"""The tables of docs/results are what the runs kept beside them say."""

import re
import runpy
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[1] / "docs"
SCRIPT = runpy.run_path(str(DOCS / "results_table.py"))


@pytest.mark.parametrize("path", sorted((DOCS / "results").glob("*.md")), ids=lambda path: path.stem)
def test_the_tables_are_those_of_the_kept_runs(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert SCRIPT["page"](text) == text, "python docs/results_table.py"


def test_every_kept_run_is_in_a_table_of_a_page() -> None:
    shown = set(re.findall(r"<!-- runs: (\S+) -->", "".join(p.read_text() for p in (DOCS / "results").glob("*.md"))))
    assert shown == SCRIPT["TABLES"].keys()
    listed = {
        run for name, rows in SCRIPT["TABLES"].items() for p in rows.values() for run in (SCRIPT["DATA"] / name).glob(p)
    }
    assert listed == {path.parent for path in SCRIPT["DATA"].rglob("result.json")}
