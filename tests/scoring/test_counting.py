"""Scores and agreements at each label map's own size."""

import numpy as np
import torch
from painted import CPU, Painted, Red
from torch import nn

from kd.recipe import EvaluateConfig
from kd.scoring import score, score_beside
from kd.types import SegmentationOutput


def test_the_score_is_taken_at_each_label_maps_own_size():
    network = Red()
    network.frozen.eval()
    result = score(network, Painted(), size=(16, 8), precision=CPU, batch_size=2)
    pixels = (8 + 16 + 24 - 3) * 4
    assert result.confusion.tolist() == [[pixels, 0], [0, pixels]]
    assert (result.classes, result.images) == (["dark", "bright"], 3)
    assert network.was_training is False


def test_training_modes_are_restored_module_by_module():
    network = Red()
    network.frozen.eval()
    score(network, Painted(), size=(16, 8), precision=CPU)
    assert (network.norm.training, network.frozen.training) == (True, False)


def test_scoring_draws_no_random_numbers():
    before = torch.get_rng_state()
    score(Red(), Painted(), size=(16, 8), precision=CPU)
    assert torch.equal(before, torch.get_rng_state())


def test_a_score_takes_window_scales_and_flip():
    network = Red()
    how = EvaluateConfig(window=(32, 32), scales=(1.0, 2.0), flip=True)
    result = score(network, Painted(), size=(16, 8), precision=CPU, how=how)
    assert result == score(network, Painted(), size=(16, 8), precision=CPU)


class AllBright(nn.Module):
    def forward(self, images):
        return SegmentationOutput(torch.ones_like(images[:, :1]), {}, {})


def beside(network, teacher):
    """The network's score, and its agreement with the teacher."""
    counts = score_beside(network, teacher, Painted(), size=(16, 8), precision=CPU)
    return [counted.result([counted.share]) for counted in counts]


def test_agreement_is_the_score_with_the_teachers_classes_as_labels():
    by_labels, by_teacher = beside(Red(), AllBright())
    assert by_labels == score(Red(), Painted(), size=(16, 8), precision=CPU)
    pixels = (8 + 16 + 24 - 3) * 4  # each half of the labelled pixels
    assert by_teacher.confusion.tolist() == [[0, 0], [pixels, pixels]]
    assert beside(Red(), Red())[1] == by_labels
    assert score_beside(Red(), None, Painted(), size=(16, 8), precision=CPU)[1] is None


def test_each_images_counts_add_up_to_the_confusion_matrix():
    class Half(Red):
        def forward(self, images):
            logits = images[:, :1] - 0.5
            logits[..., :2, :] *= -1  # wrong in the upper rows
            return SegmentationOutput(logits, {}, {})

    result = score(Half(), Painted(), size=(16, 8), precision=CPU, batch_size=2)
    names, counts, _ = result.per_image
    assert names == ("image 0", "image 1", "image 2")
    assert (counts.shape, counts.dtype) == ((3, 2, 3), np.int64)
    assert counts[:, 0, 2].tolist() == [7 * 4, 15 * 4, 23 * 4]  # labelled dark, a row of each image ignored
    assert 0 < counts[..., 0].sum() < counts[..., 2].sum()
    intersection, predicted, labelled = counts.sum(0).T
    assert intersection.tolist() == result.confusion.diagonal().tolist()
    assert predicted.tolist() == result.confusion.sum(0).tolist()
    assert labelled.tolist() == result.confusion.sum(1).tolist()
