"""Weights: what makes a file refused, the message, and the file or setting that it asks for."""

import os
import shlex
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from advised_calls import Net
from following import Row
from torch import nn
from torchvision.models import ResNet18_Weights, resnet18

from kd.networks.weight_files import read_weights
from kd.networks.weights import load_into
from teachers import ClassMapped


def save(content: Any = None, file: str = "a.pt", **options: Any) -> None:
    """Write a file of weights, by default the right one."""
    torch.save(Net().state_dict() if content is None else content, file, **options)


def load(spec: Any = "a.pt") -> str:
    return load_into(Net(), spec).line


def load_mapped(*source: str) -> str:
    mapped = ClassMapped(1, network=Net(), source=source, target=["land"])
    return load_into(mapped, {"file": "a.pt", "key": "w"}).line


def written(content: bytes) -> Callable[[], object]:
    return lambda: (Path("a.pt").write_bytes(content), load())


def right(text: str) -> None:
    """Put the right file there."""
    save()
    load()


def scripted() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(nn.Conv2d(1, 1, 1)), "a.pt")


def zipped(change: Callable[[zipfile.ZipFile], None], *, compress: int = zipfile.ZIP_STORED) -> None:
    """The right file with another entry, or compressed."""
    save()
    with zipfile.ZipFile("a.pt") as old:
        entries = {name: old.read(name) for name in old.namelist() if not name.endswith("byteorder")}
    with zipfile.ZipFile("a.pt", "w", compress) as new:
        for name, content in entries.items():
            new.writestr(name, content)
        change(new)


def cut() -> None:
    save()
    Path("a.pt").write_bytes(Path("a.pt").read_bytes()[:900])


def outside(text: str) -> None:
    """Run the printed program where the network's code is, and load what it writes."""
    program = shlex.split(text.partition("python -c ")[2])[0]
    exec(program, {})
    load("a.safetensors")


class Mirror:
    """Torchvision's server, which answers only while it is `up`."""

    def __init__(self) -> None:
        self.up = False

    def fetch(self, url: str, *args: Any, **options: Any) -> Any:
        cached = Path(torch.hub.get_dir(), "checkpoints", Path(url).name)
        if not cached.exists():
            if not self.up:
                raise OSError("no route to host")
            cached.parent.mkdir(parents=True, exist_ok=True)
            torch.save(resnet18().state_dict(), cached)
        return torch.load(cached, weights_only=True)

    def read(self) -> None:
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr("torchvision.models._api.load_state_dict_from_url", self.fetch)
            patched.setenv("TORCH_HOME", os.path.abspath("hub"))
            read_weights(str(ResNet18_Weights.IMAGENET1K_V1), None)


CACHED = Path("hub/hub/checkpoints/resnet18-f37072fd.pth")
MIRROR = Mirror()


def damaged() -> None:
    CACHED.parent.mkdir(parents=True)
    CACHED.write_bytes(b"half a file")
    MIRROR.read()


def downloaded_again(text: str) -> None:
    os.remove(text.partition(" is damaged")[0].rpartition(" ")[2])
    mirror = Mirror()
    mirror.up = True
    mirror.read()


def fetched_by_hand(text: str) -> None:
    place = Path(text.strip().rpartition("save it as ")[2])
    place.parent.mkdir(parents=True)
    torch.save(resnet18().state_dict(), place)
    MIRROR.read()


FILES = [
    Row("is empty: the download or the copy failed; get it again", written(b""), right),
    Row(
        "is a Git LFS pointer, not the weights; run: git lfs pull",
        written(b"version https://git-lfs.github.com/spec/v1\n"),
        right,
    ),
    Row(
        "is a web page, not the weights: the download failed; get it again, and look at it in a browser first",
        written(b"<!doctype html>"),
        right,
    ),
    Row("is a text in JSON, not the weights: the download failed; get it again", written(b'{"error": 404}'), right),
    Row("is a gzip archive; unpack it, and name the file inside", written(b"\x1f\x8b\x08" + bytes(20)), right),
    Row("is an HDF5 file of Keras; kd reads weights of PyTorch only", written(b"\x89HDF\r\n\x1a\n"), right),
    Row(
        "is a TorchScript archive; save the state_dict() of its network with torch.save instead",
        lambda: (scripted(), load()),
        right,
    ),
    Row(
        "is an archive without weights; unpack it, and name the file inside",
        lambda: (zipfile.ZipFile("a.pt", "w").writestr("b.pt", b"1"), load()),
        right,
    ),
    Row(
        "its archive is larger unpacked than packed; save it again with torch.save",
        lambda: (zipped(lambda archive: None, compress=zipfile.ZIP_DEFLATED), load()),
        right,
    ),
    Row(
        "numbers in big-endian order; save it again on a machine with the other order",
        lambda: (zipped(lambda archive: archive.writestr("a/byteorder", b"big")), load()),
        right,
    ),
    Row("is an archive that was cut off; get it again", lambda: (cut(), load()), right),
    Row(
        "which only its own code can read, and reading it runs what the file says; if you trust the file, convert it "
        "where that code is installed, and name a.safetensors: python -c ",
        lambda: (save(Net()), load()),
        outside,
    ),
    Row(
        "no file a.pth; give imagenet, a torchvision name, a run directory or a file",
        lambda: (save(), load("a.pth")),
        lambda text: load("a.pt"),
    ),
    Row(
        "a.npz: '.npz' files cannot be read; use .safetensors, .pt, .pth, .ckpt, .tar, .bin",
        lambda: (save(file="a.npz"), load("a.npz")),
        lambda text: (os.rename("a.npz", "a.bin"), load("a.bin")),
    ),
    Row(
        "be downloaded (no route to host); download {} and save it as ",
        MIRROR.read,
        fetched_by_hand,
    ),
    Row("is damaged; delete it, and it is downloaded again", damaged, downloaded_again),
]

FITS = [
    Row(
        "the file has no key 'ema'; it has 'stem.weight', 'stem.bias', 'head.weight'",
        lambda: (save(), load({"file": "a.pt", "key": "ema"})),
        lambda text: load(),
    ),
    Row(
        "unknown key 'files'; known: file, head, key, rename",
        lambda: (save(), load({"files": "a.pt"})),
        lambda text: load({"file": "a.pt"}),
    ),
    Row(
        "key: imagenet is one set of weights; only files have keys",
        lambda: (save(), load({"file": "imagenet", "key": "net"})),
        lambda text: load({"file": "a.pt"}),
    ),
    Row(
        "Net has no backbone with ImageNet weights; name a file",
        lambda: (save(), load("imagenet")),
        lambda text: load(),
    ),
    Row(
        "rename: no name in a.pt starts with 'stam.'; a.pt has 'stem.weight', 'stem.bias', 'head.weight'",
        lambda: (save(), load({"file": "a.pt", "rename": {"stam.": "stem."}})),
        lambda text: load({"file": "a.pt", "rename": {"stem.": "stem."}}),
    ),
    Row(
        "a.pt has its classes in the order sea, sky, land, but source is sky, land, sea; set source: [sea, sky, land]",
        lambda: (save({"w": Net().state_dict(), "classes": ["sea", "sky", "land"]}), load_mapped("sky", "land", "sea")),
        lambda text: load_mapped("sea", "sky", "land"),
    ),
    Row(
        "; map names with rename: {'old.': 'new.'}",
        lambda: (save({f"{name[0]}.{name}": value for name, value in Net().state_dict().items()}), load()),
        lambda text: load({"file": "a.pt", "rename": {"s.": "", "h.": ""}}),
    ),
    Row(
        "stem.weight is (8, 3, 3, 3) in the file and (4, 3, 3, 3) in the network; these are the weights of another "
        "network",
        lambda: (save({"stem.weight": torch.ones(8, 3, 3, 3)}), load()),
        right,
    ),
]

ROWS = [*FILES, *FITS]
