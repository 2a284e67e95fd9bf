import torch
from torch import nn

from kd.networks.context import ASPP, PyramidPooling
from kd.networks.layers import PooledBatchNorm2d, group_norm
from kd.types import parameter_count


def test_aspp_branches_and_count() -> None:
    aspp = ASPP(16, 8, (2, 3)).eval()
    assert aspp(torch.rand(2, 16, 9, 11)).shape == (2, 8, 9, 11)
    pointwise = 16 * 8 + 16  # 1×1 and BatchNorm
    assert parameter_count(aspp) == 2 * pointwise + 2 * (16 * 8 * 9 + 16) + (4 * 8 * 8 + 16)
    assert [branch[0].dilation[0] for branch in aspp.branches] == [1, 2, 3]
    assert isinstance(aspp.pooling[1][1], PooledBatchNorm2d)


def test_aspp_pooling_branch_sees_the_whole_map() -> None:
    aspp = ASPP(4, 4, (1,)).eval()
    x = torch.rand(1, 4, 20, 20, requires_grad=True)
    aspp(x)[0, :, 0, 0].sum().backward()
    assert x.grad is not None
    assert (x.grad[0, :, -1, -1] != 0).any()


def test_aspp_with_group_norm_has_no_batch_norm() -> None:
    aspp = ASPP(8, 64, norm=group_norm)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in aspp.modules())
    assert aspp(torch.rand(1, 8, 6, 6)).shape == (1, 64, 6, 6)


def test_pyramid_pooling_keeps_the_map_and_adds_its_averages() -> None:
    pyramid = PyramidPooling(16)
    x = torch.rand(1, 16, 7, 9)
    result = pyramid(x)  # one image in training mode: the 1×1 bin holds one value per channel
    assert result.shape == (1, 32, 7, 9)
    assert torch.equal(result[:, :16], x)
