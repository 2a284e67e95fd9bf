import pytest
from PIL import Image
from trees import mask, picture, suim

from kd.data import SUIM
from kd.errors import DataError


def example(root):
    suim(root, train=12, test=8)
    return {"root": str(root), "val": "50%"}


def test_a_class_is_the_bits_of_its_colour(tmp_path):
    suim(tmp_path)
    test = SUIM(str(tmp_path), "test")
    assert len(test) == 3
    assert test[0, 0].labels[5].tolist() == 8 * [0] + 8 * [1] + 8 * [5] + 8 * [7]
    assert [test.class_names[index] for index in (0, 1, 5, 7)] == ["background", "diver", "reef", "sea floor"]
    assert [test.colors[index] for index in (1, 2, 4, 5)] == [(0, 0, 255), (0, 255, 0), (255, 0, 0), (255, 0, 255)]


def test_a_tenth_of_the_training_images_is_held_out(tmp_path):
    suim(tmp_path, train=20)
    train, val = (SUIM(str(tmp_path), split) for split in ("train", "val"))
    assert (len(train), len(val)) == (18, 2)
    assert not set(train.names) & set(val.names)
    assert len(SUIM(str(tmp_path), "val", val=0.25)) == 5
    with pytest.raises(ValueError, match=r"^SUIM: val must be a share of the images, such as 0\.2 or 20%, got 3$"):
        SUIM(str(tmp_path), "val", val=3)


def test_a_mask_of_another_size_is_stretched_to_its_image(tmp_path):
    suim(tmp_path)
    picture(tmp_path / "TEST/images/d_r_0_.jpg", size=(48, 60))
    test = SUIM(str(tmp_path), "test")
    sample = test[0, 0]
    assert sample.labels.shape == sample.image.shape[1:] == (48, 60)
    assert sample.labels[47].tolist() == 15 * [0] + 15 * [1] + 15 * [5] + 15 * [7]
    assert test.labels(0).shape == (48, 60)
    assert test.notes == (
        f"a mask has another size than the image, such as {tmp_path}/TEST/masks/d_r_0_.bmp: stretched to the image's",
    )


def test_a_mask_that_lies_on_its_side_is_not_stretched(tmp_path):
    suim(tmp_path)
    picture(tmp_path / "TEST/images/d_r_0_.jpg", size=(32, 24))
    with pytest.raises(DataError, match="one of the two lies on its side"):
        SUIM(str(tmp_path), "test")


def test_a_grey_mask_and_a_damaged_one(tmp_path):
    suim(tmp_path)
    mask(tmp_path / "TEST/masks/d_r_0_.bmp", [[0] * 32] * 24)
    (tmp_path / "TEST/masks/d_r_1_.bmp").write_bytes((tmp_path / "TEST/masks/d_r_1_.bmp").read_bytes()[:200])
    test = SUIM(str(tmp_path), "test")
    with pytest.raises(DataError, match=r"d_r_0_\.bmp: not in colour; use the masks as they were published$"):
        test[0, 0]
    with pytest.raises(DataError, match=r"d_r_1_\.bmp: damaged: "):
        test[1, 0]


def test_a_jpeg_by_another_name_is_refused(tmp_path):
    suim(tmp_path)
    path = tmp_path / "TEST/masks/d_r_0_.bmp"
    with Image.open(path) as stored:
        stored.save(path, "JPEG")
    with pytest.raises(DataError, match=r"d_r_0_\.bmp: JPEG changes labels; use the original masks, saved as PNG$"):
        SUIM(str(tmp_path), "test")[0, 0]


def test_a_palette_mask_is_looked_up(tmp_path):
    suim(tmp_path)
    path = tmp_path / "TEST/masks/d_r_0_.bmp"
    with Image.open(path) as stored:
        stored.convert("P", palette=Image.Palette.ADAPTIVE).save(path)
    assert SUIM(str(tmp_path), "test")[0, 0].labels[5].tolist() == 8 * [0] + 8 * [1] + 8 * [5] + 8 * [7]


def test_a_missing_tree(tmp_path):
    with pytest.raises(DataError) as error:
        SUIM(str(tmp_path), "train")
    assert str(error.value) == (
        f"SUIM: no {tmp_path}/train_val/images; {tmp_path} contains nothing; get SUIM from "
        "irvlab.cs.umn.edu/resources/suim-dataset, unpack it, and set data.args.root to the folder that holds "
        "train_val/{images, masks} and TEST/{images, masks}"
    )
