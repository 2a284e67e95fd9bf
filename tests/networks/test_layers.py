import pytest
import torch
import torch.nn.functional as F
from torch import nn

from kd.networks.layers import PooledBatchNorm2d, ResidualSE, SeparableConv, SqueezeExcite, upsample_to
from kd.types import parameter_count


def test_pooled_batch_norm_is_batch_norm_where_that_works() -> None:
    pooled, plain = PooledBatchNorm2d(4), nn.BatchNorm2d(4)
    x = torch.randn(3, 4, 1, 1)
    assert torch.equal(pooled(x), plain(x))
    assert torch.equal(pooled.running_var, plain.running_var)
    assert pooled.state_dict().keys() == plain.state_dict().keys()
    assert torch.equal(pooled.eval()(x), plain.eval()(x))


def test_pooled_batch_norm_uses_running_statistics_for_one_value() -> None:
    norm = PooledBatchNorm2d(4)
    norm.running_mean.fill_(2.0)
    norm.running_var.fill_(4.0)
    x = torch.randn(1, 4, 1, 1, requires_grad=True)
    result = norm(x)
    torch.testing.assert_close(result, (x - 2) / (4 + norm.eps) ** 0.5)
    assert (norm.running_mean == 2).all()  # one value does not update the statistics
    result.sum().backward()
    assert norm.weight.grad is not None
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        nn.BatchNorm2d(4)(x)


def test_upsample_to_equals_interpolate() -> None:
    maps, reference = torch.rand(1, 2, 5, 7), torch.rand(1, 3, 9, 14)
    expected = F.interpolate(maps, (9, 14), mode="bilinear", align_corners=False)
    assert torch.equal(upsample_to(maps, reference), expected)
    assert upsample_to(reference, reference) is reference


def test_squeeze_excite_by_hand() -> None:
    layer = SqueezeExcite(32, 16)
    x = torch.rand(2, 32, 4, 4)
    _, first, _, second, _ = layer.weigh
    hidden = F.relu(x.mean((2, 3)) @ first.weight[:, :, 0, 0].T + first.bias)
    weights = torch.sigmoid(hidden @ second.weight[:, :, 0, 0].T + second.bias)
    torch.testing.assert_close(layer(x), x * weights[:, :, None, None])


def test_squeeze_excite_has_at_least_one_hidden_channel() -> None:
    assert parameter_count(SqueezeExcite(8, 16)) == 8 + 1 + 8 + 8


@pytest.mark.parametrize(("depthwise_norm", "extra"), [(False, 0), (True, 2 * 6)])
def test_separable_conv_count(depthwise_norm: bool, extra: int) -> None:
    layer = SeparableConv(6, 10, depthwise_norm=depthwise_norm)
    assert parameter_count(layer) == 6 * 9 + 6 * 10 + 2 * 10 + extra
    assert layer(torch.rand(2, 6, 5, 7)).shape == (2, 10, 5, 7)


def test_residual_se_adds_its_shortcut() -> None:
    block = ResidualSE(6, 16).eval()
    with torch.no_grad():
        block.residual[2].weight.zero_()
        x = torch.rand(2, 6, 5, 5)
        assert torch.equal(block(x), F.relu(block.shortcut(x)))
