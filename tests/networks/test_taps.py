import copy
import re

import pytest
import torch
from torch import Tensor, nn

from kd.errors import TapError
from kd.networks.taps import Taps, declared_taps
from kd.types import SegmentationOutput, Tap


class Toy(nn.Module):
    """All cases of a tapped module: declared, by path, run twice, never run, changed in place, not a tensor."""

    def __init__(self, num_classes: int = 3) -> None:
        super().__init__()
        self.num_classes, self.in_channels = num_classes, 3
        self.taps = {"low": Tap(4, 1)}
        self.stem = nn.Conv2d(3, 4, 1)
        self.spoiled = nn.Conv2d(4, 4, 1)
        self.act = nn.ReLU(inplace=True)
        self.twice = nn.Identity()
        self.never = nn.Identity()
        self.pair = nn.LSTM(4, 4)
        self.head = nn.Sequential(nn.Conv2d(4, num_classes, 1))

    def forward(self, images: Tensor) -> SegmentationOutput:
        low = self.stem(images)
        maps = self.act(self.spoiled(low))
        maps = self.twice(self.twice(maps))
        self.pair(maps.flatten(2).permute(2, 0, 1))
        logits = self.head(maps)
        return SegmentationOutput(logits, {"low": low}, {"aux": logits * 2})


IMAGES = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(1))


def test_addresses_are_looked_up_in_order() -> None:
    taps = Taps(Toy(), {"kl": "logits", "aux": "aux.aux", "tap": "low", "path": "head.0", "both": ("low", "act")})
    output, at = taps(IMAGES)
    assert at["kl"] is output.logits
    assert torch.equal(at["aux"], output.logits * 2)
    assert at["tap"] is output.features["low"]
    assert at["path"] is output.logits
    assert isinstance(at["both"], tuple)
    assert at["both"][0] is output.features["low"]
    assert at["both"][1].shape == (2, 4, 4, 4)


def test_a_declared_tap_precedes_a_module_of_that_name() -> None:
    network = Toy()
    network.taps["stem"] = Tap(3, 1)
    network.forward = lambda images: SegmentationOutput(network.head(network.stem(images)), {"stem": images}, {})
    _, at = Taps(network, {"t": "stem"})(IMAGES)
    assert at["t"] is IMAGES


def test_one_class_is_read_as_two() -> None:
    output, at = Taps(Toy(1), {"kl": "logits", "aux": "aux.aux"})(IMAGES)
    assert output.logits.shape[1] == 1
    assert at["kl"].shape[1] == at["aux"].shape[1] == 2


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("lo", "tap 'lo': no such tap or module; did you mean 'low'? (taps: logits, low)"),
        ("head.1", "tap 'head.1': no such tap or module; did you mean 'head.0'? (taps: logits, low)"),
        ("", "tap '': no such tap or module (taps: logits, low)"),
    ],
)
def test_an_unknown_address_is_refused_at_once(address: str, message: str) -> None:
    with pytest.raises(TapError, match=f"^{re.escape(message)}$") as caught:
        Taps(Toy(), {"term": address})
    assert caught.value.address == address


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("aux.boundary", "tap 'aux.boundary': the network has no such head; known: aux"),
        ("never", "tap 'never': the module did not run in this forward; tap one that does"),
        ("twice", "tap 'twice': the module ran twice in one forward; tap a module that runs once"),
        ("pair", "tap 'pair': the module returned tuple, not a tensor; tap a module inside it"),
        (
            "spoiled",
            "tap 'spoiled': its map was changed in place after the module returned it "
            "(an in-place ReLU or `out +=`); set inplace=False there, or tap the module after it",
        ),
    ],
)
def test_a_map_that_may_be_wrong_is_refused(address: str, message: str) -> None:
    taps = Taps(Toy(), {"term": address})
    for _ in range(2):  # a failed forward does not change the error of the next
        with pytest.raises(TapError, match=f"^{re.escape(message)}$") as caught:
            taps(IMAGES)
        assert caught.value.address == address


def test_each_forward_returns_new_maps() -> None:
    taps = Taps(Toy(), {"term": "head.0"})
    first, second = taps(IMAGES)[1]["term"], taps(IMAGES + 1)[1]["term"]
    assert not torch.equal(first, second)


def test_a_forward_without_the_taps_is_ignored() -> None:
    network = Toy()
    taps = Taps(network, {"term": "head.0"})
    network(IMAGES)
    network(IMAGES)  # would be "ran twice" if hooks listened outside a call
    assert taps(IMAGES)[1]["term"].shape == (2, 3, 4, 4)


def test_a_copy_of_a_tapped_network_does_not_disturb_the_original() -> None:
    """EMA and folding copy networks before they are tapped; a later copy must not do harm either."""
    network = Toy()
    taps = Taps(network, {"term": "head.0"})
    copied = copy.deepcopy(network)
    copied(IMAGES + 1)
    expected = network.head(network.act(network.spoiled(network.stem(IMAGES))))
    assert torch.equal(taps(IMAGES)[1]["term"], expected)


def test_taps_of_a_copy_read_the_copy() -> None:
    network = Toy()
    Taps(network, {"term": "head.0"})
    copied = copy.deepcopy(network)
    with torch.no_grad():
        copied.head[0].bias.add_(5)
    output, at = Taps(copied, {"term": "head.0"})(IMAGES)
    assert at["term"] is output.logits


def test_gradients_pass_a_tap() -> None:
    network = Toy()
    Taps(network, {"term": "stem"})(IMAGES)[1]["term"].sum().backward()
    assert network.stem.weight.grad is not None


def test_a_copy_made_while_detached_has_no_hooks() -> None:
    network = Toy()
    taps = Taps(network, {"term": "head.0", "both": ("head.0", "act")})
    with taps.detached():
        copied = copy.deepcopy(network)
        assert not any(module._forward_hooks for module in network.modules())
    assert not any(module._forward_hooks for module in copied.modules())
    output, at = taps(IMAGES)
    assert at["term"] is output.logits
    assert [len(module._forward_hooks) for module in (network.head[0], network.act)] == [1, 1]


def test_taps_are_attached_again_after_an_error() -> None:
    taps = Taps(Toy(), {"term": "head.0"})
    with pytest.raises(RuntimeError), taps.detached():
        raise RuntimeError
    output, at = taps(IMAGES)
    assert at["term"] is output.logits


def test_declared_taps() -> None:
    assert declared_taps(Toy()) == {"low": Tap(4, 1)}
    assert declared_taps(nn.Conv2d(3, 2, 1)) == {}
