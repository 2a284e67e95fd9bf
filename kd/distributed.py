"""torchrun and DDP; in a single process, every function here acts on that process alone.

GPU tensors use NCCL, CPU tensors Gloo. Every rank must call these functions equally often.
"""

import os
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from kd.errors import PeerLostError, RecipeError, raised
from kd.units import from_environment

T = TypeVar("T")


def rank() -> int:
    """The rank of this process, 0 … world-1; rank 0 writes files and prints."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def world() -> int:
    """The number of processes that train this run."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


@contextmanager
def joined(device: str) -> Iterator[None]:
    """Join the process group if torchrun started this process.

    Args:
        device: of the recipe: auto, cpu, cuda or mps.

    Raises:
        RecipeError: there are more processes on this machine than CUDA devices; DDP cannot use the device.
        PeerLostError: another process died while this one waited for it.
    """
    if from_environment("WORLD_SIZE", 1) == 1 or distributed.is_initialized():
        yield
        return
    if device == "mps":
        raise RecipeError("torchrun: device: mps trains in one process; use kd run without torchrun, or device=cpu")
    use_cuda = device != "cpu" and torch.cuda.is_available()
    if use_cuda:
        local, devices = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
        if local >= devices:
            raise RecipeError(
                f"torchrun: no CUDA device for process {local}: this machine has {devices}; "
                f"use --nproc-per-node {devices}, or device=cpu"
            )
        torch.cuda.set_device(local)
    distributed.init_process_group("cpu:gloo,cuda:nccl" if use_cuda else "gloo")
    try:
        yield
    except RuntimeError as error:
        if not _lost_a_peer(error):
            raise
        raise PeerLostError(
            f"process {rank()} of {world()}: another process of this run has died (see its message); "
            "the same command resumes from the last checkpoint"
        ) from error
    else:
        distributed.destroy_process_group()


def _lost_a_peer(error: RuntimeError) -> bool:
    """Whether a collective failed because another process is gone."""
    return isinstance(error, distributed.DistError) or any(
        sign in str(error) for sign in ("gloo", "NCCL", "Connection closed by peer", "Connection reset by peer")
    )


def wrapped(student: nn.Module) -> nn.Module:
    """The student wrapped in DDP, which averages gradients over the processes."""
    if world() == 1:
        return student
    device = next(student.parameters()).device
    return DistributedDataParallel(student, device_ids=[device.index] if device.type == "cuda" else None)


def bare(student: nn.Module) -> nn.Module:
    """The student without its DDP wrapper."""
    return student.module if isinstance(student, DistributedDataParallel) else student


def share_buffers(module: nn.Module) -> None:
    """Give every rank the buffers of rank 0: BatchNorm's statistics come from each rank's own images."""
    if world() == 1:
        return
    alike: dict[tuple[torch.dtype, torch.device], list[Tensor]] = {}  # one message for each
    for buffer in module.buffers():
        alike.setdefault((buffer.dtype, buffer.device), []).append(buffer.detach())
    for buffers in alike.values():
        flat = torch.cat([buffer.flatten() for buffer in buffers])
        distributed.broadcast(flat, src=0)
        for buffer, values in zip(buffers, torch.split(flat, [buffer.numel() for buffer in buffers]), strict=True):
            buffer.copy_(values.view_as(buffer))


def first(work: Callable[[], T]) -> T:
    """Call `work` on rank 0 alone; every rank returns, or raises, what it did."""
    if world() == 1:
        return work()
    outcome: list[Any] = [None, None]
    own: Exception | None = None
    if rank() == 0:
        try:
            outcome[0] = work()
        except Exception as error:  # noqa: BLE001  # raised below, on every rank
            own, outcome[1] = error, _sendable(error)
    distributed.broadcast_object_list(outcome, src=0)
    if (raised_there := own or outcome[1]) is not None:
        raise raised_there
    result: T = outcome[0]
    return result


def _sendable(error: Exception) -> Exception:
    """An error, or what it reports if another process cannot make it again, as it may be with a user's class."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # noqa: BLE001  # a user's class may raise anything
        return RuntimeError(raised(error))
    return error


def gathered(value: T) -> list[T]:
    """The values of all ranks, by rank."""
    values: list[Any] = [value] * world()
    if world() > 1:
        distributed.all_gather_object(values, value)
    return values


def largest(value: int) -> int:
    """The largest value of all ranks."""
    return value if world() == 1 else int(_reduced(torch.tensor(value), distributed.ReduceOp.MAX))


def highest(value: Tensor) -> Tensor:
    """The largest value of a tensor () of all ranks; on a GPU this does not wait for the device."""
    return _reduced(value, distributed.ReduceOp.MAX)


def summed(value: Tensor) -> Tensor:
    """The sum of the CPU tensors of all ranks."""
    return _reduced(value, distributed.ReduceOp.SUM)


def _reduced(value: Tensor, how: Any) -> Tensor:
    if world() > 1:
        distributed.all_reduce(value, how)
    return value
