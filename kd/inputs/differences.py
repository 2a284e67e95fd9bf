"""How two records of inputs differ, in words and in numbers."""

from collections import Counter
from collections.abc import Sequence

from kd.inputs.record import InputFile, Inputs, SplitInputs


def differences(before: Inputs, now: Inputs) -> str:
    """What differs between the inputs of a run and those that are there now, in words; empty if nothing does."""
    parts = []
    if before.revision != now.revision:
        parts.append(
            f"kd computes results in another way now (revision {before.revision}, now {now.revision}; see CHANGELOG.md)"
        )
    if before.classes != now.classes:
        parts.append(f"the classes were {_short(before.classes)} and are {_short(now.classes)}")
    for name in dict.fromkeys((*before.splits, *now.splits)):
        if name not in now.splits:
            parts.append(f"{name} images were read and are not read now")
        elif name not in before.splits:
            parts.append(f"{name} images are read now and were not")
        else:
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
