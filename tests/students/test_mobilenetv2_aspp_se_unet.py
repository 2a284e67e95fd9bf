import torch
from torch import nn

from students import MobileNetV2ASPPResidualSEUNet


def step(network: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    network(torch.rand(1, 1, 64, 64)).logits.square().mean().backward()
    optimizer.step()


def encoder(network: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in network.backbone.state_dict().items()}


def test_frozen_and_trainable_parameters_are_the_plans() -> None:
    with torch.device("meta"):
        network = MobileNetV2ASPPResidualSEUNet(1, 1)
    trainable = sum(p.numel() for p in network.parameters() if p.requires_grad)
    assert trainable == 23_030_597
    assert sum(p.numel() for p in network.parameters()) - trainable == 2_223_296


def test_not_one_bit_of_the_frozen_encoder_moves_in_ten_steps() -> None:
    network = MobileNetV2ASPPResidualSEUNet(1, 1).train()
    before, decoder = encoder(network), network.classifier.members[0][1].weight.clone()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, weight_decay=0.1, momentum=0.9)
    for _ in range(10):
        network.train()
        step(network, optimizer)
    assert all(torch.equal(before[name], tensor) for name, tensor in encoder(network).items())
    assert not torch.equal(decoder, network.classifier.members[0][1].weight)


def test_once_it_is_unfrozen_it_trains() -> None:
    network = MobileNetV2ASPPResidualSEUNet(1, 1)
    network.backbone.requires_grad_(True)
    network.train()
    assert network.backbone.training
    before = encoder(network)
    step(network, torch.optim.SGD(network.parameters(), lr=0.1))
    moved = {name for name, tensor in encoder(network).items() if not torch.equal(before[name], tensor)}
    assert "0.1.running_mean" in moved
    assert "0.0.weight" in moved


def test_it_can_start_unfrozen() -> None:
    with torch.device("meta"):
        network = MobileNetV2ASPPResidualSEUNet(1, 1, frozen=False)
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert network.train().backbone.training
