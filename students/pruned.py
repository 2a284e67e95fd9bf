"""A network with a share of its channels removed."""

import warnings
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from kd.networks.weights import load_into
from kd.types import Network, NetworkTraits, SegmentationOutput, Tap


class Pruned(nn.Module):
    """A network whose layers have fewer channels: structured pruning, after which training goes on.

        student:
          use: students.Pruned
          args: {network: {use: students.MobileNetV2UNet, args: {num_classes: 11}}, ratio: 0.3, file: runs/…/seed0}

    Channels that belong together (those of two layers whose maps are added, of a convolution and its BatchNorm) are
    removed together: in each such group, the share `ratio` with the smallest weights. They are really removed: the
    network has smaller tensors, and runs faster in every runtime. The head's convolutions keep a channel for each
    class. Which channels are left, and in a concatenation how many of each map, depends on the weights in `file`: keep
    it as long as the pruned network is used. Needs `pip install 'kd-segmentation[prune]'`.

    Taps: those of the network, with the channels that are left.

    Source: Fang et al., "DepGraph: Towards Any Structural Pruning", CVPR 2023, arXiv:2301.12900, by its library
    torch-pruning: the norm of the weights of a group.

    Args:
        num_classes: K, also of the network.
        in_channels: channels of an image, also of the network.
        network: of kd; not changed, but taken over.
        ratio: the share of the channels that is removed, above 0 and below 1.
        file: its trained weights: a run directory or a file, which must fit as a whole; None: as it was built.
        multiple: the channels that are left are rounded to multiples of this number, which processors compute faster.

    Shape: as the network.

    Raises:
        ValueError: torch-pruning is not installed; the network has other classes or channels, is not one of kd's, or
            cannot be pruned; the ratio is out of range; or the weights do not fit.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 3,
        *,
        network: nn.Module,
        ratio: float,
        file: str | None = None,
        multiple: int = 8,
    ) -> None:
        super().__init__()
        if not isinstance(network, Network):
            raise ValueError(f"network: {type(network).__name__} declares no taps; wrap it in teachers.Wrapped")
        if (network.num_classes, network.in_channels) != (num_classes, in_channels):
            raise ValueError(
                f"network: {type(network).__name__} has {network.num_classes} classes and {network.in_channels} "
                f"channels, the data have {num_classes} and {in_channels}; set its num_classes and in_channels"
            )
        if not 0 < ratio < 1 or multiple < 1:
            raise ValueError(f"ratio: must be above 0 and below 1, and multiple at least 1, got {ratio} and {multiple}")
        loaded = load_into(network, file, role="teacher")
        _prune(network, ratio, multiple)
        self.network = network
        self.num_classes, self.in_channels = num_classes, in_channels
        self.taps = _left(network)
        self.traits = NetworkTraits(loaded=(f"network: {loaded.line}",) if file else ())

    def forward(self, images: Tensor) -> SegmentationOutput:
        """As the network."""
        output: SegmentationOutput = self.network(images)
        return output


def _prune(network: nn.Module, ratio: float, multiple: int) -> None:
    """Remove channels in place."""
    try:
        import torch_pruning
    except ImportError:
        raise ValueError("torch_pruning is not installed: pip install 'kd-segmentation[prune]'") from None
    assert isinstance(network, Network)
    training, frozen = network.training, [name for name, p in network.named_parameters() if not p.requires_grad]
    classes = [m for m in network.modules() if isinstance(m, nn.Conv2d) and m.out_channels == network.num_classes]
    with warnings.catch_warnings(), torch.enable_grad():
        warnings.simplefilter("ignore")  # on parameters that belong to no layer
        torch_pruning.pruner.BasePruner(
            network.eval().requires_grad_(True),
            torch.rand(1, network.in_channels, 64, 64, generator=torch.Generator().manual_seed(0)),
            importance=torch_pruning.importance.GroupMagnitudeImportance(p=2),
            pruning_ratio=ratio,
            ignored_layers=classes,
            forward_fn=lambda model, images: _maps(model(images)),
            round_to=multiple,
        ).step()
    network.train(training)
    for name in frozen:  # pruned layers have new parameters
        network.get_parameter(name).requires_grad_(False)


def _maps(output: SegmentationOutput) -> Sequence[Tensor]:
    return [output.logits, *output.features.values(), *output.aux.values()]


@torch.no_grad()
def _left(network: nn.Module) -> dict[str, Tap]:
    """The taps of a pruned network.

    Raises:
        ValueError: it does not run any more, or not with a logit for each class.
    """
    assert isinstance(network, Network)
    training = network.training
    try:
        output = network.eval()(torch.zeros(1, network.in_channels, 64, 64))
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:160]
        raise ValueError(f"network: {type(network).__name__} does not run once it is pruned ({reason})") from None
    finally:
        network.train(training)
    if output.logits.shape[1] != network.num_classes:
        raise ValueError(f"network: {type(network).__name__} lost logits, as its head is no convolution")
    return {name: Tap(output.features[name].shape[1], tap.stride) for name, tap in network.taps.items()}
