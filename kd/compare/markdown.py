"""A comparison as Markdown, for a README, an issue or a report."""

import re
from collections.abc import Sequence

from kd.compare import answer, tables
from kd.compare.comparison import Comparison
from kd.errors import one_line

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~])")


def to_markdown(comparison: Comparison) -> str:
    """The words, the tables and the notes of `kd compare`."""
    first, *more = answer.headline(comparison)
    paragraphs = [
        *(f"> {escaped(line)}" for line in answer.warnings(comparison)),
        f"**{escaped(first)}.**",
        *(f"{escaped(line)}." for line in (*more, *answer.decision(comparison), tables.facts(comparison))),
        table(*tables.summary_rows(comparison), left=2),
        table(*tables.class_rows(comparison), left=1),
        "\n".join(f"- {escaped(note.text)}" for note in comparison.notes),
    ]
    return "\n\n".join(filter(None, paragraphs)) + "\n"


def table(header: Sequence[str], rows: Sequence[Sequence[str]], *, left: int) -> str:
    """A table of GitHub's Markdown; the columns after the first `left` ones end at their right edge."""
    sides = ["---" if index < left else "---:" for index in range(len(header))]
    lines = [[escaped(cell) for cell in header], sides, *([escaped(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def escaped(text: str) -> str:
    """Text that Markdown shows as it is."""
    return _SPECIAL.sub(r"\\\1", one_line(text))
