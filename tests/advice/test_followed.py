"""Advice about data, weights, runs and machines: who follows it sees it no more."""

import advised_checks
import advised_contracts
import advised_data
import advised_fixes
import advised_init
import advised_memory
import advised_moved
import advised_published
import advised_results
import advised_runs
import advised_studies
import advised_tools
import advised_weights
import pytest
from following import Row, appears, printed

TRAINING = [
    *advised_fixes.ROWS,
    *advised_init.ROWS,
    *advised_memory.ROWS,
    *advised_moved.ROWS,
    *advised_results.ROWS,
    *advised_runs.ROWS,
    *advised_studies.ROWS[-1:],
    *advised_tools.ROWS,
]  # a fifth of a second each, or more
ROWS = [
    *advised_checks.ROWS,
    *advised_contracts.ROWS,
    *advised_data.ROWS,
    *advised_published.ROWS,
    *advised_studies.ROWS[:-1],
    *advised_weights.ROWS,
    *TRAINING,
]
SLOW = [row for number, row in enumerate(TRAINING) if number % 4]  # all but a quarter of them


@pytest.mark.parametrize(
    "row", [pytest.param(row, id=row.message[-60:], marks=[pytest.mark.slow] * (row in SLOW)) for row in ROWS]
)
def test_the_trouble_is_gone(row: Row, folder, capsys):
    text = printed(row.refused, capsys, may_fail=True)
    assert appears(row.message, text), text
    assert not appears(row.message, printed(lambda: row.followed(text), capsys, may_fail=False))
