from typing import NamedTuple

import torch
from torch import nn

from kd.evaluate import full_size, predict, reestimate_batchnorm, score
from kd.metrics import confusion_matrix
from kd.precision import Precision
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
    assert result.confusion == [[pixels, 0], [0, pixels]]
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
