"""Images without labels: which files of a folder join, and how they follow the labelled ones."""

import os
import re

import numpy as np
import pytest
import torch
from PIL import Image
from samples import Fixed, sample, write_pairs

from kd.data import Folders
from kd.data.images.kept import keep
from kd.data.splits.unlabelled import Joined, Unlabelled
from kd.errors import DataError


@pytest.fixture
def splits(tmp_path, monkeypatch):
    """Six training and two validation images in `images`; in `more`, two of other sizes."""
    monkeypatch.chdir(tmp_path)
    write_pairs(tmp_path / "images", tmp_path / "masks", [0, 1])
    (tmp_path / "more").mkdir()
    for name, shape in (("b", (9, 5, 3)), ("a", (4, 7, 3))):
        Image.fromarray(np.full(shape, 80, np.uint8)).save(tmp_path / f"more/{name}.png")
    return {split: Folders(".", split, classes=["floor", "wall"], val="25%") for split in ("train", "val")}


def test_every_image_of_the_folder_in_order_and_none_has_labels(splits):
    others = Unlabelled("more", splits["train"], splits)
    assert others.names == ("more/a.png", "more/b.png")
    assert [tuple(others[index, 0].image.shape) for index in range(2)] == [(3, 4, 7), (3, 9, 5)]
    assert others[1, 0].labels is None
    assert others.notes == ("unlabelled: 2 images in more",)


def test_files_of_the_splits_are_left_out_under_whatever_name(splits):
    os.symlink(os.path.abspath("more"), "images/more")  # not followed: a folder beside images
    os.rename("more/a.png", "images/new.png")
    others = Unlabelled(os.path.abspath("images"), splits["train"], splits)
    assert [os.path.basename(name) for name in others.names] == ["new.png"]
    assert others.notes[0].endswith(" (8 of train and val left out)")
    only_val = Unlabelled("images", splits["train"], {"val": splits["val"]})
    assert len(only_val) == 1 + len(splits["train"])


def test_a_link_to_another_folder_is_refused_and_the_real_folder_read(splits, tmp_path):
    os.mkdir("linked")
    os.symlink(tmp_path / "more/a.png", "linked/a.png")
    with pytest.raises(
        DataError, match=r"^linked/a.png: a link that leads out of linked; name the real folder \(or, for"
    ):
        Unlabelled("linked", splits["train"], splits)
    os.symlink(tmp_path / "more", "link")
    for folder in ("more", "link"):
        assert len(Unlabelled(folder, splits["train"], splits)) == 2


def test_hard_links_to_files_of_the_splits_are_left_out_as_kd_init_makes_them(splits):
    os.link(splits["val"].files(0)[0], "more/photo.png")
    os.link(splits["train"].files(0)[0], "more/other.png")
    others = Unlabelled("more", splits["train"], splits)
    assert others.names == ("more/a.png", "more/b.png")
    assert others.notes == ("unlabelled: 2 images in more (2 of train and val left out)",)


@pytest.mark.parametrize(
    ("folder", "message"),
    [
        ("mor", "data.unlabelled.images: no folder mor; . contains bad/, empty/, images/, masks/, more/"),
        ("empty", "data.unlabelled.images: no images in empty: empty contains nothing; files read: .png, "),
        ("images", "data.unlabelled.images: no images in images: 8 of train and val left out"),
        ("bad", "bad/a.png: cannot be read as an image: cannot identify image file"),
    ],
)
def test_what_cannot_join_is_one_line(splits, folder, message):
    os.mkdir("empty")
    os.mkdir("bad")
    with open("bad/a.png", "w") as file:
        file.write("no picture")
    with pytest.raises(DataError, match=f"^{re.escape(message)}"):
        Unlabelled(folder, splits["train"], splits)


def test_joined_images_follow_the_labelled_ones(splits):
    train = splits["train"]
    joined = Joined(train, Unlabelled("more", train, splits))
    assert len(joined) == 8
    assert joined.names == (*train.names, "more/a.png", "more/b.png")
    assert torch.equal(joined[5, 0].labels, train[5, 0].labels)
    assert joined[6, 0].name == "more/a.png"
    assert [len(joined.files(index)) for index in (0, 7)] == [2, 1]
    assert keep(joined) is not None


def test_a_dataset_of_the_users_that_lists_no_files_and_may_draw_anew_stays_so():
    own = Fixed(sample([[0, 1]]))
    joined = Joined(own, own)
    assert not hasattr(joined, "files")
    assert joined.names == ("sample 0", "sample 0")
    assert keep(joined) is None
