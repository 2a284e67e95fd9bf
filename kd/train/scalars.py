"""Numbers that change with the step: floats on a CPU, and on a GPU tensors that keep their address."""

import torch
from torch import Tensor


class Scalars:
    """The learning rates and the weights of the terms, as a step reads them.

    A captured step reads memory: a float in it would keep the value that it had at the capture.

    Args:
        device: where the numbers are tensors, float32 (); None: they are floats.
    """

    def __init__(self, device: torch.device | None = None) -> None:
        self._device = device
        self._held: dict[str, Tensor] = {}
        self._values: dict[str, float] = {}

    def put(self, name: str, value: float) -> float | Tensor:
        """Set a number; return it as a step reads it, on a device always as the same tensor."""
        if self._device is None:
            return value
        if name not in self._held:
            self._held[name] = torch.zeros((), device=self._device)
        if self._values.get(name) != value:  # most weights never change
            self._held[name].fill_(value)
            self._values[name] = value
        return self._held[name]
