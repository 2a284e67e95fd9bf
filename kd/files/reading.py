"""Files that may be a stranger's: only regular ones are opened, and no more than a stated size is read."""

import csv
import io
import os
import re
from collections.abc import Iterator
from errno import ENAMETOOLONG, ENOENT, ENOTDIR
from pathlib import Path
from stat import S_ISBLK, S_ISCHR, S_ISDIR, S_ISFIFO, S_ISLNK, S_ISREG

MAX_TEXT = 256_000  # bytes: a page that a person writes
MAX_NAME = 255  # characters of a path that cannot be opened
MAX_DATA = 64_000_000  # bytes: what programs write, such as the names of a million images

_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
_KINDS = {S_ISLNK: "a link", S_ISDIR: "a folder", S_ISFIFO: "a pipe", S_ISCHR: "a device", S_ISBLK: "a device"}


def exists(path: Path, error: type[Exception]) -> bool:
    """Whether something has this name, be it a link that leads nowhere; nothing has a name that no file can have.

    Raises:
        error: nobody can tell, as in the folder of another user. One line.
    """
    try:
        path.lstat()
    except ValueError:  # a NUL in the name
        return False
    except OSError as problem:
        if problem.errno in (ENOENT, ENOTDIR, ENAMETOOLONG):
            return False
        raise error(_unreadable(path, problem)) from None
    return True


def check_file(path: Path, what: str, error: type[Exception], *, inside: Path | None = None) -> None:
    """Refuse what is not a regular file before it is opened: opening a pipe blocks, and a device never ends.

    Args:
        path: the file, or a link to it.
        what: what the file should be, with its article, for the message: "a class map".
        error: the type of the exception.
        inside: a folder that links must not lead out of.

    Raises:
        error: there is no such file, it is not a regular one, or it is outside `inside`. One line.
    """
    try:
        mode = path.lstat().st_mode
        outside = False
        if not S_ISREG(mode) or inside not in (None, path.parent):  # a regular file of the folder itself is no link
            mode = path.stat().st_mode
            outside = inside is not None and not path.resolve().is_relative_to(inside.resolve())
    except FileNotFoundError:
        raise error(f"{path}: no such file") from None
    except (
        OSError,
        ValueError,
        RuntimeError,
    ) as problem:  # ValueError: a NUL in the name; RuntimeError: a loop of links
        raise error(_unreadable(path, problem)) from None
    if not S_ISREG(mode):
        raise error(f"{path}: {_kind(mode)}, not {what}")
    if outside:
        raise error(f"{path}: a link that leads out of {inside}; put the file itself there")


def special(path: Path) -> str:
    """What a path is that must not be written to: "a link", "a pipe" or "a device"; empty for files and folders."""
    try:
        mode = path.lstat().st_mode
    except OSError:  # there is nothing
        return ""
    return "" if S_ISREG(mode) or S_ISDIR(mode) else _kind(mode)


def _kind(mode: int) -> str:
    return next((name for is_kind, name in _KINDS.items() if is_kind(mode)), "a special file")


def read_bytes(
    path: Path, what: str, error: type[Exception], *, limit: int = MAX_DATA, inside: Path | None = None
) -> bytes:
    """Read a regular file of at most `limit` bytes; the other arguments are those of `check_file`.

    Raises:
        error: as `check_file`; or the file is larger, or cannot be read.
    """
    check_file(path, what, error, inside=inside)
    try:
        with open(os.open(path, _FLAGS), "rb") as file:
            size = os.fstat(file.fileno()).st_size  # of files of /proc, such as this process's environment, 0
            content = file.read(size) if size <= limit else None
    except OSError as problem:
        raise error(_unreadable(path, problem)) from None
    except MemoryError:
        raise error(f"{path}: cannot be read ({size:,} bytes do not fit into the memory)") from None
    if content is None:
        raise error(f"{path}: larger than {limit:,} bytes, the limit for {what}")
    return content


def first_bytes(path: str | Path, count: int) -> bytes:
    """At most so many bytes from the start of a regular file; none of anything else, and of what cannot be read."""
    try:
        if not S_ISREG(os.stat(path).st_mode):
            return b""
        number = os.open(path, _FLAGS)
        try:
            return os.read(number, count)
        finally:
            os.close(number)
    except (OSError, ValueError):  # ValueError: a NUL in the name
        return b""


def read_text(
    path: Path, what: str, error: type[Exception], *, limit: int = MAX_TEXT, inside: Path | None = None
) -> str:
    r"""Read a UTF-8 file, with or without a byte order mark, as `read_bytes`; lines end with `\n`.

    Raises:
        error: as `read_bytes`; or the file is not UTF-8.
    """
    content = read_bytes(path, what, error, limit=limit, inside=inside)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        line = content.count(b"\n", 0, problem.start) + 1
        column = problem.start - content.rfind(b"\n", 0, problem.start)
        byte = f"byte 0x{content[problem.start]:02x}"
        raise error(f"{path}:{line}:{column}: not UTF-8 text ({byte}); save it as UTF-8") from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def csv_rows(text: str, path: Path, error: type[Exception]) -> Iterator[tuple[int, list[str]]]:
    """The line where each row of a CSV file begins, and its cells; the first line shows what separates them.

    Raises:
        error: a quote is not closed, or text follows one that is; spaces may.
    """
    header = text.strip().partition("\n")[0]
    delimiter = next((sign for sign in ",;\t" if sign in header), ",")  # Excel writes the locale's
    spaced = re.compile(rf'(?<=[^"]") +(?=[{delimiter}\n]|\Z)')  # `"a" ,b`: strict reading ends at such a space
    reader, line = csv.reader(io.StringIO(spaced.sub("", text)), delimiter=delimiter, strict=True), 1
    try:
        for row in reader:
            yield line, row
            line = reader.line_num + 1
    except csv.Error as problem:  # after the next quote, or 131,072 characters, or at the end of the file
        raise error(f"{path}:{line}: not CSV: {problem}; close the quotes at the end of the cell") from None


def _unreadable(path: Path, problem: Exception) -> str:
    name = str(path)
    shown = name if len(name) <= MAX_NAME else f"{name[:MAX_NAME]}…"
    return f"{shown}: cannot be read ({getattr(problem, 'strerror', None) or problem})"
