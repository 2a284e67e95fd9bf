"""The one resampling: exact where it can be, and otherwise compared with slow float64 references."""

import math

import pytest
import torch
from torch.nn import functional as F

from kd.data import RandomAspect, RandomFlip, RandomRotate, RandomScale, RandomShift
from kd.data.dataset import resize_image
from kd.data.transforms.sampling import Frame, sample_image, sample_labels
from kd.types import IGNORE, resize_labels


def noise(height, width, channels=3):
    image = torch.randint(0, 256, (channels, height, width), dtype=torch.uint8)
    return image, torch.randint(0, 9, (height, width), dtype=torch.uint8)


def smooth(height, width):
    """An image without fine detail: a resampling of it hardly depends on the filter."""
    coarse = torch.rand(1, 3, 4, 5, dtype=torch.float64)
    return (F.interpolate(coarse, (height, width), mode="bicubic")[0] * 120 + 60).clamp(0, 255).to(torch.uint8)


def both(image, labels, frame):
    return sample_image(image, frame), sample_labels(labels, frame)


def test_the_files_own_size_holds_the_files_pixels():
    image, labels = noise(17, 23)
    found, found_labels = both(image, labels, Frame.of((17, 23), (17, 23)))
    assert torch.equal(found, image)
    assert torch.equal(found_labels, labels)
    found.zero_()  # a copy: transforms may write to it
    assert image.any()


@pytest.mark.parametrize("size", [(17, 23), (9, 30), (40, 46), (5, 3)])
def test_a_resized_image_is_what_an_evaluation_sees(size):
    image, labels = noise(17, 23)
    found, found_labels = both(image, labels, Frame.of((17, 23), size))
    assert torch.equal(found, resize_image(image, size))
    assert torch.equal(found_labels, resize_labels(labels[None], size)[0])


def test_flips_and_windows_of_the_files_size_are_exact():
    image, labels = noise(12, 20)
    frame = RandomFlip(1, vertical=True).place(RandomFlip(1).place(Frame.of((12, 20), (12, 20))))
    found, found_labels = both(image, labels, frame.window(2, 5, (7, 9)))
    assert torch.equal(found, image.flip(1, 2)[:, 2:9, 5:14])
    assert torch.equal(found_labels, labels.flip(0, 1)[2:9, 5:14])


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_scale_flip_and_crop_are_one_resize_and_a_window(order):
    image, labels = noise(48, 64)
    scale, flip = RandomScale(0.7, 1.4), RandomFlip(1)
    frame = Frame.of((48, 64), (24, 32))
    for number in order:
        frame = (scale, flip)[number].place(frame)
    found, found_labels = both(image, labels, frame.window(1, 3, (14, 15)))
    assert torch.equal(found, resize_image(image, frame.size).flip(2)[:, 1:15, 3:18])
    assert torch.equal(found_labels, resize_labels(labels[None], frame.size)[0].flip(1)[1:15, 3:18])


def test_a_small_part_of_a_large_image_is_the_same_up_to_rounding():
    image, labels = noise(600, 800)
    frame = Frame.of((600, 800), (1320, 1760))
    window = RandomFlip(1).place(frame).window(301, 407, (50, 60))
    found, found_labels = both(image, labels, window)
    expected = resize_image(image, frame.size).flip(2)[:, 301:351, 407:467]
    assert (found.int() - expected.int()).abs().max() <= 1
    assert torch.equal(found_labels, resize_labels(labels[None], frame.size)[0].flip(1)[301:351, 407:467])


def test_what_the_image_does_not_fill_is_0_and_ignored():
    image, labels = noise(4, 6)
    image = image.clamp(min=1)
    found, found_labels = both(image, labels, Frame.of((4, 6), (4, 6)).window(-2, -3, (9, 11)))
    assert torch.equal(found[:, 2:6, 3:9], image)
    assert torch.equal(found_labels[2:6, 3:9], labels)
    outside = torch.ones(9, 11, dtype=torch.bool)
    outside[2:6, 3:9] = False
    assert (found_labels[outside] == IGNORE).all()
    assert not found[:, outside].any()
    beyond, beyond_labels = both(image, labels, Frame.of((4, 6), (4, 6)).window(10, 0, (3, 3)))
    assert not beyond.any()
    assert (beyond_labels == IGNORE).all()


def bilinear(image, column, row):
    """The value at a point of an image (C, H, W), in float64; at its border, that of the nearest pixel."""
    height, width = image.shape[1:]
    left, top = math.floor(column - 0.5), math.floor(row - 0.5)
    value = torch.zeros(image.shape[0], dtype=torch.float64)
    for y, share_y in ((top, top + 1.5 - row), (top + 1, row - 0.5 - top)):
        for x, share_x in ((left, left + 1.5 - column), (left + 1, column - 0.5 - left)):
            value += share_x * share_y * image[:, min(max(y, 0), height - 1), min(max(x, 0), width - 1)].double()
    return value


def reference(image, labels, frame, points):
    """A frame, pixel by pixel: the mean over points × points places, and the label under the centre."""
    height, width = labels.shape
    found, found_labels = torch.zeros(image.shape[0], *frame.size, dtype=torch.float64), []
    for i in range(frame.size[0]):
        for j in range(frame.size[1]):
            column, row = (a * (j + 0.5) + b * (i + 0.5) + c for a, b, c in (frame.x, frame.y))
            inside = 0 <= column < width and 0 <= row < height
            found_labels.append(int(labels[int(row), int(column)]) if inside else IGNORE)
            for k in range(points * points if inside else 0):
                down, right = i + (k // points + 0.5) / points, j + (k % points + 0.5) / points
                place = (a * right + b * down + c for a, b, c in (frame.x, frame.y))
                found[:, i, j] += bilinear(image, *place) / points**2
    return found, torch.tensor(found_labels, dtype=torch.uint8).view(frame.size)


GEOMETRIC = (RandomRotate(180), RandomAspect(0.6, 1.6), RandomShift(0.3), RandomFlip(), RandomScale(0.8, 1.2))


@pytest.mark.parametrize("seed", range(6))
def test_composed_maps_are_as_computed_pixel_by_pixel(seed):
    """Enlarged, so that each pixel is one interpolation: exact up to rounding, even on noise."""
    torch.manual_seed(seed)
    image, labels = noise(7, 9)
    frame = Frame.of((7, 9), (14, 18))
    for number in torch.randperm(len(GEOMETRIC)).tolist():
        frame = GEOMETRIC[number].place(frame)
    frame = frame.window(-2, 1, (16, 15))
    found, found_labels = both(image, labels, frame)
    expected, expected_labels = reference(image, labels, frame, points=1)
    assert torch.equal(found_labels, expected_labels)
    assert (found - expected).abs().max() < 0.51


@pytest.mark.parametrize("shrink", [1.5, 3.0, 5.0, 11.0])
def test_what_shrinks_under_rotation_is_antialiased(shrink):
    torch.manual_seed(int(shrink))
    file = (round(14 * shrink), round(16 * shrink))
    image = smooth(*file)
    frame = RandomRotate(40).place(Frame.of(file, (14, 16))).window(2, 2, (10, 12))
    labels = torch.zeros(file, dtype=torch.uint8)
    found, found_labels = both(image, labels, frame)
    expected, expected_labels = reference(image, labels, frame, points=3)
    assert torch.equal(found_labels, expected_labels)
    assert (found - expected).abs().max() < 4
    checks = (torch.arange(file[0])[:, None] + torch.arange(file[1])).remainder(2).to(torch.uint8) * 255
    grey = sample_image(checks.expand(3, -1, -1), frame)[:, found_labels == 0].float()
    assert grey.mean() == pytest.approx(127.5, abs=8)
    assert grey.std() < 40  # of a board read without antialiasing: 127


def test_image_and_labels_stay_aligned_under_rotation():
    """A disc off the centre: where the image is bright, the label is 1, and both have the same centre of mass."""
    rows, columns = torch.arange(60)[:, None] + 0.5, torch.arange(80) + 0.5
    disc = ((rows - 22) ** 2 + (columns - 50) ** 2 < 12**2).to(torch.uint8)
    for _ in range(8):
        frame = RandomRotate(180).place(RandomScale(0.5, 2).place(Frame.of((60, 80), (40, 50))))
        found, found_labels = both(255 * disc.expand(3, -1, -1), disc, frame)
        bright = found[0] > 127
        assert (bright == (found_labels == 1)).float().mean() > 0.99
        if bright.sum() > 50:
            centres = [mask.nonzero().float().mean(0) for mask in (bright, found_labels == 1)]
            assert (centres[0] - centres[1]).abs().max() < 0.25


def test_a_turn_of_nothing_is_exact():
    image, labels = noise(10, 12)
    found, found_labels = both(image, labels, RandomRotate(0).place(Frame.of((10, 12), (10, 12))))
    assert torch.equal(found, image)
    assert torch.equal(found_labels, labels)


def test_a_strong_reduction_reads_few_points_a_pixel(monkeypatch):
    """A photo of 3,000 × 4,000 turned into 30 × 40 pixels must not be interpolated at every one of its pixels."""
    read = []
    grid_sample = F.grid_sample

    def counted(image, grid, **how):
        read.append(grid.numel() // 2)
        return grid_sample(image, grid, **how)

    monkeypatch.setattr(F, "grid_sample", counted)
    image = torch.full((1, 3000, 4000), 90, dtype=torch.uint8)
    frame = RandomRotate(30).place(Frame.of((3000, 4000), (30, 40)))
    found = sample_image(image, frame)
    assert set(found.unique().tolist()) <= {0, 90}
    assert max(read) <= 30 * 40 * 4 * 4


def test_one_channel_and_many():
    for channels in (1, 5):
        image, _ = noise(20, 20, channels)
        frame = RandomRotate(20).place(Frame.of((20, 20), (20, 20)))
        assert sample_image(image, frame).shape == (channels, 20, 20)
