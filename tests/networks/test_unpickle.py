"""Files by `torch.save` as they are, and pickles that were made to do harm: nothing runs, and memory is bounded."""

import argparse
import builtins
import collections
import contextlib
import datetime
import io
import os
import pathlib
import pickle
import struct
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from kd.networks import unpickle as machine
from kd.networks.torch_files import OtherFileError, unpickle
from kd.networks.unpickle import Opaque, UnpickleError, interpret


def interpreted(program: bytes) -> tuple[Any, dict[str, None]]:
    passed: dict[str, None] = {}
    return interpret(io.BytesIO(program), lambda pid: pid, passed), passed


TENSORS = {
    "float": torch.arange(6.0).view(2, 3),
    "half": torch.rand(3).half(),
    "turned": torch.rand(3, 4).bfloat16().T,
    "long": torch.tensor(3),
    "bool": torch.tensor([True, False]),
    "empty": torch.empty(0, 3),
    "complex": torch.rand(2).to(torch.complex64),
    "parameter": nn.Parameter(torch.rand(2)),
    "strided": torch.arange(20)[3:15:4],
}
NEWER = {"float8": torch.rand(4).to(torch.float8_e4m3fn), "uint16": torch.tensor([1, 65535], dtype=torch.uint16)}


@pytest.mark.parametrize(
    ("tensors", "options"),
    [
        (TENSORS | NEWER, {}),
        (TENSORS | NEWER, {"pickle_protocol": 4}),
        (TENSORS, {"_use_new_zipfile_serialization": False}),  # before torch 1.6
    ],
)
@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_tensors_arrive_as_they_were_saved(tmp_path: Path, tensors: Any, options: dict[str, Any]) -> None:
    torch.save(tensors, tmp_path / "a.pt", **options)
    content, passed = unpickle(tmp_path / "a.pt")
    assert content.keys() == tensors.keys()
    assert passed == []
    for name, tensor in tensors.items():
        read = content[name]
        assert (read.dtype, read.shape) == (tensor.dtype, tensor.shape)
        assert torch.equal(read.to(torch.complex64), tensor.detach().to(torch.complex64)), name


def test_two_views_share_their_storage(tmp_path: Path) -> None:
    whole = torch.arange(4.0)
    torch.save([whole, whole[1:3]], tmp_path / "a.pt")
    (read, view), _ = unpickle(tmp_path / "a.pt")
    read[1] = 7
    assert view.tolist() == [7, 2]


class Settings(dict[str, Any]):
    """As the dictionaries of other frameworks: a class of its own with entries and attributes."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Settings, (), {"frozen": True}, None, iter(self.items())


def test_bookkeeping_arrives_inert(tmp_path: Path) -> None:
    content = {
        "args": argparse.Namespace(lr=0.1, output=pathlib.PurePosixPath("runs/1")),
        "score": np.float64(0.71),
        "per_class": np.arange(3.0),
        "history": collections.defaultdict(list, {"loss": [1.0, 0.5]}),
        "date": datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC),
        "settings": Settings(lr=0.1),
        "network": nn.Linear(2, 2),
        "size": torch.Size([2, 3]),
        "names": {"b"},
        "epoch": 3,
    }
    torch.save(content, tmp_path / "a.pt")
    data, passed = unpickle(tmp_path / "a.pt")
    opaque = {name: value for name, value in data.items() if isinstance(value, Opaque)}
    assert opaque.keys() == {"args", "score", "per_class", "date", "settings", "network"}
    assert {name for name, value in opaque.items() if value.is_network} == {"network"}
    assert dict(opaque["settings"]) == {"lr": 0.1}
    assert {name: data[name] for name in data.keys() - opaque.keys()} == {
        "history": {"loss": [1.0, 0.5]},
        "size": (2, 3),
        "names": ["b"],
        "epoch": 3,
    }
    assert {"argparse.Namespace", "datetime.datetime", "torch.nn.modules.linear.Linear"} <= set(passed)


class Calls:
    """Pickles as a call."""

    def __init__(self, function: Callable[..., Any], *args: Any) -> None:
        self.call = (function, args)

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call


class SetsState(Calls):
    def __reduce__(self) -> tuple[Any, ...]:
        return (*self.call, {"__class__": os.system, "__setstate__": os.system, "__dict__": {"a": 1}})


CANARY = "canary"
TOUCH = f"open({CANARY!r}, 'w').close()"


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize(
    "hostile",
    [
        Calls(os.system, f"touch {CANARY}"),
        Calls(builtins.eval, TOUCH),
        Calls(builtins.exec, TOUCH),
        Calls(getattr, Calls(__import__, "os"), "system"),
        Calls(map, Calls(eval, "print"), [TOUCH]),
        SetsState(os.system, f"touch {CANARY}"),
        Calls(pathlib.Path.touch, pathlib.PurePosixPath(CANARY)),
    ],
)
def test_nothing_is_called(hostile: Calls, protocol: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    content, passed = interpreted(pickle.dumps({"hook": hostile, "epoch": 3}, protocol))
    assert isinstance(content["hook"], Opaque)
    assert content["epoch"] == 3
    assert passed
    assert not Path(CANARY).exists()


def test_what_a_call_returns_is_not_called_either(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """getattr(__import__('os'), 'system')('touch canary')."""
    monkeypatch.chdir(tmp_path)
    module = b"c__builtin__\n__import__\n(S'os'\ntR"
    content, _ = interpreted(b"c__builtin__\ngetattr\n(" + module + b"S'system'\ntR(S'touch canary'\ntR.")
    assert content.name == "builtins.getattr"
    assert not Path(CANARY).exists()


def test_nothing_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **options: object) -> None:
        raise AssertionError("an import")

    program = b"cantigravity\nfly\n(tR."
    monkeypatch.setattr(builtins, "__import__", refuse)
    content, _ = interpreted(program)
    monkeypatch.undo()
    assert content.name == "antigravity.fly"


@pytest.mark.parametrize(
    "target", ["torch._utils\n_rebuild_tensor_v2", "collections\nOrderedDict", "torch\nFloatStorage"]
)
def test_state_cannot_change_what_the_machine_uses(target: str) -> None:
    """BUILD on a function or class of the machine: it would change every later load."""
    before = dict(machine._REBUILDS), machine.Storage(torch.float32)
    interpreted(f"c{target}\n".encode() + pickle.dumps((None, {"call": os.system, "dtype": 1}), 2)[2:-1] + b"b.")
    assert (machine._REBUILDS, machine.Storage(torch.float32)) == before


@pytest.mark.parametrize(
    ("program", "what"),
    [
        (b"Pmodule\n.", "the operation PERSID"),
        (b"\x82\x01.", "the operation EXT1"),
        (b"\x97.", "the operation NEXT_BUFFER"),
        (b"(((.", None),
        (b"", None),
        (b"\x8e\xff\xff\xff\xff\xff\xff\xff\x7fabc.", None),  # BINBYTES8 of 2⁶³ bytes
        (b"\x96\xff\xff\xff\xff\xff\xff\xff\x7fabc.", None),  # BYTEARRAY8
        (b"\x8b\xff\xff\xff\x7fabc.", None),  # LONG4
        (b"]" * 3 + b"j\xff\xff\xff\xff.", None),
    ],
)
def test_damaged_programs_end(program: bytes, what: str | None, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.pt", "w") as archive:
        archive.writestr("a/data.pkl", program)
    with pytest.raises(UnpickleError, match=what):
        unpickle(tmp_path / "a.pt")


def test_deep_nesting_and_shared_parts_take_no_stack(tmp_path: Path) -> None:
    depth = 60_000
    content, _ = interpreted(b"]" * depth + b"a" * (depth - 1) + b".")
    assert isinstance(content, list)
    nested = b"K\x01" + b"\x85" * depth  # ((((1,),),), as a key its hash would take the C stack
    assert interpreted(b"}" + nested + b"K\x01s.")[0] == {}
    doubled = b"]" + b"".join(b"q%c(h%ch%cl" % (i, i, i) for i in range(60)) + b"."  # 2⁶⁰ paths
    assert len(interpreted(doubled)[0]) == 2


def test_a_memo_takes_as_much_memory_as_it_has_entries() -> None:
    assert interpreted(b"]r\xff\xff\xff\xff.")[0] == []  # entry 2³²: a table would take 64 GB


def test_steps_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "MAX_STEPS", 1000)
    with pytest.raises(UnpickleError, match="more than 1,000 steps"):
        interpreted(b"]" * 2000 + b".")


@pytest.mark.parametrize(
    ("size", "stride", "offset", "message"),
    [
        ([10**12], [1], 0, "a tensor of shape (1000000000000,) in a storage of 4 numbers"),
        ([4], [2], 0, "a tensor of shape (4,) in a storage of 4 numbers"),
        ([2], [1], 3, "a tensor of shape (2,) in a storage of 4 numbers"),
        ([2], [-1], 3, "a tensor without a storage, or with negative sizes"),
        ([2], [1], -1, "a tensor without a storage, or with negative sizes"),
    ],
)
def test_a_tensor_stays_inside_its_storage(size: list[int], stride: list[int], offset: int, message: str) -> None:
    rebuild = machine._REBUILDS["torch._utils._rebuild_tensor_v2"].call
    with pytest.raises(UnpickleError) as caught:
        rebuild(torch.arange(4.0), offset, tuple(size), tuple(stride), False, {})
    assert str(caught.value) == message


def test_a_compressed_bomb_is_not_unpacked(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", b"0" * 50_000_000)
    tracemalloc.start()
    try:
        with pytest.raises(UnpickleError, match="larger unpacked than packed"):
            unpickle(tmp_path / "a.pt")
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()


def test_storages_of_the_old_format_are_no_larger_than_the_file(tmp_path: Path) -> None:
    torch.save({"a": torch.rand(4)}, tmp_path / "a.pt", _use_new_zipfile_serialization=False)
    content = (tmp_path / "a.pt").read_bytes()
    assert content.count(b"K\x04N") == 1
    (tmp_path / "a.pt").write_bytes(content.replace(b"K\x04N", b"J" + struct.pack("<i", 2**31 - 1) + b"N"))
    with pytest.raises(UnpickleError, match="storages of 8,589,934,588 bytes in a file of"):
        unpickle(tmp_path / "a.pt")


@pytest.mark.slow
@pytest.mark.parametrize("legacy", [False, True])
def test_no_damage_ends_in_another_way(tmp_path: Path, legacy: bool) -> None:
    """Cut and changed files: the content, or one error."""
    torch.save({"a": torch.rand(4), "b": [1, "x", {2.5}]}, tmp_path / "a.pt", _use_new_zipfile_serialization=not legacy)
    whole = (tmp_path / "a.pt").read_bytes()
    draw = np.random.default_rng(0)
    for _ in range(1000):
        content = bytearray(whole)
        for place in draw.integers(0, len(whole), draw.integers(1, 8)):
            content[place] = draw.integers(0, 256)
        (tmp_path / "a.pt").write_bytes(content[: draw.integers(1, len(whole) + 1)] if draw.random() < 0.3 else content)
        with contextlib.suppress(UnpickleError, OtherFileError):
            unpickle(tmp_path / "a.pt")
