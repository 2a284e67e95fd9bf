"""The `.npz` files of a run: named arrays, read as data whoever wrote them."""

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.lib.npyio import NpzFile
from numpy.typing import NDArray

from kd.errors import StorageError, one_line
from kd.files.manifest import again, read_verified
from kd.files.storage import write_atomic

Arrays = Mapping[str, NDArray[Any]]
T = TypeVar("T")


def write_arrays(file: Path, arrays: Arrays) -> bytes:
    """Write arrays by name; the content of the file, the same for the same arrays."""
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)  # type: ignore[arg-type]  # the stub takes a name for `allow_pickle`
    write_atomic(file, content.getvalue())
    return content.getvalue()


def read_arrays(run_dir: Path, name: str, convert: Callable[[Arrays], T], *, limit: int) -> T:
    """Read the arrays in a file of a run.

    Args:
        run_dir: the run directory.
        name: of the file.
        convert: makes of the arrays what the caller needs, or raises what is wrong with them.
        limit: bytes that they may unpack to: a megabyte may hold a gigabyte.

    Raises:
        StorageError: the file is damaged, or is not what kd writes there.
    """
    data = read_verified(run_dir, name)
    try:
        with NpzFile(io.BytesIO(data)) as content:  # unpickles nothing
            assert content.zip is not None  # it is open
            unpacked = sum(entry.file_size for entry in content.zip.infolist())
            if unpacked > limit:
                raise ValueError(f"unpacks to {unpacked:,} bytes")
            return convert(dict(content))
    except Exception as error:  # noqa: BLE001  # whatever the file makes NumPy and zipfile raise
        why = one_line(str(error)) or type(error).__name__  # MemoryError has no text
        raise StorageError(f"{run_dir / name}: cannot be read ({why}); {again(run_dir)}") from None


def texts(array: NDArray[Any]) -> tuple[str, ...]:
    """A row of texts, such as the names of images.

    Raises:
        ValueError: the array is something else.
    """
    if array.dtype.kind != "U" or array.ndim != 1:
        raise ValueError(f"{array.dtype} {array.shape} is no row of names")
    return tuple(array.tolist())
