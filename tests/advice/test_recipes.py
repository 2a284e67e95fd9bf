"""The advice of `kd` for a recipe: the message appears, and the recipe that follows it gets past it."""

from pathlib import Path

import pytest
from advised_recipes import MORE, ROWS, Row
from command import kd
from tiny import write_recipes


def printed(
    row: Row, change: dict[str, str] | tuple[str, ...], folder: Path, capsys: pytest.CaptureFixture[str]
) -> tuple[int, str]:
    """The exit status of the row's command on the changed recipe, and what it printed."""
    text, overrides = row.text, change
    if isinstance(change, dict):
        for old, new in change.items():
            assert old in text
            text = text.replace(old, new)
        overrides = ()
    (folder / "r.yaml").write_text(text)
    status = kd(*row.command.split(), "r.yaml", "--trust", *overrides)
    output = capsys.readouterr()
    return status, output.out + output.err


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.message[:60])
def test_the_advised_recipe_passes(row: Row, folder: Path, capsys: pytest.CaptureFixture[str]):
    write_recipes(folder)
    (folder / "more.py").write_text(
        MORE.replace("from nets", f"import sys; sys.path.insert(0, {str(folder)!r})\nfrom nets")
    )
    status, before = printed(row, row.refused, folder, capsys)
    assert row.message in before
    assert status == 2
    status, after = printed(row, row.followed, folder, capsys)
    assert row.message not in after
    assert status == 0, after
