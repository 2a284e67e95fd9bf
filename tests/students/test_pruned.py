"""A student with fewer channels."""

import pytest
import torch
from torch import nn
from toy import Toy

import students
from kd.types import Tap, parameter_count
from students import Pruned

pytest.importorskip("torch_pruning", reason="needs the extra prune: pip install 'kd-segmentation[prune]'")

IMAGES = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))


def test_channels_without_weight_go_first_and_are_not_missed():
    network = Toy(8, batch_norm=True).eval()
    with torch.no_grad():
        for module in (network.conv, network.norm):
            module.weight[::2] = 0  # half of the channels are 0 …
            module.bias[::2] = 0
        network.head.weight[:, ::2] = 0  # … and not read
        expected = network(IMAGES).logits
    pruned = Pruned(5, network=network, ratio=0.5, multiple=1).eval()
    assert pruned.network.conv.weight.shape == (4, 3, 3, 3)  # really removed
    assert pruned.network.head.weight.shape == (5, 4, 1, 1)
    torch.testing.assert_close(pruned(IMAGES).logits, expected)


def test_taps_have_the_channels_that_are_left():
    pruned = Pruned(5, network=Toy(16, batch_norm=True), ratio=0.5)
    assert pruned.taps == {"low": Tap(8, 2)}
    assert pruned(IMAGES).features["low"].shape[1] == 8


def test_the_weights_of_a_file_decide_which_channels_are_left(tmp_path):
    trained = Toy(8, batch_norm=True)
    with torch.no_grad():
        trained.conv.weight[:4] *= 100
    torch.save(trained.state_dict(), tmp_path / "a.pt")
    pruned = Pruned(5, network=Toy(8, batch_norm=True), ratio=0.5, multiple=1, file=str(tmp_path / "a.pt"))
    assert torch.equal(pruned.network.conv.weight, trained.conv.weight[:4])
    assert torch.equal(pruned.network.head.weight, trained.head.weight[:, :4])


def test_frozen_layers_stay_frozen_and_the_mode_stays():
    network = Toy(16, batch_norm=True).train()
    network.conv.requires_grad_(False)
    pruned = Pruned(5, network=network, ratio=0.5)
    assert [name for name, p in pruned.named_parameters() if not p.requires_grad] == [
        "network.conv.weight",
        "network.conv.bias",
    ]
    assert pruned.network.norm.training


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"network": nn.Identity(), "ratio": 0.3}, "network: Identity declares no taps; wrap it in teachers.Wrapped"),
        ({"network": Toy(8), "ratio": 1}, "ratio: must be above 0 and below 1, and multiple at least 1, got 1 and 8"),
        (
            {"network": Toy(8, classes=4), "ratio": 0.3},
            "network: Toy has 4 classes and 3 channels, the data have 5 and 3; set its num_classes and in_channels",
        ),
        ({"network": Toy(8), "ratio": 0.3, "file": "nowhere.pt"}, "no file nowhere.pt; "),
    ],
)
def test_mistakes_are_one_line(arguments, message):
    with pytest.raises(ValueError, match=r"^[^\n]*$") as caught:
        Pruned(5, **arguments)
    assert str(caught.value).startswith(message)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in students.__all__ if name != "Pruned"])
def test_every_student_is_pruned_trains_and_loads_again(name, tmp_path):
    channels, classes = (1, 1) if name == "MobileNetV2ASPPResidualSEUNet" else (3, 11)
    build = getattr(students, name)
    trained = build(classes, channels)
    torch.save(trained.state_dict(), tmp_path / "a.pt")
    file = str(tmp_path / "a.pt")
    first, again = (Pruned(classes, channels, network=build(classes, channels), ratio=0.3, file=file) for _ in range(2))
    images = torch.rand(2, channels, 65, 80)
    output = first.train()(images)
    output.logits.square().mean().backward()
    assert 0.3 * parameter_count(trained) < parameter_count(first) < 0.75 * parameter_count(trained)
    assert output.logits.shape[1] == classes
    for tap, (width, _) in first.taps.items():
        assert output.features[tap].shape[1] == width
    again.load_state_dict(first.state_dict())
    assert torch.equal(again.eval()(images).logits, first.eval()(images).logits)
