"""Pages in Markdown and HTML: names and texts in them may be a stranger's, and are shown as they are."""

import re
from collections.abc import Sequence

from kd.errors import one_line

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~])")


def escaped(text: str) -> str:
    """Text in one line, which Markdown shows as it is."""
    return _SPECIAL.sub(r"\\\1", one_line(text))


def table(header: Sequence[str], rows: Sequence[Sequence[str]], *, left: int) -> str:
    """A table of GitHub's Markdown; the columns after the first `left` ones end at their right edge."""
    sides = ["---" if index < left else "---:" for index in range(len(header))]
    lines = [[escaped(cell) for cell in header], sides, *([escaped(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def printable(html: str) -> str:
    """HTML with its control characters as escapes: each may have any effect where the page is read."""
    return "\n".join(map(one_line, html.split("\n")))
