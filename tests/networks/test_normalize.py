import pytest
import torch

from kd.networks.normalize import Normalize, Preprocess

BGR = Preprocess("bgr", 255.0, (104.0, 117.0, 123.0), (1.0, 2.0, 4.0))


def test_the_default_for_three_channels_is_torchvisions() -> None:
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    images = torch.rand(2, 3, 4, 5)
    expected = (images - mean[:, None, None]) / std[:, None, None]
    torch.testing.assert_close(Normalize(3)(images), expected)


@pytest.mark.parametrize(("channels", "mean", "std"), [(1, 0.449, 0.226), (2, 0.5, 0.25), (5, 0.5, 0.25)])
def test_the_default_for_other_channels(channels: int, mean: float, std: float) -> None:
    images = torch.rand(2, channels, 4, 5)
    torch.testing.assert_close(Normalize(channels)(images), (images - mean) / std)


def test_it_stays_float32_under_autocast() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        assert Normalize(3)(torch.rand(1, 3, 4, 4, dtype=torch.bfloat16)).dtype == torch.float32


@pytest.mark.parametrize("name", ["mean", "std"])
def test_one_number_per_channel(name: str) -> None:
    with pytest.raises(ValueError, match=rf"^{name}: 2 numbers for 3 channels; give one per channel$"):
        Normalize(3, **{name: [0.5, 0.5]})


def test_order_scale_mean_and_std_by_hand() -> None:
    images = torch.rand(2, 3, 4, 5)
    expected = (255 * images[:, [2, 1, 0]] - torch.tensor(BGR.mean)[:, None, None]) / torch.tensor(BGR.std)[
        :, None, None
    ]
    torch.testing.assert_close(Normalize(3, BGR.mean, BGR.std, order="bgr", scale=255)(images), expected)
    torch.testing.assert_close(BGR.apply(images), expected)
    torch.testing.assert_close(BGR.undo(expected), images)


def test_a_layer_reports_its_form_as_loaded() -> None:
    layer = Normalize(3, BGR.mean, BGR.std, order="bgr", scale=255)
    assert layer.preprocess == BGR
    layer.load_state_dict({"mean": layer.mean + 1, "std": layer.std})
    assert layer.preprocess == BGR._replace(mean=(105.0, 118.0, 124.0))


def test_a_form_is_written_as_in_a_recipe() -> None:
    assert str(BGR) == "preprocess: {order: bgr, scale: 255, mean: [104, 117, 123], std: [1, 2, 4]}"
