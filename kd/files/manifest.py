"""The manifest of a finished run: which run its files belong to, and the SHA-256 of each that later numbers depend on.

runs/<recipe's stem>-<id>/seed<k>/manifest.json is written last. Every reader of the directory's files compares what it
has read with it; a run without one was trained by kd 0.2 or older, and is read without this check. Files of a finished
run are replaced by `kd.runs.result.replace_files` alone: a kill between two writes leaves every file proven.
"""

import hashlib
import os
import re
import shlex
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from kd.errors import StorageError, WeightsError, shell_word
from kd.files.checked import STRICT, Count, read_sealed
from kd.files.fingerprint import Stamp, is_settled, stamp
from kd.files.reading import exists, read_bytes

FORMAT = 1
MANIFEST, RESULT, WEIGHTS, METRICS = "manifest.json", "result.json", "student.safetensors", "metrics.jsonl"
INPUTS = "inputs.json"
FILES = (
    WEIGHTS, RESULT, METRICS, "recipe.yaml", INPUTS, "counts.npz", "teacher.json", "teacher-counts.npz",
    "environment.json", "predictions.npz",
)  # fmt: skip
FOLDERS = ("sources",)  # every file below them

MAX_WEIGHTS, MAX_OTHER = 1 << 40, 1_000_000_000  # bytes

Id = Annotated[str, Field(pattern=r"^[0-9a-f]{8}$")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
_Key = tuple[str, Stamp]  # of a file as it is now; in another current folder, the same path has another inode

_manifests: dict[_Key, "Manifest"] = {}
_verified: dict[_Key, str] = {}  # the SHA-256 of files that this process has hashed


class Digest(BaseModel):
    """What identifies a file's content."""

    model_config = ConfigDict(**STRICT, frozen=True)

    size: Count  # bytes
    sha256: Sha256


class Manifest(BaseModel):
    """The content of `manifest.json`."""

    model_config = ConfigDict(**STRICT, frozen=True)

    format: Literal[1]
    id: Id
    seed: Count
    files: dict[str, Digest]  # by the path from the run directory, with `/`
    becomes: dict[str, Digest] = Field(default_factory=dict)  # of files that are being replaced, see `kd.runs.result`
    sha256: Sha256  # of this file, see `kd.files.checked.seal`

    def allows(self, name: str) -> tuple[Digest, ...]:
        """The contents that a file may have: the one that is listed, and the one that it becomes."""
        return tuple(listed[name] for listed in (self.files, self.becomes) if name in listed)


def manifest_of(run_dir: Path, id: str, seed: int) -> dict[str, Any]:
    """The content of a run's manifest, unsealed: the digest of every file that it has."""
    names = [name for name in FILES if (run_dir / name).is_file()]
    for folder in FOLDERS:
        below = sorted(path for path in (run_dir / folder).rglob("*") if path.is_file())
        names += [path.relative_to(run_dir).as_posix() for path in below]
    files = {name: digest(_read(run_dir, name)).model_dump() for name in names}
    return {"format": FORMAT, "id": id, "seed": seed, "files": files}


def read_manifest(run_dir: Path) -> Manifest | None:
    """The manifest of a run; None without one. It is read once for all files of the run.

    Raises:
        StorageError: it is damaged, or of another run.
    """
    file = run_dir / MANIFEST
    if not exists(file, StorageError):
        return None
    key = _key(file)
    manifest = None if key is None else _manifests.get(key)
    if manifest is None:
        try:
            manifest = read_sealed(file, Manifest)
        except StorageError as error:
            raise StorageError(f"{error}; {again(run_dir)}") from None
        check_owner(run_dir, MANIFEST, manifest.id, manifest.seed)
        if key is not None:
            _manifests[key] = manifest
    return manifest


def has_file(run_dir: Path, name: str) -> bool:
    """Whether a run has a file, or its manifest lists it; reading one that is missing is then an error."""
    if exists(run_dir / name, _kind(name)):
        return True
    manifest = read_manifest(run_dir)
    return manifest is not None and name in manifest.files


def is_left_out(run_dir: Path, name: str) -> bool:
    """Whether a finished run was stored without a file on purpose: its manifest, which is sealed, never had it.

    A file that was lost later is in the manifest.
    """
    manifest = read_manifest(run_dir)
    return manifest is not None and name not in manifest.files and not exists(run_dir / name, _kind(name))


def read_verified(run_dir: Path, name: str) -> bytes:
    """Read a file of a run, and compare it with the run's manifest in the same pass.

    Args:
        run_dir: the run directory, finished or not.
        name: the path from there, with `/`.

    Raises:
        WeightsError: the weights are missing, or not those that the run wrote.
        StorageError: the same of any other file; or the manifest is damaged, or of another run.
    """
    manifest = read_manifest(run_dir)
    if manifest is None:
        return _read(run_dir, name)
    allowed = manifest.allows(name)
    if not allowed and is_left_out(run_dir, name):
        raise _kind(name)(
            f"{run_dir / name}: not kept: the run was stored as results alone, for kd list and kd compare; "
            f"to have it, {again(run_dir, 'results')}"
        )
    if not allowed:
        raise _kind(name)(f"{run_dir / name}: not in {MANIFEST}; {_what_holds(run_dir, name)}")
    key = _key(run_dir / name)
    data = _read(run_dir, name)
    actual = (key and _verified.get(key)) or hashlib.sha256(data).hexdigest()
    if not any(len(data) == listed.size and actual == listed.sha256 for listed in allowed):
        raise _kind(name)(
            f"{run_dir / name}: changed after the run wrote it (SHA-256 {actual[:8]}…, {MANIFEST} has "
            f"{allowed[0].sha256[:8]}…); "
            f"{_what_holds(run_dir, name)}"
        )
    if key is not None:
        _verified[key] = actual
    return data


def check_sizes(run_dir: Path) -> None:
    """Compare which files a finished run has, and their sizes, with its manifest; nothing but the manifest is read.

    Raises:
        WeightsError: the weights are missing, or have another size.
        StorageError: the same of any other file.
    """
    manifest, folder = read_manifest(run_dir), os.fspath(run_dir)
    if manifest is None:
        return
    for name, listed in manifest.files.items():
        found = stamp(f"{folder}{os.sep}{name}")
        if found is None or (found.size != listed.size and found.size != manifest.becomes.get(name, listed).size):
            what = f"has {found.size:,} bytes, {MANIFEST} has {listed.size:,}" if found else "missing"
            raise _kind(name)(f"{run_dir / name}: {what}; {_what_holds(run_dir, name)}")


def check_owner(run_dir: Path, name: str, id: str, seed: int) -> None:
    """Compare the run that a file states with the run that its directory is named after, if it is named after one.

    Raises:
        StorageError: they differ.
    """
    path = Path(os.path.abspath(run_dir))
    of_recipe = re.fullmatch(r".*-([0-9a-f]{8})", path.parent.name)
    of_seed = re.fullmatch(r"seed(\d+)(-before-\d{8}-\d{6})?", path.name)
    if of_recipe and of_seed and (of_recipe[1], int(of_seed[1])) != (id, seed):
        raise StorageError(
            f"{run_dir / name}: is of run {id}, seed {seed}, but its folder is of {of_recipe[1]}, seed {of_seed[1]}; "
            f"put it back, or {again(run_dir)}"
        )


def unfinished(run_dir: Path, *, trust: bool = False) -> str:
    """The line about a directory without a result whose run has begun, with the command; empty for any other.

    To move such a run aside, as `again` advises for damaged ones, would lose its checkpoints.
    """
    if not exists(run_dir / "recipe.yaml", StorageError):
        return ""
    command = f"kd run {shell_word(os.fspath(run_dir))}{' --trust' if trust else ''}"
    return f"{run_dir}: this run is not finished; {command} continues it"


def again(run_dir: Path, what: str = "damaged") -> str:
    """How a run is trained again, whichever recipe needs it, with nothing lost; `what` names the directory of today."""
    moved = shlex.join(["mv", str(run_dir), f"{run_dir}-{what}"])
    return f"{moved}, then the same kd run, trains it again"


def _what_holds(run_dir: Path, name: str) -> str:
    """What of the run is still good, and how to get the rest."""
    if name == WEIGHTS and _is_intact(run_dir, RESULT):
        return f"its score in {RESULT} is intact; to have weights, {again(run_dir)}"
    if name != WEIGHTS and _is_intact(run_dir, WEIGHTS):
        return f"the weights in {WEIGHTS} are intact; {again(run_dir)}"
    return again(run_dir)


def _is_intact(run_dir: Path, name: str) -> bool:
    try:
        manifest = read_manifest(run_dir)
        data = read_bytes(run_dir / name, "a file of a run", StorageError, limit=_limit(name), inside=run_dir)
    except StorageError:
        return False
    return manifest is not None and digest(data) in manifest.allows(name)


def _read(run_dir: Path, name: str) -> bytes:
    file = run_dir / name
    if not exists(file, _kind(name)):
        raise _kind(name)(f"{file}: missing; {_what_holds(run_dir, name)}")
    return read_bytes(file, "a file of a run", _kind(name), limit=_limit(name), inside=run_dir)


def _limit(name: str) -> int:
    return MAX_WEIGHTS if name == WEIGHTS else MAX_OTHER


def digest(data: bytes) -> Digest:
    """What identifies a content."""
    return Digest(size=len(data), sha256=hashlib.sha256(data).hexdigest())


def _kind(name: str) -> type[Exception]:
    return WeightsError if name == WEIGHTS else StorageError


def _key(file: Path) -> _Key | None:
    """What changes with every change of the file; None where a change could leave it as it is."""
    found = stamp(file)
    return None if found is None or not is_settled(found) else (os.fspath(file), found)
