import pytest
import torch
import torchvision
from torch import nn

from kd.networks.backbones import mobilenet_v2, mobilenet_v3_large, mobilenet_v3_small, resnet


@pytest.mark.parametrize(("name", "output_stride"), [("resnet18", 8), ("resnet18", 16), ("resnet50", 8)])
def test_a_dilated_resnet_has_the_values_of_the_strided_one(name: str, output_stride: int) -> None:
    """Dilation instead of stride adds cells in between; the cells of the strided network keep their values."""
    strided, dilated = resnet(name, 3), resnet(name, 3, output_stride)
    dilated.load_state_dict(strided.state_dict())
    images = torch.rand(1, 3, 65, 96)
    with torch.no_grad():
        coarse, fine = strided.eval()(images)["layer4"], dilated.eval()(images)["layer4"]
    step = 32 // output_stride
    torch.testing.assert_close(fine[..., ::step, ::step], coarse, rtol=1e-4, atol=1e-4)


def test_dilation_equals_torchvisions_for_bottlenecks() -> None:
    with torch.device("meta"):
        reference = torchvision.models.resnet50(weights=None, replace_stride_with_dilation=[False, True, True])
        ours = resnet("resnet50", 3, 8)
    modules = dict(reference.named_modules())
    for name, module in ours.named_modules():
        if isinstance(module, nn.Conv2d):
            conv = modules[name]
            assert (module.stride, module.dilation, module.padding) == (conv.stride, conv.dilation, conv.padding), name


def test_dilated_basic_blocks() -> None:
    backbone = resnet("resnet18", 3, 8)
    spread = {
        name: (module.stride[0], module.dilation[0])
        for name, module in backbone.named_modules()
        if isinstance(module, nn.Conv2d) and module.kernel_size == (3, 3) and name.startswith(("layer3", "layer4"))
    }
    assert spread == {
        "layer3.0.conv1": (1, 1),
        "layer3.0.conv2": (1, 2),
        "layer3.1.conv1": (1, 2),
        "layer3.1.conv2": (1, 2),
        "layer4.0.conv1": (1, 2),
        "layer4.0.conv2": (1, 4),
        "layer4.1.conv1": (1, 4),
        "layer4.1.conv2": (1, 4),
    }


def test_unknown_backbone_and_stride() -> None:
    with pytest.raises(
        ValueError, match=r"^backbone: must be one of resnet18, resnet34, resnet50, resnet101, got 'vgg'$"
    ):
        resnet("vgg", 3)
    with pytest.raises(ValueError, match=r"^output_stride: must be 8, 16 or 32, got 4$"):
        mobilenet_v2(3, 4)


@pytest.mark.parametrize("build", [mobilenet_v3_small, mobilenet_v3_large])
def test_mobilenet_v3_has_batch_norm_momentum_for_short_training(build: object) -> None:
    with torch.device("meta"):
        backbone = build(3)
    norms = [module for module in backbone.modules() if isinstance(module, nn.BatchNorm2d)]
    assert {norm.momentum for norm in norms} == {0.1}
    assert {norm.eps for norm in norms} == {0.001}


def test_mobilenet_v3_small_options() -> None:
    with torch.device("meta"):
        half = mobilenet_v3_small(3, width=0.5, activation="relu6")
        assert not any(isinstance(module, nn.Hardswish) for module in half.modules())
        assert any(isinstance(module, nn.ReLU6) for module in half.modules())
        assert half.taps["encoder"].channels == 288
    with pytest.raises(ValueError, match=r"^width: must be above 0, got 0; 1\.0 is the published network$"):
        mobilenet_v3_small(3, width=0)
    with pytest.raises(ValueError, match=r"^activation: must be hardswish or relu6, got 'gelu'$"):
        mobilenet_v3_small(3, activation="gelu")


@pytest.mark.parametrize(
    ("build", "published"),
    [
        (lambda: resnet("resnet34", 3), lambda: torchvision.models.resnet34()),
        (lambda: mobilenet_v2(3, expanded=True), lambda: torchvision.models.mobilenet_v2().features),
        (lambda: mobilenet_v3_small(3), lambda: torchvision.models.mobilenet_v3_small().features),
        (lambda: mobilenet_v3_large(3), lambda: torchvision.models.mobilenet_v3_large().features),
    ],
)
def test_names_are_torchvisions(build: object, published: object) -> None:
    with torch.device("meta"):
        state, expected = build().state_dict(), published().state_dict()
    assert {name: t.shape for name, t in state.items()} == {
        name: t.shape for name, t in expected.items() if not name.startswith("fc.")
    }
