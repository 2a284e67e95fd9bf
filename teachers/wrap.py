"""Any network as a teacher or student."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from kd.networks.layers import Normalize
from kd.types import SegmentationOutput, Tap

PREPROCESS = ("order", "scale", "mean", "std")


class Wrapped(nn.Module):
    """A network of another code base: torchvision's, segmentation_models.pytorch's, timm's, transformers', your own.

    Its logits are what it returns, if that is a tensor; the entry `out` or `logits` of a mapping; the attribute
    `logits`; or the first of a sequence. A mapping's entry `aux` becomes `aux.aux`. One forward pass with zeros, when
    it is built, finds the channels and strides of its taps. Weights named as its own code names them load.

        use: teachers.Wrapped
        args:
          network: {use: torchvision.models.segmentation.fcn_resnet50, args: {num_classes: 11, weights_backbone: null}}
          taps: {low: backbone.layer1, mid: backbone.layer2, high: backbone.layer3}

    Source: none; a bridge.

    Args:
        num_classes: K; the network must give as many channels.
        in_channels: channels of an image.
        network: the network.
        taps: name -> path of a module in the network, as its `named_modules()` prints it.
        preprocess: what the network was trained on: `order` (rgb or bgr), `scale` (the value of white: 1.0 or 255),
            `mean` and `std` (one number a channel, behind order and scale). Left out: ImageNet's mean and std in
            [0, 1], as everywhere here.
        probe: height and width of the zeros, for networks that take one size only.

    Shape: images (N, in_channels, H, W) in [0, 1]; logits (N, K, h, w) as the network gives them.

    Raises:
        ValueError: another number of classes, an unknown module or key, logits that are not found.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 3,
        *,
        network: nn.Module,
        taps: Mapping[str, str] | None = None,
        preprocess: Mapping[str, Any] | None = None,
        probe: Sequence[int] = (128, 128),
    ) -> None:
        super().__init__()
        self.num_classes, self.in_channels = num_classes, in_channels
        self.network = network
        stated = dict(preprocess or {})
        if unknown := stated.keys() - set(PREPROCESS):
            raise ValueError(f"preprocess: unknown key '{min(unknown)}'; known: {', '.join(PREPROCESS)}")
        if stated.get("order", "rgb") not in ("rgb", "bgr"):
            raise ValueError(f"preprocess: order '{stated['order']}' is not possible; choose rgb or bgr")
        self.reverse, self.scale = stated.get("order") == "bgr", float(stated.get("scale", 1.0))
        self.normalize = Normalize(in_channels, stated.get("mean"), stated.get("std"))
        modules = {path: module for path, module in network.named_modules() if path}
        for name, path in (taps or {}).items():
            if path not in modules:
                raise ValueError(f"taps: {name}: {type(network).__name__} has no module '{path}'")
        self.paths = dict(taps or {})
        self.taps = self._measured((int(probe[0]), int(probe[1])))

    def forward(self, images: Tensor) -> SegmentationOutput:
        """Images in [0, 1] to what the network returns, found."""
        features: dict[str, Tensor] = {}
        handles = [
            self.network.get_submodule(path).register_forward_hook(_keep(features, name))
            for name, path in self.paths.items()
        ]  # attached for this pass only: a hook that stayed would fill the original's store from every copy
        try:
            result = self.network(self._prepared(images))
        finally:
            for handle in handles:
                handle.remove()
        auxiliary = result.get("aux") if isinstance(result, Mapping) else None
        return SegmentationOutput(_logits(result), features, {} if auxiliary is None else {"aux": auxiliary})

    def _prepared(self, images: Tensor) -> Tensor:
        images = images.flip(1) if self.reverse else images
        return self.normalize(images.float() * self.scale)  # type: ignore[no-any-return]

    @torch.no_grad()
    def _measured(self, size: tuple[int, int]) -> dict[str, Tap]:
        """The taps' channels and strides, from one pass; the network's mode is as before."""
        like = next(self.network.parameters(), torch.zeros(()))
        training = self.network.training
        output = self.eval()(torch.zeros(1, self.in_channels, *size, device=like.device))
        self.train(training)
        if output.logits.shape[1] != self.num_classes:
            raise ValueError(
                f"{type(self.network).__name__} gives {output.logits.shape[1]} classes, the data have "
                f"{self.num_classes}; set its number of classes, or map them with teachers.ClassMapped"
            )
        return {
            name: Tap(maps.shape[1], max(1, round(size[0] / maps.shape[2]))) for name, maps in output.features.items()
        }


def _keep(features: dict[str, Tensor], name: str) -> Any:
    def keep(module: nn.Module, args: object, result: object) -> None:
        if not isinstance(result, Tensor) or result.ndim != 4:
            raise ValueError(f"taps: {name}: the module returned no (N, C, h, w) map; choose a module that does")
        features[name] = result

    return keep


def _logits(result: Any) -> Tensor:
    found = result
    if isinstance(result, Mapping):
        found = result.get("out", result.get("logits"))
    elif hasattr(result, "logits"):
        found = result.logits
    elif isinstance(result, Sequence) and result:
        found = result[0]
    if not isinstance(found, Tensor) or found.ndim != 4:
        raise ValueError(f"no logits (N, K, h, w) in what the network returned ({type(result).__name__})")
    return found
