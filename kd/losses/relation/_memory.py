"""A memory of the teacher's vectors: one bounded queue per class."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, distributed, nn
from torch.nn import functional as F

from kd.losses._pixels import unit
from kd.losses.relation._pairs import segment_means, shuffled


class Entries(NamedTuple):
    """Up to E vectors per class that a batch offers to the queues."""

    vectors: Float[Tensor, "K E C"]  # of length 1
    held: Bool[Tensor, "K E"]  # False where a class has fewer vectors


def drawn(draw: Int64[Tensor, ""], shape: torch.Size | tuple[int, ...]) -> Int64[Tensor, "..."]:
    """`shuffled` integers in a tensor of `shape`."""
    return shuffled(draw, torch.Size(shape).numel()).view(shape)


def entries_of_each_class(
    rows: Float[Tensor, "N P C"],
    classes: Int64[Tensor, "N P"],
    number: int,
    per_image: int,
    keys: Int64[Tensor, "N P"],
) -> tuple[Entries, Entries]:
    """Select some pixels per class and image, and average each class in each image.

    Args:
        rows: vectors of length 1.
        classes: 0 … K-1; any other number belongs to no class.
        number: K.
        per_image: pixels per class and image, at most.
        keys: 0 … 2³²-1; the pixels with the lowest keys are taken.

    Returns:
        Pixels (K, N·per_image, C) and regions (K, N, C).
    """
    images, pixels = classes.shape
    group = classes.where((classes >= 0) & (classes < number), number)  # (N, P), 0 … K
    order = (group * 2**32 + keys).argsort(1)  # by class, then by key
    counts = group.new_zeros(images, number + 1).scatter_add(1, group, torch.ones_like(group))
    first = (counts.cumsum(1) - counts)[:, :number]  # (N, K): where a class begins in `order`
    place = torch.arange(per_image, device=rows.device)
    held = place < counts[:, :number, None]  # (N, K, per_image)
    index = order.gather(1, (first[..., None] + place).clamp(max=pixels - 1).flatten(1))
    vectors = rows.gather(1, index[..., None].expand(-1, -1, rows.shape[2]))
    vectors = vectors.view(images, number, per_image, -1)

    offset = torch.arange(images, device=rows.device)[:, None] * (number + 1)
    means, _ = segment_means(rows.flatten(0, 1), (group + offset).flatten(), images * (number + 1))
    regions = unit(means, 1).view(images, number + 1, -1)[:, :number]  # (N, K, C)
    return (
        Entries(vectors.transpose(0, 1).flatten(1, 2), held.transpose(0, 1).flatten(1)),
        Entries(regions.transpose(0, 1), counts[:, :number].T > 0),
    )


class Memory(nn.Module):
    """A ring of vectors per class; entries that were never written are not used.

    Args:
        num_classes: K.
        size: Q, entries per class.
        channels: C.
    """

    queue: Tensor  # (K, Q, C)
    written: Tensor  # int64 (K,): entries ever written; the last Q of them are held

    def __init__(self, num_classes: int, size: int, channels: int) -> None:
        super().__init__()
        self.register_buffer("queue", torch.zeros(num_classes, size, channels))
        self.register_buffer("written", torch.zeros(num_classes, dtype=torch.int64))

    def sample(
        self, number: int, draw: Int64[Tensor, ""], fallback: Entries
    ) -> tuple[Float[Tensor, "KS C"], Bool[Tensor, " KS"]]:
        """Draw entries of each class without replacement.

        Args:
            number: S <= Q, per class.
            draw: decides the choice.
            fallback: of this batch, for classes whose queue is empty.

        Returns:
            K·S vectors; False where an entry does not exist.
        """
        places = torch.arange(self.queue.shape[1], device=draw.device)
        empty = places >= self.written[:, None]  # (K, Q)
        lots = drawn(draw, tuple(empty.shape)) + empty * 2**32
        chosen = lots.topk(number, dim=1, largest=False).indices  # (K, S)
        vectors = self.queue.gather(1, chosen[..., None].expand(-1, -1, self.queue.shape[2]))
        held = ~empty.gather(1, chosen)

        order = fallback.held.long().argsort(dim=1, descending=True, stable=True)[:, :number]
        missing = number - order.shape[1]
        own_vectors = fallback.vectors.gather(1, order[..., None].expand(-1, -1, fallback.vectors.shape[2]))
        own_vectors = F.pad(own_vectors, (0, 0, 0, missing))
        own_held = F.pad(fallback.held.gather(1, order), (0, missing))
        new = (self.written == 0)[:, None]
        vectors = torch.where(new[..., None], own_vectors, vectors.to(own_vectors.dtype))
        return vectors.flatten(0, 1), torch.where(new, own_held, held).flatten()

    @torch.no_grad()
    def write(self, entries: Entries) -> None:
        """Replace the oldest entries by those of all ranks; at most Q per class in one call."""
        vectors, held = (_of_all_ranks(part) for part in entries)
        order = held.long().argsort(dim=1, descending=True, stable=True)[:, : self.queue.shape[1]]
        held = held.gather(1, order)
        # A place without an entry writes back what is there: every index occurs once, and no shape depends on values.
        slots = (self.written[:, None] + torch.arange(order.shape[1], device=order.device)) % self.queue.shape[1]
        slots, order = (index[..., None].expand(-1, -1, self.queue.shape[2]) for index in (slots, order))
        new = vectors.gather(1, order).to(self.queue.dtype)
        self.queue.scatter_(1, slots, torch.where(held[..., None], new, self.queue.gather(1, slots)))
        self.written += held.sum(1)


def _of_all_ranks(entries: Tensor) -> Tensor:
    """(K, E, ...) of every rank, concatenated: (K, ranks · E, ...)."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return entries
    gathered = [torch.empty_like(entries) for _ in range(distributed.get_world_size())]
    distributed.all_gather(gathered, entries.contiguous())
    return torch.cat(gathered, 1)
