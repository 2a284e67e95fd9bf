"""The record of what a run read, as `inputs.json` and the copies of its code hold it."""

import hashlib
import json
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from kd.errors import StorageError
from kd.files.checked import STRICT, Count, checked, seal_text, unsealed
from kd.files.manifest import INPUTS, Id, again, check_owner, has_file, read_verified
from kd.files.storage import sweep, write_atomic

COPIES = "sources"  # the folder of the code that a run was trained with
WAS_NOT_RECORDED = "its inputs were not recorded, as kd 0.2 and earlier did not"

Hex = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


def _inside(path: str) -> str:
    parts = PurePosixPath(path)
    if parts.is_absolute() or ".." in parts.parts or "\\" in path or not parts.parts:
        raise ValueError("leads out of its folder")
    return path


Inside = Annotated[str, AfterValidator(_inside)]


class InputFile(NamedTuple):
    """A file that a run reads."""

    name: str  # relative to the dataset's root
    size: int  # bytes
    stamp: tuple[int, int, int] | None  # mtime, ctime, inode; None: too young to rely on
    sha256: Hex | None  # None: an image that has not been read


class _Model(BaseModel):
    model_config = ConfigDict(**STRICT, frozen=True)


class SplitInputs(_Model):
    """The files of a split, in the order of the dataset."""

    images: tuple[InputFile, ...] = ()
    labels: tuple[InputFile, ...] = ()
    names: tuple[str, ...] = ()  # of the samples, where the dataset has no file for each; labels hold its `sources`
    samples: int

    @property
    def digest(self) -> str:
        """The SHA-256 of the content, whatever the files are called."""
        files = [[file.sha256 or file.size for file in files] for files in (self.images, self.labels)]
        return _digest([files, self.names, self.samples])

    @property
    def unread(self) -> int:
        """The number of images that are known by size and time only."""
        return sum(file.sha256 is None for file in self.images)


class Copy(_Model):
    """The copy of a module in the run directory."""

    copy_name: Inside = Field(alias="copy")  # in `sources`
    sha256: Hex


class TeacherInputs(_Model):
    """The teacher of a run, if it comes from a run of its own."""

    run: str  # `<stem>-<id>/seed<k>`
    sha256: Hex  # of its weights


class Accepted(_Model):
    """A difference that `--accept-inputs` accepted."""

    what: str
    inputs: Hex  # the digest of the inputs that were there


Split = Literal["train", "val", "unlabelled"]


def _with_both(splits: dict[Split, SplitInputs]) -> dict[Split, SplitInputs]:
    if not {"train", "val"} <= splits.keys():
        raise ValueError(f"has {', '.join(splits) or 'none'}, and not train and val")
    return splits


class Inputs(_Model):
    """The content of `inputs.json`, which is sealed: as long as a run is unfinished, no manifest proves the file.

    Attributes:
        id: of the run that read them; None of kd 0.5 and older, which did not seal the file either.
        seed: of this run.
        revision: `kd.RESULTS_REVISION` of the kd that trained.
        classes: their names, in order.
        splits: "train" and "val", and "unlabelled" if the run reads images without labels.
        teacher: the run that taught; None without one.
        code: `file.py` of the recipe, absolute -> module beside it -> its copy.
        files: the SHA-256 of the weights and class maps that the recipe names, by their names there.
        accepted: the differences that were accepted, oldest first.
        changed: the files that changed while the run trained.
        note: what a reader should know about the record.
    """

    format: Literal[1] = 1
    id: Id | None = None
    seed: Count | None = None
    revision: int
    classes: tuple[str, ...]
    splits: Annotated[dict[Split, SplitInputs], AfterValidator(_with_both)]
    teacher: TeacherInputs | None = None
    code: dict[str, dict[Inside, Copy]] = Field(default_factory=dict)
    files: dict[str, Hex] = Field(default_factory=dict)
    accepted: tuple[Accepted, ...] = ()
    changed: tuple[str, ...] = ()
    note: str = ""

    @property
    def digest(self) -> str:
        """The SHA-256 of all that is compared."""
        teacher = self.teacher and self.teacher.sha256
        return _digest([self.revision, self.classes, {k: v.digest for k, v in self.splits.items()}, teacher])


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def has_inputs(run_dir: Path) -> bool:
    """Whether the run has recorded its inputs; reading a record that was lost later is an error."""
    return has_file(run_dir, INPUTS)


def read_inputs(run_dir: Path) -> Inputs:
    """Read the inputs of a run.

    Raises:
        StorageError: the file is missing, damaged, or of another run.
    """
    data, where = read_verified(run_dir, INPUTS), str(run_dir / INPUTS)
    try:
        inputs = checked(unsealed(data, where), Inputs, where)
    except StorageError as error:
        raise StorageError(f"{error}; {again(run_dir)}") from None
    if inputs.id is not None and inputs.seed is not None:
        check_owner(run_dir, INPUTS, inputs.id, inputs.seed)
    return inputs


def write_inputs(run_dir: Path, inputs: Inputs) -> None:
    """Write the inputs of a run."""
    write_atomic(run_dir / INPUTS, as_file(inputs))


def as_file(inputs: Inputs) -> bytes:
    """The content of `inputs.json`, one line for each file."""
    content = inputs.model_dump(mode="json", by_alias=True)
    splits = content.pop("splits")
    lines = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in content.items()]
    for name, split in splits.items():
        parts = [f"{json.dumps(key)}: {_rows(value)}" for key, value in split.items()]
        splits[name] = f"{json.dumps(name)}: {{\n" + ",\n".join(parts) + "\n}"
    lines.append('"splits": {\n' + ",\n".join(splits.values()) + "\n}")
    return seal_text("{\n" + ",\n".join(lines) + "\n}")


def _rows(value: Any) -> str:
    """A list as JSON with one line for each item; anything else on one line."""
    if not isinstance(value, list) or not value:
        return json.dumps(value)
    return "[\n" + ",\n".join(map(json.dumps, value)) + "\n]"


def read_copies(run_dir: Path, inputs: Inputs) -> dict[str, dict[str, bytes]]:
    """The code that a run was trained with: `file.py` as its recipe names it -> module -> content.

    Raises:
        StorageError: a copy is missing or damaged.
    """
    return {
        file: {name: _read_copy(run_dir, copy) for name, copy in modules.items()}
        for file, modules in inputs.code.items()
    }


def _read_copy(run_dir: Path, copy: Copy) -> bytes:
    path = run_dir / COPIES / copy.copy_name
    content = read_verified(run_dir, f"{COPIES}/{copy.copy_name}")
    if (digest := hashlib.sha256(content).hexdigest()) != copy.sha256:
        recorded = f"SHA-256 {digest[:8]}, recorded {copy.sha256[:8]}"
        raise StorageError(f"{path}: is damaged ({recorded}); {again(run_dir)}")
    return content


def write_copies(run_dir: Path, code: dict[str, dict[str, bytes]]) -> dict[str, dict[str, Copy]]:
    """Copy code into a run directory, under the files' own names as far as they differ.

    Args:
        run_dir: the run directory.
        code: `file.py`, absolute -> module beside it, `parts/head.py` -> content.
    """
    sweep(run_dir / COPIES)
    copies: dict[str, dict[str, Copy]] = {}
    taken: dict[str, bytes] = {}
    for file, modules in code.items():
        copies[file] = {}
        for module, content in modules.items():
            base = name = PurePosixPath(module).name
            for number in range(2, len(taken) + 3):
                if taken.setdefault(name, content) == content:
                    break
                name = f"{number}-{base}"
            write_atomic(run_dir / COPIES / name, content)
            copies[file][module] = Copy(copy=name, sha256=hashlib.sha256(content).hexdigest())
    return copies
