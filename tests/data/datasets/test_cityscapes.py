import pytest
from trees import cityscapes, mask, stripes

from kd.data import Cityscapes
from kd.data.datasets.cityscapes import COLORS, IDS
from kd.errors import DataError


def example(root):
    cityscapes(root, train=4, val=4, test=4)
    return {"root": str(root)}


def test_the_ids_of_the_scored_classes_become_their_indices(tmp_path):
    cityscapes(tmp_path)
    train = Cityscapes(str(tmp_path), "train")
    sample = train[0, 0]
    assert sample.name == f"{tmp_path}/leftImg8bit/train/aachen/aachen_000000_000019_leftImg8bit.png"
    assert sample.labels[0].tolist() == 8 * [0] + 8 * [13] + 8 * [255] + 8 * [18]
    assert [train.class_names[index] for index in (0, 13, 18)] == ["road", "car", "bicycle"]
    assert [len(Cityscapes(str(tmp_path), split)) for split in ("val", "test")] == [3, 2]
    assert len(IDS) == len(COLORS) == 19


def test_coarse_masks_train_too_but_do_not_score(tmp_path):
    cityscapes(tmp_path, extra=5)
    assert len(Cityscapes(str(tmp_path), "train")) == 4
    assert len(Cityscapes(str(tmp_path), "val", coarse=True)) == 3
    train = Cityscapes(str(tmp_path), "train", coarse=True)
    assert len(train) == 9
    assert train.files(8) == (
        tmp_path / "leftImg8bit/train_extra/erlangen/erlangen_000004_000019_leftImg8bit.png",
        tmp_path / "gtCoarse/train_extra/erlangen/erlangen_000004_000019_gtCoarse_labelIds.png",
    )
    assert train[8, 0].labels.unique().tolist() == [0, 13, 18, 255]


def test_a_number_that_is_no_label_id(tmp_path):
    cityscapes(tmp_path)
    mask(tmp_path / "gtFine/val/lindau/lindau_000001_000019_gtFine_labelIds.png", stripes(7, 34))
    with pytest.raises(DataError, match=r"label 34 \(384 pixels\) in no class .*use the masks as they were published$"):
        Cityscapes(str(tmp_path), "val")[1, 0]


def test_an_image_without_its_mask_and_a_missing_tree(tmp_path):
    cityscapes(tmp_path)
    (tmp_path / "gtFine/val/lindau/lindau_000001_000019_gtFine_labelIds.png").unlink()
    with pytest.raises(DataError, match=r"no mask named lindau/lindau_000001_000019 in \S+/gtFine/val$"):
        Cityscapes(str(tmp_path), "val")
    with pytest.raises(DataError) as error:
        Cityscapes(str(tmp_path), "train", coarse=True)
    assert str(error.value) == (
        f"Cityscapes: no {tmp_path}/leftImg8bit/train_extra; {tmp_path}/leftImg8bit contains test/, train/, val/; get "
        "leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip (for coarse: leftImg8bit_trainextra.zip and "
        "gtCoarse.zip) from cityscapes-dataset.com, unpack them, and set data.args.root to the folder that holds "
        "leftImg8bit/{train, val, test} and gtFine/{train, val, test}"
    )
