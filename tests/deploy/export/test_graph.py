"""What an exported file computes, before it is one."""

import pytest
import torch
from torch import nn

from kd.deploy.export.graph import FreePool, with_free_pools


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (6, 6), (None, 4), (5, None), (13, 9)])
@pytest.mark.parametrize("shape", [(6, 6), (7, 12), (13, 9), (3, 5)])  # cells may overlap, or be fewer than regions
def test_free_pooling_is_adaptive_pooling(size, shape):
    maps = torch.rand(2, 3, *shape)
    assert torch.allclose(FreePool(size)(maps), nn.AdaptiveAvgPool2d(size)(maps), atol=1e-6)


def test_pools_are_replaced_in_a_copy_where_they_are_not_global():
    network = nn.Sequential(
        nn.AdaptiveAvgPool2d(1), nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.AdaptiveAvgPool2d((1, 1)))
    )
    copied = with_free_pools(network)
    assert [type(module) for module in copied.modules() if not isinstance(module, nn.Sequential)] == [
        nn.AdaptiveAvgPool2d, FreePool, nn.AdaptiveAvgPool2d,
    ]  # fmt: skip
    assert copied[1][0].size == (4, 4)
    assert isinstance(network[1][0], nn.AdaptiveAvgPool2d)
