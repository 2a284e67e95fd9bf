import os

import numpy as np
import pytest
from PIL import Image

from kd.data.files import find_images, find_pairs, list_images, pair, read_list
from kd.errors import DataError

COLOR = np.zeros((5, 7, 3), dtype=np.uint8)
GREY = np.zeros((5, 7), dtype=np.uint8)


def saved(path, pixels):
    Image.fromarray(pixels).save(path)
    return path


def test_a_missing_folder_lists_its_parent(tmp_path):
    (tmp_path / "frames").mkdir()
    (tmp_path / "notes.txt").touch()
    with pytest.raises(DataError) as error:
        list_images(tmp_path / "images" / "train", tmp_path)
    assert str(error.value) == f"{tmp_path}/images/train: no such folder; {tmp_path} contains frames/, notes.txt"


def test_only_images_are_listed(tmp_path):
    for name in ("b.png", "a.jpg", "notes.txt", ".hidden.png", "C.PNG"):
        (tmp_path / name).touch()
    assert [*list_images(tmp_path, tmp_path)] == ["C", "a", "b"]


def test_two_files_with_one_stem(tmp_path):
    for name in ("a.jpg", "a.png"):
        (tmp_path / name).touch()
    with pytest.raises(DataError) as error:
        list_images(tmp_path, tmp_path)
    assert str(error.value) == f"{tmp_path}/a.png: has the same stem as a.jpg; keep one of the two"


@pytest.mark.parametrize("what", ["file", "folder"])
def test_links_do_not_lead_out(tmp_path, what):
    outside, root = tmp_path / "outside", tmp_path / "root"
    outside.mkdir()
    root.mkdir()
    saved(outside / "a.png", GREY)
    if what == "folder":
        link = root / "images"
        link.symlink_to(outside)
    else:
        (root / "images").mkdir()
        link = root / "images" / "a.png"
        link.symlink_to(outside / "a.png")
    with pytest.raises(DataError) as error:
        list_images(root / "images", root)
    assert str(error.value) == (
        f"{link}: a link that leads out of {root}; set root to the real folder (or, for Folders, follow_links: true)"
    )
    assert [*list_images(root / "images", root, follow_links=True)] == ["a"]


def test_entries_of_a_list_are_names_and_never_paths(tmp_path):
    path = tmp_path / "train.txt"
    path.write_text("a\n\n/SegNet/train/b.png /SegNet/trainannot/b.png\n../../etc/passwd\nc.d\r\n")
    assert read_list(path) == ["a", "b", "passwd", "c.d"]


@pytest.mark.parametrize("content", [b"a\x00b\n", b"x" * 5000])
def test_odd_names_in_a_list_are_names(tmp_path, content):
    path = tmp_path / "train.txt"
    path.write_bytes(content)
    assert read_list(path) == [content.decode().strip()]


def test_a_list_that_is_not_text(tmp_path):
    path = tmp_path / "train.txt"
    path.write_bytes(b"\xff\xfe\n")
    with pytest.raises(DataError, match=rf"^{path}:1:1: not UTF-8 text \(byte 0xff\)"):
        read_list(path)


def test_a_name_twice_in_a_list(tmp_path):
    path = tmp_path / "train.txt"
    path.write_text("a\nb\na\n")
    with pytest.raises(DataError) as error:
        read_list(path)
    assert str(error.value) == f"{path}:3: 'a' is already in line 1; remove one of the two"


def test_a_list_chooses_and_orders_images_and_their_masks(tmp_path):
    images, masks, chosen = tmp_path / "images", tmp_path / "masks", tmp_path / "train.txt"
    images.mkdir()
    masks.mkdir()
    for name in ("a", "b", "c"):
        saved(images / f"{name}.png", COLOR)
        saved(masks / f"{name}_mask.png", GREY)
    (masks / "a_mask.png").unlink()  # not in the list
    chosen.write_text("c\nb\n")
    assert find_images(images, tmp_path, chosen) == {"c": images / "c.png", "b": images / "b.png"}
    assert find_pairs(images, masks, tmp_path, chosen, mask_suffix="_mask") == {
        "c": (images / "c.png", masks / "c_mask.png"),
        "b": (images / "b.png", masks / "b_mask.png"),
    }
    assert [*find_images(images, tmp_path)] == ["a", "b", "c"]


def test_all_misfits_of_a_folder_at_once(tmp_path):
    images, masks = tmp_path / "images", tmp_path / "masks"
    images.mkdir()
    masks.mkdir()
    for name in ("a", "b", "c"):
        saved(images / f"{name}.png", COLOR)
    for name in ("b", "c", "d"):
        saved(masks / f"{name}.png", GREY if name != "c" else GREY[:4, :3])
    with pytest.raises(DataError) as error:
        pair(list_images(images, tmp_path), list_images(masks, tmp_path), (images, masks))
    assert str(error.value).splitlines() == [
        f"{images}/a.png: no mask named a in {masks}",
        f"{masks}/d.png: no image named d in {images}",
        f"{images}/c.png: 7×5, but its mask {masks}/c.png is 3×4 (width × height); give the mask the image's size",
    ]


def test_the_tenth_line_is_the_last(tmp_path):
    images = {str(i): tmp_path / f"{i}.png" for i in range(25)}
    with pytest.raises(DataError) as error:
        pair(images, {}, (tmp_path, tmp_path))
    assert len(str(error.value).splitlines()) == 11
    assert str(error.value).endswith("\nand 15 more of this kind")


def test_a_name_that_is_not_utf8_is_refused_by_name_with_its_bytes_as_escapes(tmp_path):
    for name in (b"a.png", b"caf\xe9.png", "café.png".encode(), b"\xff\xfe.jpg", b"r\xe9sum\xe9.txt"):
        with open(os.fsencode(tmp_path) + b"/" + name, "wb"):
            pass
    with pytest.raises(DataError) as error:
        list_images(tmp_path, tmp_path)
    assert str(error.value).splitlines() == [
        rf"{tmp_path}/caf\xe9.png: the name is not UTF-8; rename the file",
        rf"{tmp_path}/\xff\xfe.jpg: the name is not UTF-8; rename the file",
    ]
