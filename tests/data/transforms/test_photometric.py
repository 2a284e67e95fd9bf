import pytest
import torch
from torchvision import tv_tensors

from kd.data import ColorJitter, RandomBlur


def pair(height=12, width=16, channels=3):
    mask = torch.arange(height * width).reshape(height, width).remainder(200).to(torch.uint8)
    return tv_tensors.Image(mask.expand(channels, -1, -1).clone()), tv_tensors.Mask(mask)


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


def edge(width):
    """Black, then white from the middle on."""
    return (250 * (torch.arange(width) >= width // 2)).to(torch.uint8).expand(3, 64, -1).clone()


@pytest.mark.parametrize("scale", [1.0, 1.5, 2.0])
def test_a_blur_is_as_wide_in_both_images(scale):
    """The steps of a blurred edge are a Gaussian: its standard deviation is `scale` times the one of the image."""
    steps = RandomBlur(p=1, low=2, high=2).draw_change()(edge(64), scale)[0, 32].float().diff()
    places = torch.arange(1.0, 64)
    mean = (steps * places).sum() / 250
    assert ((steps * (places - mean) ** 2).sum() / 250).sqrt() == pytest.approx(2 * scale, abs=0.1)


def test_a_jitter_gives_one_colour_the_same_in_both_images():
    small = torch.tensor([[90], [140], [60]], dtype=torch.uint8)[..., None].expand(3, 4, 4).clone()
    found = set()
    for _ in range(20):
        change = ColorJitter(0.5, 0.5, 0.5, 0.2).draw_change()
        one, other = change(small, 1.0), change(small.repeat(1, 3, 3), 3.0)
        assert torch.equal(one.repeat(1, 3, 3), other)
        found.add(tuple(one[:, 0, 0].tolist()))
    assert len(found) > 15


def test_jitter_happens_with_its_probability():
    image, mask = pair(4, 4)
    jitter = ColorJitter(p=0.25)
    changed = sum(not torch.equal(jitter(image, mask)[0], image) for _ in range(400))
    assert 60 < changed < 140  # 100 ± 4.6 standard deviations


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ColorJitter(hue=0.6), "ColorJitter: hue must be 0 … 0.5, got 0.6"),
        (lambda: ColorJitter(brightness=-1), "ColorJitter: brightness must be 0 … inf, got -1"),
        (lambda: ColorJitter(p=2), "ColorJitter: p must be 0 … 1, got 2"),
        (lambda: RandomBlur(p=-1), "RandomBlur: p must be 0 … 1, got -1"),
        (lambda: RandomBlur(low=0), "RandomBlur: low and high must satisfy 0 < low <= high, got 0 and 2.0"),
    ],
)
def test_mistakes(make, message):
    with pytest.raises(ValueError, match=r"^\w+: ") as error:
        make()
    assert str(error.value) == message
