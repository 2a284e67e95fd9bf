import pytest
import torch
from samples import Fixed

from kd.data.aspect import image_sizes, swapped, swapped_window
from kd.types import Sample


def test_a_size_written_width_first_is_suspected_with_the_size_that_was_meant():
    assert swapped("data.size", (128, 48), [(48, 128)] * 5) == (
        "warning: data.size is [height, width]: [128, 48] makes images of 128×48 (width × height) 48 wide and 128 "
        "high, which stretches them 7.1 times; did you mean data.size: [48, 128]?"
    )
    assert swapped("evaluate.size", (480, 360), [(1280, 720), (720, 1280), (720, 1280)]).endswith("[360, 480]?")


@pytest.mark.parametrize(
    ("size", "image"),
    [
        ((48, 128), (48, 128)),  # right
        ((256, 256), (48, 128)),  # square: nothing to exchange
        ((128, 48), (64, 64)),  # square images
        ((512, 384), (480, 500)),  # both stretch about equally
        ((512, 384), (360, 480)),  # 1.8 times, and 1.0 when exchanged: suspected
    ],
)
def test_a_size_that_may_be_meant_is_not_suspected(size, image):
    suspected = swapped("data.size", size, [image] * 3)
    assert bool(suspected) == (image == (360, 480))


def test_a_window_that_fits_only_when_exchanged():
    assert swapped_window("data.crop", (480, 360), (360, 480), "data.size") == (
        "warning: data.crop is [height, width]: [480, 360] exceeds data.size: [360, 480]; "
        "did you mean data.crop: [360, 480]?"
    )
    assert swapped_window("data.crop", (360, 360), (360, 480), "data.size") is None
    assert swapped_window("data.crop", (769, 769), (512, 1024), "data.size") is None  # padded on purpose


def test_the_sizes_are_those_of_images_spread_over_the_split():
    images = [Sample(torch.zeros(3, 2, n, dtype=torch.uint8), None, str(n)) for n in range(1, 12)]
    assert image_sizes(Fixed(*images)) == [(2, 1), (2, 3), (2, 5), (2, 7), (2, 9)]
    assert image_sizes(Fixed(*images[:2])) == [(2, 1), (2, 2)]
