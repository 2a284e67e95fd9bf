import pytest
import torch

from kd.adapters import MLP, Conv1x1, ConvNormAct, Identity, MaskedGenerator


def test_identity_refuses_to_change_channels() -> None:
    with pytest.raises(ValueError) as error:  # noqa: PT011  # the whole text is compared below
        Identity(16, 24)
    assert str(error.value) == "Identity: the student has 16 channels, the teacher 24; use kd.adapters.Conv1x1"


def test_conv1x1_is_a_matrix_product_at_each_pixel() -> None:
    adapter, features = Conv1x1(3, 5, bias=True), torch.randn(2, 3, 4, 6)
    matrix = adapter.conv.weight[:, :, 0, 0]
    by_hand = torch.einsum("oc,nchw->nohw", matrix, features) + adapter.conv.bias[:, None, None]
    torch.testing.assert_close(adapter(features), by_hand)


def test_conv1x1_has_no_bias_unless_asked() -> None:
    assert [name for name, _ in Conv1x1(3, 5).named_parameters()] == ["conv.weight"]


def test_conv_norm_act_is_normalised_and_rectified() -> None:
    features = 3 + torch.randn(4, 3, 8, 8)
    result = ConvNormAct(3, 5, kernel_size=3)(features)
    assert result.min() == 0
    # The positive part of a standard normal has mean 1/√(2π) and mean square 1/2, which batch statistics ensure.
    assert 0.3 < result.mean() < 0.5
    assert 0.35 < result.square().mean() < 0.65


@pytest.mark.parametrize("size", [0, 2, -1])
def test_conv_norm_act_refuses_even_kernels(size: int) -> None:
    with pytest.raises(ValueError, match=f"kernel_size is {size}; it must be odd"):
        ConvNormAct(3, 5, kernel_size=size)


def test_mlp_is_two_matrix_products_around_norm_and_relu() -> None:
    adapter, features = MLP(3, 5, hidden_channels=4), torch.randn(2, 3, 4, 6)
    hidden = torch.einsum("oc,nchw->nohw", adapter.first.weight[:, :, 0, 0], features)
    deviation, mean = torch.std_mean(hidden, (0, 2, 3), correction=0, keepdim=True)
    hidden = ((hidden - mean) / (deviation.square() + 1e-5).sqrt()).clamp(min=0)
    by_hand = torch.einsum("oc,nchw->nohw", adapter.second.weight[:, :, 0, 0], hidden)
    torch.testing.assert_close(adapter(features), by_hand + adapter.second.bias[:, None, None])
    assert MLP(3, 5).first.weight.shape == (5, 3, 1, 1)


def test_generator_does_not_read_hidden_positions() -> None:
    adapter, features = MaskedGenerator(3, 5), torch.randn(2, 3, 6, 6, requires_grad=True)
    shown = torch.rand(2, 1, 6, 6) < 0.5
    (gradient,) = torch.autograd.grad(adapter(features, shown).square().sum(), features)
    assert not gradient[~shown.expand_as(gradient)].any()
    assert gradient[shown.expand_as(gradient)].any()


def test_generator_hides_the_given_share_without_scaling() -> None:
    adapter = MaskedGenerator(4, 4, hide=0.75)
    adapter.generator = torch.nn.Identity()
    features = torch.full((4, 4, 40, 40), 3.0)
    torch.manual_seed(0)
    result = adapter(features)
    assert set(result.unique().tolist()) == {0.0, 3.0}
    assert torch.equal(result, result[:, :1].expand_as(result))  # a position is hidden in all channels
    assert (result == 0).float().mean().item() == pytest.approx(0.75, abs=0.03)  # 6400 draws: 5 deviations
    torch.testing.assert_close(adapter.eval()(features), features)


def test_generator_aligns_channels_only_where_they_differ() -> None:
    assert not list(MaskedGenerator(4, 4).align.parameters())
    assert MaskedGenerator(4, 6).align.weight.shape == (6, 4, 1, 1)


def test_generator_can_be_narrow() -> None:
    wide, narrow = (
        sum(p.numel() for p in MaskedGenerator(4, 64, hidden_channels=hidden).parameters()) for hidden in (None, 8)
    )
    assert narrow < wide / 6


@pytest.mark.parametrize("hide", [1.0, -0.1])
def test_hide_is_below_one(hide: float) -> None:
    with pytest.raises(ValueError, match=rf"hide is {hide}; it must be in \[0, 1\)"):
        MaskedGenerator(4, 4, hide)


@pytest.mark.parametrize("adapter", [MLP, MaskedGenerator])
def test_hidden_channels_are_at_least_one(adapter: type) -> None:
    with pytest.raises(ValueError, match="hidden_channels is 0; it must be at least 1"):
        adapter(4, 4, hidden_channels=0)
