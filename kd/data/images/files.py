"""Images and their masks, paired by name and by size."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from kd.data.images.decode import UPRIGHT, Header, Limit, read_header, size_text, turned
from kd.data.images.names import Listing, raise_all
from kd.data.words import yaml_word
from kd.errors import DataError
from kd.units import counted

_LABEL_STUDIO = re.compile(r"task-\d+-annotation-\d+-by-[\w.@]*-")


class Pair(NamedTuple):
    """An image and its mask."""

    image: Path
    mask: Path | None  # None: no labels
    turn: int = UPRIGHT  # the EXIF orientation of a mask that was drawn on the turned pixels of its image

    @property
    def files(self) -> tuple[Path, ...]:
        """The image, and the mask if there is one."""
        return (self.image,) if self.mask is None else (self.image, self.mask)


class Pairs(NamedTuple):
    """The pairs of a split, and the headers of its masks."""

    pairs: list[Pair]
    headers: list[Header]  # of the masks, in the same order
    notes: list[str]  # lines for the user


def match(
    images: Listing, masks: Listing, chosen: Mapping[str, str | None] | None = None
) -> dict[str, tuple[Path, Path]]:
    """Images and masks of the same name; no file is opened.

    Args:
        images: of a folder.
        masks: of a folder; where no names are equal, as where one of the two has folders in folders and the other has
            not, the last parts of the names are compared, if no part occurs twice among the images or the masks.
        chosen: name of an image, in order -> name of its mask, None for the mask of the same name. None for all
            images, which also requires an image for every mask.

    Raises:
        DataError: an image without a mask, or a mask without an image; every case is listed. If no image has a mask,
            one line, with the arguments that would pair them.
    """
    mask_of = masks.files
    if not mask_of.keys() & images.files.keys():
        image_of = {_last(name): name for name in images.files}
        if len(image_of) == len(images.files) and len(set(map(_last, mask_of))) == len(mask_of):
            mask_of = {image_of.get(_last(name), name): path for name, path in mask_of.items()}
    stated = {name: masks.files[mask] for name, mask in (chosen or {}).items() if mask is not None}
    found = {name: stated.get(name, mask_of.get(name)) for name in (images.files if chosen is None else chosen)}
    if found and not any(found.values()):
        raise DataError(_none_matches(list(found), images, masks))
    problems = [
        f"{images.files[name]}: no mask named {name} in {masks.folder}" for name, mask in found.items() if mask is None
    ]
    if chosen is None and images.files:  # without any, the folder of the images is the mistake
        problems += [
            f"{path}: no image named {name} in {images.folder}"
            for name, path in mask_of.items()
            if name not in images.files
        ]
    raise_all(problems)
    return {name: (images.files[name], mask) for name, mask in found.items() if mask is not None}


def _last(name: str) -> str:
    return name.rpartition("/")[2]


def pair(files: Iterable[tuple[Path, Path]], *, stretched: bool = False, limit: Limit | None = None) -> Pairs:
    """Compare images with their masks by their headers, both upright.

    A mask without an EXIF tag of its own, whose image has one, was drawn either on the upright picture or on the
    stored pixels: their sizes show it for a turn of 90°. Where they cannot, it counts as drawn like the others.

    Args:
        files: images with their masks.
        stretched: whether a mask may have another size than its image: it is stretched to the image's.
        limit: of images and masks; None: `decode.MAX_PIXELS`.

    Raises:
        DataError: a header cannot be read, or the sizes of a pair differ; every case is listed.
    """
    problems: list[str] = []
    headers: list[Header] = []
    tagged: dict[int, Header] = {}  # index -> the image's header, of masks that its tag may concern
    found: list[Pair] = []
    differing: list[Path] = []
    for image, mask in files:
        try:
            of_image, of_mask = read_header(image, limit=limit), read_header(mask, limit=limit)
        except DataError as error:
            problems.append(str(error))
            continue
        stored = turned(of_image.size, of_image.turn)
        if of_image.turn != UPRIGHT and of_mask.turn == UPRIGHT and of_mask.size in (of_image.size, stored):
            tagged[len(found)] = of_image
        elif stretched and of_mask.size not in (of_image.size, of_image.size[::-1]):
            differing.append(mask)
        elif of_image.size != of_mask.size:
            problems.append(_sizes_differ(image, of_image, mask, of_mask))
        found.append(Pair(image, mask))
        headers.append(of_mask)
    raise_all(problems)
    turns, notes = _turns(tagged, headers, found)
    if differing:
        count = f"{len(differing)} of {len(found)} masks have" if len(differing) > 1 else "a mask has"
        notes.append(f"{count} another size than the image, such as {differing[0]}: stretched to the image's")
    pairs = [item._replace(turn=turns.get(index, UPRIGHT)) for index, item in enumerate(found)]
    return Pairs(pairs, headers, notes)


def _turns(tagged: Mapping[int, Header], headers: list[Header], pairs: list[Pair]) -> tuple[dict[int, int], list[str]]:
    """The orientation of every mask that was drawn on turned pixels, by index, and a line for the user."""
    stored = {i for i, image in tagged.items() if headers[i].size != image.size}
    decided = stored | {i for i, image in tagged.items() if turned(image.size, image.turn) != image.size}
    if stored and stored == decided:  # as all whose sizes show it
        stored = set(tagged)
    if not tagged:
        return {}, []
    one = len(tagged) == 1
    line = f"{len(tagged)} image{' is' if one else 's are'} turned upright by the EXIF tag, such as "
    line += str(pairs[min(tagged)].image)
    if not stored:
        masks = "its mask is upright already" if one else "their masks are upright already"
    else:
        masks = f"{len(stored)} of their masks were drawn on the stored pixels and are turned too"
    return {i: tagged[i].turn for i in stored}, [f"{line}; {masks}"]


def _sizes_differ(image: Path, of_image: Header, mask: Path, of_mask: Header) -> str:
    sizes = f"{image}: {size_text(of_image.size)}, but its mask {mask} is {size_text(of_mask.size)} (width × height"
    if of_image.turn != UPRIGHT or of_mask.turn != UPRIGHT:
        sizes += ", turned upright by the EXIF tag"
    if of_image.size == of_mask.size[::-1]:
        return f"{sizes}); one of the two lies on its side: turn it by 90° and save it"
    return f"{sizes}); give the mask the image's size"


def _none_matches(names: list[str], images: Listing, masks: Listing) -> str:
    """No image has a mask: what is expected, what is there, and which arguments would pair them."""
    example, found = names[0], next(iter(masks.files.values()), None)
    line = f"{masks.folder}: none of the {counted(len(names), 'image')} in {images.folder} has a mask of its name: "
    if found is None:
        kinds = f" ({masks.note.partition(': ')[2]})" if masks.note else ""
        return f"{line}the folder holds no masks{kinds}"
    lasts = {_last(name): name for name in reversed(names)}
    if elsewhere := next((name for name in masks.files if _last(name) in lasts), None):  # which of them, nothing shows
        image, mask = images.files[lasts[_last(elsewhere)]], masks.files[elsewhere]
        paths = image.relative_to(images.folder).as_posix(), mask.relative_to(masks.folder).as_posix()
        needs = "{} needs a mask of that path, but there is {}".format(*paths)
        return f"{line}{needs}; give the masks the folders of their images"
    wanted = f"{_last(example)}.png"
    line += f"{images.files[example].name} needs {wanted}, or another type of image, but there is {found.name}"
    if any(map(_LABEL_STUDIO.match, (path.name for path in masks.files.values()))):
        return f"{line}; Label Studio wrote a file per label: merge them into one mask per image, with the image's name"
    arguments = _endings(images, masks)
    return f"{line}; in data.args set {arguments}" if arguments else f"{line}; rename the masks"


def find_endings(images: Listing, masks: Listing) -> list[tuple[str, str]]:
    """The endings that would pair names: one that all images have, and those that masks have after the rest."""
    names = list(images.files)
    shared = [names[0][at.start() :] for at in re.finditer(r"[_\-. ]", names[0])] if len(names) > 1 else []
    for ending in ["", *(text for text in reversed(shared) if all(name.endswith(text) for name in names))]:
        sample = [name.removesuffix(ending) for name in names[:20]]
        found = Counter(mask[len(name) :] for name in sample for mask in masks.files if mask.startswith(name))
        if fitting := [(ending, text) for text, count in found.items() if count == len(sample)]:
            return fitting
    return []


def _endings(images: Listing, masks: Listing) -> str:
    """The arguments that would pair names."""
    found = find_endings(images, masks)
    if not found:
        return ""
    (ending, first), *others = found
    image = f"image_suffix: {yaml_word(ending + images.ending)}" if ending else ""
    listed = f" (or {', '.join(yaml_word(text + masks.ending) for _, text in others[:5])})" if others else ""
    mask = f"mask_suffix: {yaml_word(first + masks.ending)}{listed}" if first else ""
    return ", ".join(text for text in (image, mask) if text)
