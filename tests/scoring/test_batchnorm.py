"""The statistics of BatchNorm, estimated again."""

import torch
from painted import CPU
from torch import nn

from kd.scoring import reestimate_batchnorm


def test_batchnorm_is_reestimated_from_the_batches_alone():
    network = nn.Sequential(nn.BatchNorm2d(3, momentum=0.01))
    network[0].running_mean.fill_(7.0)
    images = torch.full((4, 3, 2, 2), 51, dtype=torch.uint8)
    reestimate_batchnorm(network, iter([images, images]), CPU)
    assert torch.allclose(network[0].running_mean, torch.full((3,), 0.2))
    assert network[0].momentum == 0.01


def test_a_frozen_part_keeps_its_statistics_when_batchnorm_is_reestimated():
    network = nn.Sequential(nn.BatchNorm2d(3), nn.BatchNorm2d(3))
    network[0].running_mean.fill_(0.2)
    network[0].eval()
    images = torch.full((4, 3, 2, 2), 51, dtype=torch.uint8)
    reestimate_batchnorm(network, iter([images, images]), CPU)
    assert torch.equal(network[0].running_mean, torch.full((3,), 0.2))
    assert network[1].running_mean.abs().max() < 1e-6
    assert (network[0].training, network[1].training) == (False, True)
