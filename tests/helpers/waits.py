"""Where Python code reads a tensor's values, or gives it some, for which it would wait for a GPU."""

from collections import Counter

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

READS = {
    getattr(Tensor, name): name
    for name in ("item", "cpu", "tolist", "numpy", "__bool__", "__float__", "__int__", "__index__", "__array__")
} | {torch.tensor: "tensor", torch.as_tensor: "as_tensor", Tensor.new_tensor: "new_tensor"}  # written, not read


class Waits(TorchFunctionMode):
    """Counts the reads of the block by name; with `refuse`, raises at the first."""

    def __init__(self, *, refuse=False):
        super().__init__()
        self.counts = Counter()
        self._refuse = refuse

    def __torch_function__(self, func, types, args=(), kwargs=None):
        name = READS.get(func)
        if name is not None:
            self.counts[name] += 1
            if self._refuse:
                raise RuntimeError(f"called a synchronizing operation: {name}")
        return func(*args, **(kwargs or {}))
