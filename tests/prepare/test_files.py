"""Names of splits, of copies, and of images that annotations mean."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kd.errors import DataError
from kd.prepare.files import Images, Tree, list_tree, short_names, split_of


@pytest.mark.parametrize(
    ("path", "split"),
    [
        ("labels/train/7.txt", "train"),
        ("valid/7.jpg", "val"),
        ("annotations/instances_val2017.json", "val"),
        ("Test/a.json", "test"),
        ("trainannot/7.png", "train"),
        ("train_labels/7.png", "train"),
        ("images/trainer/7.png", ""),
        ("images/train.png", ""),  # the name of an image, not of a folder
        ("7.png", ""),
    ],
)
def test_folders_and_files_of_annotations_name_splits(path: str, split: str) -> None:
    assert split_of(path) == split


@given(st.lists(st.from_regex(r"([ab]/){0,2}[ab_]{1,3}\.(png|jpg)", fullmatch=True), unique=True, max_size=12))
def test_copies_never_share_a_name(names: list[str]) -> None:
    short = short_names(names)
    assert len(short) == len(names)
    assert len(set(short)) == len(names)
    assert not any("/" in name for name in short)


def test_copies_keep_their_names_where_they_can() -> None:
    assert short_names(["a/7.png", "b/8.png"]) == ["7", "8"]
    assert short_names(["a/7.png", "b/7.png", "b/8.png"]) == ["a__7", "b__7", "8"]
    assert short_names(["7.png", "7.jpg"]) == ["7_png", "7_jpg"]


def test_an_annotation_means_the_image_whose_path_ends_like_its_name() -> None:
    images = Images(Tree(Path("x"), ("a/7.jpg", "b/7.jpg", "b/e\u0301.png", "c/9.jpg")))
    assert images.find("/data/upload/b/7.jpg") == "b/7.jpg"
    assert images.find("C:\\photos\\a\\7.jpg") == "a/7.jpg"
    assert images.find("7.jpg", near="b/7.json") == "b/7.jpg"
    assert images.find("\u00e9.png") == "b/e\u0301.png"  # stored in another form of Unicode
    assert images.find("labels/9") == "c/9.jpg"
    assert images.find("../../9.jpg") == "c/9.jpg"
    assert images.find("8.jpg") is None
    with pytest.raises(DataError, match=r"7\.jpg: 2 images of this name, such as a/7\.jpg; rename one of them"):
        images.find("7.jpg")


@pytest.mark.parametrize(
    "name",
    ["%41" * 10**6, "/" * 10**6 + "a" * 10**6 + "-", "?d=" + "%2F" * 10**6],
    ids=["escapes", "slashes", "a query"],
)
def test_endless_names_mean_no_image(name: str) -> None:
    assert Images(Tree(Path("x"), ("a.jpg",))).find(name) is None


def test_a_tree_leaves_out_what_is_hidden_or_leads_out(folder: Path) -> None:
    for name in ("t/a/1.png", "t/.git/2.png", "t/__MACOSX/3.png", "out/4.png"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()
    Path("t/out").symlink_to(Path("out").resolve())
    Path("t/5.png").symlink_to(Path("t/a/1.png").resolve())
    Path("t/round").symlink_to(Path("t").resolve())
    tree = list_tree(Path("t"))
    assert (tree.names, tree.left_out) == (("5.png", "a/1.png"), 1)
