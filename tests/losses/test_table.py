"""docs/losses.md is what its script writes."""

import json
import re
import runpy
from pathlib import Path

import pytest

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


@pytest.mark.parametrize(
    ("step", "alone"),
    [
        (0.95, {"baseline": -1}),
        (1.0, {"baseline": -1}),
        (1.75, {"baseline × 1.5": -0.5, "baseline × 2": -0.5}),
        (2.0, {"baseline × 2": -1}),
        (2.25, {"baseline × 2": -0.75, "baseline × 3": -0.25}),
        (4.0, {"baseline × 3": -1}),  # the longest
    ],
)
def test_at_equal_time_the_nearest_lengths_of_the_baseline_are_mixed(step: float, alone: dict[str, float]) -> None:
    at_equal_time = runpy.run_path(str(DOCS / "losses_table.py"))["at_equal_time"]
    script = at_equal_time.__globals__
    script["runs"] = lambda variant: variant
    script["RESULTS"]["difference"] = lambda terms: json.dumps({variant: factor for factor, variant in terms})
    assert json.loads(at_equal_time("CWD", step)) == {"CWD": 1, **alone}
