import copy
import re
from collections import OrderedDict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn

from kd.networks.weights import load_into
from kd.types import Tap
from teachers import Wrapped


class Foreign(nn.Module):
    """A network that returns its logits in the given shape."""

    def __init__(self, packed: Any, in_channels: int = 3) -> None:
        super().__init__()
        self.packed = packed
        self.stem = nn.Conv2d(in_channels, 6, 3, 4, 1)
        self.head = nn.Conv2d(6, 2, 1)

    def forward(self, images: Tensor) -> Any:
        self.images = images
        return self.packed(self.head(self.stem(images)))


IMAGES = torch.rand(2, 3, 32, 48, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    "packed",
    [
        lambda logits: logits,
        lambda logits: OrderedDict(out=logits),
        lambda logits: {"logits": logits},
        lambda logits: (logits, "more"),
        lambda logits: [logits],
        lambda logits: SimpleNamespace(logits=logits),
    ],
    ids=["tensor", "out", "logits", "tuple", "list", "attribute"],
)
def test_logits_are_found(packed: Any) -> None:
    foreign = Foreign(packed)
    output = Wrapped(2, network=foreign)(IMAGES)
    torch.testing.assert_close(output.logits, foreign.head(foreign.stem(foreign.images)))
    assert output.aux == {}


def test_an_auxiliary_head_becomes_aux() -> None:
    output = Wrapped(2, network=Foreign(lambda logits: {"out": logits, "aux": logits * 2}))(IMAGES)
    assert torch.equal(output.aux["aux"], output.logits * 2)


def test_taps_by_module_path_with_measured_channels_and_strides() -> None:
    foreign = Foreign(lambda logits: logits)
    wrapped = Wrapped(2, network=foreign, taps={"low": "stem", "end": "head"})
    assert wrapped.taps == {"low": Tap(6, 4), "end": Tap(2, 4)}
    output = wrapped(IMAGES)
    assert torch.equal(output.features["low"], foreign.stem(foreign.images))
    assert output.features["end"] is output.logits


def test_a_copy_has_its_own_features() -> None:
    wrapped = Wrapped(2, network=Foreign(lambda logits: logits), taps={"low": "stem"})
    copied = copy.deepcopy(wrapped)
    assert torch.equal(copied(IMAGES).features["low"], wrapped(IMAGES).features["low"])
    assert not wrapped.network.stem._forward_hooks


def test_preprocess_as_the_network_was_trained() -> None:
    foreign = Foreign(lambda logits: logits)
    stated = {"order": "bgr", "scale": 255, "mean": [104, 117, 123], "std": [1, 1, 1]}
    Wrapped(2, network=foreign, preprocess=stated)(IMAGES)
    expected = IMAGES[:, [2, 1, 0]] * 255 - torch.tensor([104.0, 117.0, 123.0])[:, None, None]
    torch.testing.assert_close(foreign.images, expected)


def test_the_default_preprocess_is_imagenets() -> None:
    foreign = Foreign(lambda logits: logits)
    Wrapped(2, network=foreign)(IMAGES)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    torch.testing.assert_close(foreign.images, (IMAGES - mean[:, None, None]) / std[:, None, None])


def test_weights_load_by_the_names_of_the_wrapped_network(tmp_path: Path) -> None:
    original = torchvision.models.segmentation.lraspp_mobilenet_v3_large(
        weights=None, weights_backbone=None, num_classes=2
    )
    fresh = copy.deepcopy(original)
    with torch.no_grad():
        for parameter in original.parameters():
            parameter.mul_(1.1)
    torch.save(original.state_dict(), tmp_path / "original.pth")
    wrapped = Wrapped(2, network=fresh, taps={"low": "backbone.3", "high": "backbone.12"}).eval()
    assert load_into(wrapped, str(tmp_path / "original.pth")).line == "original.pth: loaded 272 of 272 tensors"
    assert wrapped.taps == {"low": Tap(24, 4), "high": Tap(112, 16)}
    with torch.no_grad():
        torch.testing.assert_close(wrapped(IMAGES).logits, original.eval()(wrapped.normalize(IMAGES))["out"])


def test_the_mode_stays() -> None:
    foreign = Foreign(lambda logits: logits).eval()
    Wrapped(2, network=foreign)
    assert not foreign.training
    assert Wrapped(2, network=foreign.train()).network.training


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"num_classes": 5},
            "Foreign has 2 classes, but the data have 5; "
            "set its number of classes, or map them with teachers.ClassMapped",
        ),
        ({"taps": {"low": "stam"}}, "taps: low: Foreign has no module 'stam'"),
        ({"preprocess": {"order": "rbg"}}, "preprocess: order must be rgb or bgr, got 'rbg'"),
        ({"preprocess": {"means": 1}}, "preprocess: unknown key 'means'; known: order, scale, mean, std"),
        ({"preprocess": {"mean": [1, 2]}}, "mean: 2 numbers for 3 channels; give one per channel"),
        (
            {"network": Foreign(lambda logits: {"class_queries": logits[:, :, 0], "masks": logits.repeat(1, 5, 1, 1)})},
            "the network returned dict with 'class_queries' a tensor (1, 2, 32) of float32, "
            "'masks' a tensor (1, 10, 32, 32) of float32; masks of queries are no logits of pixels; "
            "wanted are logits (N, K, h, w), of every pixel",
        ),
        (
            {"network": Foreign(lambda logits: logits.argmax(1))},
            "the network returned a map of classes (1, 32, 32) of int64; "
            "wanted are logits (N, K, h, w), of every pixel",
        ),
        (
            {"network": Foreign(lambda logits: [])},
            "the network returned a list; wanted are logits (N, K, h, w), of every pixel",
        ),
    ],
)
def test_refusals(options: dict[str, Any], message: str) -> None:
    call = {"num_classes": 2, "network": Foreign(lambda logits: logits), **options}
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        Wrapped(**call)
