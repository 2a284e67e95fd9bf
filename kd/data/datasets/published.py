"""Published datasets, read from the tree that they are unpacked to: a row of a table describes each.

The function of a dataset (`kd.data.PascalVOC`) chooses its rows; everything else is the same for all of them.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from kd.data.images.decode import SUFFIXES, read_header, size_text
from kd.data.images.files import Pair, match, pair
from kd.data.images.names import list_images, nearest_content, read_list
from kd.data.images.read import read_image
from kd.data.masks.class_files import Color
from kd.data.masks.encoding import read_labels
from kd.data.masks.meaning import Meaning
from kd.errors import DataError
from kd.types import IGNORE, Sample, resize_labels

Reading = Callable[[Path, Meaning, int], Tensor]  # as `read_labels`


@dataclass(frozen=True)
class Release:
    """A dataset as it was published.

    Attributes:
        name: of the dataset, as a recipe writes it.
        colors: RGB of each class.
        meaning: of its masks, with the names of its classes.
        tree: the folders and files that `root` must hold.
        get: where it is published, and what to download.
        channels: of its images, 1 or 3.
        stretched: whether some masks have another size than their images, to which they are stretched.
    """

    name: str
    colors: tuple[Color, ...]
    meaning: Meaning
    tree: str
    get: str
    channels: int = 3
    stretched: bool = False


class Part(NamedTuple):
    """Where some images of a dataset and their masks lie under `root`."""

    images: str
    masks: str | None  # None: no labels
    lists: tuple[str, ...] | None = None  # files that choose the images, one a line; (): those with a mask; None: all
    image_ending: str = ""  # of the stems of images, which names lack
    mask_ending: str = ""
    mask_suffixes: tuple[str, ...] = SUFFIXES
    read: Reading = read_labels
    beside: str | None = None  # a further file that is read


class Located(NamedTuple):
    """An image with its mask, and how to read the mask."""

    pair: Pair
    read: Reading = read_labels


class Found(NamedTuple):
    """Images with their masks, by name, and lines for the user."""

    items: Mapping[str, Located]
    notes: list[str]


def find(release: Release, part: Part, root: str) -> Found:
    """The images of a part with their masks, by the names of their files; of masks, the sizes are compared.

    Raises:
        DataError: a folder or list is missing; a list names an image that is not there; an image has no mask; sizes
            differ.
    """
    folder = Path(root)
    places = [part.images, *(part.lists or ()), *(place for place in (part.masks, part.beside) if place is not None)]
    for place in places:
        if not (folder / place).exists():
            raise DataError(
                f"{release.name}: no {folder / place}; {nearest_content(folder / place)}; {release.get}, and set "
                f"data.args.root to the folder that holds {release.tree}"
            )
    images = list_images(folder / part.images, folder, part.image_ending, without=_of_masks(part))
    if part.masks is None:
        return Found({name: Located(Pair(path, None)) for name, path in images.files.items()}, [])
    masks = list_images(folder / part.masks, folder, part.mask_ending, suffixes=part.mask_suffixes)
    chosen: dict[str, str | None] | None = None
    if part.lists is not None:
        chosen = {} if part.lists else {name: None for name in images.files if name in masks.files}
        for listed in part.lists:
            chosen |= read_list(folder / listed, images, inside=folder)
    files = match(images, masks, chosen)
    if part.mask_suffixes != SUFFIXES:  # no image files, and too slow to open them all
        return Found({name: Located(Pair(*of_name), part.read) for name, of_name in files.items()}, [])
    pairs, _, notes = pair(files.values(), stretched=release.stretched)
    return Found({name: Located(of_name, part.read) for name, of_name in zip(files, pairs, strict=True)}, notes)


def _of_masks(part: Part) -> str:
    """The ending of masks that lie among the images; they are no images."""
    return part.mask_ending if part.images == part.masks else ""


class Published:
    """One split of a published dataset.

    Args:
        release: the dataset.
        split: "train", "val" or "test".
        parts: the images of the split, with lines for the user.
        groups: of each image, the name of its group, see `kd.types.SegmentationDataset`.
        spacings: of each image, the height and width of a pixel in mm.
        beside: further files that samples are read from.

    Raises:
        DataError: there are no images.
    """

    def __init__(
        self,
        release: Release,
        split: str,
        parts: Iterable[Found],
        *,
        groups: Sequence[str] | None = None,
        spacings: Sequence[tuple[float, float]] | None = None,
        beside: tuple[Path, ...] = (),
    ) -> None:
        self.__name__ = release.name
        self.release, self.beside, self.spacings = release, beside, spacings
        self.class_names, self.colors, self.in_channels = release.meaning.names, release.colors, release.channels
        found = list(parts)
        self.items = [item for part in found for item in part.items.values()]
        if not self.items:
            raise DataError(f"{release.name}: the split {split} is empty")
        self.names = tuple(str(item.pair.image) for item in self.items)
        self.notes = tuple(note for part in found for note in part.notes)  # lines for the user
        if groups is not None:
            self.groups = tuple(groups)

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        """The image `index`; all views are the same."""
        pair = self.items[key[0]].pair
        image, labels = read_image(pair.image, self.in_channels), self.labels(key[0])
        if labels is not None and labels.shape != image.shape[1:]:
            sizes = f"{size_text(image.shape[1:])}, but its mask {pair.mask} is {size_text(labels.shape)}"
            raise DataError(f"{pair.image}: {sizes} (width × height)")
        return Sample(image, labels, str(pair.image))

    def labels(self, index: int) -> Tensor | None:
        """The labels of the image `index` alone, uint8 (H, W)."""
        (image, mask, turn), read = self.items[index]
        if mask is None:
            return None
        labels = read(mask, self.release.meaning, turn)
        return resize_labels(labels[None], read_header(image).size)[0] if self.release.stretched else labels

    def files(self, index: int) -> tuple[Path, ...]:
        """The image, its mask if there is one, and what else is read."""
        return (*self.items[index].pair.files, *self.beside)

    def spacing(self, index: int) -> tuple[float, float] | None:
        """The height and width of a pixel of the image `index` in mm; None if they are unknown."""
        return None if self.spacings is None else self.spacings[index]


def numbered(names: Sequence[str], codes: Mapping[int, int] | None = None) -> Meaning:
    """The meaning of masks that hold numbers.

    Args:
        names: of the classes.
        codes: number -> class or IGNORE; None: the classes' own indices. 255 is ignored in any case.
    """
    given = {index: index for index in range(len(names))} if codes is None else dict(codes)
    return Meaning(tuple(names), {IGNORE: IGNORE} | given, fix="use the masks as they were published")
