"""Durations in words, and tables with one line a row."""

import pytest
from rich.console import Console

from kd.console import print_lines
from kd.units import duration

ROWS = [("a", "the first letter, which is [bold]"), ("bcd", "three")]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "0 s"), (45, "45 s"), (100, "2 min"), (672, "11 min"), (5_399, "1 h 30 min"), (11_100, "3 h 05 min")],
)
def test_durations_read_like_speech(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_piped_lines_are_whole(capsys: pytest.CaptureFixture[str]) -> None:
    print_lines(("name", "what"), ROWS, whole=1)
    assert capsys.readouterr().out == "name  what\na     the first letter, which is [bold]\nbcd   three\n"


def test_lines_are_cut_to_the_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("kd.console.stdout", lambda: Console(force_terminal=True, width=20))
    print_lines(("name", "what"), ROWS, whole=1)
    assert capsys.readouterr().out == "name  what\na     the first let…\nbcd   three\n"
