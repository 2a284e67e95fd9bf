"""JSON that annotation tools wrote: every value that is used is checked, and the rest is left out.

A file that lists a whole data set is not held as a tree of values, which takes eight times the memory of its text: the
elements are found in the text, and checked one at a time.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict

from kd.errors import DataError, StorageError
from kd.files.checked import checked
from kd.files.reading import check_file, read_bytes
from kd.prepare.faults import damaged

T = TypeVar("T")
_FORMS = re.compile(r"\.(list\[.*?\](?=\.\d|:)|_\w+)")  # in pydantic's place of a value that has several forms

MAX_JSON = 512_000_000  # bytes: COCO's own file of 118,000 images has 448 million
_PEEKED = 65_536
_BRACKET = re.compile(rb'(?:[^"{}\[\]]++|"(?:[^"\\]++|\\.)*+")*+([{}\[\]])', re.DOTALL)  # with all that comes before it
_KEY = re.compile(rb'"((?:[^"\\]|\\.)*)"\s*:\s*\[\Z')
_BETWEEN = b" \t\r\n,"  # elements


class Record(BaseModel):
    """A mapping in such a file; keys that are not declared are ignored."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)


def read_json(path: Path, kind: type[T]) -> T:
    """Read a JSON file as `kind`.

    Raises:
        DataError: it cannot be read, is larger than `MAX_JSON`, no JSON, or a value is not of its kind. One line.
    """
    return parse(_content(path), kind, str(path))


def parse(content: bytes, kind: type[T], where: str) -> T:
    """JSON text as `kind`; `where` names it in messages.

    Raises:
        DataError: it is no JSON, or a value is not of its kind. One line.
    """
    try:
        return checked(content, kind, where, strict=False)
    except StorageError as error:
        what = _FORMS.sub("", error.mistakes[0])
        raise DataError(f"{what}; export it again") from None


class Element(NamedTuple):
    """A mapping in a list at the top of a JSON file."""

    key: str  # of the list; "" where the file is a list
    number: int
    start: int  # in the text
    end: int


class Elements:
    """The mappings in the lists at the top of a JSON file; the text is held, and each is parsed when it is asked for.

    Args:
        path: the file: a list, or a mapping that holds lists.
        keys: of the lists that are needed.

    Raises:
        DataError: the file cannot be read, or is larger than `MAX_JSON`; (by iteration) it is no JSON, a list is
            missing, or an element is no mapping. One line.
    """

    def __init__(self, path: Path, keys: Sequence[str] = ("",)) -> None:
        self.where, self.keys = str(path), keys
        self._content = _content(path)

    def parse(self, element: Element, kind: type[T]) -> T:
        """An element as `kind`."""
        return parse(self._content[element.start : element.end], kind, self.place(element))

    def place(self, element: Element) -> str:
        """What messages call an element."""
        return f"{self.where}: {element.key}[{element.number}]"

    def __iter__(self) -> Iterator[Element]:
        content, missing = self._content, set(self.keys)
        key: str | None = None  # of the list that is open
        top = depth = number = start = last = end = 0
        while match := _BRACKET.match(content, end):
            end, bracket = match.end(), match[1]
            inside = depth == top and key in self.keys
            if inside and bracket in b"[{]" and (bracket == b"[" or content[last : end - 1].strip(_BETWEEN)):
                raise damaged(f"{self.where}: {key}[{number}]", "no mapping")
            if bracket in b"[{":
                start = end - 1 if inside else start
                top = top or 1 + (bracket == b"{")  # the depth of the lists
                depth += 1
                if depth == top and bracket == b"[":
                    found = _KEY.search(content, match.start(), end) if top == 2 else None
                    key, number, last = found[1].decode(errors="replace") if found else "", 0, end
                    missing.discard(key)
                continue
            depth -= 1
            if depth == top and key in self.keys:
                yield Element(str(key), number, start, end)
                number, last = number + 1, end
            elif depth < top:
                key = None
            if depth <= 0:
                break
        if depth or not end or content[end:].strip():
            raise damaged(self.where, f"not valid JSON (cut off or damaged at byte {end:,})")
        if missing:
            raise damaged(self.where, f"{min(missing) or 'a list'}: missing")


def _content(path: Path) -> bytes:
    return read_bytes(path, "a JSON file of annotations", DataError, limit=MAX_JSON)


def peek(path: Path) -> bytes:
    """The first and the last 64 kB of a file; nothing if it cannot be read."""
    try:
        check_file(path, "a JSON file of annotations", DataError)
        with path.open("rb") as file:
            head = file.read(_PEEKED)
            file.seek(max(0, path.stat().st_size - _PEEKED))
            return head + file.read(_PEEKED)
    except (DataError, OSError):
        return b""
