"""Read the files that `torch.save` writes, in the format of torch 1.6 and later or the one before."""

import struct
import zipfile
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from kd.networks.unpickle import Storage, UnpickleError, interpret

MAGIC = 0x1950A86A20F9469CFC6C  # of the format before torch 1.6


class OtherFileError(ValueError):
    """A file is no file by `torch.save`; the message is what it is, and what to do."""


def unpickle(path: Path) -> tuple[Any, list[str]]:
    """The content of a file by `torch.save`.

    Returns:
        Plain containers of tensors, numbers, text and `Opaque`; and the names of the objects that were not made.

    Raises:
        OtherFileError: the file is another archive, or was cut off.
        UnpickleError: the file is damaged, or larger inside than outside.
        OSError: the file cannot be opened.
    """
    passed: dict[str, None] = {}
    with path.open("rb") as file:
        try:
            if zipfile.is_zipfile(file):
                content = _zipped(file, passed)
            elif _start(file) == b"PK":
                raise OtherFileError("an archive that was cut off; get it again")
            else:
                content = _legacy(file, passed)
        except (UnpickleError, OtherFileError):
            raise
        except Exception as error:  # noqa: BLE001  # a damaged pickle raises nearly anything in the machine
            reason = (str(error).splitlines() or [""])[0] or type(error).__name__
            raise UnpickleError(f"damaged: {reason[:120]}") from None
    return content, list(passed)


def _start(file: BinaryIO) -> bytes:
    file.seek(0)
    return file.read(2)


def _zipped(file: BinaryIO, passed: dict[str, None]) -> Any:
    size = file.seek(0, 2)
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
        if any(e.filename.endswith("/constants.pkl") for e in entries):
            raise OtherFileError("a TorchScript archive; save the state_dict() of its network with torch.save instead")
        prefix = next((e.filename for e in entries if e.filename.endswith("/data.pkl")), "").removesuffix("data.pkl")
        if not prefix:
            raise OtherFileError("an archive without weights; unpack it, and name the file inside")
        if any(e.compress_type != zipfile.ZIP_STORED for e in entries) or sum(e.file_size for e in entries) > size:
            raise UnpickleError("its archive is larger unpacked than packed; save it again with torch.save")
        if f"{prefix}byteorder" in archive.namelist() and archive.read(f"{prefix}byteorder") != b"little":
            raise UnpickleError("numbers in big-endian order; save it again on a machine with the other order")
        storages: dict[str, Tensor] = {}

        def load(pid: Any) -> Tensor:
            _, kind, key, *_ = pid
            if key not in storages:
                storages[key] = _numbers(archive.read(f"{prefix}data/{key}"), kind)
            return storages[key]

        return interpret(BytesIO(archive.read(f"{prefix}data.pkl")), load, passed)


def _numbers(data: bytes, kind: Any) -> Tensor:
    if not isinstance(kind, Storage):
        raise UnpickleError("a storage of unknown numbers")
    return torch.frombuffer(bytearray(data), dtype=kind.dtype) if data else torch.empty(0, dtype=kind.dtype)


def _legacy(file: BinaryIO, passed: dict[str, None]) -> Any:
    """The format before torch 1.6.

    Pickles of a magic number, a version, the machine, the content and the keys of the storages; then each storage, its
    length first.
    """
    size = file.seek(0, 2)
    file.seek(0)
    storages: dict[str, Tensor] = {}
    allocated = 0

    def load(pid: Any) -> Any:
        nonlocal allocated
        if pid[0] == "module":  # a class with its source, which is not wanted
            return pid[1]
        _, kind, key, _, count, *view = pid
        if not isinstance(kind, Storage):
            raise UnpickleError("a storage of unknown numbers")
        if key not in storages:
            allocated += count * kind.dtype.itemsize
            if count < 0 or allocated > size:
                raise UnpickleError(f"storages of {allocated:,} bytes in a file of {size:,}")
            storages[key] = torch.empty(count, dtype=kind.dtype)
        if view and view[0] is not None:
            _, offset, length = view[0]
            return storages[key][offset : offset + length]
        return storages[key]

    magic, _, _, content, keys = _pickles(file, load, passed)
    if magic != MAGIC:
        raise UnpickleError("no file by torch.save")
    for key in keys:
        numbers = storages[key]
        (count,) = struct.unpack("<q", file.read(8))
        data = file.read(numbers.numel() * numbers.dtype.itemsize)
        if count != numbers.numel() or len(data) < numbers.numel() * numbers.dtype.itemsize:
            raise UnpickleError("cut off: a storage is shorter than its tensors")
        if count:
            numbers.copy_(torch.frombuffer(bytearray(data), dtype=numbers.dtype))
    return content


def _pickles(file: BinaryIO, load: Callable[[Any], Any], passed: dict[str, None]) -> Iterator[Any]:
    for number in range(5):
        value = interpret(file, load, passed)
        if number == 0 and value != MAGIC:
            raise UnpickleError("no file by torch.save")
        yield value
