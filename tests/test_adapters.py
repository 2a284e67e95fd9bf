import pytest
import torch

from kd.adapters import Conv1x1, ConvNormAct, Identity


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
    # A standard normal's positive part has mean 1/√(2π) and mean square 1/2; batch statistics fix the latter's scale.
    assert 0.3 < result.mean() < 0.5
    assert 0.35 < result.square().mean() < 0.65


@pytest.mark.parametrize("size", [0, 2, -1])
def test_conv_norm_act_refuses_even_kernels(size: int) -> None:
    with pytest.raises(ValueError, match=f"kernel_size is {size}; it must be odd"):
        ConvNormAct(3, 5, kernel_size=size)
