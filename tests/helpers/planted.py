"""Defects that are planted in the files of a made set, each with the kind that must be reported and where."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image


class Planted(NamedTuple):
    """What must be reported."""

    kind: str  # or several, joined by " or "
    names: tuple[str, ...]  # all of which the line contains


Take = Callable[[int], list[int]]  # numbers of training images that nothing was planted in
Plant = Callable[[Path, Take], Planted]


def image(split: str, number: int) -> Path:
    """An image."""
    return Path(split, "images", f"{number}.png")


def mask(split: str, number: int) -> Path:
    """Its mask."""
    return Path(split, "masks", f"{number}.png")


def pixels(file: Path) -> np.ndarray:
    """The pixels of a file."""
    return np.array(Image.open(file))


def save(values: np.ndarray, file: Path) -> None:
    """Write pixels."""
    Image.fromarray(values).save(file)


def take_from(seed: int, images: int) -> Take:
    """Numbers in random order."""
    numbers = iter(np.random.default_rng(seed).permutation(images).tolist())
    return lambda count: [next(numbers) for _ in range(count)]


def shifted_mask(root: Path, take: Take) -> Planted:
    """A mask moved by an eighth of the width."""
    (number,) = take(1)
    values = pixels(root / mask("train", number))
    save(np.roll(values, values.shape[1] // 8, 1), root / mask("train", number))
    return Planted("shifted mask", (str(image("train", number)), "left"))


def mirrored_mask(root: Path, take: Take) -> Planted:
    """A mask flipped without its image."""
    (number,) = take(1)
    axis, how = [(1, "left to right"), (0, "top to bottom")][number % 2]
    save(np.flip(pixels(root / mask("train", number)), axis), root / mask("train", number))
    return Planted("mirrored mask", (str(image("train", number)), how))


def shifted_set(root: Path, take: Take) -> Planted:
    """All masks moved, as by a wrong origin."""
    for file in root.glob("*/masks/*.png"):
        values = pixels(file)
        save(np.roll(values, (values.shape[0] // 16, values.shape[1] // 16), (0, 1)), file)
    return Planted("shifted set", ("up", "left"))


def mirrored_set(root: Path, take: Take) -> Planted:
    """All masks upside down, as by a y axis that points up."""
    for file in root.glob("*/masks/*.png"):
        save(pixels(file)[::-1], file)
    return Planted("mirrored set", ("top to bottom",))


def swapped_masks(root: Path, take: Take) -> Planted:
    """The masks of two images exchanged."""
    first, second = take(2)
    values = [pixels(root / mask("train", number)) for number in (first, second)]
    size = [values[index].shape[::-1] for index in (0, 1)]
    for number, other, shape in ((first, values[1], size[0]), (second, values[0], size[1])):
        save(np.array(Image.fromarray(other).resize(shape, Image.Resampling.NEAREST)), root / mask("train", number))
    return Planted("swapped mask", (str(image("train", first)), str(image("train", second))))


def mask_of_another(root: Path, take: Take) -> Planted:
    """The mask of another image, copied over the own one."""
    (first,) = take(1)
    (second,) = take(1)
    while pixels(root / mask("train", second)).shape != pixels(root / mask("train", first)).shape:
        (second,) = take(1)
    shutil.copy(root / mask("train", second), root / mask("train", first))
    return Planted("same mask", (str(image("train", first)), str(image("train", second))))


def inverted_classes(root: Path, take: Take) -> Planted:
    """Two classes exchanged in one mask."""
    (number,) = take(1)
    values = pixels(root / mask("train", number))
    first, second = np.unique(values)[:2]
    save(np.where(values == first, second, np.where(values == second, first, values)), root / mask("train", number))
    return Planted("inverted classes", (str(image("train", number)),))


def one_class(root: Path, take: Take) -> Planted:
    """A mask of one colour."""
    (number,) = take(1)
    save(np.zeros_like(pixels(root / mask("train", number))), root / mask("train", number))
    return Planted("one class", (str(image("train", number)), "ground"))


def no_label(root: Path, take: Take) -> Planted:
    """A mask of ignored pixels."""
    (number,) = take(1)
    save(np.full_like(pixels(root / mask("train", number)), 255), root / mask("train", number))
    return Planted("no label", (str(image("train", number)),))


def without(root: Path, split: str, label: int) -> None:
    """Replace a class by the ground."""
    for file in (root / split / "masks").iterdir():
        values = pixels(file)
        save(np.where(values == label, 0, values).astype(np.uint8), file)


def class_only_in_val(root: Path, take: Take) -> Planted:
    """A class that training never sees."""
    without(root, "train", 1)
    return Planted("missing class", ("train: disc",))


def class_only_in_train(root: Path, take: Take) -> Planted:
    """A class that is never scored."""
    without(root, "val", 1)
    return Planted("missing class", ("val: disc",))


def rare_class(root: Path, take: Take) -> Planted:
    """A class with a single pixel."""
    without(root, "train", 1)
    (number,) = take(1)
    values = pixels(root / mask("train", number))
    values[3, 3] = 1
    save(values, root / mask("train", number))
    return Planted("rare class", ("disc",))


def blank_image(root: Path, take: Take) -> Planted:
    """An image of one colour."""
    (number,) = take(1)
    save(np.full_like(pixels(root / image("train", number)), 97), root / image("train", number))
    return Planted("blank image", (str(image("train", number)),))


def faint_image(root: Path, take: Take) -> Planted:
    """An image with hardly any contrast."""
    (number,) = take(1)
    values = pixels(root / image("train", number)).astype(float)
    values = 120 + 2 * (values - values.mean()) / values.std()
    save(np.clip(values.round(), 0, 255).astype(np.uint8), root / image("train", number))
    return Planted("faint image or blank image", (str(image("train", number)),))  # of a plain one, nothing is left


def small_image(root: Path, take: Take) -> Planted:
    """A thumbnail, with a mask of its size."""
    (number,) = take(1)
    for file in (image("train", number), mask("train", number)):
        shape = tuple(side // 8 for side in Image.open(root / file).size)
        save(np.array(Image.open(root / file).resize(shape, Image.Resampling.NEAREST)), root / file)
    return Planted("small image", (str(image("train", number)),))


def image_in_two_splits(root: Path, take: Take) -> Planted:
    """A training image that is scored too."""
    (number,) = take(1)
    for file in (image, mask):
        shutil.copy(root / file("train", number), root / file("val", 99))
    return Planted("image in two splits", (f"train {number}.png = val 99.png",))


def nearly_the_same_image(root: Path, take: Take) -> Planted:
    """A training image that was saved again, brighter, as one that is scored."""
    (number,) = take(1)
    values = np.clip(pixels(root / image("train", number)).astype(int) + 4, 0, 255)
    save(values.astype(np.uint8), root / image("val", 98))
    shutil.copy(root / mask("train", number), root / mask("val", 98))
    kinds = "nearly the same image in two splits or same mask"  # brighter may be too different; the mask is the same
    return Planted(kinds, (f"{number}.png", "98.png"))


def image_twice(root: Path, take: Take) -> Planted:
    """A training image under two names."""
    (number,) = take(1)
    for file in (image, mask):
        shutil.copy(root / file("train", number), root / file("train", 99))
    return Planted("image twice", (str(image("train", number)), str(image("train", 99))))


def image_with_two_masks(root: Path, take: Take) -> Planted:
    """A training image under two names, annotated in two ways."""
    (number,) = take(1)
    shutil.copy(root / image("train", number), root / image("train", 98))
    values = pixels(root / mask("train", number))
    values[:5, :5] = 255
    save(values, root / mask("train", 98))
    return Planted("image with two masks", (str(image("train", number)), str(image("train", 98))))


def turned_by_exif(root: Path, take: Take) -> Planted:
    """A photo that is stored upside down and marked so; its mask is upright."""
    (number,) = take(1)
    exif = Image.Exif()
    exif[0x0112] = 3
    file = root / image("train", number)
    Image.fromarray(pixels(file)[::-1, ::-1]).save(file, exif=exif)
    return Planted("EXIF", (str(image("train", number)),))


def truncated_image(root: Path, take: Take) -> Planted:
    """A file that was cut off."""
    (number,) = take(1)
    file = root / image("train", number)
    file.write_bytes(file.read_bytes()[:-200])
    return Planted("unreadable", (str(image("train", number)),))


def unknown_value(root: Path, take: Take) -> Planted:
    """A mask with a number that is no class."""
    (number,) = take(1)
    values = pixels(root / mask("train", number))
    values[0, 0] = 77
    save(values, root / mask("train", number))
    return Planted("unreadable", (str(mask("train", number)), "77"))


def missing_mask(root: Path, take: Take) -> Planted:
    """An image without a mask."""
    (number,) = take(1)
    (root / mask("train", number)).unlink()
    return Planted("files", (str(image("train", number)), "no mask named"))


def missing_image(root: Path, take: Take) -> Planted:
    """A mask without an image."""
    (number,) = take(1)
    (root / image("train", number)).unlink()
    return Planted("files", (str(mask("train", number)), "no image named"))


def wrong_size(root: Path, take: Take) -> Planted:
    """A mask that is smaller than its image."""
    (number,) = take(1)
    save(pixels(root / mask("train", number))[:-2], root / mask("train", number))
    return Planted("files", (str(image("train", number)), "size"))


def lossy_mask(root: Path, take: Take) -> Planted:
    """A mask saved as JPEG."""
    (number,) = take(1)
    save(pixels(root / mask("train", number)), root / mask("train", number).with_suffix(".jpg"))
    (root / mask("train", number)).unlink()
    return Planted("files", (f"{number}.jpg", "JPEG"))


MISFITS: tuple[Plant, ...] = (shifted_mask, mirrored_mask, swapped_masks, inverted_classes)
OTHERS: tuple[Plant, ...] = (
    mask_of_another, one_class, no_label, blank_image, faint_image, small_image, image_in_two_splits,
    nearly_the_same_image, image_twice, image_with_two_masks, turned_by_exif, truncated_image, unknown_value,
)  # fmt: skip
ALONE: tuple[Plant, ...] = (
    shifted_set, mirrored_set, class_only_in_val, class_only_in_train, rare_class, missing_mask, missing_image,
    wrong_size, lossy_mask,
)  # fmt: skip
