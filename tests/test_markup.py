"""Names with markup and control characters, as they may stand in a stranger's class map."""

from kd.markup import escaped, printable, table

NAME = "</script>\x1b[31m\n| a | b"


def test_markdown_shows_a_name_as_it_is() -> None:
    assert escaped(NAME) == r"\</script\>\\x1b\[31m\\n\| a \| b"
    assert escaped("[c](http://d)") == r"\[c\](http://d)"


def test_a_row_of_a_table_stays_one_line() -> None:
    assert table(["class", "IoU"], [[NAME, "1.0"]], left=1).split("\n") == [
        "| class | IoU |",
        "| --- | ---: |",
        f"| {escaped(NAME)} | 1.0 |",
    ]


def test_html_has_no_control_characters_but_its_line_breaks() -> None:
    assert printable("<p>\x1b[31m\x07</p>\n<p>é</p>") == r"<p>\x1b[31m\x07</p>" + "\n<p>é</p>"
