"""A graph on the CPU: it records the calls of a step with their tensors, and replays them on the same memory.

As a CUDA graph it keeps numbers of Python as they were at the capture, refuses to read values, computes nothing while
it captures, and works on memory, not on names: a tensor that was replaced is not seen.
"""

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from waits import Waits

aten = torch.ops.aten
REFUSED = {
    aten._local_scalar_dense: "reads a value",
    aten.nonzero: "has a result whose size depends on values",
    aten.masked_select: "has a result whose size depends on values",
    aten._unique2: "has a result whose size depends on values",
    aten.bincount: "has a result whose size depends on values",
}


class FakeRecorder:
    """Captures for a StepGraph; `live` gives the tensors that must be where they were at the capture."""

    def __init__(self, live=list):
        self.live = live
        self.captures = self.replays = 0

    def trial(self):
        return Refusing()

    def capture(self, work):
        self.captures += 1
        tape = Tape()
        random = torch.get_rng_state()
        with tape:
            result = work()
        tape.rewind()
        torch.set_rng_state(random)
        places = [(tensor.data_ptr(), tensor.shape) for tensor in self.live()]

        def replay():
            self.replays += 1
            assert places == [(tensor.data_ptr(), tensor.shape) for tensor in self.live()], "a tensor has moved"
            tape.replay()

        return replay, result

    def fill(self, held, values):
        for target, value in zip(held, values, strict=True):
            assert target.shape == value.shape
            target.copy_(value)


class Refusing(TorchDispatchMode):
    """Raises where a step reads a value."""

    def __enter__(self):
        self._waits = Waits(refuse=True)
        self._waits.__enter__()
        return super().__enter__()

    def __exit__(self, *error):
        super().__exit__(*error)
        return self._waits.__exit__(*error)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        packet = func.overloadpacket
        by_mask = packet in (aten.index, aten.index_put_, aten.index_put) and any(
            index is not None and index.dtype in (torch.bool, torch.uint8) for index in args[1]
        )
        if packet in REFUSED or by_mask:
            raise RuntimeError(f"{packet} {REFUSED.get(packet, 'selects by a mask')}")
        return self._call(func, args, kwargs or {})

    def _call(self, func, args, kwargs):
        return func(*args, **kwargs)


class Tape(Refusing):
    """Records calls."""

    def __init__(self):
        super().__init__()
        self._calls = []
        self._own = set()  # storages that a call has made
        self._before = {}  # storages that were there, as they were before a call wrote to them

    def _call(self, func, args, kwargs):
        given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        names = [argument.name for argument in func._schema.arguments]
        writes = {a.name for a in func._schema.arguments if a.alias_info is not None and a.alias_info.is_write}
        if func.overloadpacket is aten.native_batch_norm:  # its schema does not say so
            writes |= {"running_mean", "running_var"}
        by_name = dict(zip(names, args, strict=False)) | kwargs
        for tensor in tree_leaves([by_name[name] for name in writes if name in by_name]):
            storage = tensor.untyped_storage()
            if storage._cdata not in self._own and storage._cdata not in self._before:
                self._before[storage._cdata] = (storage, storage.clone())
        result = func(*args, **kwargs)
        inputs = {tensor.untyped_storage()._cdata for tensor in given}
        made = [
            isinstance(leaf, torch.Tensor) and leaf.untyped_storage()._cdata not in inputs
            for leaf in tree_leaves(result)
        ]
        self._own |= {leaf.untyped_storage()._cdata for leaf, new in zip(tree_leaves(result), made, strict=True) if new}
        self._calls.append((func, args, kwargs, tree_leaves(result), made))
        return result

    def rewind(self):
        for storage, values in self._before.values():
            storage.copy_(values)

    @torch.no_grad()
    def replay(self):
        for func, args, kwargs, results, made in self._calls:
            again = tree_leaves(func(*args, **kwargs))
            for old, new, fresh in zip(results, again, made, strict=True):
                if fresh:
                    old.detach().copy_(new)
