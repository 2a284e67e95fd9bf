"""What an exported file computes."""

import torch.nn.functional as F
from torch import Tensor, nn

from kd.types import as_classes, size_of


class Graph(nn.Module):
    """A network with what its scores add to it: the resizing of the logits and, if asked for, the argmax.

    Args:
        network: in evaluation mode; it normalises the images itself.
        argmax: whether the output is the class indices.

    Shape:
        images (N, C, H, W), float in [0, 1]; the output is logits (N, K >= 2, H, W), or classes int64 (N, H, W).
    """

    def __init__(self, network: nn.Module, *, argmax: bool) -> None:
        super().__init__()
        self.network, self.argmax = network, argmax
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        """Images to logits or classes at their size."""
        logits = as_classes(self.network(images).logits)
        # not `kd.types.resize`, whose matrices would be constants of the graph; where a map grows the two are equal
        logits = F.interpolate(logits, size=size_of(images), mode="bilinear", align_corners=False)
        return logits.argmax(1) if self.argmax else logits
