import pytest
import torch
import torch.nn.functional as F
from torch import nn

from kd.networks.layers import (
    ASPP,
    AttentionGate,
    Heads,
    Normalize,
    PooledBatchNorm2d,
    PyramidPooling,
    ResidualSE,
    SeparableConv,
    SqueezeExcite,
    group_norm,
    upsample_to,
)


def parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_normalize_is_torchvisions_for_three_channels() -> None:
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    images = torch.rand(2, 3, 4, 5)
    expected = (images - mean[:, None, None]) / std[:, None, None]
    torch.testing.assert_close(Normalize(3)(images), expected)


@pytest.mark.parametrize(("channels", "mean", "std"), [(1, 0.449, 0.226), (2, 0.5, 0.25), (5, 0.5, 0.25)])
def test_normalize_for_other_channels(channels: int, mean: float, std: float) -> None:
    images = torch.rand(2, channels, 4, 5)
    torch.testing.assert_close(Normalize(channels)(images), (images - mean) / std)


def test_normalize_stays_float32_under_autocast() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        assert Normalize(3)(torch.rand(1, 3, 4, 4, dtype=torch.bfloat16)).dtype == torch.float32


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
    assert (norm.running_mean == 2).all()  # one value is no news
    result.sum().backward()
    assert norm.weight.grad is not None
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        nn.BatchNorm2d(4)(x)


def test_upsample_to_equals_interpolate() -> None:
    maps, like = torch.rand(1, 2, 5, 7), torch.rand(1, 3, 9, 14)
    expected = F.interpolate(maps, (9, 14), mode="bilinear", align_corners=False)
    assert torch.equal(upsample_to(maps, like), expected)
    assert upsample_to(like, like) is like


def test_aspp_branches_and_count() -> None:
    aspp = ASPP(16, 8, (2, 3)).eval()
    assert aspp(torch.rand(2, 16, 9, 11)).shape == (2, 8, 9, 11)
    one = 16 * 8 + 16  # 1×1 and BatchNorm
    assert parameters(aspp) == 2 * one + 2 * (16 * 8 * 9 + 16) + (4 * 8 * 8 + 16)
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


def test_heads_average_and_show_each_member() -> None:
    heads = Heads(8, 3, heads=3).eval()
    logits, members = heads(torch.rand(2, 8, 5, 5))
    assert list(members) == ["head1", "head2", "head3"]
    torch.testing.assert_close(logits, (members["head1"] + members["head2"] + members["head3"]) / 3)
    assert [member[0].p for member in heads.members] == [0.10, 0.15, 0.20]


def test_a_single_head_has_no_members() -> None:
    logits, members = Heads(8, 3)(torch.rand(2, 8, 5, 5))
    assert logits.shape == (2, 3, 5, 5)
    assert members == {}


def test_heads_refuse_two() -> None:
    with pytest.raises(ValueError, match=r"^heads: 2 is not possible; choose 1 or 3$"):
        Heads(8, 3, heads=2)


def test_squeeze_excite_by_hand() -> None:
    layer = SqueezeExcite(32, 16)
    x = torch.rand(2, 32, 4, 4)
    _, first, _, second, _ = layer.weigh
    hidden = F.relu(x.mean((2, 3)) @ first.weight[:, :, 0, 0].T + first.bias)
    weights = torch.sigmoid(hidden @ second.weight[:, :, 0, 0].T + second.bias)
    torch.testing.assert_close(layer(x), x * weights[:, :, None, None])


def test_squeeze_excite_keeps_one_channel_between() -> None:
    assert parameters(SqueezeExcite(8, 16)) == 8 + 1 + 8 + 8


@pytest.mark.parametrize(("depthwise_norm", "extra"), [(False, 0), (True, 2 * 6)])
def test_separable_conv_count(depthwise_norm: bool, extra: int) -> None:
    layer = SeparableConv(6, 10, depthwise_norm=depthwise_norm)
    assert parameters(layer) == 6 * 9 + 6 * 10 + 2 * 10 + extra
    assert layer(torch.rand(2, 6, 5, 7)).shape == (2, 10, 5, 7)


def test_residual_se_adds_its_shortcut() -> None:
    block = ResidualSE(6, 16).eval()
    with torch.no_grad():
        block.residual[2].weight.zero_()
        x = torch.rand(2, 6, 5, 5)
        assert torch.equal(block(x), F.relu(block.shortcut(x)))


def test_attention_gate_scales_every_channel_of_a_pixel_alike() -> None:
    gate = AttentionGate(6, 4, 5).eval()
    skip = torch.rand(2, 4, 3, 3) + 0.1
    share = gate(torch.randn(2, 6, 3, 3), skip) / skip
    torch.testing.assert_close(share, share[:, :1].expand_as(share))
    assert ((share > 0) & (share < 1)).all()


def test_pyramid_pooling_keeps_the_map_and_adds_its_averages() -> None:
    pyramid = PyramidPooling(16)
    x = torch.rand(1, 16, 7, 9)
    result = pyramid(x)  # one image in training mode: the 1×1 bin holds one value per channel
    assert result.shape == (1, 32, 7, 9)
    assert torch.equal(result[:, :16], x)
