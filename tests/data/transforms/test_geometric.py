"""What each transform does to points and pixels; exact values of the resampling are in test_sampling.py."""

import inspect
import math
import re
from pathlib import Path

import pytest
import torch
from torchvision import tv_tensors

import kd.data
from kd.data import RandomAspect, RandomFlip, RandomRotate, RandomScale, RandomShift
from kd.data.transforms.geometric import Geometric
from kd.data.transforms.sampling import Frame

PAIR = re.compile(r"`(\w+): ([\w.]+)`")
WHOLE = Frame.of((20, 40), (20, 40))


def point(frame, column, row):
    """Where a point of a frame lies in the file: (column, row)."""
    return tuple(a * column + b * row + c for a, b, c in (frame.x, frame.y))


def pair(height=12, width=16):
    """An image whose channels are its mask, so that the two can be seen to move together."""
    mask = torch.arange(height * width).reshape(height, width).remainder(200).to(torch.uint8)
    return tv_tensors.Image(mask.expand(3, -1, -1).clone()), tv_tensors.Mask(mask)


def test_flip_mirrors_points():
    assert point(RandomFlip(p=1).place(WHOLE), 3, 5) == (37, 5)
    assert point(RandomFlip(p=1, vertical=True).place(WHOLE), 3, 5) == (3, 15)
    assert RandomFlip(p=0).place(WHOLE) == WHOLE


def test_scale_keeps_the_corners_and_draws_its_whole_range():
    widths = []
    for _ in range(200):
        frame = RandomScale(0.5, 2.0).place(WHOLE)
        height, width = frame.size
        assert point(frame, 0, 0) == (0, 0)
        assert point(frame, width, height) == pytest.approx((40, 20))
        widths.append(width)
    assert min(widths) < 24
    assert max(widths) > 76


def test_scale_keeps_at_least_two_pixels():
    assert RandomScale(0.001, 0.001).place(WHOLE).size == (2, 2)


def test_aspect_keeps_the_area_and_is_as_often_wide_as_high():
    large = Frame.of((400, 400), (400, 400))
    ratios = []
    for _ in range(300):
        height, width = RandomAspect(0.5, 2).place(large).size
        assert height * width == pytest.approx(400 * 400, rel=0.01)
        ratios.append(math.log(width / height))
    assert min(ratios) < -0.6
    assert max(ratios) > 0.6
    assert abs(sum(ratios) / 300) < 0.12  # 5 standard deviations of the mean


def test_rotation_turns_around_the_centre_and_keeps_lengths():
    for _ in range(20):
        frame = RandomRotate(30).place(WHOLE)
        assert frame.size == WHOLE.size
        assert point(frame, 20, 10) == pytest.approx((20, 10))
        column, row = point(frame, 23, 10)
        assert math.hypot(column - 20, row - 10) == pytest.approx(3)
        assert abs(math.degrees(math.atan2(row - 10, column - 20))) <= 30


def test_shift_moves_by_whole_pixels_within_its_share():
    moves = {point(RandomShift(0.1).place(WHOLE), 0, 0) for _ in range(300)}
    assert moves == {(column, row) for column in range(-4, 5) for row in range(-2, 3)}


@pytest.mark.parametrize(
    "transform",
    [RandomScale(p=0.25), RandomAspect(p=0.25), RandomRotate(p=0.25), RandomShift(0.5, p=0.25), RandomFlip(0.25)],
    ids=lambda transform: type(transform).__name__,
)
def test_each_happens_with_its_probability(transform):
    assert isinstance(transform, Geometric)
    frame = Frame.of((2000, 2000), (2000, 2000))
    moved = sum(transform.place(frame) != frame for _ in range(400))
    assert 60 < moved < 140  # 100 ± 4.6 standard deviations


@pytest.mark.parametrize(
    "transform",
    [RandomScale(), RandomAspect(), RandomRotate(90), RandomShift(0.4), RandomFlip(1)],
    ids=lambda transform: type(transform).__name__,
)
def test_called_alone_it_moves_image_and_mask_together(transform):
    region = torch.zeros(40, 60, dtype=torch.uint8)
    region[8:24, 12:40] = 1
    for _ in range(5):
        image, mask = transform(tv_tensors.Image(255 * region.expand(3, -1, -1)), tv_tensors.Mask(region))
        assert isinstance(image, tv_tensors.Image)
        assert isinstance(mask, tv_tensors.Mask)
        assert image.shape == (3, *mask.shape)
        assert set(mask.unique().tolist()) <= {0, 1, 255}
        assert ((image[0] > 127) == (mask == 1)).float().mean() > 0.99


def test_a_flip_alone_is_exact():
    image, mask = pair()
    flipped, flipped_mask = RandomFlip(p=1)(image, mask)
    assert torch.equal(flipped, image.flip(-1))
    assert torch.equal(flipped_mask, mask.flip(-1))


def test_the_page_states_the_defaults_and_its_example_works():
    page = (Path(__file__).parents[3] / "docs/augmentation.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `kd\.data\.(\w+)` \| (.*?) \|", page, re.MULTILINE)
    transforms = {
        name for name in kd.data.__all__ if "split" not in inspect.signature(getattr(kd.data, name)).parameters
    }
    assert {name for name, _ in rows} == transforms
    for name, arguments in rows:
        stated = {key: float(value.replace("false", "0")) for key, value in PAIR.findall(arguments)}
        defaults = {key: float(p.default) for key, p in inspect.signature(getattr(kd.data, name)).parameters.items()}
        assert stated == pytest.approx(defaults, abs=1e-3), name
    names = {}
    for example in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        exec(example, names)
    sheared = names["RandomShear"](0.5).place(WHOLE)
    assert point(sheared, 3, 10) == pytest.approx((3, 10))  # half way down, nothing moves
    assert abs(point(sheared, 3, 0)[0] - 3) <= 5
    assert point(sheared, 3, 0)[0] - 3 == pytest.approx(3 - point(sheared, 3, 20)[0])
    darker = names["RandomDarker"](0.5).draw_change()
    (small,), (large,) = (darker(torch.full((3, n, n), 200, dtype=torch.uint8), n / 2).unique() for n in (2, 4))
    assert 100 <= small == large <= 200


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RandomScale(0, 1), "RandomScale: low and high must satisfy 0 < low <= high, got 0 and 1"),
        (lambda: RandomScale(2, 1), "RandomScale: low and high must satisfy 0 < low <= high, got 2 and 1"),
        (lambda: RandomScale(p=-0.1), "RandomScale: p must be 0 … 1, got -0.1"),
        (lambda: RandomAspect(0, 1), "RandomAspect: low and high must satisfy 0 < low <= high, got 0 and 1"),
        (lambda: RandomAspect(p=2), "RandomAspect: p must be 0 … 1, got 2"),
        (lambda: RandomFlip(1.5), "RandomFlip: p must be 0 … 1, got 1.5"),
        (lambda: RandomRotate(-1), "RandomRotate: degrees must be 0 … 180, got -1"),
        (lambda: RandomRotate(p=2), "RandomRotate: p must be 0 … 1, got 2"),
        (lambda: RandomShift(1.1), "RandomShift: share must be 0 … 1, got 1.1"),
        (lambda: RandomShift(p=2), "RandomShift: p must be 0 … 1, got 2"),
    ],
)
def test_mistakes(make, message):
    with pytest.raises(ValueError, match=r"^\w+: ") as error:
        make()
    assert str(error.value) == message
