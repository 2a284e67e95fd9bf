"""The update of a step, which leaves no trace where the loss or the gradient is not finite."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel

from kd import distributed


class Update:
    """Updates the parameters and the moving average; whether the update counts may be decided on the device.

    On a GPU the processor does not know in time whether the gradient is finite. torch's fused kernels leave such an
    update out themselves; what other code has changed is taken back on the GPU. Where the processor decides, it waits:
    on a CPU, which has finished by then, and when a parameter is updated for the first time, because the optimizer has
    no state for it before.

    Args:
        optimizer: of the run.
        ema: the moving average of the student's network, if there is one.
        on_device: decide on the device.
        undo_buffers: restore the student's buffers too: BatchNorm's statistics and the losses' queues.

    Attributes:
        waited: whether the last update was decided by the processor.
    """

    def __init__(
        self, optimizer: Optimizer, ema: AveragedModel | None, *, on_device: bool = False, undo_buffers: bool = False
    ) -> None:
        self._optimizer, self._ema = optimizer, ema
        self.on_device, self._undo_buffers = on_device, undo_buffers
        self.waited = True
        self._updated: set[int] = set()  # ids of the parameters with optimizer state
        self._averaged = ema is None
        self._decision = torch.zeros(())
        self._decided = self._decision.numpy()

    def forget(self) -> None:
        """Let the processor decide on the next update: another state has been loaded."""
        self._updated.clear()
        self._averaged = self._ema is None

    def buffers(self, student: nn.Module) -> dict[str, Tensor]:
        """Copies of what a forward pass changes, by name; none if a step that is not finite keeps its buffers."""
        named = dict(student.named_buffers()) if self._undo_buffers else {}
        return copies(named) if self.on_device else {name: buffer.clone() for name, buffer in named.items()}

    @torch.no_grad()
    def __call__(
        self, student: nn.Module, trained: Sequence[Tensor], not_finite: Tensor, buffers: Mapping[str, Tensor]
    ) -> None:
        """Update, if loss and gradient are finite.

        Args:
            student: the role, without DDP's wrapper.
            trained: its parameters that have a gradient.
            not_finite: float32 (), 0 or 1, the same on every rank.
            buffers: of `buffers`, from before the forward pass.
        """
        now = dict(student.named_buffers()) if buffers else {}
        names = [name for name, value in buffers.items() if now[name].shape == value.shape]  # a queue may have grown
        self.waited = not (self.on_device and self._averaged and self._updated.issuperset(map(id, trained)))
        if not self.waited:
            state = [] if self._ema is None else _tensors(self._ema)
            fused = all(group.get("fused") for group in self._optimizer.param_groups)
            if not fused:
                state += [*trained, *self._state_of(trained)]
            before = _flat_values(state)
            self._optimizer.found_inf = not_finite if fused else None  # type: ignore[attr-defined]
            self._optimizer.step()
            self._optimizer.found_inf = None  # type: ignore[attr-defined]
            self._average(student)
            _choose(not_finite, state, before)
            _choose(not_finite, [now[name] for name in names], _flat_values([buffers[name] for name in names]))
        elif self._read(not_finite) == 0:
            with _unfused(self._optimizer, trained):
                self._optimizer.step()
            self._average(student)
            self._updated.update(map(id, trained))
        else:
            put_back(now, buffers)

    def _read(self, not_finite: Tensor) -> float:
        self._decision.copy_(not_finite)  # waits for a GPU
        return float(self._decided)

    def _state_of(self, trained: Sequence[Tensor]) -> Iterator[Tensor]:
        for parameter in trained:
            yield from (value for value in self._optimizer.state[parameter].values() if isinstance(value, Tensor))

    def _average(self, student: nn.Module) -> None:
        """Update the moving average of the student's network; on every rank, it averages the buffers of rank 0."""
        if self._ema is None:
            return
        network = student.get_submodule("network")
        distributed.share_buffers(network)
        if not self._averaged:
            self._ema.update_parameters(network)  # reads its counter: the first time, it copies
            self._averaged = True
            return
        average, sides = self._ema.multi_avg_fn, (_tensors(self._ema.module), _tensors(network))
        ours, theirs = ([value for value in side if value.is_floating_point()] for side in sides)
        average(ours, theirs, self._ema.n_averaged)  # type: ignore[misc]
        ours, theirs = ([value for value in side if not value.is_floating_point()] for side in sides)
        if ours:  # BatchNorms' counters, for which torch has no joint kernel
            values = _flat_values(ours)
            average(values, _flat_values(theirs), self._ema.n_averaged)  # type: ignore[misc]
            _write(ours, values)
        self._ema.n_averaged += 1


def _tensors(module: nn.Module) -> list[Tensor]:
    return [tensor.detach() for tensor in (*module.parameters(), *module.buffers())]


@contextmanager
def _unfused(optimizer: Optimizer, trained: Sequence[Tensor]) -> Iterator[None]:
    """Run an optimizer without its fused kernel, which takes no mix of parameters with and without state, for a mix."""
    mixed = len({bool(optimizer.state.get(parameter)) for parameter in trained}) > 1
    fused = [group for group in optimizer.param_groups if group.get("fused") and mixed]
    for group in fused:
        group["fused"] = None
    try:
        yield
    finally:
        for group in fused:
            group["fused"] = True


def _flat_values(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Copies of the values, one tensor for each type: a copy of each would be hundreds of kernels."""
    return [torch.cat(views) for views in _views(tensors)]


def copies(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies by name, of the same layout; one kernel for each type."""
    made = {}
    for dtype in dict.fromkeys(tensor.dtype for tensor in tensors.values()):
        alike = {name: tensor for name, tensor in tensors.items() if tensor.dtype == dtype}
        (values,) = _flat_values(list(alike.values()))
        parts = torch.split(values, [tensor.numel() for tensor in alike.values()])
        for (name, tensor), part in zip(alike.items(), parts, strict=True):
            made[name] = part.as_strided(tensor.shape, tensor.stride())
    return made


@torch.no_grad()
def put_back(tensors: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> None:
    """Give tensors their values of before, by name; a queue that has grown since keeps those that it has."""
    for name, tensor in tensors.items():
        if name in values and values[name].shape == tensor.shape:
            tensor.copy_(values[name])


def _choose(not_finite: Tensor, tensors: Sequence[Tensor], before: Sequence[Tensor]) -> None:
    """Give the tensors their values of `before`, of `_flat_values`, if `not_finite` is 1."""
    if tensors:
        now, undo = _flat_values(tensors), not_finite.bool()
        _write(tensors, [torch.where(undo, others, values) for values, others in zip(now, before, strict=True)])


def _write(tensors: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    """Give the tensors values that are laid out as those of `_flat_values`."""
    for views, flat in zip(_views(tensors), values, strict=True):
        torch._foreach_copy_(views, list(torch.split(flat, [len(view) for view in views])))


def _views(tensors: Sequence[Tensor]) -> list[list[Tensor]]:
    """Each tensor as its numbers in the order of memory, by type; all layouts of networks are dense."""
    alike: dict[torch.dtype, list[Tensor]] = {}
    for tensor in tensors:
        flat = tensor.detach().as_strided((tensor.numel(),), (1,), tensor.storage_offset())
        alike.setdefault(tensor.dtype, []).append(flat)
    return list(alike.values())
