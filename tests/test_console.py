"""Durations in words, tables with one line a row, and text of strangers that stays within its line."""

import io
import re
import warnings
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from kd.cli import main
from kd.cli.status import report
from kd.console import (
    fitted,
    make_table,
    print_blocks,
    print_errors,
    print_line,
    print_lines,
    print_text,
    progress,
    say,
)
from kd.errors import DataError, LockedError, RecipeError, StorageError, one_line
from kd.train.sinks.log_file import LogFile
from kd.train.sinks.terminal import Terminal
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


def test_a_count_shows_the_speed_and_the_time_left(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = iter((0.0, 4.0, 12.0))
    monkeypatch.setattr("kd.console.time.monotonic", lambda: next(clock))
    with progress("scores the teacher", 100) as advance:
        advance(10)  # after 4 s: too early for a line in a pipe
        advance(30)
    assert capsys.readouterr().out == "scores the teacher 30/100 · 2.5 images/s · 28 s left\n"


def test_a_quiet_progress_prints_nothing(monkeypatch, capsys) -> None:
    monkeypatch.setattr("time.monotonic", iter(range(0, 10**6, 60)).__next__)
    with progress("scores the teacher", 100, quiet=True) as advance:
        advance(50)
    assert capsys.readouterr().out == ""


def test_seconds_have_no_speed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    clock = iter((0.0, 10.0))
    monkeypatch.setattr("kd.console.time.monotonic", lambda: next(clock))
    with progress("measures student a", 15, "s") as advance:
        advance(10)
    assert capsys.readouterr().out == "measures student a 10/15 s · 5 s left\n"


@pytest.mark.parametrize(("width", "text"), [(60, "a long title 1/2 · 3 s left"), (26, "a long tit… 1/2 · 3 s left")])
def test_a_title_is_cut_before_the_numbers(width: int, text: str) -> None:
    assert fitted("a long title", " 1/2 · 3 s left", width).plain == text


def test_lines_are_cut_to_the_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("kd.console.stdout", lambda: Console(force_terminal=True, width=20))
    print_lines(("name", "what"), ROWS, whole=1)
    assert capsys.readouterr().out == "name  what\na     the first let…\nbcd   three\n"


def test_lines_align_wide_characters_and_cut_between_them(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [("道路", "1.5", "天空天空天空"), ("kl", "10", "x")]
    print_lines(("name", "%", "state"), rows, whole=2, numbers=("%",))
    assert capsys.readouterr().out.splitlines() == ["name    %  state", "道路  1.5  天空天空天空", "kl     10  x"]
    narrow = Console(width=20, force_terminal=True, color_system=None)
    monkeypatch.setattr("kd.console.stdout", lambda: narrow)
    print_lines(("name", "%", "state"), rows, whole=2, numbers=("%",))
    assert capsys.readouterr().out.splitlines()[1] == "道路  1.5  天空天空…"


WHOLE = ["      道路  gain of it", "天空   1.0         2.5", "c     20.0            "]
BLOCKS = ["      道路", "天空   1.0", "c     20.0", "", "      gain of it", "天空         2.5", "c               "]


@pytest.mark.parametrize(("width", "lines"), [(40, WHOLE), (17, BLOCKS)])
def test_blocks_align_wide_characters(width: int, lines: list[str]) -> None:
    file = io.StringIO()
    rows = [["天空", "1.0", "2.5"], ["c", "20.0", ""]]
    print_blocks(["", "道路", "gain of it"], rows, console=Console(file=file, width=width, color_system=None))
    assert file.getvalue().splitlines() == lines


def test_a_column_wider_than_the_terminal_keeps_its_title_and_its_numbers() -> None:
    file = io.StringIO()
    rows = [["sky", "2.5", "71"]]
    print_blocks(["", "gain kl_1", "gain kl_12"], rows, console=Console(file=file, width=11, color_system=None))
    first, second = ("\n".join(block.split()) for block in file.getvalue().split("\n\n"))
    assert (first, second) == ("gain\nkl_1\nsky\n2.5", "gain\nkl_12\nsky\n71")


def test_blocks_colour_a_cell_and_not_its_padding() -> None:
    file = io.StringIO()
    console = Console(file=file, width=40, force_terminal=True, color_system="standard", highlight=False)
    print_blocks(["", "a", "gain"], [["sky", "1", "+2"]], styles={(0, "gain"): "green"}, console=console)
    assert file.getvalue().splitlines()[1] == "sky  1    \x1b[32m+2\x1b[0m"


CONTROLS = "\0\a\b\t\n\v\f\r\x1b\x7f\x85\x9b\u2028\u2029\u202e\u2066\u200f\ud800"
HOSTILE = st.text(st.one_of(st.sampled_from(CONTROLS), st.characters())).map(lambda text: f"a{text}b")


def _by_console(text: str, print_it: Callable[[Console], None]) -> None:
    file = io.StringIO()
    print_it(Console(file=file, width=10_000, color_system=None))
    print(file.getvalue(), end="")


# each prints two lines that hold the text
PRINTERS: dict[str, Callable[[str], object]] = {
    "lines": lambda text: (print_line(text), say(text)),
    "errors": lambda text: print_errors([text, text]),
    "error of data": lambda text: report(DataError([text, text]), None),
    "errors of files": lambda text: (report(StorageError(text), None), report(LockedError(text), None)),
    "errors of recipes": lambda text: report(RecipeError([text, text]), None),
    "plain table": lambda text: print_lines((text, "b"), [("a", text)], whole=2),
    "blocks": lambda text: _by_console(text, lambda console: print_blocks([text, "b"], [["a", text]], console=console)),
    "table": lambda text: _by_console(text, lambda console: console.print(make_table([text, "b"], [["a", text]]))),
    "console": lambda text: _by_console(
        text, lambda console: [print_line(text, console=console) for _ in "ab"] and None
    ),
}


def printed(call: Callable[[], object]) -> str:
    """What a call prints, to standard output and then to standard error."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        call()
    return out.getvalue() + err.getvalue()


@pytest.mark.parametrize("printer", PRINTERS)
@settings(max_examples=25)
@given(text=HOSTILE)
def test_whatever_a_value_holds_a_line_stays_one_line(printer: str, text: str) -> None:
    lines = printed(lambda: PRINTERS[printer](text)).split("\n")
    assert len(lines) == 3
    assert lines[-1] == ""
    for line in lines[:2]:
        assert line.isprintable()
        assert one_line(text) in line


@settings(max_examples=25)
@given(text=HOSTILE)
def test_a_page_of_text_keeps_its_lines_and_nothing_else(text: str) -> None:
    lines = printed(lambda: print_text(text)).removesuffix("\n").split("\n")
    assert lines == [one_line(line) for line in text.split("\n")]


@settings(max_examples=25)
@given(text=HOSTILE)
def test_warnings_and_mistakes_on_the_command_line_are_printable(text: str) -> None:
    def warned() -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            assert main(["components", "schedules"]) == 0  # installs how warnings are shown
            warnings.warn(text, stacklevel=1)

    def mistaken() -> None:
        with pytest.raises(SystemExit):
            main(["list", "runs", text.replace("-", "")])

    assert re.search(r"^warning: a.*b$", printed(warned), re.MULTILINE)
    for call in (warned, mistaken):
        assert all(line.isprintable() for line in printed(call).split("\n"))


def test_the_log_and_the_line_of_progress_keep_to_their_line(tmp_path: Path) -> None:
    LogFile(tmp_path).write(f"class {CONTROLS}!")
    (line,) = (tmp_path / "log.txt").read_text().split("\n")[:-1]
    assert line.isprintable()
    out = io.StringIO()
    Terminal(CONTROLS, 1, console=Console(file=out, width=200)).scalars(1, {f"loss/{CONTROLS}": 1.0, "val/miou": 0.5})
    (line,) = out.getvalue().split("\n")[:-1]
    assert line.isprintable()


def test_nothing_prints_but_these_functions() -> None:
    """A `print` elsewhere would pass on what a stranger's file holds."""
    found = [
        f"{file.name}:{number}"
        for file in (Path(__file__).parents[1] / "kd").rglob("*.py")
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1)
        if re.search(r"(?<![\w.])print\(|\b(Console|Table|Text)\(|sys\.std(out|err)\.write", line)
    ]
    # standalone.py is a script that leaves kd, and prints what is in its own folder
    assert {name.partition(":")[0] for name in found} == {"console.py", "terminal.py", "standalone.py"}
