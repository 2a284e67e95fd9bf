import pytest
from torch import nn
from torchvision.models import ResNet18_Weights, resnet18

from kd.networks.arithmetic import count_macs


def test_macs_are_those_of_the_convolutions():
    network = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 4, 3, stride=2, padding=1, groups=4))
    expected = 8 * 3 * 9 * 16 * 24 + 4 * 2 * 9 * 8 * 12
    assert count_macs(network, (16, 24)) == expected
    assert all(parameter.device.type == "cpu" for parameter in network.parameters())


def test_macs_of_a_network_are_the_published_ones():
    weights = ResNet18_Weights.IMAGENET1K_V1  # its card gives 1.814 (billions, at 224×224)
    assert count_macs(resnet18(weights=None), (224, 224)) == pytest.approx(weights.meta["_ops"] * 1e9, rel=1e-3)
