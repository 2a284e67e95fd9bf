"""`inputs.json` of a run directory: what the run read, by content; and how that differs from what is there now.

Labels are hashed when a run starts, images once training has read them. As long as a file's stamp stays the same, its
content is not read again; a file with another stamp, or a copied run directory, is compared by content.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from kd.checked import STRICT, checked
from kd.errors import StorageError
from kd.fingerprint import Stamp, is_settled, sha256
from kd.manifest import again, read_verified
from kd.storage import write_atomic

NAME = "inputs.json"
COPIES = "sources"  # the folder of the code that a run was trained with
NOT_RECORDED = "its inputs were not recorded, as kd 0.2 and earlier did not"
THREADS = 4  # that read files; hashing runs outside Python's lock

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


class Inputs(_Model):
    """The content of `inputs.json`.

    Attributes:
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
    revision: int
    classes: tuple[str, ...]
    splits: dict[Literal["train", "val", "unlabelled"], SplitInputs]
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


class Listed(NamedTuple):
    """A file that a dataset lists now."""

    name: str  # relative to the dataset's root
    path: str
    stamp: Stamp | None  # None: there is no such file


def has_inputs(run_dir: Path) -> bool:
    """Whether the run has recorded its inputs."""
    return (run_dir / NAME).is_file()


def read_inputs(run_dir: Path) -> Inputs:
    """Read the inputs of a run.

    Raises:
        StorageError: the file is missing or damaged.
    """
    return checked(read_verified(run_dir, NAME), Inputs, str(run_dir / NAME))


def write_inputs(run_dir: Path, inputs: Inputs) -> None:
    """Write the inputs of a run, one line for each file."""
    content = inputs.model_dump(mode="json", by_alias=True)
    splits = content.pop("splits")
    lines = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in content.items()]
    for name, split in splits.items():
        parts = [f"{json.dumps(key)}: {_rows(value)}" for key, value in split.items()]
        splits[name] = f"{json.dumps(name)}: {{\n" + ",\n".join(parts) + "\n}"
    lines.append('"splits": {\n' + ",\n".join(splits.values()) + "\n}")
    write_atomic(run_dir / NAME, ("{\n" + ",\n".join(lines) + "\n}\n").encode())


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


def hashed(
    files: Sequence[Listed], known: Iterable[InputFile] = (), *, all_files: bool = True, interrupt: Callable[[], None]
) -> tuple[InputFile, ...]:
    """The files as they are recorded: the hash of a file whose stamp is known is taken from there.

    Args:
        files: as the dataset lists them.
        known: what has been recorded.
        all_files: whether to hash every file; else only those whose hash was recorded.
        interrupt: called now and then; may raise to stop.

    Raises:
        OSError: a file cannot be read.
    """
    by_name = {file.name: file for file in known}
    rows: list[InputFile] = []
    unknown: list[int] = []
    for listed in files:
        now, before = listed.stamp, by_name.get(listed.name)
        if now is None:
            rows.append(InputFile(listed.name, -1, None, None))
            continue
        short = (now.mtime, now.ctime, now.inode)
        if before is not None and before.sha256 and (before.size, before.stamp) == (now.size, short):
            rows.append(before)
            continue
        if all_files or (before is not None and before.sha256):
            unknown.append(len(rows))
        rows.append(InputFile(listed.name, now.size, short if is_settled(now) else None, None))
    with ThreadPoolExecutor(THREADS) as pool:
        digests = pool.map(sha256, [files[index].path for index in unknown])
        for index, digest in zip(unknown, digests, strict=True):
            rows[index] = rows[index]._replace(sha256=digest)
            interrupt()
    return tuple(rows)


def differences(before: Inputs, now: Inputs) -> str:
    """What differs between the inputs of a run and those that are there now, in words; empty if nothing does."""
    parts = []
    if before.revision != now.revision:
        parts.append(
            f"kd computes results in another way now (revision {before.revision}, now {now.revision}; see CHANGELOG.md)"
        )
    if before.classes != now.classes:
        parts.append(f"the classes were {_short(before.classes)} and are {_short(now.classes)}")
    for name in before.splits:
        parts += _of_split(name, before.splits[name], now.splits[name])
    weights = [teacher.sha256 if teacher else None for teacher in (before.teacher, now.teacher)]
    if weights[0] != weights[1]:
        parts.append(f"the teacher has other weights ({_hash(weights[0])}, now {_hash(weights[1])})")
    return ", ".join(parts)


def _of_split(name: str, before: SplitInputs, now: SplitInputs) -> list[str]:
    if not (before.images and now.images):
        names = before.names or [file.name for file in before.images], now.names or [file.name for file in now.images]
        if parts := _of_names(f"{name} image", *names):
            return parts
        if before.samples != now.samples:
            return [f"{name} had {before.samples} images and has {now.samples}"]
        if before.images or now.images:
            return []
        sources = _of_names(f"{name} file", [f.name for f in before.labels], [f.name for f in now.labels])
        return sources or [text for text in [_changed(f"{name} file", before.labels, now.labels)] if text]
    moved = _of_names(f"{name} image", [f.name for f in before.images], [f.name for f in now.images])
    labels = [] if moved else _of_names(f"{name} label", [f.name for f in before.labels], [f.name for f in now.labels])
    changed = [
        text
        for what in ("label", "image")
        if (text := _changed(f"{name} {what}", getattr(before, f"{what}s"), getattr(now, f"{what}s")))
    ]
    return [*moved, *labels, *changed]


def _of_names(what: str, before: Sequence[str], now: Sequence[str]) -> list[str]:
    """The names that were added and removed; else the first one in another place."""
    counts, counts_now = Counter(before), Counter(now)
    parts = []
    for verb, more, less in (("added", counts_now, counts), ("removed", counts, counts_now)):
        if names := list((more - less).elements()):
            were = "s were" if len(names) > 1 else " was"
            parts.append(f"{len(names)} {what}{were} {verb}, first {min(names)}")
    if not parts and list(before) != list(now):
        first = next(new for old, new in zip(before, now, strict=True) if old != new)
        parts.append(f"the {what}s are in another order, from {first} on")
    return parts


def _changed(what: str, before: Sequence[InputFile], now: Sequence[InputFile]) -> str:
    """The files of a name that have another content; of an image that was never read, another size."""
    known = {file.name: file for file in before}
    pairs = [(known[file.name], file) for file in now if file.name in known]
    differing = [(old, new) for old, new in pairs if _differ(old, new)]
    if not differing:
        return ""
    old, new = differing[0]
    values = f"{_hash(old.sha256)}, now {_hash(new.sha256)}" if old.sha256 else f"{old.size} bytes, now {new.size}"
    return f"{len(differing)} of {len(before)} {what}s changed, first {old.name} ({values})"


def differing_files(a: SplitInputs, b: SplitInputs) -> int:
    """The number of files that only one of two splits has, or whose content differs; of an unread image, the size."""
    of_a, of_b = ({file.name: file for file in (*split.images, *split.labels)} for split in (a, b))
    alone = len(of_a.keys() ^ of_b.keys()) + len(set(a.names) ^ set(b.names))
    return alone + sum(_differ(of_a[name], of_b[name]) for name in of_a.keys() & of_b.keys())


def _differ(a: InputFile, b: InputFile) -> bool:
    return a.sha256 != b.sha256 if a.sha256 and b.sha256 else a.size != b.size


def _hash(digest: str | None) -> str:
    return digest[:8] if digest else "none"


def _short(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + (f" … ({len(names)})" if len(names) > 8 else "")
