import pickle

import pytest
import torch
from trees import saved, stripes

from kd.data import HuggingFace
from kd.errors import DataError


def example(root):
    return {"root": str(saved(root / "saved")), "classes": ["wall", "floor", "lamp"]}


def test_images_and_masks_are_read_as_those_of_folders(tmp_path):
    args = example(tmp_path)
    train = HuggingFace(**args, split="train")
    sample = train[3, 0]
    assert sample.image.shape == (3, 24, 32)
    assert sample.labels[0].tolist() == 8 * [0] + 8 * [1] + 8 * [2] + 8 * [255]
    assert sample.name == f"{tmp_path}/saved/train/3"
    assert torch.equal(pickle.loads(pickle.dumps(train))[3, 0].image, sample.image)
    assert HuggingFace(**args, split="train", mask=None)[0, 0].labels is None
    assert [path.parent for path in train.sources] == [tmp_path / "saved/train"]
    assert all(path.is_file() for path in train.sources)


def test_a_part_of_train_is_held_out_where_there_is_no_validation_split(tmp_path):
    saved(tmp_path / "saved", splits=("train",))
    args = {"root": str(tmp_path / "saved"), "classes": ["wall", "floor", "lamp"]}
    with pytest.raises(DataError) as error:
        HuggingFace(**args, split="val")
    assert str(error.value) == (
        f"{tmp_path}/saved: no split validation, only train; set val: 20% to hold out a part of train"
    )
    train, val = (HuggingFace(**args, split=split, val="25%") for split in ("train", "val"))
    assert (len(train), len(val)) == (6, 2)
    assert not set(train.names) & set(val.names)
    assert val[1, 0].name == val.names[1]


def test_masks_keep_the_rules_of_all_masks(tmp_path):
    args = {"classes": ["wall", "floor", "lamp"], "split": "train"}
    with pytest.raises(DataError, match=r"train/0: label: JPEG changes labels; use the original masks, saved as PNG$"):
        HuggingFace(str(saved(tmp_path / "lossy", kind="JPEG")), **args)[0, 0]
    with pytest.raises(DataError, match=r"train/0: label: label 7 \(192 pixels\) in no class"):
        HuggingFace(str(saved(tmp_path / "unknown", stripes(0, 1, 2, 7))), **args)[0, 0]
    with pytest.raises(DataError, match=r"train/0: 32×24, but its mask is 30×24 \(width × height\)$"):
        HuggingFace(str(saved(tmp_path / "small", stripes(0, 1, 2, size=(24, 30)))), **args)[0, 0]
    found = HuggingFace(str(tmp_path / "unknown"), **args, rest="ignore")
    assert found[0, 0].labels.unique().tolist() == [0, 1, 2, 255]


def test_folders_and_columns_that_are_not_there(tmp_path):
    args = {"classes": ["wall", "floor"], "split": "train"}
    root = str(saved(tmp_path / "saved"))
    with pytest.raises(DataError, match=r"/saved: no column mask, only image, label, id; set image and mask$"):
        HuggingFace(root, **args, mask="mask")
    with pytest.raises(DataError, match=r"/saved: the column id holds no images; set image and mask to those that do$"):
        HuggingFace(root, **args, mask="id")
    with pytest.raises(DataError, match=r"/none: no such folder; \S+ contains saved/$"):
        HuggingFace(str(tmp_path / "none"), **args)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError) as error:
        HuggingFace(str(tmp_path / "empty"), **args)
    assert "\n" not in str(error.value)
    assert str(error.value).endswith(f"; write one: datasets.load_dataset(NAME).save_to_disk('{tmp_path}/empty')")
