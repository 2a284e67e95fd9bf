"""A memory of the teacher's vectors: one bounded queue for each class."""

from typing import NamedTuple

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional as F

from kd.losses._pixels import unit
from kd.losses.relation._pairs import segment_means, shuffled


class Entries(NamedTuple):
    """What a batch has for the queues: up to E vectors of each class."""

    vectors: Tensor  # (K, E, C), of length 1
    held: Tensor  # bool (K, E): False where a class has fewer


def drawn(draw: Tensor, shape: torch.Size | tuple[int, ...]) -> Tensor:
    """`shuffled` integers in a tensor of `shape`."""
    return shuffled(draw, torch.Size(shape).numel()).view(shape)


def entries_of_each_class(
    rows: Tensor, classes: Tensor, number: int, each: int, keys: Tensor
) -> tuple[Entries, Entries]:
    """Some pixels of each class and image, and the mean of each class and image.

    Args:
        rows: (N, P, C), vectors of length 1.
        classes: int64 (N, P); other than 0 … number-1 belongs to no class.
        number: K.
        each: pixels of a class that an image gives, at most.
        keys: int64 (N, P), 0 … 2³²-1; the pixels with the least are taken.

    Returns:
        Pixels (K, N·each, C) and regions (K, N, C).
    """
    images, pixels = classes.shape
    group = classes.where((classes >= 0) & (classes < number), number)  # (N, P), 0 … K
    order = (group * 2**32 + keys).argsort(1)  # by class, then by key
    counts = group.new_zeros(images, number + 1).scatter_add(1, group, torch.ones_like(group))
    first = (counts.cumsum(1) - counts)[:, :number]  # (N, K): where a class begins in `order`
    place = torch.arange(each, device=rows.device)
    held = place < counts[:, :number, None]  # (N, K, each)
    index = order.gather(1, (first[..., None] + place).clamp(max=pixels - 1).flatten(1))
    vectors = rows.gather(1, index[..., None].expand(-1, -1, rows.shape[2]))
    vectors = vectors.view(images, number, each, -1)

    offset = torch.arange(images, device=rows.device)[:, None] * (number + 1)
    means, _ = segment_means(rows.flatten(0, 1), (group + offset).flatten(), images * (number + 1))
    regions = unit(means, 1).view(images, number + 1, -1)[:, :number]  # (N, K, C)
    return (
        Entries(vectors.transpose(0, 1).flatten(1, 2), held.transpose(0, 1).flatten(1)),
        Entries(regions.transpose(0, 1), counts[:, :number].T > 0),
    )


class Memory(nn.Module):
    """One ring of vectors for each class; only what has been written counts.

    Args:
        num_classes: K.
        size: Q, entries of each class.
        channels: C.
    """

    queue: Tensor  # (K, Q, C)
    written: Tensor  # int64 (K,): how many entries were ever written; the last Q of them are held

    def __init__(self, num_classes: int, size: int, channels: int) -> None:
        super().__init__()
        self.register_buffer("queue", torch.zeros(num_classes, size, channels))
        self.register_buffer("written", torch.zeros(num_classes, dtype=torch.int64))

    def sample(self, number: int, draw: Tensor, own: Entries) -> tuple[Tensor, Tensor]:
        """Entries of each class, drawn without replacement; for a class without any, the batch's own.

        Args:
            number: S <= Q, of each class.
            draw: int64 scalar that decides the choice.
            own: of this batch.

        Returns:
            Vectors (K·S, C) and bool (K·S,): False in the place of an entry that does not exist.
        """
        places = torch.arange(self.queue.shape[1], device=draw.device)
        empty = places >= self.written[:, None]  # (K, Q)
        lot = drawn(draw, tuple(empty.shape)) + empty * 2**32
        chosen = lot.topk(number, dim=1, largest=False).indices  # (K, S)
        vectors = self.queue.gather(1, chosen[..., None].expand(-1, -1, self.queue.shape[2]))
        held = ~empty.gather(1, chosen)

        order = own.held.long().argsort(dim=1, descending=True, stable=True)[:, :number]
        missing = number - order.shape[1]
        own_vectors = own.vectors.gather(1, order[..., None].expand(-1, -1, own.vectors.shape[2]))
        own_vectors = F.pad(own_vectors, (0, 0, 0, missing))
        own_held = F.pad(own.held.gather(1, order), (0, missing))
        new = (self.written == 0)[:, None]
        vectors = torch.where(new[..., None], own_vectors, vectors.to(own_vectors.dtype))
        return vectors.flatten(0, 1), torch.where(new, own_held, held).flatten()

    @torch.no_grad()
    def write(self, own: Entries) -> None:
        """Put all ranks' entries into the rings, the oldest ones give way; at most Q of a class in one call."""
        vectors, held = (_of_all_ranks(each) for each in own)
        order = held.long().argsort(dim=1, descending=True, stable=True)[:, : self.queue.shape[1]]
        held = held.gather(1, order)
        # Places without an entry write back what is there: every index occurs once, and no shape depends on values.
        slots = (self.written[:, None] + torch.arange(order.shape[1], device=order.device)) % self.queue.shape[1]
        slots, order = (each[..., None].expand(-1, -1, self.queue.shape[2]) for each in (slots, order))
        new = vectors.gather(1, order).to(self.queue.dtype)
        self.queue.scatter_(1, slots, torch.where(held[..., None], new, self.queue.gather(1, slots)))
        self.written += held.sum(1)


def _of_all_ranks(entries: Tensor) -> Tensor:
    """(K, E, ...) of every rank, one behind the other: (K, ranks · E, ...)."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return entries
    gathered = [torch.empty_like(entries) for _ in range(distributed.get_world_size())]
    distributed.all_gather(gathered, entries.contiguous())
    return torch.cat(gathered, 1)
