import pytest
import torch
from samples import Fixed, sample

from kd.data.dataset import pixel_spacing, read, resize_image
from kd.errors import DataError
from kd.types import Sample, resize_labels


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (
            Sample(torch.zeros(3, 4, 4), None, "x.png"),
            "x.png: the image is float32 (3, 4, 4); expected uint8 (3, H, W)",
        ),
        (
            Sample(torch.zeros(1, 4, 4, dtype=torch.uint8), None, "x.png"),
            "x.png: the image is uint8 (1, 4, 4); expected uint8 (3, H, W)",
        ),
        (
            Sample(torch.zeros(3, 4, 4, dtype=torch.uint8), torch.zeros(4, 5, dtype=torch.uint8), "x.png"),
            "x.png: the labels are uint8 (4, 5); expected uint8 (4, 4), the image's size",
        ),
        (
            Sample(torch.zeros(3, 4, 4, dtype=torch.uint8), torch.zeros(4, 4, dtype=torch.int64), "x.png"),
            "x.png: the labels are int64 (4, 4); expected uint8 (4, 4), the image's size",
        ),
        (
            sample([[0, 3], [3, 1]], "x.png"),
            "x.png: label 3 (2 pixels) in no class, first at row 0, column 1; a dataset returns 0 … 2, and 255 for "
            "ignored pixels",
        ),
    ],
)
def test_a_dataset_that_breaks_the_contract(found, message):
    with pytest.raises(DataError) as error:
        read(Fixed(found), 0)
    assert str(error.value) == message


def test_a_dataset_that_raises():
    with pytest.raises(DataError) as error:
        read(Fixed(OSError("disk\ngone")), 0)
    assert str(error.value).startswith("Fixed: sample 0 cannot be read: OSError: disk gone (samples.py:")


def test_resizing():
    image = torch.randint(0, 256, (3, 30, 40), dtype=torch.uint8)
    assert resize_image(image, (30, 40)) is image
    for size in ((10, 20), (45, 44)):
        exact = torch.nn.functional.interpolate(image[None].double(), size, mode="bilinear", antialias=True)[0]
        assert (resize_image(image, size) - exact).abs().max() <= 1.01  # rounded twice
    labels = torch.arange(6, dtype=torch.uint8).expand(6, 6)
    assert resize_labels(labels[None], (6, 6)).data_ptr() == labels.data_ptr()
    assert resize_labels(labels[None], (2, 2)).tolist() == [[[1, 4], [1, 4]]]


class Spaced(Fixed):
    """A dataset that states the size of its pixels."""

    def __init__(self, *spacings):
        super().__init__(*(sample([[0]], f"{index}.png") for index in range(len(spacings))))
        self.names = tuple(f"{index}.png" for index in range(len(spacings)))
        self.spacings = spacings

    def spacing(self, index):
        return self.spacings[index]


def test_the_size_of_a_pixel_is_two_lengths_or_unknown():
    assert pixel_spacing(Spaced((0.5, 0.25)), 0) == (0.5, 0.25)
    assert pixel_spacing(Spaced(None), 0) is pixel_spacing(Fixed(sample([[0]])), 0) is None
    for wrong in ((0.5, 0.0), 0.5, (1, 2, 3), ("a", "b"), (float("nan"), 1)):
        with pytest.raises(DataError) as error:
            pixel_spacing(Spaced(wrong), 0)
        assert str(error.value) == (
            f"0.png: Spaced.spacing is {wrong!r}; return (height, width) of a pixel in mm, or None"
        )
