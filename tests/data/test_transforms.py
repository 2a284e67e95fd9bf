import pytest
import torch
from torchvision import tv_tensors

from kd.data import ColorJitter, RandomBlur, RandomFlip, RandomRotate, RandomScale


def pair(height=12, width=16, channels=3):
    """An image whose first channel is its mask, so that the two can be seen to move together."""
    mask = torch.arange(height * width).reshape(height, width).remainder(200).to(torch.uint8)
    return tv_tensors.Image(mask.expand(channels, -1, -1).clone()), tv_tensors.Mask(mask)


def test_flip_moves_both_or_neither():
    image, mask = pair()
    flipped, flipped_mask = RandomFlip(p=1)(image, mask)
    assert torch.equal(flipped, image.flip(-1))
    assert torch.equal(flipped_mask, mask.flip(-1))
    same, same_mask = RandomFlip(p=0)(image, mask)
    assert torch.equal(same, image)
    assert torch.equal(same_mask, mask)


def test_flip_happens_with_its_probability():
    image, mask = pair(2, 2)
    flipped = sum(not torch.equal(RandomFlip(p=0.25)(image, mask)[1], mask) for _ in range(400))
    assert 60 < flipped < 140  # 100 ± 4.6 standard deviations


def test_scale_keeps_image_and_mask_of_one_size_and_invents_no_label():
    image, mask = pair(31, 40)
    mask = tv_tensors.Mask(torch.where(mask > 100, 7, 255).to(torch.uint8))
    sizes = set()
    for _ in range(20):
        scaled, scaled_mask = RandomScale(0.5, 2.0)(image, mask)
        assert scaled.shape[-2:] == scaled_mask.shape
        assert scaled.dtype == scaled_mask.dtype == torch.uint8
        assert set(scaled_mask.unique().tolist()) <= {7, 255}
        assert 15 <= scaled_mask.shape[0] <= 62
        sizes.add(tuple(scaled_mask.shape))
    assert len(sizes) > 10


def test_scale_reads_labels_at_the_centre_of_a_cell():
    labels = torch.tensor([[0, 1, 2, 3, 4, 5]], dtype=torch.uint8)
    _, half = RandomScale(1 / 3, 1 / 3)(tv_tensors.Image(labels.expand(3, 3, 6)), tv_tensors.Mask(labels.expand(3, 6)))
    assert half.tolist() == [[1, 4]] * 2  # the corner would be 0 and 3


def test_scale_keeps_at_least_two_pixels():
    image, mask = RandomScale(0.01, 0.01)(*pair(12, 16))
    assert tuple(mask.shape) == (2, 2)
    assert tuple(image.shape) == (3, 2, 2)


def test_rotation_pads_the_mask_with_255_and_the_image_with_0():
    image, mask = pair(20, 20)
    image, mask = tv_tensors.Image(torch.full_like(image, 200)), tv_tensors.Mask(torch.full_like(mask, 1))
    torch.manual_seed(3)
    turned, turned_mask = RandomRotate(45)(image, mask)
    assert turned_mask.shape == mask.shape
    assert set(turned_mask.unique().tolist()) == {1, 255}
    assert turned[:, 0, 0].tolist() == [0, 0, 0]
    outside = turned_mask == 255
    assert (turned[0][~outside] >= 50).all()  # nearest and bilinear part by half a pixel at the border
    assert (turned[0][outside] <= 150).all()


def test_rotation_moves_image_and_mask_together():
    region = torch.zeros(21, 21, dtype=torch.uint8)
    region[3:8, 12:18] = 1
    turned, turned_mask = RandomRotate(90)(tv_tensors.Image(255 * region.expand(3, -1, -1)), tv_tensors.Mask(region))
    assert ((turned[0] > 127) == (turned_mask == 1)).float().mean() > 0.97


@pytest.mark.parametrize("transform", [ColorJitter(0.5, 0.5, 0.5, 0.2), RandomBlur(p=1)])
@pytest.mark.parametrize("channels", [1, 3])
def test_appearance_changes_the_image_alone(transform, channels):
    image, mask = pair(channels=channels)
    changed, same = transform(image, mask)
    assert torch.equal(same, mask)
    assert changed.shape == image.shape
    assert changed.dtype == torch.uint8
    assert not torch.equal(changed, image)


def test_blur_of_a_tiny_image():
    image, _ = RandomBlur(p=1, low=2, high=2)(*pair(1, 3))
    assert tuple(image.shape) == (3, 1, 3)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RandomScale(0, 1), "RandomScale: low and high must satisfy 0 < low <= high, got 0 and 1"),
        (lambda: RandomScale(2, 1), "RandomScale: low and high must satisfy 0 < low <= high, got 2 and 1"),
        (lambda: RandomFlip(1.5), "RandomFlip: p must be 0 … 1, got 1.5"),
        (lambda: RandomRotate(-1), "RandomRotate: degrees must be 0 … 180, got -1"),
        (lambda: ColorJitter(hue=0.6), "ColorJitter: hue must be 0 … 0.5, got 0.6"),
        (lambda: ColorJitter(brightness=-1), "ColorJitter: brightness must be 0 … inf, got -1"),
        (lambda: RandomBlur(p=-1), "RandomBlur: p must be 0 … 1, got -1"),
        (lambda: RandomBlur(low=0), "RandomBlur: low and high must satisfy 0 < low <= high, got 0 and 2.0"),
    ],
)
def test_mistakes(make, message):
    with pytest.raises(ValueError, match=r"^\w+: ") as error:
        make()
    assert str(error.value) == message
