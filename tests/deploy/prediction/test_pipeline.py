"""Batches that are computed side by side: the values of one after the other, and each with its share of the cores."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

from kd.deploy.prediction import pipeline
from kd.deploy.prediction.pipeline import a_core_for_each_batch, computing, side_by_side
from kd.evaluation.trained import Identity, Trained
from kd.recipe import read_recipe
from kd.runtimes.exported import FileNetwork
from kd.types import SegmentationOutput

RECIPE = """
student: {use: students.MobileNetV3SmallASPP}
data: {use: kd.data.Shapes, size: [32, 32]}
supervised: {use: kd.losses.CrossEntropy}
optimizer: {use: torch.optim.SGD, args: {lr: 0.1}}
train: {steps: 1, batch_size: 4, precision: fp32, memory_format: contiguous}
device: cpu
"""


class Keeping(nn.Module):
    """Keeps its images in itself until as many passes as `together` waits for have begun."""

    together = threading.Barrier(1)

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.head = nn.Conv2d(3, 2, 1)
        self.images = None

    def forward(self, images):
        self.images = images
        type(self).together.wait(600)  # seconds: a slow machine may pause
        return SegmentationOutput(self.head(self.images), {}, {})


class Locked(Keeping):
    """The same, but it cannot be copied."""

    def __init__(self):
        super().__init__()
        self.lock = threading.Lock()


def trained(network, tmp_path):
    """A network that a recipe without teacher trained."""
    (tmp_path / "r.yaml").write_text(RECIPE)
    recipe = read_recipe(tmp_path / "r.yaml")
    identity = Identity("r", recipe.id, 0, "student", "nets.py:Net")
    return Trained(tmp_path, recipe, network.eval(), identity, ("a", "b"), ((0, 0, 0), (9, 9, 9)), 3)


def batches(count):
    generator = torch.Generator().manual_seed(0)
    return [torch.randint(0, 256, (2, 3, 8, 8), dtype=torch.uint8, generator=generator) for _ in range(count)]


@pytest.mark.parametrize(("kind", "at_once"), [(Keeping, 3), (Locked, 1)])
def test_threads_get_the_values_of_one_thread(kind, at_once, tmp_path, monkeypatch):
    images = batches(6)
    compute = computing(trained(kind(), tmp_path))
    expected = [compute(batch) for batch in images]
    monkeypatch.setattr(Keeping, "together", threading.Barrier(at_once))
    network = kind()
    compute = computing(trained(network, tmp_path), 3)
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(compute, images))
    assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))


def test_copies_share_the_weights(tmp_path, monkeypatch):
    network = Keeping()
    pointers = set()
    monkeypatch.setattr(pipeline, "predict", lambda taken, *_: pointers.add((id(taken), taken.head.weight.data_ptr())))
    compute = computing(trained(network, tmp_path), 3)
    for batch in batches(3):
        compute(batch)
    assert len(pointers) == 3
    assert {pointer for _, pointer in pointers} == {network.head.weight.data_ptr()}


def hooked():
    network = Keeping()
    network.head.register_forward_hook(lambda *_: None)
    return network


@pytest.mark.parametrize(
    ("make", "images", "threads", "at_a_time"),
    [
        (Keeping, 1, 8, 1),  # one batch gets all cores
        (Keeping, 4, 8, 1),
        (Keeping, 5, 4, 2),
        (Keeping, 9, 2, 4),
        (Keeping, 500, 2, 4),  # 16 images at a time
        (hooked, 500, 8, 1),
        (lambda: FileNetwork(lambda images: images, 2, dtype="uint8", output="logits"), 500, 8, 1),
    ],
)
def test_the_cores_are_shared_out_among_batches(make, images, threads, at_a_time, tmp_path, monkeypatch):
    monkeypatch.setattr(pipeline, "cores", lambda: 8)
    before = torch.get_num_threads()
    network = trained(make(), tmp_path)
    try:
        torch.set_num_threads(8)
        with a_core_for_each_batch(network, images):
            assert torch.get_num_threads() == threads
            assert side_by_side(network, 8 // threads) == at_a_time
        assert torch.get_num_threads() == 8
    finally:
        torch.set_num_threads(before)
