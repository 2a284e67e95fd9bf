"""The files of a dataset on disk: listed by stem, chosen by list files, paired with their masks."""

import os
from collections.abc import Mapping
from pathlib import Path

from kd.data.images import SUFFIXES, image_size, size_text
from kd.errors import DataError
from kd.reading import MAX_DATA, read_text

MAX_LINES = 10  # of one DataError


def find_images(
    folder: Path, root: Path, list_file: Path | None = None, *, follow_links: bool = False
) -> dict[str, Path]:
    """The images in a folder by stem: those that a list file names, in its order, or all, sorted by name.

    Args:
        folder: the folder; subfolders are not searched.
        root: links must not lead out of it.
        list_file: as for `read_list`; None for all images.
        follow_links: whether links may lead out of `root`.

    Raises:
        DataError: as `list_images` and `read_list`; a name in the list has no image.
    """
    images = list_images(folder, root, follow_links=follow_links)
    if list_file is None:
        return images
    stems = read_list(list_file)
    raise_all([f"{list_file}: no image named {stem[:80]!r} in {folder}" for stem in stems if stem not in images])
    return {stem: images[stem] for stem in stems}


def find_pairs(
    image_folder: Path,
    mask_folder: Path,
    root: Path,
    list_file: Path | None = None,
    *,
    mask_suffix: str = "",
    follow_links: bool = False,
) -> dict[str, tuple[Path, Path]]:
    """Images with their masks by stem, chosen and ordered as by `find_images`.

    Args:
        image_folder: of the images.
        mask_folder: of the masks.
        root: links must not lead out of it.
        list_file: as for `read_list`; None for all images.
        mask_suffix: an ending that a mask's stem has and its image's has not.
        follow_links: whether links may lead out of `root`.

    Raises:
        DataError: as `find_images` and `pair`.
    """
    images = find_images(image_folder, root, list_file, follow_links=follow_links)
    masks = list_images(mask_folder, root, mask_suffix, follow_links=follow_links)
    if list_file is not None:
        masks = {stem: path for stem, path in masks.items() if stem in images}
    return pair(images, masks, (image_folder, mask_folder))


def list_images(folder: Path, root: Path, suffix: str = "", *, follow_links: bool = False) -> dict[str, Path]:
    """The images in a folder by stem, sorted by name.

    Args:
        folder: the folder; subfolders are not searched.
        root: links must not lead out of it.
        suffix: an ending that is removed from the stems; stems without it are left out.
        follow_links: whether links may lead out of `root`.

    Raises:
        DataError: the folder does not exist; two files share a stem; a name is not UTF-8; a link leads out of `root`.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; {nearest_content(folder)}")
    real_root = root.resolve()
    if not follow_links and not folder.resolve().is_relative_to(real_root):
        raise DataError(_leads_out(folder, root))
    images: dict[str, Path] = {}
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    raise_all([f"{_escaped(path)}: the name is not UTF-8; rename the file" for path in paths if not _is_utf8(path)])
    for path in paths:
        stem = path.stem
        if not stem.endswith(suffix) or path.name.startswith("."):
            continue
        stem = stem.removesuffix(suffix)
        if stem in images:
            raise DataError(f"{path}: has the same stem as {images[stem].name}; keep one of the two")
        if not follow_links and path.is_symlink() and not path.resolve().is_relative_to(real_root):
            raise DataError(_leads_out(path, root))
        images[stem] = path
    return images


def _is_utf8(path: Path) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in path.name)


def _escaped(path: Path) -> str:
    """A path as text, the bytes that are not UTF-8 as escapes."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def nearest_content(folder: Path) -> str:
    """What the nearest existing parent of a missing folder contains."""
    parent = folder
    while not parent.is_dir() and parent != parent.parent:
        parent = parent.parent
    names = sorted(f"{path.name}/" if path.is_dir() else path.name for path in parent.iterdir())
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return f"{parent} contains {', '.join(names[:8]) or 'nothing'}{more}"


def read_list(path: Path) -> list[str]:
    """The stems that a list file names, one a line; of "image mask" lines, the image's.

    Raises:
        DataError: the file cannot be read as text; a name occurs twice.
    """
    lines = read_text(path, "a list of names", DataError, limit=MAX_DATA).splitlines()
    line_of: dict[str, int] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        name = line.split()[0].replace("\\", "/").rpartition("/")[2]
        stem = Path(name).stem if name.lower().endswith(SUFFIXES) else name
        if stem in line_of:
            raise DataError(
                f"{path}:{number}: {_short(stem)} is already in line {line_of[stem]}; remove one of the two"
            )
        line_of[stem] = number
    return list(line_of)


def pair(
    images: Mapping[str, Path], masks: Mapping[str, Path], folders: tuple[Path, Path]
) -> dict[str, tuple[Path, Path]]:
    """Images and masks of the same stem and size, by stem.

    Args:
        images: stem -> file.
        masks: stem -> file.
        folders: of the images and of the masks, for the message.

    Raises:
        DataError: an image without a mask, a mask without an image, or two sizes in a pair; every case is listed.
    """
    problems = [f"{path}: no mask named {stem} in {folders[1]}" for stem, path in images.items() if stem not in masks]
    problems += [f"{path}: no image named {stem} in {folders[0]}" for stem, path in masks.items() if stem not in images]
    pairs = {stem: (path, masks[stem]) for stem, path in images.items() if stem in masks}
    for image, mask in pairs.values():
        try:
            sizes = image_size(image), image_size(mask)
        except DataError as error:
            problems.append(str(error))
            continue
        if sizes[0] != sizes[1]:
            problems.append(
                f"{image}: {size_text(sizes[0])}, but its mask {mask} is {size_text(sizes[1])} (width × height); "
                "give the mask the image's size"
            )
    raise_all(problems)
    return pairs


def raise_all(problems: list[str]) -> None:
    """Raise one DataError with a line for each problem, `MAX_LINES` at most; nothing if there are none."""
    if problems:
        more = [f"and {len(problems) - MAX_LINES} more of this kind"] if len(problems) > MAX_LINES else []
        raise DataError(problems[:MAX_LINES] + more)


def _leads_out(path: Path, root: Path) -> str:
    return f"{path}: a link that leads out of {root}; set root to the real folder (or, for Folders, follow_links: true)"


def _short(name: str) -> str:
    return repr(name if len(name) <= 80 else f"{name[:77]}...")
