"""A teacher's outputs, computed once for every view of every image and kept in memory-mapped files.

<folder>/<16 hex digits of the key>/
    key.json                            what the key is computed from: teacher, data, augmentation, size, versions
    <address>-<C>x<h>x<w>-<dtype>.maps  record after record; record = index · views + view
    <address>-<C>x<h>x<w>-<dtype>.sums  int64 (record, 2): the sum of the image's pixels, the checksum of the map

A record is valid only if both sums match. Torn writes, damaged files and changed images are thus detected without a
lock or a journal, and computed again. Files grow as they fill.
"""

import hashlib
import json
import os
import re
import warnings
import zlib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kd.errors import RecipeError, StorageError
from kd.machine import Precision, versions
from kd.parts.roles import Teacher
from kd.recipe import Recipe
from kd.recipe.identity import Scope
from kd.storage import write_json
from kd.types import Batch, Maps, Tapped, as_tuple

_DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}
_PRESENT = 1 << 32  # added to a checksum, so that an empty record differs from every full one


class CachedTeacher:
    """A teacher that reads its maps from files where they are kept, and otherwise computes and keeps them.

    If any record of a batch is missing, the whole batch is computed, in the shape that training has it: the values do
    not depend on what was kept before.

    Args:
        teacher: the role.
        recipe: with a `cache` section; its folder is created.
        images: number of images in the training split.
        seed: of the augmentation.
        precision: how the teacher runs.

    Shape: as the teacher, for batches of a `stream` with a cache, whose keys (N, 3) hold the sums of the images.
        Maps are float32 once they have been kept; `aux` is empty.

    Raises:
        RecipeError: (by call) float16 cannot hold a map's values.
    """

    def __init__(self, teacher: Teacher, recipe: Recipe, *, images: int, seed: int, precision: Precision) -> None:
        assert recipe.cache is not None
        self.teacher, self.recipe = teacher, recipe
        self.views, self.records = recipe.cache.views, images * recipe.cache.views
        self._key = cache_key(teacher, recipe, images, seed, precision)
        digest = hashlib.sha256(json.dumps(self._key, sort_keys=True).encode()).hexdigest()
        self.folder = Path(recipe.cache.folder) / digest[:16]
        self._dtype_name, self._dtype = recipe.cache.dtype, _DTYPES[recipe.cache.dtype]
        self._stores: dict[str, _Store] = {}
        self._failed = False
        self._addresses = dict.fromkeys(
            address for term in ("logits", *teacher.taps.addresses.values()) for address in as_tuple(term)
        )

    def __call__(self, batch: Batch) -> Tapped:
        indices, views, sums = batch.keys.T.tolist()
        records = [index * self.views + view for index, view in zip(indices, views, strict=True)]
        self._open()
        maps: dict[str, Tensor] = {}  # by address
        for address, store in self._stores.items():
            if (kept := store.read(records, sums)) is not None:
                maps[address] = kept.to(batch.images.device, torch.float32, non_blocking=True)
        if maps.keys() < self._addresses.keys():
            maps = self._computed(batch, records, sums)
        at: dict[str, Maps] = {}
        for term, tap in self.teacher.taps.addresses.items():
            at[term] = tuple(maps[address] for address in tap) if isinstance(tap, tuple) else maps[tap]
        return Tapped(maps["logits"], {}, at)

    @property
    def record_bytes(self) -> int:
        """The bytes of one view of one image on disk; 0 before the first call."""
        return sum(store.map_bytes + 16 for store in self._stores.values())

    def _open(self) -> None:
        """Open the files of earlier runs."""
        for address in self._addresses:
            if address not in self._stores and self.folder.is_dir() and not self._failed:
                name = re.compile(rf"{re.escape(address)}-([\dx]+)-{self._dtype_name}\.maps")
                for match in filter(None, (name.fullmatch(file.name) for file in self.folder.iterdir())):
                    self._open_store(address, tuple(map(int, match[1].split("x"))))

    def _open_store(self, address: str, shape: tuple[int, ...]) -> None:
        stem = self.folder / f"{address}-{'x'.join(map(str, shape))}-{self._dtype_name}"
        try:
            self._stores[address] = _Store(stem, self.records, shape, self._dtype)
        except OSError as error:
            self._give_up(error)

    def _computed(self, batch: Batch, records: list[int], sums: list[int]) -> dict[str, Tensor]:
        output = self.teacher(batch)
        maps = {"logits": output.logits}
        for term, address in self.teacher.taps.addresses.items():
            maps |= zip(as_tuple(address), as_tuple(output.at[term]), strict=True)
        rounded = {}
        for address, exact in maps.items():
            kept = exact.to(self._dtype)
            if self._dtype == torch.float16 and bool((kept.isinf() & exact.isfinite()).any()):
                largest = exact.abs().max().item()
                raise RecipeError(
                    f"{self.recipe.at('cache', 'dtype')}: cache.dtype: float16 holds at most 65504, "
                    f"but the teacher's '{address}' reaches {largest:.4g}; use bfloat16"
                )
            self._keep(address, records, sums, kept)
            rounded[address] = kept.float()  # the values that later reads return
        return rounded

    def _keep(self, address: str, records: list[int], sums: list[int], maps: Tensor) -> None:
        if self._failed:
            return
        try:
            if not self._stores:
                write_json(self.folder / "key.json", self._key)  # creates the folder
            if address not in self._stores:
                self._open_store(address, tuple(maps.shape[1:]))
            if address in self._stores:
                self._stores[address].write(records, sums, maps.cpu().contiguous())
        except (OSError, StorageError) as error:
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        if not self._failed:
            self._failed = True
            reason = error.strerror if isinstance(error, OSError) else error
            warnings.warn(
                f"cache: {self.folder} is not written ({reason}); training continues without it", stacklevel=2
            )


class _Store:
    """The maps at one address: read through a memory map, written by `pwrite`, which can fail without killing.

    Args:
        stem: path without suffix.
        records: number of records.
        shape: of one map, (C, h, w).
        dtype: of the maps.
    """

    def __init__(self, stem: Path, records: int, shape: tuple[int, ...], dtype: torch.dtype) -> None:
        numbers = torch.Size(shape).numel()
        self.map_bytes = numbers * dtype.itemsize
        self._name = stem.name
        paths = [stem.with_name(stem.name + suffix) for suffix in (".maps", ".sums")]
        sizes = (records * self.map_bytes, records * 16)
        self._files = [_sized(path, size) for path, size in zip(paths, sizes, strict=True)]
        maps, sums = map(str, paths)
        self._maps = torch.from_file(maps, shared=True, size=records * numbers, dtype=dtype).view(records, *shape)
        self._sums = torch.from_file(sums, shared=True, size=records * 2, dtype=torch.int64).view(records, 2)
        self._sound = torch.zeros(records, dtype=torch.bool)  # checked by this process

    def read(self, records: list[int], sums: list[int]) -> Tensor | None:
        """The maps of these records (N, C, h, w), if all are present, undamaged and of these images."""
        if not all(self._is_valid(*record) for record in zip(records, sums, strict=True)):
            return None
        return self._maps[torch.tensor(records)]

    def write(self, records: list[int], sums: list[int], maps: Tensor) -> None:
        """Keep maps that are not kept yet.

        Raises:
            OSError: they cannot be written.
        """
        for record, image_sum, single in zip(records, sums, maps, strict=True):
            if self._is_valid(record, image_sum):
                continue
            row = torch.tensor([image_sum, _checksum(single)])
            _write(self._files[0], _bytes(single), record * self.map_bytes)
            _write(self._files[1], _bytes(row), record * 16)
            self._sound[record] = True

    def close(self) -> None:
        """Close the files."""
        for file in self._files:
            os.close(file)

    __del__ = close

    def _is_valid(self, record: int, image_sum: int) -> bool:
        kept_sum, checksum = self._sums[record].tolist()
        if checksum == 0:
            return False
        if kept_sum != image_sum:
            self._warn("belong to other images")
            return False
        if not self._sound[record]:
            if _checksum(self._maps[record]) != checksum:
                self._warn("are damaged")
                return False
            self._sound[record] = True
        return True

    def _warn(self, what: str) -> None:
        warnings.warn(f"cache: maps in {self._name} {what}; they are computed again", stacklevel=2)


def cache_key(teacher: Teacher, recipe: Recipe, images: int, seed: int, precision: Precision) -> dict[str, Any]:
    """All that the maps depend on except the images themselves, whose sums are in the records."""
    assert recipe.cache is not None
    weights = hashlib.sha256()
    for name, value in teacher.network.state_dict().items():
        weights.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        weights.update(_bytes(value.cpu().contiguous()))
    return {
        "teacher": weights.hexdigest(),
        "network": hashlib.sha256(repr(teacher.network).encode()).hexdigest(),
        "data": recipe.resolved(without=[Scope.MACHINE])["data"],
        "images": images,
        "seed": seed,
        "views": recipe.cache.views,
        "precision": [precision.device.type, str(precision.dtype), str(precision.memory_format)],
        "versions": versions(),
    }


def _sized(path: Path, size: int) -> int:
    """Open a file for writing and cut or extend it to this size; its checksums show which records remain valid."""
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    if os.fstat(file).st_size != size:
        os.ftruncate(file, size)
    return file


def _bytes(value: Tensor) -> memoryview:
    return value.reshape(-1).view(torch.uint8).numpy().data


def _checksum(single: Tensor) -> int:
    return zlib.crc32(_bytes(single)) + _PRESENT


def _write(file: int, data: memoryview, offset: int) -> None:
    while data:
        written = os.pwrite(file, data, offset)
        data, offset = data[written:], offset + written
