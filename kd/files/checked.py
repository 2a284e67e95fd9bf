"""The one reader of kd's own JSON: every value is checked, and what is wrong is one line with its file and its key.

`seal` writes JSON that holds its own SHA-256, and `read_sealed` refuses it after any change. `seal_text` and `unsealed`
are their steps, for a file that is laid out in its own way, or that older versions wrote without a seal.
"""

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, TypeVar

from annotated_types import Ge, Le
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from kd.errors import StorageError, dotted, one_line, shown
from kd.files.reading import read_bytes

T = TypeVar("T")

STRICT = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)  # of the models of all files
Number = float | None  # in a document that a command prints: None where it is not defined, or not known
Count = Annotated[int, Ge(0), Le(2**53)]  # so that sums of counts are exact in float64

_UNSEALED = "0" * 64
_SEAL = re.compile(rb'"sha256": "([0-9a-f]{64})"\s*}\s*\Z')


class Model(BaseModel):
    """A part of a document that a command prints."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


def read_checked(file: Path, kind: type[T]) -> T:
    """Read a JSON file of kd.

    Args:
        file: a regular file in its run directory.
        kind: the type of its content: a model, a dataclass, or a container of them.

    Raises:
        StorageError: it is missing, not JSON, or a value in it is not of its kind.
    """
    return checked(read_bytes(file, "a JSON file of kd", StorageError, inside=file.parent), kind, str(file))


def checked(data: bytes, kind: type[T], where: str, *, strict: bool = True) -> T:
    """The content of JSON text as `kind`; `where` names it in messages.

    Without `strict`, the same value in another form is taken: 640.0, "640" or false for an integer.

    Raises:
        StorageError: it is not JSON, or a value in it is not of its kind.
    """
    try:
        content: T = _adapter(kind).validate_json(data, strict=strict)
    except ValidationError as error:
        raise StorageError(f"{where}: {one_line(_first(error))}") from None
    return content


def seal(content: Mapping[str, Any]) -> bytes:
    """A mapping as sealed JSON text, see `seal_text`."""
    return seal_text(json.dumps(content, indent=1))


def seal_text(text: str) -> bytes:
    """The JSON text of a mapping with a last key, `sha256`: the SHA-256 of the text with 64 zeros in that place."""
    entries = text.rstrip().removesuffix("}").rstrip()
    sealed = f'{entries},\n "sha256": "{_UNSEALED}"\n}}\n'.encode()
    return _with_seal(sealed, hashlib.sha256(sealed).hexdigest())


def read_sealed(file: Path, kind: type[T]) -> T:
    """Read what `seal` wrote; `kind` has the key `sha256` too.

    Raises:
        StorageError: as `read_checked`; or a byte of the file has changed.
    """
    data = read_bytes(file, "a JSON file of kd", StorageError, inside=file.parent)
    if _SEAL.search(data) is None:
        raise StorageError(f"{file}: cut or changed (it does not end with its own SHA-256)")
    unsealed(data, str(file))
    return checked(data, kind, str(file))


def unsealed(data: bytes, where: str) -> bytes:
    """JSON text without its seal, compared with it; text that has none as it is.

    A seal that is damaged itself stays in the text, as a key `sha256` that the file's kind must not have.

    Raises:
        StorageError: a byte has changed.
    """
    found = _SEAL.search(data)
    if found is None:
        return data
    stated, actual = found[1].decode(), hashlib.sha256(_with_seal(data, _UNSEALED)).hexdigest()
    if stated != actual:
        raise StorageError(f"{where}: changed after kd wrote it (SHA-256 {actual[:8]}…, it states {stated[:8]}…)")
    return data[: found.start()].rstrip().removesuffix(b",") + b"}"


def _with_seal(text: bytes, digest: str) -> bytes:
    found = _SEAL.search(text)
    assert found is not None
    return text[: found.start(1)] + digest.encode() + text[found.end(1) :]


_adapter: Callable[[Any], TypeAdapter[Any]] = cache(TypeAdapter)


def _first(error: ValidationError) -> str:
    """The first mistake in one line: its key, what is wrong, and the value."""
    details: ErrorDetails = error.errors(include_url=False, include_context=False)[0]
    if details["type"] == "json_invalid":
        return f"not valid JSON ({details['msg'].removeprefix('Invalid JSON: ')})"
    what = (
        details["msg"].removeprefix("Value error, ").removeprefix("Input should be ").partition(", unable to parse")[0]
    )
    if details["type"] == "missing":
        return f"{dotted(details['loc'])}: missing"
    if details["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        return f"{dotted(details['loc'])}: unknown key"
    place = f"{dotted(details['loc'])}: " if details["loc"] else ""
    return f"{place}{what}" if details["type"] == "value_error" else f"{place}{shown(details['input'])} is not {what}"
