"""JSON that annotation tools wrote: every value that is used is checked, and the rest is left out."""

import re
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict

from kd.checked import checked
from kd.errors import DataError, StorageError
from kd.reading import check_file, read_bytes

T = TypeVar("T")
_FORMS = re.compile(r"\.(list\[.*?\](?=\.\d|:)|_\w+)")  # in pydantic's place of a value that has several forms

MAX_JSON = 512_000_000  # bytes: COCO's own file of 118,000 images has 448 million
_PEEKED = 65_536


class Record(BaseModel):
    """A mapping in such a file; keys that are not declared are ignored."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)


def read_json(path: Path, kind: type[T]) -> T:
    """Read a JSON file as `kind`.

    Raises:
        DataError: it cannot be read, is larger than `MAX_JSON`, no JSON, or a value is not of its kind. One line.
    """
    content = read_bytes(path, "a JSON file of annotations", DataError, limit=MAX_JSON)
    try:
        return checked(content, kind, str(path))
    except StorageError as error:
        what = _FORMS.sub("", error.mistakes[0])
        raise DataError(f"{what}; export it again") from None


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
