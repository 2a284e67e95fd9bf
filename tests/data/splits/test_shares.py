from collections import Counter

import pytest

from kd.data.splits.shares import Shares
from kd.errors import DataError

# letters in the order of their BLAKE2b digests, worked out once with hashlib: the order must never change
DRAWN = ["h", "d", "a", "c", "i", "b", "f", "g", "j", "e"]
LETTERS = sorted(DRAWN)
SPLITS = ("train", "val", "test")


def test_the_draw_never_changes():
    from hashlib import blake2b

    assert sorted(DRAWN, key=lambda stem: blake2b(stem.encode()).hexdigest()) == DRAWN
    shares = Shares("20%", 0.3)
    assert shares.of(LETTERS, "val") == sorted(DRAWN[:2])
    assert shares.of(LETTERS, "test") == sorted(DRAWN[2:5])
    assert shares.of(LETTERS, "train") == sorted(DRAWN[5:])


@pytest.mark.parametrize(("folds", "test"), [(2, None), (3, None), (5, None), (3, "20%"), (10, None)])
def test_every_image_is_in_val_in_one_fold_and_folds_are_equal_in_size(folds, test):
    held_out = []
    for fold in range(folds):
        train, val, tested = (Shares(None, test, folds, fold).of(LETTERS, split) for split in SPLITS)
        assert sorted(train + val + tested) == LETTERS
        assert tested == sorted(DRAWN[: 2 if test else 0])
        assert len(val) - (10 - len(tested)) // folds in (0, 1)
        held_out += val
    assert sorted([*held_out, *tested]) == LETTERS


def test_folds_are_blocks_of_the_draw_so_a_new_image_moves_few_others():
    names = [f"{number}" for number in range(200)]
    before, after = ({n for n in Shares(folds=4, fold=1).of(some, "val") if n != "199"} for some in (names[:-1], names))
    assert len(before ^ after) <= 2


def grouped(sizes):
    return {f"{group}{number}": group for group, size in sizes.items() for number in range(size)}


@pytest.mark.parametrize(
    "shares",
    [Shares("20%"), Shares("30%", "20%"), *(Shares(folds=3, fold=fold) for fold in range(3)), Shares(None, 0.2, 2, 1)],
)
def test_a_group_is_never_on_two_sides(shares):
    group_of = grouped({"ann": 7, "bob": 1, "cid": 4, "dan": 12, "eve": 3, "fay": 3})
    splits = {split: shares.of(list(group_of), split, group_of) for split in SPLITS}
    assert sorted(name for names in splits.values() for name in names) == sorted(group_of)
    groups = [{group_of[name] for name in names} for names in splits.values()]
    assert sum(map(len, groups)) == 6  # no group is counted twice
    assert splits["train"]
    assert splits["val"]


def test_groups_fill_a_share_and_folds_as_well_as_their_sizes_allow():
    group_of = grouped({"ann": 7, "bob": 1, "cid": 4, "dan": 12, "eve": 3, "fay": 3})
    assert len(Shares("20%").of(list(group_of), "val", group_of)) == 7  # 20 % of 30 are 6
    folds = [len(Shares(folds=3, fold=fold).of(list(group_of), "val", group_of)) for fold in range(3)]
    assert sorted(folds) == [8, 10, 12]  # the largest group is a fold of its own: 12; 7 + 3; 4 + 3 + 1
    even = grouped({f"patient {number}": 5 for number in range(20)})
    sizes = Counter(len(Shares(folds=5, fold=fold).of(list(even), "val", even)) for fold in range(5))
    assert sizes == {20: 5}


def test_one_large_group_does_not_leave_val_empty():
    group_of = grouped({"most": 18, "rest": 2})
    assert set(Shares("3%").of(list(group_of), "val", group_of)) == {"rest0", "rest1"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"folds": 5}, "Folders: folds needs the other one too; add fold: 0"),
        ({"fold": 1, "val": 0.2}, "Folders: fold needs the other one too; add folds: 5"),
        ({"folds": 5, "fold": 5}, "Folders: fold must be 0 … 4, got 5; folds count from 0"),
        ({"folds": 5, "fold": -1}, "Folders: fold must be 0 … 4, got -1; folds count from 0"),
        ({"folds": 1, "fold": 0}, "Folders: folds must be at least 2, got 1"),
        (
            {"folds": 5, "fold": 0, "val": "20%"},
            "Folders: val and folds both define the validation split; remove one of them",
        ),
        ({"val": 0.6, "test": "40%"}, "Folders: val 0.6 and test 0.4 leave no image for training; lower them"),
        ({"val": "a fifth"}, "Folders: val must be a share of the images, such as 0.2 or 20%, got 'a fifth'"),
    ],
)
def test_splits_that_cannot_be(arguments, message):
    with pytest.raises(ValueError, match=r".") as caught:
        Shares(**arguments)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("shares", "sizes", "message"),
    [
        (
            Shares(folds=5, fold=0),
            {"ann": 9, "bob": 2, "cid": 1},
            "3 groups for 5 folds: each needs one of its own; add groups, or lower folds to 3",
        ),
        (Shares("20%"), {"ann": 9}, "1 group for 2 splits: each needs one of its own; add groups"),
        (
            Shares(None, "20%", 2, 0),
            {"ann": 9, "bob": 2},
            "2 groups for 2 folds and a test split: each needs one of its own; add groups",
        ),
    ],
)
def test_too_few_groups(shares, sizes, message):
    group_of = grouped(sizes)
    with pytest.raises(DataError) as caught:
        shares.of(list(group_of), "val", group_of)
    assert str(caught.value) == f"Folders: {message}"


def test_too_few_images():
    with pytest.raises(DataError) as caught:
        Shares(folds=12, fold=0).of(LETTERS, "val")
    assert str(caught.value) == (
        "Folders: 10 images for 12 folds: each needs one of its own; add images, or lower folds to 10"
    )
