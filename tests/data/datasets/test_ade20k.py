import pytest
from trees import ade20k, mask, stripes

from kd.data import ADE20K
from kd.data.datasets.ade20k import NAMES
from kd.errors import DataError


def example(root):
    ade20k(root, train=4, val=4)
    return {"root": str(root)}


def test_zero_is_ignored_and_the_classes_count_from_one(tmp_path):
    ade20k(tmp_path)
    train, val = (ADE20K(str(tmp_path), split) for split in ("train", "val"))
    assert (len(train), len(val)) == (4, 3)
    assert train[1, 0].labels[0].tolist() == 8 * [255] + 8 * [0] + 8 * [20] + 8 * [149]
    assert [train.class_names[index] for index in (0, 20, 149)] == ["wall", "car", "flag"]
    assert len(set(NAMES)) == len(set(train.colors)) == 150


def test_there_is_no_test_split_and_no_class_151(tmp_path):
    ade20k(tmp_path)
    with pytest.raises(DataError, match=r"^ADE20K: there are no public test labels; use val$"):
        ADE20K(str(tmp_path), "test")
    mask(tmp_path / "ADEChallengeData2016/annotations/validation/ADE_val_00000000.png", stripes(1, 151))
    with pytest.raises(DataError, match=r"label 151 \(384 pixels\) in no class"):
        ADE20K(str(tmp_path), "val")[0, 0]


def test_a_missing_tree(tmp_path):
    with pytest.raises(DataError) as error:
        ADE20K(str(tmp_path), "val")
    assert str(error.value) == (
        f"ADE20K: no {tmp_path}/ADEChallengeData2016/images/validation; {tmp_path} contains nothing; unpack "
        "ADEChallengeData2016.zip of data.csail.mit.edu/places/ADEchallenge, and set data.args.root to the folder that "
        "holds ADEChallengeData2016/{images, annotations}/{training, validation}"
    )
