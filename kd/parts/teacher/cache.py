"""A teacher's outputs, computed once for every view of every image and kept in files.

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
from collections.abc import Callable
from importlib import metadata
from io import FileIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kd.constants import RESULTS_REVISION
from kd.errors import RecipeError, StorageError
from kd.files.storage import write_json
from kd.machine import Precision, versions
from kd.parts.roles import Sight, Teaching, to_device
from kd.parts.teacher.output import Channels
from kd.recipe import Recipe
from kd.recipe.identity import Scope, plain
from kd.types import Batch, Maps, Tapped, as_tuple

_DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}
SUMS = 16  # bytes of a record's two sums
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

    def __init__(self, teacher: Teaching, recipe: Recipe, *, images: int, seed: int, precision: Precision) -> None:
        assert recipe.cache is not None
        self.teacher, self.recipe = teacher, recipe
        self.views, self.records = recipe.cache.views, images * recipe.cache.views
        self._key = cache_key(teacher, recipe, images, seed, precision)
        digest = hashlib.sha256(json.dumps(self._key, sort_keys=True).encode()).hexdigest()
        self.folder = Path(recipe.cache.folder) / digest[:16]
        self._dtype_name, self._dtype = recipe.cache.dtype, _DTYPES[recipe.cache.dtype]
        self._precision = precision
        self._stores: dict[str, _Store] = {}
        self.failed = ""  # why no further maps are kept
        self._addresses = dict.fromkeys(
            address for term in ("logits", *teacher.taps.addresses.values()) for address in as_tuple(term)
        )

    def __call__(self, batch: Batch) -> Tapped:
        return self._maps(batch.keys, lambda: batch)

    def of_loaded(self, batch: Batch) -> Tapped:
        """The maps of a batch as the loader makes it, which goes to the device only if they are not all kept."""
        return self._maps(batch.keys, lambda: to_device(batch, self._precision))

    def _maps(self, keys: Tensor, on_device: Callable[[], Batch]) -> Tapped:
        indices, views, sums = keys.T.tolist()
        records = [index * self.views + view for index, view in zip(indices, views, strict=True)]
        self._open()
        maps = self._kept(records, sums)
        if maps.keys() < self._addresses.keys():
            maps = self._computed(on_device(), records, sums)
        at: dict[str, Maps] = {}
        for term, tap in self.teacher.taps.addresses.items():
            at[term] = tuple(maps[address] for address in tap) if isinstance(tap, tuple) else maps[tap]
        return Tapped(maps["logits"], {}, at)

    @property
    def record_bytes(self) -> int:
        """The bytes of one view of one image on disk; 0 before the first call."""
        return sum(store.map_bytes + SUMS for store in self._stores.values())

    def _open(self) -> None:
        """Open the files of earlier runs."""
        for address in self._addresses:
            if address not in self._stores and self.folder.is_dir() and not self.failed:
                name = re.compile(rf"{re.escape(address)}-([\dx]+)-{self._dtype_name}\.maps")
                for match in filter(None, (name.fullmatch(file.name) for file in self.folder.iterdir())):
                    self._open_store(address, tuple(map(int, match[1].split("x"))))

    def _open_store(self, address: str, shape: tuple[int, ...]) -> None:
        stem = self.folder / f"{address}-{'x'.join(map(str, shape))}-{self._dtype_name}"
        try:
            self._stores[address] = _Store(stem, self.records, shape, self._dtype)
        except OSError as error:
            self._give_up("opened", error)

    def _kept(self, records: list[int], sums: list[int]) -> dict[str, Tensor]:
        """The maps of a batch that are kept, by address."""
        maps: dict[str, Tensor] = {}
        try:
            for address, store in self._stores.items():
                if (kept := store.read(records, sums)) is not None:
                    maps[address] = self._precision.sent(kept).float()
        except OSError as error:
            self._give_up("read", error)
            self._stores.clear()
        return maps

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
        if self.failed:
            return
        try:
            if not self._stores:
                write_json(self.folder / "key.json", self._key)  # creates the folder
            if address not in self._stores:
                self._open_store(address, tuple(maps.shape[1:]))
            if address in self._stores:
                self._stores[address].write(records, sums, maps.cpu().contiguous())
        except (OSError, StorageError) as error:
            self._give_up("written", error)

    def _give_up(self, what: str, error: Exception) -> None:
        """Keep no further maps."""
        if not self.failed:
            reason = error.strerror if isinstance(error, OSError) else error
            self.failed = f"{self.folder} is not {what} ({reason})"
            warnings.warn(f"cache: {self.failed}; training continues without it", stacklevel=2)


class _Store:
    """The maps at one address, read and written through files that are open but never mapped.

    A page of a memory map that the disk has no room for, or that a damaged disk does not give, kills the process;
    reading and writing raise an OSError.

    Args:
        stem: path without suffix.
        records: number of records.
        shape: of one map, (C, h, w).
        dtype: of the maps.
    """

    def __init__(self, stem: Path, records: int, shape: tuple[int, ...], dtype: torch.dtype) -> None:
        self.map_bytes = torch.Size(shape).numel() * dtype.itemsize
        self._name, self._shape, self._dtype = stem.name, shape, dtype
        self._maps = _sized(stem.with_name(stem.name + ".maps"), records * self.map_bytes)
        self._sums = _sized(stem.with_name(stem.name + ".sums"), records * SUMS)
        self._sound = torch.zeros(records, dtype=torch.bool)  # checked by this process

    def __del__(self) -> None:
        for file in vars(self).values():
            if isinstance(file, FileIO):
                file.close()

    def read(self, records: list[int], sums: list[int]) -> Tensor | None:
        """The maps of these records (N, C, h, w), if all are present, undamaged and of these images.

        Raises:
            OSError: they cannot be read.
        """
        if not all(self._has(*record) for record in zip(records, sums, strict=True)):
            return None
        maps = torch.empty(len(records), *self._shape, dtype=self._dtype)
        for record, single in zip(records, maps, strict=True):
            _read(self._maps, single, record * self.map_bytes)
            if not self._is_sound(record, single):
                return None
        return maps

    def write(self, records: list[int], sums: list[int], maps: Tensor) -> None:
        """Keep maps that are not kept yet.

        Raises:
            OSError: they cannot be written.
        """
        for record, image_sum, single in zip(records, sums, maps, strict=True):
            if self._has(record, image_sum) and self._sound[record]:
                continue
            _write(self._maps, single, record * self.map_bytes)
            _write(self._sums, torch.tensor([image_sum, _checksum(single)]), record * SUMS)
            self._sound[record] = True

    def _has(self, record: int, image_sum: int) -> bool:
        """Whether a map of this image was kept."""
        kept_sum, checksum = self._sums_of(record)
        if checksum and kept_sum != image_sum:
            self._warn("belong to other images")
        return checksum != 0 and kept_sum == image_sum

    def _is_sound(self, record: int, single: Tensor) -> bool:
        """Whether a map that was read is the one that was kept; checked once per process."""
        if not self._sound[record]:
            if _checksum(single) != self._sums_of(record)[1]:
                self._warn("are damaged")
                return False
            self._sound[record] = True
        return True

    def _sums_of(self, record: int) -> list[int]:
        """The sum of a record's image, and the checksum of its map; 0 where nothing was kept."""
        sums = torch.zeros(2, dtype=torch.int64)
        _read(self._sums, sums, record * SUMS)
        return sums.tolist()

    def _warn(self, what: str) -> None:
        warnings.warn(f"cache: maps in {self._name} {what}; they are computed again", stacklevel=2)


def cache_key(teacher: Teaching, recipe: Recipe, images: int, seed: int, precision: Precision) -> dict[str, Any]:
    """All that the maps depend on except the images themselves, whose sums are in the records.

    Keys that not every recipe needs are left out there, so that older caches stay valid.
    """
    assert recipe.cache is not None
    weights = hashlib.sha256()
    for name, value in teacher.network.state_dict().items():
        weights.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        weights.update(_bytes(value.cpu().contiguous()))
    recipes = (recipe,) if recipe.teacher_recipe is None else (recipe, recipe.teacher_recipe)
    args, channels = _arguments(recipe), Channels.of(teacher.network)
    return {
        "teacher": weights.hexdigest(),
        "code": sorted({code.digest for named in recipes for code in named.sources.code.values()}),
        "network": hashlib.sha256(repr(teacher.network).encode()).hexdigest(),
        **({"args": args} if args else {}),  # what is an attribute only is in neither of the two above
        **({} if channels == Channels() else {"meaning": channels}),
        "data": recipe.resolved(without=[Scope.MACHINE])["data"],
        "images": images,
        **({} if teacher.sight == Sight() else {"sight": teacher.sight}),
        **({"int8": metadata.version("onnxruntime")} if recipe.teaches_in_int8 else {}),
        "seed": seed,
        "views": recipe.cache.views,
        "precision": [precision.device.type, str(precision.dtype), str(precision.memory_format)],
        "versions": versions(),
        "revision": RESULTS_REVISION,
    }


def _arguments(recipe: Recipe) -> Any:
    """The arguments of a teacher that needs no run: files by content, mappings as lists, since their order may count.

    Those of a run were there when its weights were trained.
    """
    assert recipe.teacher is not None
    network, sources = recipe.teacher.network, recipe.sources
    return plain(network, sources.component, sources.content, ordered=True)["args"] if network else {}


def _sized(path: Path, size: int) -> FileIO:
    """Open a file for writing and cut or extend it to this size; its checksums show which records remain valid."""
    no_links = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    file = FileIO(os.open(path, os.O_RDWR | os.O_CREAT | no_links, 0o666), "r+")
    if os.fstat(file.fileno()).st_size != size:
        file.truncate(size)
    return file


def _bytes(value: Tensor) -> memoryview:
    return value.reshape(-1).view(torch.uint8).numpy().data


def _checksum(single: Tensor) -> int:
    return zlib.crc32(_bytes(single)) + _PRESENT


def _read(file: FileIO, into: Tensor, offset: int) -> None:
    """Fill a contiguous tensor; what lies beyond the end of the file stays as it is."""
    file.seek(offset)
    data = _bytes(into)
    while data and (count := file.readinto(data)):
        data = data[count:]


def _write(file: FileIO, value: Tensor, offset: int) -> None:
    file.seek(offset)
    data = _bytes(value)
    while data:
        data = data[file.write(data) :]
