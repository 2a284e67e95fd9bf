"""A teacher's outputs, computed once for every view of every image and kept in memory-mapped files.

<folder>/<16 hex digits of the key>/
    key.json                            what the key was made of: teacher, data, augmentation, size, versions
    <address>-<C>x<h>x<w>-<dtype>.maps  record after record; record = index · views + view
    <address>-<C>x<h>x<w>-<dtype>.sums  int64 (record, 2): the sum of the image it belongs to, the map's checksum

A record counts only if both fit, so a torn write, a damaged file and an image that is no longer the same are found
without a lock or a journal, and computed again. Files grow as they fill.
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
    """A teacher that answers from files where it can, and otherwise works and keeps what it found.

    A batch of which any record is missing is computed whole, in the shape that training has it, so that its numbers
    do not depend on what was kept before.

    Args:
        teacher: the role.
        recipe: with a `cache` section; its folder is made.
        images: in the training split.
        seed: of the augmentation.
        precision: how the teacher runs.

    Shape: as the teacher; maps are float32 once they have been kept, `aux` is empty.

    Raises:
        RecipeError: (by call) float16 cannot hold a map's numbers.
    """

    def __init__(self, teacher: Teacher, recipe: Recipe, *, images: int, seed: int, precision: Precision) -> None:
        assert recipe.cache is not None
        self.teacher, self.recipe = teacher, recipe
        self.views, self.records = recipe.cache.views, images * recipe.cache.views
        key = cache_key(teacher, recipe, images, seed, precision)
        self.folder = (
            Path(recipe.cache.folder) / hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]
        )
        self._name, self._dtype = recipe.cache.dtype, _DTYPES[recipe.cache.dtype]
        self._stores: dict[str, _Maps] = {}
        self._failed = False
        self._addresses = dict.fromkeys(
            address for one in ("logits", *teacher.taps.addresses.values()) for address in as_tuple(one)
        )
        self._key = key

    def __call__(self, batch: Batch) -> Tapped:
        sums = image_sums(batch.images)
        records = (batch.keys[:, 0] * self.views + batch.keys[:, 1]).tolist()
        self._open()
        found: dict[str, Tensor] = {}
        for address, store in self._stores.items():
            if (maps := store.read(records, sums)) is not None:
                found[address] = maps.to(batch.images.device, torch.float32, non_blocking=True)
        if found.keys() < self._addresses.keys():
            found = self._computed(batch, records, sums)
        at: dict[str, Maps] = {}
        for term, where in self.teacher.taps.addresses.items():
            at[term] = tuple(found[one] for one in where) if isinstance(where, tuple) else found[where]
        return Tapped(found["logits"], {}, at)

    @property
    def record_bytes(self) -> int:
        """What one view of one image takes on disk; 0 before the first call."""
        return sum(store.map_bytes + 16 for store in self._stores.values())

    def _open(self) -> None:
        """Take up what earlier runs have kept."""
        for address in self._addresses:
            if address not in self._stores and self.folder.is_dir() and not self._failed:
                named = re.compile(rf"{re.escape(address)}-([\dx]+)-{self._name}\.maps")
                for match in filter(None, (named.fullmatch(file.name) for file in self.folder.iterdir())):
                    self._open_one(address, tuple(map(int, match[1].split("x"))))

    def _open_one(self, address: str, shape: tuple[int, ...]) -> None:
        stem = self.folder / f"{address}-{'x'.join(map(str, shape))}-{self._name}"
        try:
            self._stores[address] = _Maps(stem, self.records, shape, self._dtype)
        except OSError as error:
            self._give_up(error)

    def _computed(self, batch: Batch, records: list[int], sums: list[int]) -> dict[str, Tensor]:
        output = self.teacher(batch)
        maps = {"logits": output.logits}
        for term, address in self.teacher.taps.addresses.items():
            maps |= zip(as_tuple(address), as_tuple(output.at[term]), strict=True)
        found = {}
        for address, whole in maps.items():
            kept = whole.to(self._dtype)
            if self._dtype == torch.float16 and bool((kept.isinf() & whole.isfinite()).any()):
                largest = whole.abs().max().item()
                raise RecipeError(
                    f"{self.recipe.at('cache', 'dtype')}: cache.dtype: float16 ends at 65504, "
                    f"the teacher's '{address}' reaches {largest:.4g}; use bfloat16"
                )
            self._keep(address, records, sums, kept)
            found[address] = kept.float()  # what a later read gives
        return found

    def _keep(self, address: str, records: list[int], sums: list[int], maps: Tensor) -> None:
        if self._failed:
            return
        try:
            if not self._stores:
                write_json(self.folder / "key.json", self._key)  # makes the folder
            if address not in self._stores:
                self._open_one(address, tuple(maps.shape[1:]))
            if address in self._stores:
                self._stores[address].write(records, sums, maps.cpu().contiguous())
        except (OSError, StorageError) as error:
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        if not self._failed:
            self._failed = True
            reason = error.strerror if isinstance(error, OSError) else error
            warnings.warn(f"cache: {self.folder} is not written ({reason}); training goes on without", stacklevel=2)


class _Maps:
    """The maps at one address: memory-mapped to be read, written by `pwrite`, which can fail without killing.

    Args:
        stem: path without suffix.
        records: how many.
        shape: of one map, (C, h, w).
        dtype: of the numbers.
    """

    def __init__(self, stem: Path, records: int, shape: tuple[int, ...], dtype: torch.dtype) -> None:
        numbers = torch.Size(shape).numel()
        self.map_bytes = numbers * dtype.itemsize
        self._name = stem.name
        self._files = [
            _sized(stem.with_name(stem.name + suffix), size)
            for suffix, size in ((".maps", records * self.map_bytes), (".sums", records * 16))
        ]
        paths = [str(stem.with_name(stem.name + suffix)) for suffix in (".maps", ".sums")]
        self._maps = torch.from_file(paths[0], shared=True, size=records * numbers, dtype=dtype).view(records, *shape)
        self._sums = torch.from_file(paths[1], shared=True, size=records * 2, dtype=torch.int64).view(records, 2)
        self._sound = torch.zeros(records, dtype=torch.bool)  # checked by this process

    def read(self, records: list[int], sums: list[int]) -> Tensor | None:
        """The maps of these records (N, C, h, w), if all are there, whole, and of these images."""
        if not all(self._is_good(record, image) for record, image in zip(records, sums, strict=True)):
            return None
        return self._maps[torch.tensor(records)]

    def write(self, records: list[int], sums: list[int], maps: Tensor) -> None:
        """Keep maps that are not kept yet.

        Raises:
            OSError: they cannot be written.
        """
        for record, image, one in zip(records, sums, maps, strict=True):
            if self._is_good(record, image):
                continue
            row = torch.tensor([image, _checksum(one)])
            _write(self._files[0], _bytes(one), record * self.map_bytes)
            _write(self._files[1], _bytes(row), record * 16)
            self._sound[record] = True

    def close(self) -> None:
        """Close the files."""
        for file in self._files:
            os.close(file)

    __del__ = close

    def _is_good(self, record: int, image: int) -> bool:
        belongs, checksum = self._sums[record].tolist()
        if checksum == 0:
            return False
        if belongs != image:
            self._complain("belong to other images")
            return False
        if not self._sound[record]:
            if _checksum(self._maps[record]) != checksum:
                self._complain("are damaged")
                return False
            self._sound[record] = True
        return True

    def _complain(self, what: str) -> None:
        warnings.warn(f"cache: maps in {self._name} {what}; they are computed again", stacklevel=2)


def cache_key(teacher: Teacher, recipe: Recipe, images: int, seed: int, precision: Precision) -> dict[str, Any]:
    """What the kept maps depend on, but for the images themselves: each record has its own image's sum."""
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


_FACTORS: dict[tuple[int, str], Tensor] = {}


def image_sums(images: Tensor) -> list[int]:
    """A 64-bit sum of each image: its uint8 pixels times fixed random numbers, mod 2^64, the same on every device.

    Args:
        images: (N, C, H, W), float in [0, 1], made from uint8.
    """
    pixels = (images * 255).round().to(torch.int64).flatten(1)
    key = (pixels.shape[1], str(pixels.device))
    if key not in _FACTORS:
        drawn = torch.randint(-(2**63), 2**63 - 1, (key[0],), generator=torch.Generator().manual_seed(0))
        _FACTORS[key] = drawn.to(pixels.device)
    sums: list[int] = (pixels * _FACTORS[key]).sum(1).tolist()  # .tolist() waits for the device
    return sums


def _sized(path: Path, size: int) -> int:
    """A file of this size, open to be written; one of another size is cut or grows, and its checksums tell the rest."""
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    if os.fstat(file).st_size != size:
        os.ftruncate(file, size)
    return file


def _bytes(value: Tensor) -> memoryview:
    return value.reshape(-1).view(torch.uint8).numpy().data


def _checksum(one: Tensor) -> int:
    return zlib.crc32(_bytes(one)) + _PRESENT


def _write(file: int, data: memoryview, offset: int) -> None:
    while data:
        written = os.pwrite(file, data, offset)
        data, offset = data[written:], offset + written
