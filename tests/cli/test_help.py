"""The help of every command, docs/commands.md and docs/add-a-command.md agree with the program."""

import argparse
import re
import shlex
from importlib import import_module
from pathlib import Path

import pytest
from command import kd

from kd.cli.status import EVERY, MEANINGS

program = import_module("kd.cli.main")  # `from kd.cli import main` is the function

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE = (DOCS / "commands.md").read_text(encoding="utf-8")
SHARED = ("recipe", "overrides", "trust", "runs")  # described once, at the top of the page
FENCE = r"^```{}\n(.*?)^```"


def parser_of(name: str) -> argparse.ArgumentParser:
    [choices] = [
        action.choices for action in program.make_parser(program.commands())._actions if action.dest == "command"
    ]
    return choices[name]


def statuses_of(name: str) -> list[int]:
    return sorted({*EVERY, *import_module(f"kd.cli.{name}").STATUSES})


def options_of(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    return [action for action in parser._actions if action.dest != "help"]


def written(action: argparse.Action) -> str:
    """An option as the page writes it: `--sizes N K C H W`, `--losses NAME …`, `RECIPE`."""
    metavar = action.metavar or ("" if action.nargs == 0 else action.dest.upper())
    values = " ".join(metavar) if isinstance(metavar, tuple) else metavar
    several = " …" if action.nargs in ("*", "+") else ""
    return " ".join([*action.option_strings, values]).strip() + several


def rows(actions: list[argparse.Action]) -> list[str]:
    return [f"| `{written(action)}` | {action.help} |" for action in actions]


def shared_rows() -> list[str]:
    return rows([action for action in options_of(parser_of("run")) if action.dest in SHARED])


def table(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("| `")]


def sections(page: str) -> dict[str, str]:
    return dict(re.findall(r"^## kd (\w+)\n(.*?)(?=^## |\Z)", page, re.DOTALL | re.MULTILINE))


def check_section(name: str, section: str) -> None:
    """Compare a command's section with the program."""
    parser = parser_of(name)
    description, _, example = import_module(f"kd.cli.{name}").__doc__.partition("\n\nExample:\n")
    usage = " ".join(parser.format_usage().replace("usage: ", "").replace("[-h]", "").split())
    assert section.startswith(f"\n{description.splitlines()[0]}\n")
    assert re.findall(FENCE.format("text"), section, re.DOTALL | re.MULTILINE) == [f"{usage}\n"]
    examples = [line.strip() + "\n" for line in example.splitlines()]
    assert re.findall(FENCE.format("bash"), section, re.DOTALL | re.MULTILINE) == ["".join(examples)]
    assert table(section) == [row for row in rows(options_of(parser)) if row not in shared_rows()]
    assert section.rstrip().endswith(f"Exit statuses: {', '.join(map(str, statuses_of(name)))}.")


@pytest.mark.parametrize("name", program.commands())
def test_help_has_an_example_the_statuses_and_the_page(name, capsys):
    with pytest.raises(SystemExit) as caught:
        kd(name, "--help")
    assert caught.value.code == 0
    out = capsys.readouterr().out
    summary = import_module(f"kd.cli.{name}").__doc__.partition("\n")[0]
    assert f"\n\n{summary}\n" in out
    assert f"\nexample:\n    kd {name}" in out
    for number in statuses_of(name):
        assert f"\n  {number:>3}  {MEANINGS[number]}\n" in out
    assert out.endswith("\nmore: docs/commands.md\n")
    assert all(action.help for action in options_of(parser_of(name)))


@pytest.mark.parametrize("name", program.commands())
def test_examples_are_commands(name):
    example = import_module(f"kd.cli.{name}").__doc__.partition("Example:\n")[2]
    for line in example.splitlines():
        words = shlex.split(line.partition(">")[0])
        assert words[:2] == ["kd", name]
        assert program._parse(words[1:]).command == name


def test_the_page_has_every_command_in_order():
    assert list(sections(PAGE)) == program.commands()


@pytest.mark.parametrize("name", program.commands())
def test_the_page_agrees_with_the_program(name):
    check_section(name, sections(PAGE)[name])


def test_the_page_has_the_shared_options_and_the_statuses():
    top = PAGE.partition("\n## kd ")[0]
    assert table(top) == shared_rows()
    statuses = [line for line in top.splitlines() if re.match(r"\| \d", line)]
    assert statuses == [f"| {number} | {meaning} |" for number, meaning in MEANINGS.items()]


def test_the_worked_example_of_a_new_command(folder, monkeypatch, capsys):
    page = (DOCS / "add-a-command.md").read_text(encoding="utf-8")
    module, test = re.findall(FENCE.format("python"), page, re.DOTALL | re.MULTILINE)
    [section] = re.findall(r"^````markdown\n(.*?)^````", page, re.DOTALL | re.MULTILINE)
    added = folder / "added"
    added.mkdir()
    (added / "where.py").write_text(module)
    monkeypatch.setattr("kd.cli.__path__", [*import_module("kd.cli").__path__, str(added)])
    (folder / "sitecustomize.py").write_text(f"import kd.cli\nkd.cli.__path__.append({str(added)!r})\n")
    monkeypatch.setenv("PYTHONPATH", str(folder))  # the same in processes
    names: dict = {}
    exec(test, names)
    tests = [value for name, value in names.items() if name.startswith("test_")]
    assert len(tests) == 3
    for function in tests:
        function(folder, capsys)
    check_section("where", sections(section)["where"])
