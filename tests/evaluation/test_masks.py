"""Names of predicted masks: those of the images, whatever they hold."""

from pathlib import PurePosixPath

import numpy as np
import pytest
import torch
from PIL import Image

from kd.errors import RecipeError
from kd.evaluation.masks import Masks, mask_names


def names(*images):
    return [str(name) for name in mask_names(images)]


@pytest.mark.parametrize(
    ("images", "masks"),
    [
        (["data/images/7.jpg"], ["7.png"]),
        (["a/x/1.jpg", "a/y/1.jpg"], ["x/1.png", "y/1.png"]),
        (["a/1.jpg", "a/1.tif", "a/2.jpg"], ["1.jpg.png", "1.tif.png", "2.png"]),
        (["a/B.png", "a/b.png"], ["B.png-0.png", "b.png-1.png"]),
        (["a/1.jpg", "a/1.png", "a/1.jpg.png"], ["1.jpg-0.png", "1.png.png", "1.jpg.png-2.png"]),
        (["sample 0", "sample 1"], ["sample 0.png", "sample 1.png"]),
        (["frame 1.5", "frame 1.6"], ["frame 1.5.png", "frame 1.6.png"]),
        ([], []),
    ],
)
def test_a_mask_has_the_name_of_its_image(images, masks):
    assert names(*images) == masks


@pytest.mark.parametrize("image", ["../../etc/1.png", "/etc/1", "..", "a/./../x", "C:\\x\\1.png", "a\0b", "con|d", "."])
def test_no_name_leads_out_of_the_folder(image):
    (name,) = mask_names([image])
    assert not name.is_absolute()
    assert ".." not in name.parts
    assert not set(str(name)) & set('<>:"|?*\\\0')
    assert name.suffix == ".png"
    (_, beside) = mask_names([image, "other/2.png"])
    assert ".." not in PurePosixPath(beside).parts


class Two:
    names = ("x/1.jpg", "x/2.jpg")
    colors = ((0, 0, 0), (255, 255, 0))

    def __len__(self):
        return 2


def test_masks_are_written_in_the_order_of_the_dataset(tmp_path):
    folder = tmp_path / "new/masks"
    masks = Masks(folder, Two())
    masks.write(torch.tensor([[0, 1]]))
    assert np.array(Image.open(folder / "1.png")).tolist() == [[0, 1]]
    masks.write(torch.tensor([[1], [0]]))
    assert np.array(Image.open(folder / "2.png")).tolist() == [[1], [0]]


def test_files_that_are_there_are_not_replaced_unasked(tmp_path):
    (tmp_path / "2.png").write_bytes(b"mine")
    advice = "already there; choose another --predictions DIR, or replace them with --overwrite"
    with pytest.raises(RecipeError) as caught:
        Masks(tmp_path, Two())
    assert str(caught.value) == f"{tmp_path / '2.png'}: {advice}"
    (tmp_path / "1.png").symlink_to("nowhere")
    with pytest.raises(RecipeError, match=r"1\.png and 1 more: already there"):
        Masks(tmp_path, Two())
    masks = Masks(tmp_path, Two(), overwrite=True)
    masks.write(torch.tensor([[1]]))
    assert np.array(Image.open(tmp_path / "1.png")).tolist() == [[1]]
    assert not (tmp_path / "nowhere").exists()
