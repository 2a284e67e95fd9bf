"""The exceptions for what users can cause, and helpers for their messages: where, what with both values, the fix.

    RecipeError         2   a recipe or a command line
    InputsError         2   a run was made from other inputs: the command line must decide
    DataError           3   images, labels
    DivergedError       4   the loss is not finite
    NoCheckpointError   5   no checkpoint is valid
    WeightsError        5   a run's weights are missing, damaged or of another network
    StorageError        6   a file of a run cannot be read or written
    LockedError         7   another process uses the run directory
    PeerLostError       8   another process of a distributed run died
    StudyError          9   runs of a study failed
    StoppedError      128 + the signal's number

The number is the `exit_status` of the command that the error ends; any other exception is a bug, status 1.
"""

import re
import reprlib
import shlex
import signal
import sysconfig
import traceback
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple

MAX_WORD, MAX_MISTAKES = 64, 50
_IN_SOURCES = re.compile(  # how ONNX Runtime and OpenVINO begin: kinds of errors, and their places in C++
    r"\[ONNXRuntimeError\] : \d+ : \w+ : (?:Load model from .*? failed:)?(?:/\S+\.\w+:\d+ .*?\) (?=[A-Z]))?"
    r"|Exception from \S+:\d+: |Check '.*?' failed at \S+:\d+: "
)
_OPSETS = (  # what ONNX Runtime reports at length of a file's version of the operators
    (r"Opset (\d+) is under development.*till opset (\d+)", "its opset is {}, above {}, the highest"),
    (r"No Op registered for (\w+) with domain_version of (\d+)", "no operator {} in its opset {}"),
)
_ROOT = Path(__file__).resolve().parents[1]
_PYTHON = sysconfig.get_path("stdlib")
_PACKAGES = (  # those of pyproject.toml
    "torch", "torchvision", "numpy", "PIL", "yaml", "pydantic", "rich", "filelock", "safetensors", "jaxtyping",
    "tensorboard", "matplotlib", "scipy", "beartype",
)  # fmt: skip

Path_ = tuple[str | int, ...]


class _UserError(ValueError):
    """Mistakes of a user.

    Args:
        mistakes: one line each: control characters and line breaks, which values in them may hold, are escaped.
    """

    def __init__(self, mistakes: str | Iterable[str]) -> None:
        self.mistakes = [one_line(m) for m in ([mistakes] if isinstance(mistakes, str) else mistakes)]
        super().__init__(self.mistakes)

    def __str__(self) -> str:
        return "\n".join(self.mistakes)


class RecipeError(_UserError):
    """All mistakes in one recipe, usually as `file:line:column: path: what; did you mean …`."""

    exit_status = 2


class InputsError(RecipeError):
    """A run was made from other inputs than those that are there now: other images, labels, classes or teacher.

    Args:
        run_dir: the run directory.
        what: the difference, in words.
        command: the command that found it.
    """

    def __init__(self, run_dir: Path, what: str, command: str) -> None:
        super().__init__(
            f"{run_dir}: {what}; {command} --fresh trains it again, {command} --accept-inputs keeps it and marks it"
        )
        self.run_dir, self.what, self.command = run_dir, what, command

    def __reduce__(self) -> tuple[type["InputsError"], tuple[Path, str, str]]:
        return InputsError, (self.run_dir, self.what, self.command)  # other ranks get a copy


class DataError(_UserError):
    """The user's images or labels are missing or wrong."""

    exit_status = 3


class DivergedError(_UserError):
    """The loss or its gradient is not finite."""

    exit_status = 4


class NoCheckpointError(_UserError):
    """Checkpoints exist, but none is valid."""

    exit_status = 5


class WeightsError(_UserError):
    """The weights of a run are missing, damaged, or of another run or network."""

    exit_status = 5


class StorageError(_UserError):
    """A file of a run cannot be read or written."""

    exit_status = 6


class LockedError(ValueError):
    """Another process uses this run directory.

    Args:
        who: the directory, and which process uses it.
    """

    exit_status = 7

    def __init__(self, who: str) -> None:
        super().__init__(f"{who}; wait for it, or stop it first")
        self.who = who

    def __reduce__(self) -> tuple[type["LockedError"], tuple[str]]:
        return LockedError, (self.who,)  # other ranks get a copy


class PeerLostError(RuntimeError):
    """Another process of this distributed run has died."""

    exit_status = 8


class StudyError(_UserError):
    """Runs of a study failed; the others are finished."""

    exit_status = 9


class StoppedError(Exception):
    """A signal stopped the run after its state was saved.

    Args:
        number: of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}; the same command resumes the run")
        self.signal = number
        self.exit_status = 128 + number

    def __reduce__(self) -> tuple[type["StoppedError"], tuple[int]]:
        return StoppedError, (self.signal,)  # other ranks get a copy


class NotDeterministicError(RuntimeError):
    """An operation of torch has no implementation that repeats to the last bit.

    Args:
        operation: its name.
    """

    def __init__(self, operation: str) -> None:
        super().__init__(f"{operation} has no deterministic implementation")
        self.operation = operation

    def __reduce__(self) -> tuple[type["NotDeterministicError"], tuple[str]]:
        return NotDeterministicError, (self.operation,)  # other ranks get a copy


class TapError(ValueError):
    """A network cannot be read at a tap.

    Args:
        address: the tap that a term names.
        what: the reason, and the fix.
    """

    def __init__(self, address: str, what: str) -> None:
        super().__init__(f"tap '{address}': {what}")
        self.address, self.what = address, what

    def __reduce__(self) -> tuple[type["TapError"], tuple[str, str]]:
        return TapError, (self.address, self.what)  # other ranks get a copy


class Position(NamedTuple):
    """A place in a file (line and column from 1) or, with line 0, in an override."""

    name: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return f"{self.name}:{self.line}:{self.column}" if self.line else self.name


class Mistake(NamedTuple):
    """One mistake and its place."""

    position: Position
    path: Path_
    what: str

    def __str__(self) -> str:
        return f"{self.position}: {dotted(self.path)}: {self.what}" if self.path else f"{self.position}: {self.what}"


def fail(mistakes: Iterable[Mistake]) -> None:
    """Raise one RecipeError with all `mistakes` in the order of the file; nothing if there are none."""
    by_place = sorted(mistakes, key=lambda mistake: (mistake.position.line == 0, mistake.position[1:]))
    lines = list(dict.fromkeys(map(str, by_place)))
    if len(lines) > MAX_MISTAKES:
        lines[MAX_MISTAKES:] = [f"… and {len(lines) - MAX_MISTAKES} more"]
    if lines:
        raise RecipeError(lines)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A message's ending, from `; ` on: the closest known word as a question or, if none is close, all known words."""
    words = sorted(map(str, known))
    by_lower = {known_word.lower(): known_word for known_word in words}
    close = get_close_matches(word.lower(), by_lower, n=1) if len(word) <= MAX_WORD else []
    if close:
        return f"; did you mean '{by_lower[close[0]]}'?"
    return f"; known: {', '.join(words)}" if words else ""


def one_line(text: str) -> str:
    """`text` with line breaks and control characters escaped: one printable line."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def is_unicode(text: str) -> bool:
    """Whether a text can be written: one that was read in another encoding may hold halves of characters."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def short(error: BaseException) -> str:
    """An error of another package in one line of about 200 characters at most, without its place in C++ sources."""
    text = " ".join(str(error).split())
    for pattern, reason in _OPSETS:
        if found := re.search(pattern, text):
            return reason.format(*found.groups())
    return _IN_SOURCES.sub("", text)[:200].rstrip(" .") or type(error).__name__


def shell_word(text: str) -> str:
    """`text` as one word of a command line: in quotes where a shell would read it otherwise."""
    readable = "'" in text and not set(text) & set('"$`\\!')  # in shlex's quotes, an apostrophe takes five characters
    return f'"{text}"' if readable else shlex.quote(text)


def dotted(path: Sequence[str | int]) -> str:
    """A path in a recipe as overrides write it: `data.args.root`."""
    return ".".join(shorten(str(key)) for key in path)


def raised(error: BaseException) -> str:
    """An exception of a user's code in one line, with the file and line of `user_frame`."""
    return ": ".join(filter(None, [type(error).__name__, " ".join(str(error).split())])) + place(error)


def place(error: BaseException) -> str:
    """` (file.py:line)` of an exception's `user_frame`; an empty text if it has none."""
    frame = user_frame(error)
    return "" if frame is None else f" ({Path(frame.filename).name}:{frame.lineno})"


def user_frame(error: BaseException) -> traceback.FrameSummary | None:
    """The deepest frame of an exception in code of the user's; or else in a package that kd does not depend on.

    None: only code of kd, of Python and of the packages that kd depends on ran.
    """
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not _is_known(frame.filename)]
    own = [frame for frame in frames if "site-packages" not in Path(frame.filename).parts]
    return next(reversed(own or frames), None)


def _is_known(file: str) -> bool:
    """Whether a file belongs to kd, to Python, or to a package that kd depends on."""
    path = Path(file)
    if file.startswith("<") or any(path.is_relative_to(_ROOT / folder) for folder in ("kd", "teachers", "students")):
        return True
    if "site-packages" in path.parts:
        return path.parts[path.parts.index("site-packages") + 1] in _PACKAGES
    return path.is_relative_to(_PYTHON)


def shorten(text: str) -> str:
    """`text`, cut to `MAX_WORD` characters."""
    return text if len(text) <= MAX_WORD else text[: MAX_WORD - 1] + "…"


def shown(value: Any) -> str:
    """A value as messages show it: in YAML's words, with bounded length."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, (list, tuple)):
        if any(isinstance(item, (dict, list, tuple)) for item in value):
            return "a list"
        return f"[{', '.join(map(shown, value[:6]))}{', …' if len(value) > 6 else ''}]"
    return reprlib.repr(value)


def nearest(positions: Mapping[Path_, Position], path: Path_, otherwise: str = "recipe") -> Position:
    """The position of `path`, or of the nearest section around it."""
    while path and path not in positions:
        path = path[:-1]
    return positions.get(path, Position(otherwise))
