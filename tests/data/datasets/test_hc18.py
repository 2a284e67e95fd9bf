import numpy as np
import pytest
from PIL import Image
from trees import ellipse, hc18, mask, outline

from kd.data import HC18
from kd.errors import DataError


def example(root):
    hc18(root, pregnancies=18)
    return {"root": str(root), "val": "25%", "test": "25%"}


def annotation(root, number=1):
    return root / f"training_set/{number:03}_HC_Annotation.png"


def labels_of(root, stem="001_HC"):
    """The labels of an image, whichever split it is in."""
    for split in ("train", "val"):
        data = HC18(str(root), split)
        for index, name in enumerate(data.names):
            if name.endswith(f"/{stem}.png"):
                return data[index, 0].labels.numpy()
    raise LookupError(stem)


def test_an_outline_is_filled(tmp_path):
    hc18(tmp_path)
    inside = ellipse((48, 64), (24, 32), (16, 16))
    labels = labels_of(tmp_path)
    assert (labels == inside).all()
    assert labels.sum() > 3 * outline(inside).sum()


def test_images_are_grey_and_have_the_size_of_their_pixels(tmp_path):
    hc18(tmp_path)
    data = HC18(str(tmp_path), "train")
    assert data.in_channels == 1
    assert data[0, 0].image.shape == (1, 48, 64)
    sizes = {name.rpartition("/")[2]: data.spacing(index) for index, name in enumerate(data.names)}
    assert sizes["001_HC.png"] == (0.12, 0.12)  # the third row: 000_HC, 000_2HC, 001_HC
    assert data.files(0)[1:] == (
        tmp_path / f"training_set/{data.names[0].rpartition('/')[2][:-4]}_Annotation.png",
        tmp_path / "training_set_pixel_size_and_HC.csv",
    )


def test_the_images_of_a_pregnancy_are_in_one_split(tmp_path):
    hc18(tmp_path, pregnancies=18)
    splits = [HC18(str(tmp_path), split, val="30%", test="30%") for split in ("train", "val", "test")]
    assert sum(map(len, splits)) == 24
    assert all(len(data) > 3 for data in splits)
    groups = [set(data.groups) for data in splits]
    assert len(set.union(*groups)) == sum(map(len, groups)) == 18
    folds = [HC18(str(tmp_path), "val", folds=3, fold=fold) for fold in range(3)]
    assert sorted(name for data in folds for name in data.names) == sorted(
        name for data in splits for name in data.names
    )


def test_the_challenges_own_test_set_has_no_labels(tmp_path):
    hc18(tmp_path)
    test = HC18(str(tmp_path), "test")
    assert (len(test), test[1, 0].labels, test.spacing(1)) == (2, None, (0.2, 0.2))


def test_an_outline_that_the_edge_cuts_is_filled_up_to_its_ellipse(tmp_path):
    hc18(tmp_path)
    inside = ellipse((48, 64), (14, 40), (24, 30))  # above the first row, and beyond the last column
    mask(annotation(tmp_path), 255 * outline(inside))
    labels = labels_of(tmp_path)
    assert (labels != inside).mean() < 0.01  # the outline's own thickness
    assert labels[0, 40] == labels[20, 60] == 1
    assert labels[47].max() == 0


def test_outlines_that_mean_nothing(tmp_path):
    hc18(tmp_path)
    path = annotation(tmp_path)
    mask(path, np.zeros((48, 64)))
    assert labels_of(tmp_path).max() == 0  # no head in the image
    Image.fromarray(np.zeros((48, 64), np.uint8)).save(path, "JPEG")
    with pytest.raises(DataError, match=r"001_HC_Annotation\.png: JPEG changes labels; use the original masks, "):
        labels_of(tmp_path)
    points = np.zeros((48, 64))
    points[10, 10:14] = 255
    mask(path, points)
    with pytest.raises(
        DataError, match=r"001_HC_Annotation\.png: the outline has 4 pixels in an image of 64×48, too few$"
    ):
        labels_of(tmp_path)
    points[10, :40] = 255
    mask(path, points)
    with pytest.raises(
        DataError, match=r"001_HC_Annotation\.png: the outline is open, and no ellipse fits it; close it$"
    ):
        labels_of(tmp_path)


def test_a_table_that_lacks_a_size_or_holds_something_else(tmp_path):
    hc18(tmp_path)
    path = tmp_path / "training_set_pixel_size_and_HC.csv"
    rows = path.read_text().splitlines()
    path.write_text("\n".join([*rows[:3], "001_HC.png,wide,44", *rows[4:]]))
    with pytest.raises(DataError) as error:
        HC18(str(tmp_path), "train")
    assert str(error.value) == f"{path}:4: expected a file's name and its pixel size in mm, got 001_HC.png,wide,44"
    path.write_text("\n".join([*rows[:3], *rows[4:]]))
    messages = []
    for split in ("train", "val"):
        try:
            HC18(str(tmp_path), split)
        except DataError as error:
            messages.append(str(error))
    assert messages == [f"{path}: no pixel size of 001_HC.png"]
    path.unlink()
    with pytest.raises(DataError, match=r"^HC18: no \S+_HC\.csv; .*zenodo\.org/records/1327317, unpack them, and set "):
        HC18(str(tmp_path), "train")
