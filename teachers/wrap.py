"""Any network as a teacher or student."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from kd.networks.normalize import Normalize, Preprocess
from kd.types import NetworkTraits, SegmentationOutput, Tap


class Wrapped(nn.Module):
    """A network of another code base: torchvision, segmentation_models.pytorch, timm, transformers, or your own.

    The logits are the result if it is a tensor, the entry `out` or `logits` of a mapping, the attribute `logits`, or
    the first item of a sequence. The entry `aux` of a mapping becomes `aux.aux`.
    One forward pass with zeros at construction measures the channels and strides of the taps. Weights load by the names
    of the network's own code.

        use: teachers.Wrapped
        args:
          network: {use: torchvision.models.segmentation.fcn_resnet50, args: {num_classes: 11, weights_backbone: null}}
          taps: {low: backbone.layer1, mid: backbone.layer2, high: backbone.layer3}

    Source: none, it adapts other networks.

    Args:
        num_classes: K, the channels of the network's logits.
        in_channels: channels of an image.
        network: the network.
        taps: name -> path of a module, as `network.named_modules()` prints it.
        preprocess: the form of images that the network was trained on: `order` (rgb or bgr), `scale` (the value of
            white, 1.0 or 255), `mean` and `std` (one number per channel, applied after order and scale). What is left
            out is rgb, 1.0, and the mean and std of `kd.networks.normalize.Normalize`.
        probe: (H, W) in pixels of the zeros, for networks that take one size only.

    Shape: images (N, in_channels, H, W) in [0, 1]; logits (N, K, h, w) as the network returns them.

    Raises:
        ValueError: the number of classes differs, a module or key is unknown, or the result has no logits.
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
        self.traits = NetworkTraits()
        form = dict(preprocess or {})
        if unknown := form.keys() - set(Preprocess._fields):
            raise ValueError(f"preprocess: unknown key '{min(unknown)}'; known: {', '.join(Preprocess._fields)}")
        if form.get("order", "rgb") not in ("rgb", "bgr"):
            raise ValueError(f"preprocess: order must be rgb or bgr, got '{form['order']}'")
        self.normalize = Normalize(in_channels, **form, from_recipe=True)
        modules = {path: module for path, module in network.named_modules() if path}
        for name, path in (taps or {}).items():
            if path not in modules:
                raise ValueError(f"taps: {name}: {type(network).__name__} has no module '{path}'")
        self.paths = dict(taps or {})
        self.taps = self._measured((int(probe[0]), int(probe[1])))

    def forward(self, images: Tensor) -> SegmentationOutput:
        """Images in [0, 1] to the logits and taps of the network."""
        features: dict[str, Tensor] = {}
        handles = [
            self.network.get_submodule(path).register_forward_hook(_keep(features, name))
            for name, path in self.paths.items()
        ]  # for this pass only: in a copy of the network, a permanent hook would fill the original's store
        try:
            result = self.network(self.normalize(images))
        finally:
            for handle in handles:
                handle.remove()
        auxiliary = result.get("aux") if isinstance(result, Mapping) else None
        return SegmentationOutput(_logits(result), features, {} if auxiliary is None else {"aux": auxiliary})

    @torch.no_grad()
    def _measured(self, size: tuple[int, int]) -> dict[str, Tap]:
        """The channels and strides of the taps, from one pass that leaves the network's mode as it was."""
        device = next(self.network.parameters(), torch.zeros(())).device
        training = self.network.training
        output = self.eval()(torch.zeros(1, self.in_channels, *size, device=device))
        self.train(training)
        if output.logits.shape[1] != self.num_classes:
            raise ValueError(
                f"{type(self.network).__name__} has {output.logits.shape[1]} classes, but the data have "
                f"{self.num_classes}; set its number of classes, or map them with teachers.ClassMapped"
            )
        return {
            name: Tap(maps.shape[1], max(1, round(size[0] / maps.shape[2]))) for name, maps in output.features.items()
        }


def _keep(features: dict[str, Tensor], name: str) -> Any:
    def keep(module: nn.Module, args: object, result: object) -> None:
        if not isinstance(result, Tensor) or result.ndim != 4:
            raise ValueError(f"taps: {name}: the module does not return a map (N, C, h, w); name one that does")
        features[name] = result

    return keep


def _logits(result: Any) -> Tensor:
    """The logits in what a network returned."""
    logits = result
    if isinstance(result, Mapping):
        logits = result.get("out", result.get("logits"))
    elif hasattr(result, "logits"):
        logits = result.logits
    elif isinstance(result, Sequence) and result:
        logits = result[0]
    if not _is_map(logits):
        raise ValueError(f"the network returned {_described(result)}; wanted are logits (N, K, h, w), of every pixel")
    found: Tensor = logits
    return found


def _is_map(value: object) -> bool:
    return isinstance(value, Tensor) and value.ndim == 4 and value.is_floating_point()


def _described(result: Any) -> str:
    """What a network returned, in words."""
    if isinstance(result, Mapping):
        parts = ", ".join(f"'{name}' {_described(value)}" for name, value in list(result.items())[:6])
        queries = "; masks of queries are no logits of pixels" if any("quer" in str(name) for name in result) else ""
        return f"{type(result).__name__} with {parts}{queries}"
    if isinstance(result, Tensor):
        kind = "a map of classes" if result.ndim == 3 and not result.is_floating_point() else "a tensor"
        return f"{kind} {tuple(result.shape)} of {str(result.dtype).removeprefix('torch.')}"
    return f"a {type(result).__name__}"
