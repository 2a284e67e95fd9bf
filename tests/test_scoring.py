from itertools import pairwise
from typing import NamedTuple

import pytest
import torch
from torch import nn

from kd.machine import Precision
from kd.metrics import confusion_matrix
from kd.recipe import EvaluateConfig
from kd.scoring import _starts, full_size, predict, reestimate_batchnorm, score, score_beside
from kd.types import Sample, SegmentationOutput

CPU = Precision(torch.device("cpu"), torch.float32, torch.contiguous_format)


class Painted(NamedTuple):
    """Three images whose red channel says the class; label maps of different sizes."""

    class_names: tuple[str, ...] = ("dark", "bright")
    colors: tuple[tuple[int, int, int], ...] = ((0, 0, 0), (255, 255, 255))
    in_channels: int = 3

    def __len__(self):
        return 3

    def __getitem__(self, key):
        index, _ = key
        height = 8 * (index + 1)
        image = torch.zeros(3, height, 8, dtype=torch.uint8)
        image[0, :, 4:] = 255
        labels = torch.zeros(height, 8, dtype=torch.uint8)
        labels[:, 4:] = 1
        labels[0] = 255
        return Sample(image, labels, f"image {index}")


class Red(nn.Module):
    """Says "bright" where red is above a half."""

    def __init__(self):
        super().__init__()
        self.frozen = nn.BatchNorm2d(3).eval()
        self.norm = nn.BatchNorm2d(3)
        self.was_training = None

    def forward(self, images):
        self.was_training = self.norm.training
        return SegmentationOutput(images[:, :1] - 0.5, {}, {})


def test_the_score_is_taken_at_each_label_maps_own_size():
    network = Red()
    network.frozen.eval()
    result = score(network, Painted(), size=(16, 8), precision=CPU, batch_size=2)
    pixels = (8 + 16 + 24 - 3) * 4
    assert result.confusion.tolist() == [[pixels, 0], [0, pixels]]
    assert (result.classes, result.images) == (["dark", "bright"], 3)
    assert network.was_training is False


def test_training_modes_come_back_one_by_one():
    network = Red()
    network.frozen.eval()
    score(network, Painted(), size=(16, 8), precision=CPU)
    assert (network.norm.training, network.frozen.training) == (True, False)


def test_scoring_draws_no_random_numbers():
    before = torch.get_rng_state()
    score(Red(), Painted(), size=(16, 8), precision=CPU)
    assert torch.equal(before, torch.get_rng_state())


def test_predictions_have_two_classes_and_any_size():
    logits = predict(Red(), Painted()[0, 0].image[None], CPU)
    assert logits.shape == (1, 2, 8, 8)
    assert full_size(logits[0], (16, 16)).shape == (16, 16)
    labels = full_size(logits[0], (8, 8))
    assert confusion_matrix(labels, labels, 2).tolist() == [[32, 0], [0, 32]]


def test_batchnorm_is_reestimated_from_the_batches_alone():
    network = nn.Sequential(nn.BatchNorm2d(3, momentum=0.01))
    network[0].running_mean.fill_(7.0)
    images = torch.full((4, 3, 2, 2), 51, dtype=torch.uint8)
    reestimate_batchnorm(network, iter([images, images]), CPU)
    assert torch.allclose(network[0].running_mean, torch.full((3,), 0.2))
    assert network[0].momentum == 0.01


def test_what_rests_keeps_its_statistics_when_batchnorm_is_reestimated():
    network = nn.Sequential(nn.BatchNorm2d(3), nn.BatchNorm2d(3))
    network[0].running_mean.fill_(0.2)
    network[0].eval()
    images = torch.full((4, 3, 2, 2), 51, dtype=torch.uint8)
    reestimate_batchnorm(network, iter([images, images]), CPU)
    assert torch.equal(network[0].running_mean, torch.full((3,), 0.2))
    assert network[1].running_mean.abs().max() < 1e-6
    assert (network[0].training, network[1].training) == (False, True)


class Where(nn.Module):
    """Two classes from one convolution; sees where a pixel lies in what it is given, and keeps the sizes of it."""

    def __init__(self, *, left=0.0):
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 1)
        nn.init.normal_(self.conv.weight, std=3.0, generator=torch.Generator().manual_seed(0))
        self.left, self.sizes = left, []

    def forward(self, images):
        self.sizes.append(tuple(images.shape[-2:]))
        logits = self.conv(images)
        logits[:, 1] += self.left * torch.linspace(1, -1, images.shape[3])
        return SegmentationOutput(logits, {}, {})


IMAGES = torch.randint(0, 256, (2, 3, 40, 50), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)


def test_windows_of_a_network_that_looks_at_single_pixels_are_the_whole():
    network = Where()
    whole = predict(network, IMAGES, CPU).softmax(1)
    slid = predict(network, IMAGES, CPU, EvaluateConfig(window=(32, 32)))
    assert network.sizes == [(40, 50)] + [(32, 32)] * 4
    torch.testing.assert_close(slid.exp(), whole)


@pytest.mark.parametrize(("length", "window"), [(40, 32), (100, 32), (32, 32), (33, 32), (1000, 48)])
def test_windows_reach_from_edge_to_edge_and_overlap_by_a_third(length, window):
    starts = _starts(length, window)
    assert (starts[0], starts[-1] + window) == (0, length)
    assert all(0 < after - before <= window * 2 // 3 + 1 for before, after in pairwise(starts))


def test_a_window_larger_than_the_image_is_the_image():
    network = Where()
    predict(network, IMAGES, CPU, EvaluateConfig(window=(64, 64)))
    assert network.sizes == [(40, 50)]


def test_the_mirror_image_takes_away_what_depends_on_the_side():
    network = Where(left=2.0)
    found = predict(network, IMAGES, CPU, EvaluateConfig(flip=True)).exp()
    straight = predict(network, IMAGES, CPU).softmax(1)
    mirrored = predict(network, IMAGES.flip(3), CPU).softmax(1).flip(3)
    torch.testing.assert_close(found, (straight + mirrored) / 2)
    torch.testing.assert_close(predict(network, IMAGES.flip(3), CPU, EvaluateConfig(flip=True)).exp().flip(3), found)


def test_scales_are_averaged_as_probabilities_at_the_images_size():
    network = Where()
    found = predict(network, IMAGES, CPU, EvaluateConfig(scales=(0.5, 1.0)))
    assert network.sizes == [(20, 25), (40, 50)]
    assert found.shape == (2, 2, 40, 50)
    torch.testing.assert_close(found.exp().sum(1), torch.ones(2, 40, 50))
    same = predict(network, IMAGES, CPU, EvaluateConfig(scales=(1.0, 1.0))).exp()
    torch.testing.assert_close(same, predict(network, IMAGES, CPU).softmax(1))


def test_a_score_takes_window_scales_and_flip():
    network = Red()
    how = EvaluateConfig(window=(32, 32), scales=(1.0, 2.0), flip=True)
    result = score(network, Painted(), size=(16, 8), precision=CPU, how=how)
    assert result == score(network, Painted(), size=(16, 8), precision=CPU)


class AllBright(nn.Module):
    def forward(self, images):
        return SegmentationOutput(torch.ones_like(images[:, :1]), {}, {})


def test_agreement_is_the_score_with_the_teachers_classes_as_labels():
    right, alike = score_beside(Red(), AllBright(), Painted(), size=(16, 8), precision=CPU)
    assert right == score(Red(), Painted(), size=(16, 8), precision=CPU)
    pixels = (8 + 16 + 24 - 3) * 4  # each half of the labelled pixels
    assert alike.confusion.tolist() == [[0, 0], [pixels, pixels]]
    assert score_beside(Red(), Red(), Painted(), size=(16, 8), precision=CPU)[1] == right
    assert score_beside(Red(), None, Painted(), size=(16, 8), precision=CPU)[1] is None
