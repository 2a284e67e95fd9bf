import numpy as np
import pytest
from PIL import Image

from kd.data.images.files import Pair, match, pair
from kd.data.images.names import Listing, list_images
from kd.errors import DataError


def listing(folder, *names, ending=""):
    return Listing(folder, {name: folder / f"{name}{ending}.png" for name in names}, {}, ending)


def saved(path, height, width, turn=1):
    exif = Image.Exif()
    exif[0x0112] = turn
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(np.zeros((height, width), dtype=np.uint8)).save(path, exif=exif)
    return path


def test_images_and_masks_of_one_name(tmp_path):
    images, masks = listing(tmp_path / "i", "b", "a"), listing(tmp_path / "m", "a", "b")
    assert match(images, masks) == {n: (tmp_path / f"i/{n}.png", tmp_path / f"m/{n}.png") for n in ("b", "a")}
    assert [*match(images, listing(tmp_path / "m", "a", "x"), {"a": None})] == ["a"]  # b and x are not chosen
    assert match(images, masks, {"b": "a"}) == {"b": (tmp_path / "i/b.png", tmp_path / "m/a.png")}


def test_folders_in_folders_on_one_side(tmp_path):
    nested, flat = listing(tmp_path / "i", "ulm/7", "bonn/8"), listing(tmp_path / "m", "7", "8")
    assert match(nested, flat) == {
        "ulm/7": (tmp_path / "i/ulm/7.png", tmp_path / "m/7.png"),
        "bonn/8": (tmp_path / "i/bonn/8.png", tmp_path / "m/8.png"),
    }


@pytest.mark.parametrize(
    ("images", "masks", "first"),
    [
        (("d1/0", "d1/1", "d2/0", "d2/1"), ("d1_labels/0", "d1_labels/1"), ("d1/0", "d1_labels/0")),
        (("d1/0", "d1/1", "d2/0"), ("1", "0"), ("d1/1", "1")),
        (("0", "1"), ("d1/1", "d2/1", "d2/0"), ("1", "d1/1")),
    ],
)
def test_a_name_in_several_folders_pairs_nothing(tmp_path, images, masks, first):
    with pytest.raises(DataError) as error:
        match(listing(tmp_path / "i", *images), listing(tmp_path / "m", *masks))
    assert str(error.value) == (
        f"{tmp_path}/m: none of the {len(images)} images in {tmp_path}/i has a mask of its name: {first[0]}.png needs "
        f"a mask of that path, but there is {first[1]}.png; give the masks the folders of their images"
    )


def test_a_mask_in_a_folder_of_its_own_needs_an_image_too(tmp_path):
    with pytest.raises(DataError) as error:
        match(listing(tmp_path / "i", "d1/0", "d2/1"), listing(tmp_path / "m", "0", "1", "2"))
    assert str(error.value) == f"{tmp_path}/m/2.png: no image named 2 in {tmp_path}/i"


def test_all_misfits_at_once(tmp_path):
    with pytest.raises(DataError) as error:
        match(listing(tmp_path / "i", "a", "b", "c"), listing(tmp_path / "m", "b", "c", "d"))
    assert str(error.value).splitlines() == [
        f"{tmp_path}/i/a.png: no mask named a in {tmp_path}/m",
        f"{tmp_path}/m/d.png: no image named d in {tmp_path}/i",
    ]


@pytest.mark.parametrize(
    ("images", "masks", "advice"),
    [
        (("a", "b"), ("a_mask", "b_mask"), "in data.args set mask_suffix: _mask"),
        (("a_img", "b_img"), ("a", "b"), "in data.args set image_suffix: _img"),
        (("a_img", "b_img"), ("a-gt", "b-gt"), 'in data.args set image_suffix: _img, mask_suffix: "-gt"'),
        (("a", "b"), ("a_ids", "a_color", "b_ids", "b_color"), "in data.args set mask_suffix: _ids (or _color)"),
        (
            ("u/u_1_left", "v/v_1_left"),
            ("u/u_1_ids", "v/v_1_ids"),
            "in data.args set image_suffix: _left, mask_suffix: _ids",
        ),
        (("a", "b"), ("1", "2"), "rename the masks"),
        (
            ("a", "b"),
            ("task-1-annotation-3-by-1-tag-leaf-0", "task-2-annotation-4-by-1-tag-leaf-0"),
            "Label Studio wrote a file per label: merge them into one mask per image, with the image's name",
        ),
    ],
)
def test_names_that_never_match(tmp_path, images, masks, advice):
    with pytest.raises(DataError) as error:
        match(listing(tmp_path / "i", *images), listing(tmp_path / "m", *masks))
    first = images[0].rpartition("/")[2]
    assert str(error.value) == (
        f"{tmp_path}/m: none of the 2 images in {tmp_path}/i has a mask of its name: {first}.png needs {first}.png, or "
        f"another type of image, but there is {masks[0].rpartition('/')[2]}.png; {advice}"
    )


def test_an_ending_that_is_removed_already_stays_in_the_advice(tmp_path):
    with pytest.raises(DataError, match=r"in data.args set mask_suffix: _gt_ids$"):
        match(listing(tmp_path / "i", "a", "b"), listing(tmp_path / "m", "a_gt", "b_gt", ending="_ids"))


def test_a_folder_without_masks(tmp_path):
    (tmp_path / "m").mkdir()
    (tmp_path / "m/a.svg").touch()
    with pytest.raises(DataError) as error:
        match(listing(tmp_path / "i", "a"), list_images(tmp_path / "m", tmp_path))
    assert str(error.value) == (
        f"{tmp_path}/m: none of the 1 image in {tmp_path}/i has a mask of its name: the folder holds no masks (not "
        "read: 1 .svg)"
    )


def test_sizes_that_differ(tmp_path):
    files = [
        (saved(tmp_path / "a.png", 5, 7), saved(tmp_path / "am.png", 4, 3)),
        (saved(tmp_path / "b.png", 5, 7), saved(tmp_path / "bm.png", 7, 5)),
        (saved(tmp_path / "c.png", 5, 7, turn=6), saved(tmp_path / "cm.png", 4, 3)),
        (saved(tmp_path / "d.png", 5, 7), saved(tmp_path / "dm.png", 5, 7)),
    ]
    with pytest.raises(DataError) as error:
        pair(files)
    given, turn = "give the mask the image's size", "one of the two lies on its side: turn it by 90° and save it"
    assert str(error.value).splitlines() == [
        f"{tmp_path}/a.png: 7×5, but its mask {tmp_path}/am.png is 3×4 (width × height); {given}",
        f"{tmp_path}/b.png: 7×5, but its mask {tmp_path}/bm.png is 5×7 (width × height); {turn}",
        f"{tmp_path}/c.png: 5×7, but its mask {tmp_path}/cm.png is 3×4 (width × height, turned upright by the EXIF "
        f"tag); {given}",
    ]


@pytest.mark.parametrize(
    ("image", "mask", "turn"),
    [
        ((5, 7, 6), (7, 5, 1), 1),  # drawn on the upright picture
        ((5, 7, 6), (5, 7, 1), 6),  # drawn on the stored pixels
        ((5, 7, 6), (5, 7, 6), 1),  # has a tag of its own
        ((5, 7, 6), (5, 7, 8), 1),
        ((5, 7, 1), (7, 5, 8), 1),
        ((5, 7, 3), (5, 7, 1), 1),  # sizes do not show it
        ((5, 5, 6), (5, 5, 1), 1),
    ],
)
def test_a_mask_is_turned_with_its_image_where_it_was_drawn_on_turned_pixels(tmp_path, image, mask, turn):
    files = (saved(tmp_path / "a.png", *image), saved(tmp_path / "m.png", *mask))
    assert pair([files]).pairs == [Pair(*files, turn)]


def test_masks_whose_size_shows_nothing_are_like_the_others(tmp_path):
    half_turn = (saved(tmp_path / "a.png", 5, 7, turn=3), saved(tmp_path / "am.png", 5, 7))
    on_stored = (saved(tmp_path / "b.png", 5, 7, turn=8), saved(tmp_path / "bm.png", 5, 7))
    upright = (saved(tmp_path / "c.png", 5, 7, turn=8), saved(tmp_path / "cm.png", 7, 5))
    assert [item.turn for item in pair([half_turn, on_stored]).pairs] == [3, 8]
    assert [item.turn for item in pair([half_turn, on_stored, upright]).pairs] == [1, 8, 1]
    assert pair([half_turn, on_stored]).notes == [
        f"2 images are turned upright by the EXIF tag, such as {tmp_path}/a.png; 2 of their masks were drawn on the "
        "stored pixels and are turned too"
    ]
    assert pair([upright]).notes == [
        f"1 image is turned upright by the EXIF tag, such as {tmp_path}/c.png; its mask is upright already"
    ]
