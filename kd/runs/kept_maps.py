"""The predictions that a run keeps for the page of a comparison: `predictions.npz`, of some validation images."""

import io
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kd.errors import StorageError
from kd.manifest import again, has_file, read_verified
from kd.storage import write_atomic

PREDICTIONS = "predictions.npz"
KEPT = 24  # images, at most
MOST = 50_000_000  # pixels of all maps of one network, at most

Maps = Mapping[str, NDArray[np.uint8]]  # predicted classes (H, W) at the image's own size, by the image's name


def spread(length: int, count: int) -> list[int]:
    """`count` positions spread evenly over 0 … length-1, each in the middle of its share; or all, if they are fewer."""
    if length <= count:
        return list(range(length))
    return [(2 * index + 1) * length // (2 * count) for index in range(count)]


def write_predictions(run_dir: Path, own: Maps, teacher: Maps) -> None:
    """Write the maps of a run's network and of its teacher."""
    arrays: dict[str, NDArray[Any]] = {}
    for of, maps in (("own", own), ("teacher", teacher)):
        arrays[f"{of}/names"] = np.array(list(maps), np.str_)
        arrays |= {f"{of}/{index}": predicted for index, predicted in enumerate(maps.values())}
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)  # type: ignore[arg-type]  # the stub takes a name for `allow_pickle`
    write_atomic(run_dir / PREDICTIONS, content.getvalue())


def read_predictions(run_dir: Path) -> tuple[Maps, Maps]:
    """Read the maps of a run's network and of its teacher; none if the run has not kept them.

    Raises:
        StorageError: the file is damaged.
    """
    if not has_file(run_dir, PREDICTIONS):
        return {}, {}
    data = read_verified(run_dir, PREDICTIONS)
    try:
        with np.load(io.BytesIO(data)) as content:
            if sum(entry.file_size for entry in content.zip.infolist()) > 3 * MOST:  # a megabyte may hold a gigabyte
                raise ValueError("unpacks to too many bytes")
            own, teacher = (_maps(content, of) for of in ("own", "teacher"))
    except (OSError, ValueError, EOFError, KeyError, MemoryError, zipfile.BadZipFile, zlib.error) as error:
        raise StorageError(f"{run_dir / PREDICTIONS}: cannot be read ({error}); {again(run_dir)}") from None
    return own, teacher


def _maps(content: Mapping[str, NDArray[Any]], of: str) -> dict[str, NDArray[np.uint8]]:
    maps = {name: content[f"{of}/{index}"] for index, name in enumerate(content[f"{of}/names"].tolist())}
    for predicted in maps.values():
        if predicted.dtype != np.uint8 or predicted.ndim != 2:
            raise ValueError(f"{predicted.dtype} {predicted.shape} is no label map")
    return maps
