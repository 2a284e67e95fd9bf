"""The counts of each image in a score: `counts.npz`, and `teacher-counts.npz` of the teacher on the same images."""

import io
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kd.errors import StorageError
from kd.manifest import MAX_OTHER, again, has_file, read_verified
from kd.storage import write_atomic

COUNTS, TEACHER_COUNTS = "counts.npz", "teacher-counts.npz"

Counts = NDArray[np.int64]


class ImageCounts(NamedTuple):
    """The pixels of every image of a split, by class; summed over the images, they are sums of the confusion matrix."""

    names: tuple[str, ...]  # of the images, in the dataset's order
    counts: Counts  # int64 (images, K, 3): the intersection of labels and predictions, predicted, labelled
    groups: tuple[str, ...] | None = None  # of each image, where the dataset names groups that belong together


def write_counts(file: Path, splits: Mapping[str, ImageCounts]) -> bytes:
    """Write the counts of each image, by split; the content of the file, empty where there are none."""
    arrays: dict[str, NDArray[Any]] = {}
    for name, (images, counts, groups) in splits.items():
        arrays |= {name: counts, f"{name}/names": np.array(images, np.str_)}
        arrays |= {} if groups is None else {f"{name}/groups": np.array(groups, np.str_)}
    if not arrays:
        return b""
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)  # type: ignore[arg-type]  # the stub takes a name for `allow_pickle`
    write_atomic(file, content.getvalue())
    return content.getvalue()


def read_counts(run_dir: Path, name: str = COUNTS) -> dict[str, ImageCounts]:
    """Read the counts of each image in a run's final score, by split; empty if the run has none.

    Args:
        run_dir: of a finished run.
        name: `COUNTS`; or `TEACHER_COUNTS`, of its teacher on the same images.

    Raises:
        StorageError: the file is damaged.
    """
    file = run_dir / name
    if not has_file(run_dir, name):
        return {}
    data = read_verified(run_dir, name)
    try:
        with np.load(io.BytesIO(data)) as content:
            unpacked = sum(entry.file_size for entry in content.zip.infolist())
            if unpacked > MAX_OTHER:  # a megabyte may unpack to a gigabyte
                raise ValueError(f"unpacks to {unpacked:,} bytes")
            arrays = dict(content)
            splits = [name for name in arrays if f"{name}/names" in arrays]
            return {
                name: _image_counts(arrays[f"{name}/names"], arrays[name], arrays.get(f"{name}/groups"))
                for name in splits
            }
    except (OSError, ValueError, EOFError, KeyError, MemoryError, zipfile.BadZipFile, zlib.error) as error:
        raise StorageError(f"{file}: cannot be read ({error}); {again(run_dir)}") from None


def _image_counts(names: NDArray[Any], counts: NDArray[Any], groups: NDArray[Any] | None) -> ImageCounts:
    if names.dtype.kind != "U" or counts.dtype != np.int64 or counts.ndim != 3 or counts.shape[::2] != (len(names), 3):
        raise ValueError(f"{counts.dtype} {counts.shape} are not the counts of {len(names)} images")
    if (counts < 0).any():
        raise ValueError("a count is below 0")
    if groups is not None and (groups.dtype.kind != "U" or groups.shape != names.shape):
        raise ValueError(f"{groups.dtype} {groups.shape} are not the groups of {len(names)} images")
    return ImageCounts(tuple(names.tolist()), counts, None if groups is None else tuple(groups.tolist()))
