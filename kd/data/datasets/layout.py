"""Where the images and masks of each split lie under one folder."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import NamedTuple

from kd.data.images.arrays import ARRAY
from kd.data.images.decode import SUFFIXES
from kd.data.images.files import match
from kd.data.images.names import list_images, nearest_content, read_list
from kd.data.splits.groups import check_group, groups_of
from kd.data.splits.shares import Shares
from kd.errors import DataError
from kd.units import counted

SPLITS = ("train", "val", "test")
_FOLDERS = {"val": ("val", "valid", "validation")}  # what `{split}` may stand for


class SplitFiles(NamedTuple):
    """The images of a split with their masks, by name."""

    files: Mapping[str, tuple[Path, Path | None]]
    notes: list[str]  # lines for the user
    groups: tuple[str, ...] | None  # of each image; None if none are stated


@dataclass(frozen=True)
class Layout:
    """Where the files of a dataset lie; the arguments are those of `Folders`.

    Raises:
        ValueError: an argument leads out of root or conflicts with another.
    """

    root: Path
    images: str
    masks: str | None
    image_suffix: str
    mask_suffix: str
    lists: str | None
    shares: Shares
    group: str | None
    follow_links: bool
    arrays: bool = False  # whether images may be arrays of numbers

    def __post_init__(self) -> None:
        for argument in ("images", "masks", "lists"):
            path = getattr(self, argument)
            if path is not None and (PurePath(path).is_absolute() or ".." in PurePath(path).parts):
                raise ValueError(f"Folders: {argument} '{path}' leads out of root; give a path inside root")
        if self.one_folder and not self.mask_suffix:
            raise ValueError(
                f"Folders: images and masks are both in '{self.images}'; set mask_suffix to the ending of the masks, "
                "such as _mask"
            )
        own = self.lists is not None or "{split}" in self.images
        if not own and not self.shares.complete:
            raise ValueError(
                'Folders: no split is defined; write val: 20%, or folds: 5 and fold: 0, or lists: "{split}.txt", or '
                'images: "{split}/images" and masks: "{split}/masks"'
            )
        if own and self.shares.given:
            raise ValueError("Folders: val, test and folds divide one folder; remove them, or remove lists and {split}")
        if self.group is not None:
            check_group(self.group)

    @property
    def one_folder(self) -> bool:
        """Whether images and masks lie in one folder, distinguished by `mask_suffix`."""
        return self.masks is not None and PurePath(self.images) == PurePath(self.masks)

    def exists(self, split: str) -> bool:
        """Whether the folder or list of a split exists."""
        return self._path(self.lists if self.lists is not None else self.images, split).exists()

    def files(self, split: str) -> SplitFiles:
        """The images of a split and their masks, found by their names; no image is opened.

        Raises:
            DataError: a folder or list is missing; an image has no mask or a mask no image; two files have one name;
                the split is empty.
        """
        images = list_images(
            self._path(self.images, split),
            self.root,
            self.image_suffix,
            without=self.mask_suffix if self.one_folder else "",
            follow_links=self.follow_links,
            suffixes=(*SUFFIXES, ARRAY) if self.arrays else SUFFIXES,
        )
        masks = None
        if self.masks is not None:
            folder = self._path(self.masks, split)
            masks = list_images(folder, self.root, self.mask_suffix, follow_links=self.follow_links)
        chosen = None
        source = images.folder
        if self.lists is not None:
            source = self._path(self.lists, split)
            chosen = read_list(source, images, masks, inside=self._bound)
        notes = [images.note]
        files: dict[str, tuple[Path, Path | None]]
        if masks is None:
            files = {name: (images.files[name], None) for name in (images.files if chosen is None else chosen)}
        else:
            files = dict(match(images, masks, chosen))
            notes += [] if self.one_folder else [masks.note]
        total = len(files)
        group_of = None if self.group is None else self._groups_of(files, self.group)
        if self.shares.given:
            files = {name: files[name] for name in self.shares.of(list(files), split, group_of)}
        elif self.group is not None and group_of is not None:
            self._refuse_shared_groups(self.group, split, set(group_of.values()))
        if not files:
            raise DataError(f"Folders: the split {split} is empty: {_why_empty(source, total)}")
        groups = None if group_of is None else tuple(group_of[name] for name in files)
        return SplitFiles(files, [note for note in notes if note], groups)

    def _refuse_shared_groups(self, group: str, split: str, groups: set[str]) -> None:
        """Refuse groups with images in another split too, where splits have folders or lists of their own."""
        for other in SPLITS:
            if other == split or not self.exists(other):
                continue
            shared = sorted(groups & set(self._groups_of(replace(self, group=None).files(other).files, group).values()))
            if shared:
                count = f"{len(shared)} groups have" if len(shared) > 1 else "a group has"
                raise DataError(
                    f"Folders: {count} images in {split} and in {other}, first '{shared[0]}'; "
                    "move them to one of the two"
                )

    def _groups_of(self, names: Iterable[str], group: str) -> dict[str, str]:
        return groups_of(names, group, self.root, inside=self._bound)

    @property
    def _bound(self) -> Path | None:
        """The folder that links of lists and groups must not lead out of."""
        return None if self.follow_links else self.root

    def _path(self, argument: str, split: str) -> Path:
        """A folder or list of a split; of the usual names for a split, the first that exists."""
        paths = [self.root / argument.replace("{split}", name) for name in _FOLDERS.get(split, (split,))]
        return next((path for path in paths if path.exists()), paths[0])


def _why_empty(source: Path, total: int) -> str:
    if total:
        return f"its share of the {counted(total, 'image')} in {source} is 0; add images or raise the share"
    if source.is_dir():
        return f"no images in {source}; {nearest_content(source)}; files read: {', '.join(SUFFIXES)}"
    return f"no images in {source}"
