"""Which images of one folder are its training, validation and test split."""

from collections.abc import Sequence
from hashlib import blake2b

Share = float | str | None  # of the images: 0.2 or 20%


def by_share(images: str, lists: str | None, val: Share, test: Share) -> bool:
    """Whether splits are shares of one folder, not folders or lists of their own.

    Raises:
        ValueError: no split is defined, or splits are defined in two ways.
    """
    own = lists is not None or "{split}" in images
    if not own and val is None:
        raise ValueError(
            'Folders: no split is defined; write val: 20%, or lists: "{split}.txt", or images: "{split}/images" '
            'and masks: "{split}/masks"'
        )
    if own and (val is not None or test is not None):
        raise ValueError("Folders: val and test are shares of one folder; remove them, or remove lists and {split}")
    return not own


def share_of(stems: Sequence[str], split: str, val: Share, test: Share) -> list[str]:
    """The stems of a split, in their order; when images are added, few of the others change split.

    Args:
        stems: of all images.
        split: "train", "val" or "test".
        val: share held out as "val".
        test: share held out as "test".

    Raises:
        ValueError: a share is not in 0 … 1, or nothing is left for training.
    """
    val, test = _number("val", val), _number("test", test)
    if val + test >= 1:
        raise ValueError(f"Folders: val {val:g} and test {test:g} leave no image for training; lower them")
    drawn = sorted(stems, key=lambda stem: blake2b(stem.encode()).digest())
    val_end = round(val * len(stems))
    test_end = val_end + round(test * len(stems))
    chosen = set({"val": drawn[:val_end], "test": drawn[val_end:test_end]}.get(split, drawn[test_end:]))
    return [stem for stem in stems if stem in chosen]


def _number(name: str, value: Share) -> float:
    try:
        share = float(value[:-1]) / 100 if isinstance(value, str) and value.endswith("%") else float(value or 0)
    except ValueError:
        share = -1.0
    if not 0 <= share < 1:
        raise ValueError(f"Folders: {name} must be a share of the images, such as 0.2 or 20%, got {value!r}")
    return share
