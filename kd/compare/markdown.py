"""A comparison as Markdown, for a README, an issue or a report."""

from kd.compare import answer, tables
from kd.compare.comparison import Comparison
from kd.markup import escaped, table


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
