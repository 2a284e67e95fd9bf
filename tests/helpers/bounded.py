"""A memory of a few bytes: it counts the tensors that a job makes, and runs out of them as a GPU does."""

import weakref

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class BoundedMemory:
    """Memory of `size` bytes for `kd.train.auto.fit`; `most` is the peak of all its jobs."""

    def __init__(self, size, *, tries=True, error=torch.OutOfMemoryError):
        self.size, self.tries, self.most, self.jobs = size, tries, 0, 0
        self.error = error

    def free(self):
        return self.size

    def peak_of(self, job):
        self.jobs += 1
        count = Count(self.size, self.error)
        try:
            with count:
                job()
        finally:
            self.most = max(self.most, count.peak)
        return count.peak


class Count(TorchDispatchMode):
    def __init__(self, size, error):
        super().__init__()
        self.size, self.now, self.peak, self.error = size, 0, 0, error
        self.known = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        given = {storage._cdata for storage in storages((args, kwargs))}
        result = func(*args, **(kwargs or {}))
        for storage in storages(result):
            if storage._cdata not in given and storage._cdata not in self.known:
                self.add(storage)
        return result

    def add(self, storage):
        key, size = storage._cdata, storage.nbytes()

        def freed(_):
            self.now -= size
            del self.known[key]

        self.known[key] = weakref.ref(storage, freed)
        self.now += size
        self.peak = max(self.peak, self.now)
        if self.now > self.size:
            raise self.error(f"{self.now} of {self.size} bytes")


def storages(tree):
    return [leaf.untyped_storage() for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]
