import os
from pathlib import Path
from unicodedata import normalize

import pytest

from kd.data.images.names import Listing, list_images, nearest_content, raise_all, read_list
from kd.errors import DataError


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def names(folder, *args, **options):
    return [*list_images(folder, folder, *args, **options).files]


def listing(folder, *names, ending=""):
    return Listing(folder, dict.fromkeys(names, folder), {}, ending)


def test_a_missing_folder_lists_its_parent(tmp_path):
    touch(tmp_path, "frames/a", "notes.txt")
    with pytest.raises(DataError) as error:
        list_images(tmp_path / "images" / "train", tmp_path)
    assert str(error.value) == f"{tmp_path}/images/train: no such folder; {tmp_path} contains frames/, notes.txt"
    assert nearest_content(tmp_path / "frames") == f"{tmp_path}/frames contains a"


def test_what_is_no_image_is_counted_by_kind(tmp_path):
    touch(tmp_path, "b.png", "a.JPG", "x.txt", "y.TXT", "Thumbs.db", "LICENSE", ".DS_Store", "._b.png", "more/c.png")
    found = list_images(tmp_path, tmp_path)
    assert [*found.files] == ["a", "b"]
    assert found.note == f"{tmp_path}: not read: 1 .db, 2 .txt, 1 folder, 2 hidden, 1 without a suffix"
    assert list_images(tmp_path / "more", tmp_path).note == ""


def test_without_images_of_its_own_a_folder_stands_for_those_in_it(tmp_path, monkeypatch):
    touch(tmp_path, "ulm/ulm_0.png", "bonn/bonn_1.png", "bonn/bonn_0.png", "readme.txt")
    assert names(tmp_path) == ["bonn/bonn_0", "bonn/bonn_1", "ulm/ulm_0"]
    monkeypatch.chdir(tmp_path)
    assert names(Path()) == ["bonn/bonn_0", "bonn/bonn_1", "ulm/ulm_0"]


def test_endings(tmp_path):
    touch(tmp_path, "a_mask.png", "b_mask.PNG", "b.png")
    assert names(tmp_path, "_mask") == ["a", "b"]
    assert list_images(tmp_path, tmp_path, "_mask").note == f"{tmp_path}: not read: 1 without _mask"
    images = list_images(tmp_path, tmp_path, without="_mask")
    assert ([*images.files], images.note) == (["b"], "")


def test_composed_and_decomposed_letters_are_one_name(tmp_path):
    name = "Größe é"
    assert normalize("NFC", name) != normalize("NFD", name)
    touch(tmp_path, f"nfd/{normalize('NFD', name)}.png", f"nfc/{normalize('NFC', name)}.png")
    assert names(tmp_path / "nfd") == names(tmp_path / "nfc") == [normalize("NFC", name)]
    (tmp_path / "list.txt").write_text(normalize("NFD", name))
    assert read_list(tmp_path / "list.txt", listing(tmp_path, normalize("NFC", name))) == {normalize("NFC", name): None}


def test_two_files_with_one_stem(tmp_path):
    touch(tmp_path, "a.jpg", "a.png")
    with pytest.raises(DataError) as error:
        list_images(tmp_path, tmp_path)
    assert str(error.value) == f"{tmp_path}/a.png: has the same stem as a.jpg; keep one of the two"


@pytest.mark.parametrize("what", ["file", "folder", "folder in a folder"])
def test_links_do_not_lead_out(tmp_path, what):
    outside, root = tmp_path / "outside", tmp_path / "root"
    touch(outside, "a.png")
    root.mkdir()
    if what == "folder":
        link = root / "images"
        link.symlink_to(outside)
    else:
        (root / "images").mkdir()
        link = root / "images" / ("a.png" if what == "file" else "ulm")
        link.symlink_to(outside / "a.png" if what == "file" else outside)
    followed = list_images(root / "images", root, follow_links=True)
    assert [*followed.files] == ["ulm/a" if what == "folder in a folder" else "a"]
    if what == "folder in a folder":
        assert not list_images(root / "images", root).files
        return
    with pytest.raises(DataError) as error:
        list_images(root / "images", root)
    assert str(error.value) == (
        f"{link}: a link that leads out of {root}; name the real folder (or, for Folders, set follow_links: true)"
    )


KNOWN = ("a", "b", "c.d", "a b", "passwd", "ulm/7", "bonn/8", "WhatsApp Image 0", "x_mask")


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("a", "a"),
        ("a.png", "a"),
        ("c.d", "c.d"),
        ("../../etc/passwd", "passwd"),  # an entry is a name, never a path
        ("WhatsApp Image 0.jpg", "WhatsApp Image 0"),
        ("my data/WhatsApp Image 0.jpg", "WhatsApp Image 0"),
        ("a b", "a b"),
        ("/set/train/b.png /set/trainannot/b.png", "b"),
        ("images/a.png masks/b.png", "a"),
        ("images/a.png,masks/x_mask.png", "a"),
        ("images/a masks/b", "a"),
        ("a b.png\tmasks/b.png", "a b"),
        ("a -1", "a"),  # PASCAL VOC's lists of one class
        (r"images\ulm\7.png", "ulm/7"),
        ("leftImg8bit/train/ulm/7.png", "ulm/7"),
        ("8.png", "bonn/8"),
        ("photos/8.png", "bonn/8"),
        ('"a b.png"', "a b"),
    ],
)
def test_lines_of_a_list(tmp_path, line, name):
    path = tmp_path / "train.txt"
    path.write_text(f"\ufeff\n{line}\r\n\n", encoding="utf-8")
    assert read_list(path, listing(tmp_path / "photos", *KNOWN)) == {name: None}


@pytest.mark.parametrize(
    ("line", "masks", "mask"),
    [
        ("a.png b.png", ("a", "b"), "b"),
        ("images/a.png,masks/label 7.png", ("label 7",), "label 7"),
        ('"a.png";"b.png"', ("a", "b"), "b"),
        ("a.png b_seg.png", ("a", "b"), "b"),  # `_seg` is removed from the names of masks
        ("a b.png", ("a", "b"), None),
        ("a.png", ("a", "b"), None),
        ("a 1", ("a", "1"), None),
        ("a.png depth/9.png masks/b.png", ("a", "b"), "b"),
        ("a.png depth/9.png edges/9.png", ("a", "b"), None),
    ],
)
def test_a_line_may_name_the_mask(tmp_path, line, masks, mask):
    path = tmp_path / "train.txt"
    path.write_text(line)
    assert [*read_list(path, listing(tmp_path, *KNOWN), listing(tmp_path, *masks, ending="_seg")).values()] == [mask]


def test_a_mask_that_a_line_names_and_that_is_not_there(tmp_path):
    path = tmp_path / "train.txt"
    path.write_text("a.png masks/c.png\n")
    with pytest.raises(DataError) as error:
        read_list(path, listing(tmp_path, *KNOWN), listing(tmp_path / "masks", "a", "b"))
    assert str(error.value) == f"{path}:1: no mask named 'c' in {tmp_path}/masks"


def test_a_list_may_name_files_with_the_ending_that_their_names_lack(tmp_path):
    path = tmp_path / "train.txt"
    path.write_text("ulm/ulm_0_left.png\nulm_1\n")
    assert [*read_list(path, listing(tmp_path, "ulm/ulm_0", "ulm/ulm_1", ending="_left"))] == ["ulm/ulm_0", "ulm/ulm_1"]


def test_the_header_of_a_csv_file_is_no_image(tmp_path):
    path = tmp_path / "train.csv"
    path.write_text('image,mask\n"a b.png","m.png"\nb.png,m.png\n')
    assert [*read_list(path, listing(tmp_path, *KNOWN))] == ["a b", "b"]


def test_a_file_of_another_folder_is_another_file(tmp_path):
    path = tmp_path / "train.txt"
    path.write_text("ulm/8.png\n")
    with pytest.raises(DataError) as error:
        read_list(path, listing(tmp_path, *KNOWN))  # which has bonn/8
    assert str(error.value) == f"{path}:1: no image named '8' in {tmp_path}"
    path.write_text("a.png bonn/b.png\n")
    with pytest.raises(DataError) as error:
        read_list(path, listing(tmp_path, *KNOWN), listing(tmp_path / "masks", "ulm/b"))
    assert str(error.value) == f"{path}:1: no mask named 'b' in {tmp_path}/masks"


@pytest.mark.parametrize("content", [b"a\x00b", b"x" * 5000, b"a.png.png", b"7"])
def test_names_that_are_not_there(tmp_path, content):
    path = tmp_path / "train.txt"
    path.write_bytes(b"a\n" + content + b"\n")
    with pytest.raises(DataError) as error:
        read_list(path, listing(tmp_path, "a", "x/7", "y/7"))
    assert str(error.value).startswith(f"{path}:2: no image named '")
    assert str(error.value).endswith(f" in {tmp_path}")
    assert len(str(error.value)) < 300


def test_a_list_that_is_not_text(tmp_path):
    path = tmp_path / "train.txt"
    path.write_bytes(b"\xff\xfe\n")
    with pytest.raises(DataError, match=rf"^{path}:1:1: not UTF-8 text \(byte 0xff\)"):
        read_list(path, listing(tmp_path))


def test_a_name_twice_in_a_list(tmp_path):
    path = tmp_path / "train.txt"
    path.write_text("a\nb\na.png\n")
    with pytest.raises(DataError) as error:
        read_list(path, listing(tmp_path, *KNOWN))
    assert str(error.value) == f"{path}:3: 'a' is already in line 1; remove one of the two"


def test_the_tenth_line_is_the_last():
    with pytest.raises(DataError) as error:
        raise_all([str(number) for number in range(25)])
    assert str(error.value).splitlines()[9:] == ["9", "and 15 more of this kind"]


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
