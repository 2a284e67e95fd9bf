"""Large images in tiles: as one pass where the network sees a limited part of the image, and in little memory."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from kd.deploy.prediction.tiles import ALIGNED, _places, differing, predict_tiles, tile_size

TILE = (64, 96)


class Local(nn.Module):
    """Logits of three classes at stride 8; a cell sees 37 pixels."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Conv2d(3, 4, 9, 4, 4), nn.ReLU(), nn.Conv2d(4, 3, 3, 2, 1))
        self.sizes = []

    def forward(self, images):
        self.sizes.append(tuple(images.shape))
        with torch.no_grad():
            return self.layers(images.float() / 255 - 0.5)


class Global(Local):
    """The same, with the mean of the image added."""

    def forward(self, images):
        return super().forward(images) + 3 * (images.float().mean((2, 3), keepdim=True) / 255 - 0.5)


def image(height, width):
    """Noise with blobs, brighter to the right."""
    generator = torch.Generator().manual_seed(1)
    small = torch.rand(1, 3, height // 8 + 1, width // 8 + 1, generator=generator)
    large = nn.functional.interpolate(small, (height, width), mode="bilinear")[0]
    return ((large * 0.7 + 0.3 * torch.linspace(0, 1, width)) * 255).to(torch.uint8)


@pytest.mark.parametrize(
    "size", [(128, 192), (256, 96), (131, 227), (64, 96), (97, 100)]
)  # the last ones are continued beyond their edges
def test_tiles_agree_with_one_pass(size):
    network, pixels = Local(), image(*size)
    tiled, shares = predict_tiles(network, pixels, TILE, batch=3, probabilities=True)
    assert {sizes[2:] for sizes in network.sizes} == {TILE}  # for a file of one size too
    assert max(sizes[0] for sizes in network.sizes) <= 3
    whole, expected = predict_tiles(network, pixels, tile_size(size), batch=1, probabilities=True)
    assert (tiled != whole).mean() <= 0.005
    assert np.abs(shares.astype(np.float32) - expected.astype(np.float32)).max() < 0.05
    assert (shares.argmax(0) == tiled).mean() > 0.99  # but for ties in float16


def test_one_tile_is_one_pass():
    network, pixels = Local(), image(64, 96)
    classes, shares = predict_tiles(network, pixels, TILE, batch=2, probabilities=False)
    logits = nn.functional.interpolate(network(pixels[None]), TILE, mode="bilinear")[0]
    assert (classes == logits.argmax(0).numpy()).mean() > 0.999
    assert shares is None


@pytest.mark.parametrize("length", [10, 64, 65, 96, 127, 128, 129, 1000])
def test_every_pixel_is_in_one_tile_and_far_from_its_edge(length):
    places = _places(length, 64)
    taken = [pixel for place in places for pixel in range(place.first, place.end)]
    assert taken == list(range(length))
    for place in places:
        assert place.start % ALIGNED == 0
        assert 0 <= place.first - place.start < place.end - place.start <= 64
        assert place.first == 0 or place.first - place.start >= 16
        assert place.end == length or place.start + 64 - place.end >= 16


def test_the_share_that_differs_is_measured():
    pixels = image(300, 400)
    share, size = differing(Local(), pixels, TILE, batch=2)
    assert size == (128, 192)
    assert share <= 0.005
    assert differing(Global(), pixels, TILE, batch=2)[0] > 0.01
    assert differing(Global(), pixels[:, :50, :90], TILE, batch=2) == (0.0, (50, 90))


@pytest.mark.slow
def test_ten_thousand_by_ten_thousand():
    """Memory: the image and its classes, and nothing that grows with both pixels and classes."""
    program = """
import resource, torch
from kd.deploy.prediction.tiles import predict_tiles
def predict(images):
    return torch.zeros(len(images), 4, 128, 128)
predict_tiles(predict, torch.zeros(3, 1024, 1024, dtype=torch.uint8), (1024, 1024), batch=2, probabilities=False)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
image = torch.zeros(3, 10_000, 10_000, dtype=torch.uint8)
classes, _ = predict_tiles(predict, image, (1024, 1024), batch=2, probabilities=False)
assert classes.shape == (10_000, 10_000)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 600  # MB: the image has 300, the classes 100; all logits would be 1,600
