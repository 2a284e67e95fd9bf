"""Advice and its consequence: a message, what makes it appear, and what it asks for."""

import re
import shlex
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import yaml
from command import kd


class Row(NamedTuple):
    """A message, and two steps in an empty current folder.

    Attributes:
        message: a part of what is printed, with the advice; `{}` stands for a value that every machine has its own of.
        refused: makes it appear: as an exception, a warning, a line that is returned, or on the terminal.
        followed: does what it asks for, given all that was printed; anything that it raises fails the test.
    """

    message: str
    refused: Callable[[], object]
    followed: Callable[[str], object]


def printed(call: Callable[[], object], capsys: pytest.CaptureFixture[str], *, may_fail: bool) -> str:
    """What a step prints in any way."""
    capsys.readouterr()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            result = call()
        except (ValueError, RuntimeError, LookupError) as error:
            if not may_fail:
                raise
            result = error
    output = capsys.readouterr()
    lines = result if isinstance(result, list) else [result]
    return "\n".join([*map(str, lines), *(str(warning.message) for warning in caught), output.out, output.err])


def appears(message: str, text: str) -> bool:
    """Whether a row's message is in what was printed."""
    return re.search(".*?".join(map(re.escape, message.split("{}"))), text) is not None


def settings(text: str) -> dict[str, Any]:
    """The arguments that a message about data advises."""
    advised = re.search(r"data\.args set (.*?)( \(or .*\)|, or .*| if they are .*)?$", text, re.MULTILINE)
    assert advised, text
    found = yaml.safe_load(f"{{{advised[1]}}}")
    assert isinstance(found, dict)
    return found


def succeeds(*arguments: object) -> None:
    """Run a command that must end without an error."""
    assert kd(*arguments) == 0, shlex.join(map(str, arguments))


def overrides(text: str, first: str) -> list[str]:
    """The overrides that a message ends with, from the last such one on, as a shell reads them."""
    start = text.rindex(first)
    line = text[start - (text[start - 1] in "'\"") :].splitlines()[0]
    return shlex.split(line)


def run_advised(text: str, ending: str) -> None:
    """Run the `kd` command that a message prints before `ending`."""
    found = re.search(rf"; (kd [^;\n]*?){ending}", text)
    assert found, text
    succeeds(*shlex.split(found[1])[1:])
