"""Predictions of whole images, in windows, mirrored and at several scales."""

from itertools import pairwise

import pytest
import torch
from painted import CPU, Painted, Red, Where
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from kd.metrics import confusion_matrix
from kd.recipe import EvaluateConfig
from kd.scoring import at_size, full_size, predict
from kd.scoring.predicting import _starts

IMAGES = torch.randint(0, 256, (2, 3, 40, 50), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)


def test_predictions_have_two_classes_and_any_size():
    logits = predict(Red(), Painted()[0, 0].image[None], CPU)
    assert logits.shape == (1, 2, 8, 8)
    assert full_size(logits[0], (16, 16)).shape == (16, 16)
    labels = full_size(logits[0], (8, 8))
    assert confusion_matrix(labels, labels, 2).tolist() == [[32, 0], [0, 32]]


def test_the_classes_of_a_large_image_are_found_without_its_logits():
    """They would be 150 × 1024 × 1024 numbers; the largest tensor on the way is a band of them."""
    logits, largest = torch.rand(150, 16, 16), 0

    class Largest(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            nonlocal largest
            made = function(*args, **(kwargs or {}))
            largest = max(largest, *(t.numel() for t in pytree.tree_leaves(made) if isinstance(t, torch.Tensor)), 0)
            return made

    with Largest():
        found = full_size(logits, (1024, 1024))
    assert torch.equal(found, at_size(logits, (1024, 1024)).argmax(0))
    assert largest == 150 * 64 * 1024


def test_a_network_that_changes_its_images_in_place_sees_the_same_ones_in_every_pass():
    class InPlace(Where):
        def forward(self, images):
            copied = super().forward(images.clone())
            images.zero_()
            return copied

    in_place, right = InPlace(), Where()
    in_place.conv = right.conv = torch.nn.Conv2d(1, 2, 1)  # full rows of one channel are contiguous in the image
    for how in (EvaluateConfig(scales=(1.0, 0.5), flip=True), EvaluateConfig(window=(32, 50))):
        assert torch.equal(*(predict(network, IMAGES[:1, :1], CPU, how) for network in (in_place, right)))


def test_windows_of_a_network_of_single_pixels_give_the_whole_image():
    network = Where()
    whole = predict(network, IMAGES, CPU).softmax(1)
    slid = predict(network, IMAGES, CPU, EvaluateConfig(window=(32, 32)))
    assert network.sizes == [(40, 50)] + [(32, 32)] * 4
    torch.testing.assert_close(slid.exp(), whole)


@pytest.mark.parametrize(("length", "window"), [(40, 32), (100, 32), (32, 32), (33, 32), (1000, 48)])
def test_windows_reach_from_edge_to_edge_and_overlap_by_a_third(length, window):
    starts = _starts(length, window)
    assert (starts[0], starts[-1] + window) == (0, length)
    assert all(0 < after - before <= window * 2 // 3 + 1 for before, after in pairwise(starts))


def test_a_window_larger_than_the_image_is_the_image():
    network = Where()
    predict(network, IMAGES, CPU, EvaluateConfig(window=(64, 64)))
    assert network.sizes == [(40, 50)]


def test_the_mirror_image_removes_what_depends_on_the_side():
    network = Where(left=2.0)
    averaged = predict(network, IMAGES, CPU, EvaluateConfig(flip=True)).exp()
    straight = predict(network, IMAGES, CPU).softmax(1)
    mirrored = predict(network, IMAGES.flip(3), CPU).softmax(1).flip(3)
    torch.testing.assert_close(averaged, (straight + mirrored) / 2)
    torch.testing.assert_close(predict(network, IMAGES.flip(3), CPU, EvaluateConfig(flip=True)).exp().flip(3), averaged)


def test_scales_are_averaged_as_probabilities_at_the_images_size():
    network = Where()
    averaged = predict(network, IMAGES, CPU, EvaluateConfig(scales=(0.5, 1.0)))
    assert network.sizes == [(20, 25), (40, 50)]
    assert averaged.shape == (2, 2, 40, 50)
    torch.testing.assert_close(averaged.exp().sum(1), torch.ones(2, 40, 50))
    same = predict(network, IMAGES, CPU, EvaluateConfig(scales=(1.0, 1.0))).exp()
    torch.testing.assert_close(same, predict(network, IMAGES, CPU).softmax(1))
