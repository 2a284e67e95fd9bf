"""Which images of one folder are its training, validation and test split: by share or by fold, in whole groups."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b

from kd.errors import DataError
from kd.units import counted

Share = float | str | None  # of the images: 0.2 or 20%


@dataclass(frozen=True)
class Shares:
    """How images are divided over the splits; the arguments are those of `Folders`, and `owner` is who has them.

    Raises:
        ValueError: no split is defined, or splits are defined in two ways; a share or fold is out of range.
    """

    val: Share = None
    test: Share = None
    folds: int | None = None
    fold: int | None = None
    owner: str = "Folders"

    def __post_init__(self) -> None:
        val, test = self._number("val"), self._number("test")
        if val + test >= 1:
            raise ValueError(f"{self.owner}: val {val:g} and test {test:g} leave no image for training; lower them")
        if (self.folds is None) != (self.fold is None):
            given, lacks = ("fold", "folds: 5") if self.folds is None else ("folds", "fold: 0")
            raise ValueError(f"{self.owner}: {given} needs the other one too; add {lacks}")
        if self.folds is not None and self.fold is not None:
            if self.val is not None:
                raise ValueError(f"{self.owner}: val and folds both define the validation split; remove one of them")
            if self.folds < 2:
                raise ValueError(f"{self.owner}: folds must be at least 2, got {self.folds}")
            if not 0 <= self.fold < self.folds:
                raise ValueError(
                    f"{self.owner}: fold must be 0 … {self.folds - 1}, got {self.fold}; folds count from 0"
                )

    @property
    def given(self) -> bool:
        """Whether any of them is given."""
        return not (self.val is self.test is self.folds is None)

    @property
    def complete(self) -> bool:
        """Whether they define the validation split."""
        return not (self.val is self.folds is None)

    def of(self, names: Sequence[str], split: str, group_of: Mapping[str, str] | None = None) -> list[str]:
        """The names of a split, in their order; when images are added, few of the others change split.

        Args:
            names: of all images.
            split: "train", "val" or "test".
            group_of: name -> group; the images of a group are in one split. None: each is a group of its own.

        Raises:
            DataError: there are fewer groups than splits or folds.
        """
        sizes = Counter(names if group_of is None else (group_of[name] for name in names))
        drawn = sorted(sizes, key=lambda group: blake2b(group.encode()).digest())
        if group_of is not None or self.folds is not None:
            self._refuse_too_few(len(drawn), "image" if group_of is None else "group")
        of_val, of_test = (round(self._number(name) * len(names)) for name in ("val", "test"))
        if self.folds is None or self.fold is None:
            val = _taken(drawn, sizes, of_val)
            test = _taken([group for group in drawn if group not in val], sizes, of_test)
        else:  # the folds share what test leaves
            test = _taken(drawn, sizes, of_test)
            val = _folds([group for group in drawn if group not in test], sizes, self.folds)[self.fold]
        chosen = {"val": val, "test": test}.get(split, set(drawn) - val - test)
        return [name for name in names if (name if group_of is None else group_of[name]) in chosen]

    def _refuse_too_few(self, found: int, what: str) -> None:
        test = 1 if self._number("test") else 0
        needed, of = (test + 2, "splits") if self.folds is None else (test + self.folds, "folds")
        of += " and a test split" if test and of == "folds" else ""
        if found < needed:
            fix = "" if self.folds is None else f", or lower folds to {found - test}" if found - test > 1 else ""
            raise DataError(
                f"{self.owner}: {counted(found, what)} for {needed - test * (of != 'splits')} {of}: "
                f"each needs one of its own; add {what}s{fix}"
            )

    def _number(self, name: str) -> float:
        value: Share = getattr(self, name)
        try:
            share = float(value[:-1]) / 100 if isinstance(value, str) and value.endswith("%") else float(value or 0)
        except ValueError:
            share = -1.0
        if not 0 <= share < 1:
            raise ValueError(f"{self.owner}: {name} must be a share of the images, such as 0.2 or 20%, got {value!r}")
        return share


def _taken(drawn: Sequence[str], sizes: Mapping[str, int], images: int) -> set[str]:
    """Groups in the order of the draw that hold about so many images together; at least one unless that is 0."""
    taken, count = set[str](), 0
    for group in drawn:
        if abs(count + sizes[group] - images) < abs(count - images):
            taken.add(group)
            count += sizes[group]
    if images and not taken and len(drawn) > 1:  # all groups are larger than twice the share
        taken.add(min(drawn, key=lambda group: sizes[group]))
    return taken


def _folds(drawn: Sequence[str], sizes: Mapping[str, int], folds: int) -> list[set[str]]:
    """Folds of about equally many images: the largest groups first, each into the smallest fold so far."""
    if max(sizes.values(), default=1) == 1:  # blocks of the draw: an image that is added moves few others
        return [set(drawn[fold * len(drawn) // folds : (fold + 1) * len(drawn) // folds]) for fold in range(folds)]
    parts: list[set[str]] = [set() for _ in range(folds)]
    images = [0] * folds
    for group in sorted(drawn, key=lambda group: -sizes[group]):
        fold = images.index(min(images))
        parts[fold].add(group)
        images[fold] += sizes[group]
    return parts
