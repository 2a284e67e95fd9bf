"""The splits that an export states in files: lists such as `train.txt`, or the entries of YOLO's `data.yaml`."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from kd.errors import DataError, RecipeError
from kd.files.reading import MAX_DATA, read_text
from kd.prepare.files import Images, Tree, split_of
from kd.prepare.formats.export import Export, Source
from kd.recipe import yaml12
from kd.units import counted

_SPLITS = ("train", "val", "test")


class Stated(NamedTuple):
    """The splits that files beside images state."""

    where: Path  # the folder of the lists, or the settings
    split_of: Mapping[str, str]  # by the names of the images

    def notes(self, names: Iterable[str]) -> list[str]:
        """Lines for the user; `names` are those of all images."""
        alone = [name for name in names if name not in self.split_of]
        left_out = [f"left out: {counted(len(alone), 'image')} of no split, such as {alone[0]}"] if alone else []
        return [f"splits: as {self.where} states them", *left_out]


def stated_splits(names: Sequence[str], source: Source) -> Stated | None:
    """The splits of images that files state; None if they do not name images of both train and val.

    Raises:
        DataError: a list is too large or not text.
    """
    trees = list({tree.root: tree for tree in (source.marks, source.images)}.values())
    above = [
        Tree(root, tuple(sorted(path.name for path in root.iterdir() if path.is_file()))) for root in source.above()
    ]
    trees += [tree for tree in above if tree.root not in {tree.root for tree in trees}]
    images = Images(source.images, names)
    for where, entries in (*_of_yaml(trees), *_of_lists(trees)):
        split_by_name: dict[str, str] = {}
        for split, entry in entries:
            for name in _named(entry, images, trees):
                split_by_name.setdefault(name, split)  # an image of two splits is one of the first
        if {"train", "val"} <= set(split_by_name.values()):
            return Stated(where, split_by_name)
    return None


def with_stated_splits(export: Export, source: Source) -> Export:
    """An export with the splits that its files state; as it is, if they state none.

    Raises:
        DataError: as `stated_splits`.
    """
    names = [item.name for item in export.items]
    stated = stated_splits(names, source)
    if stated is None:
        return export
    items = [item._replace(split=stated.split_of[item.name]) for item in export.items if item.name in stated.split_of]
    return export._replace(items=items, notes=[*export.notes, *stated.notes(names)])


def _of_yaml(trees: Sequence[Tree]) -> Iterator[tuple[Path, list[tuple[str, str]]]]:
    """The entries `train`, `val` and `test` of each YAML file beside an export: folders or lists."""
    for tree in trees:
        for name in tree.named(".yaml", ".yml"):
            path = tree.root / name
            try:
                root = yaml12.compose(read_text(path, "settings of an export", DataError), str(path))
                content = yaml12.plain(root)[0] if root is not None else None
            except (DataError, RecipeError):  # another tool's file, which its own reader refuses if it needs it
                continue
            found = []
            for split in _SPLITS:
                value = content.get(split) if isinstance(content, dict) else None
                values = value if isinstance(value, list) else [value]
                found += [(split, entry) for entry in values if isinstance(entry, str)]
            if found:
                yield path, found


def _of_lists(trees: Sequence[Tree]) -> Iterator[tuple[Path, list[tuple[str, str]]]]:
    """The lists of each folder that holds them, those of segmentation (Pascal VOC has others too) first."""
    for tree in trees:
        lists = [name for name in tree.named(".txt") if split_of(f"{name.rpartition('/')[2][:-4]}/")]
        folders = sorted({name.rpartition("/")[0] for name in lists}, key=lambda folder: "egmentation" not in folder)
        for folder in folders:
            found = {
                split_of(f"{last[:-4]}/"): name
                for name in lists
                if (last := name.rpartition("/")[2]) and name.rpartition("/")[0] == folder
            }
            yield tree.root / folder, [(split, found[split]) for split in _SPLITS if split in found]


def _named(entry: str, images: Images, trees: Sequence[Tree]) -> list[str]:
    """The images of a folder, or of a list file, that an entry names by the end of its path."""
    parts = [part for part in entry.replace("\\", "/").split("/") if part not in ("", ".", "..")]
    for start in range(len(parts)):
        end = "/".join(parts[start:])
        if end.endswith(".txt"):
            files = [tree.root / name for tree in trees for name in tree.names if f"/{name}".endswith(f"/{end}")]
            if files:
                return _listed(files[0], images)
        elif found := [name for name in images.names if f"/{end}/" in f"/{name}"]:
            return found
    return []


def _listed(path: Path, images: Images) -> list[str]:
    """The images of a list: a name or path a line, alone or followed by something else."""
    found = []
    for line in read_text(path, "a list of images", DataError, limit=MAX_DATA).splitlines():
        words = line.split()
        name = images.find(line.strip()) or images.find(words[0]) if words else None
        if name is not None:
            found.append(name)
    return found
