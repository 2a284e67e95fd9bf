import pickle
import re
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from kd.components import Maker
from kd.errors import RecipeError
from kd.machine import Precision
from kd.metrics import confusion_matrix
from kd.recipe import EvaluateConfig, read_recipe
from kd.scoring import (
    at_size,
    check_metrics,
    full_size,
    make_metrics,
    predict,
    reestimate_batchnorm,
    score,
    score_beside,
)
from kd.scoring.predicting import _starts
from kd.types import Sample, SegmentationOutput

CPU = Precision(torch.device("cpu"), torch.float32, torch.contiguous_format)


class Painted(NamedTuple):
    """Three images whose red channel encodes the class; label maps of different sizes."""

    class_names: tuple[str, ...] = ("dark", "bright")
    colors: tuple[tuple[int, int, int], ...] = ((0, 0, 0), (255, 255, 255))
    in_channels: int = 3

    def __len__(self):
        return 3

    def __getitem__(self, key):
        index, _ = key
        height = 8 * (index + 1)
        image = torch.zeros(3, height, 8, dtype=torch.uint8)
        image[0, :, 4:] = 255
        labels = torch.zeros(height, 8, dtype=torch.uint8)
        labels[:, 4:] = 1
        labels[0] = 255
        return Sample(image, labels, f"image {index}")


class Red(nn.Module):
    """Predicts "bright" where red is above a half."""

    def __init__(self):
        super().__init__()
        self.frozen = nn.BatchNorm2d(3).eval()
        self.norm = nn.BatchNorm2d(3)
        self.was_training = None

    def forward(self, images):
        self.was_training = self.norm.training
        return SegmentationOutput(images[:, :1] - 0.5, {}, {})


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


def test_batchnorm_is_reestimated_from_the_batches_alone():
    network = nn.Sequential(nn.BatchNorm2d(3, momentum=0.01))
    network[0].running_mean.fill_(7.0)
    images = torch.full((4, 3, 2, 2), 51, dtype=torch.uint8)
    reestimate_batchnorm(network, iter([images, images]), CPU)
    assert torch.allclose(network[0].running_mean, torch.full((3,), 0.2))
    assert network[0].momentum == 0.01


def test_a_frozen_part_keeps_its_statistics_when_batchnorm_is_reestimated():
    network = nn.Sequential(nn.BatchNorm2d(3), nn.BatchNorm2d(3))
    network[0].running_mean.fill_(0.2)
    network[0].eval()
    images = torch.full((4, 3, 2, 2), 51, dtype=torch.uint8)
    reestimate_batchnorm(network, iter([images, images]), CPU)
    assert torch.equal(network[0].running_mean, torch.full((3,), 0.2))
    assert network[1].running_mean.abs().max() < 1e-6
    assert (network[0].training, network[1].training) == (False, True)


class Where(nn.Module):
    """Two classes from one convolution and the column of a pixel; records the sizes of its inputs."""

    def __init__(self, *, left=0.0):
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 1)
        nn.init.normal_(self.conv.weight, std=3.0, generator=torch.Generator().manual_seed(0))
        self.left, self.sizes = left, []

    def forward(self, images):
        self.sizes.append(tuple(images.shape[-2:]))
        logits = self.conv(images)
        logits[:, 1] += self.left * torch.linspace(1, -1, images.shape[3])
        return SegmentationOutput(logits, {}, {})


IMAGES = torch.randint(0, 256, (2, 3, 40, 50), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)


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


METRICS = '''
import numpy as np


class Seen:
    """Sums of what a metric is given."""

    unit, direction = "px", "lower"

    def __init__(self, num_classes, scale=1.0):
        self.classes, self.scale, self.total = num_classes, scale, np.zeros(3)

    def update(self, labels, probabilities):
        assert str(labels.dtype) == "torch.int64"
        assert probabilities.shape == (self.classes, *labels.shape)
        self.total += [1, (labels != 255).sum(), probabilities.sum()]

    def state(self):
        return {"total": self.total}

    def value(self, state):
        images, valid, probability = state["total"] * self.scale
        return {"valid": valid, "images": images, "probability": probability, "never": float("nan"), "none": None}


class Raises(Seen):
    def update(self, labels, probabilities):
        return 1 / 0


class Refuses(Seen):
    def value(self, state):
        raise ValueError("nothing was seen")


class Empty(Seen):
    def value(self, state):
        return {}


class Sideways(Seen):
    direction = "left"


class Half:
    unit, direction = "%", "higher"

    def update(self, labels, probabilities):
        pass


class Wide(Seen):
    def __init__(self, channels):
        pass


class Spacings(Half):
    def __init__(self):
        self.seen = []

    def update(self, labels, probabilities, spacing):
        self.seen.append(spacing)

    def state(self):
        return {}

    def value(self, state):
        return {"none": None}
'''
RECIPE = """
student: {use: students.MobileNetV3SmallASPP}
data: {use: kd.data.Shapes, args: {count: 4}, size: [64, 64]}
supervised: {use: kd.losses.CrossEntropy}
optimizer: {use: torch.optim.SGD, args: {lr: 0.1}}
train: {epochs: 1, batch_size: 2}
"""


def recipe_with(folder, *metrics):
    (folder / "my.py").write_text(METRICS)
    listed = ", ".join(metric if metric.startswith("{") else f"{{use: '{metric}'}}" for metric in metrics)
    (folder / "r.yaml").write_text(RECIPE + (f"evaluate: {{metrics: [{listed}]}}\n" if metrics else ""))
    return read_recipe(folder / "r.yaml", trust=True)


def test_a_metric_sees_each_image_at_its_labels_size_and_states_of_processes_add_up(tmp_path):
    recipe = recipe_with(tmp_path, "my.py:Seen", "{use: 'my.py:Seen', args: {scale: 2.0}}", "kd.metrics.Confusion")
    metrics = make_metrics(recipe, 2)
    assert list(metrics) == ["Seen", "Seen(scale=2.0)", "Confusion"]
    whole = score(Red(), Painted(), size=(16, 8), precision=CPU, metrics=metrics)
    valid, pixels = (7 + 15 + 23) * 8, (8 + 16 + 24) * 8
    seen = {"valid": valid, "images": 3, "probability": pytest.approx(pixels), "never": None, "none": None}
    assert whole.metrics["Seen"] == (seen, "px", "lower")
    assert whole.metrics["Seen(scale=2.0)"].headline == 2 * valid
    assert whole.metrics["Confusion"].values == dict.fromkeys(whole.metrics["Confusion"].values, 1.0)
    assert list(whole.metrics["Confusion"].values) == ["miou", "pixel_accuracy", "mean_accuracy", "mean_dice"]
    shares = []
    for rank in range(2):
        measures = make_metrics(recipe, 2)
        counted, _ = score_beside(
            Red(), None, Painted(), size=(16, 8), precision=CPU, metrics=measures, rank=rank, world=2
        )
        shares.append(pickle.loads(pickle.dumps(counted.share)))
    together = counted.result(shares)
    assert together == whole
    assert together.per_image.names == whole.per_image.names
    assert np.array_equal(together.per_image.counts, whole.per_image.counts)


def test_a_metric_that_takes_it_receives_the_size_of_each_images_pixels(tmp_path):
    class Spaced(Painted):
        def spacing(self, index):
            return (0.5 + index, 2.0)

    seen = []
    for rank in range(2):
        recipe = recipe_with(tmp_path, "my.py:Spacings", "kd.metrics.SurfaceDistance")
        measures = make_metrics(recipe, 2)
        score_beside(Red(), None, Spaced(), size=(16, 8), precision=CPU, metrics=measures, rank=rank, world=2)
        seen.append(measures["Spacings"].metric.seen)
        assert measures["SurfaceDistance"].metric.unit == "mm"
    assert seen == [[(0.5, 2.0), (2.5, 2.0)], [(1.5, 2.0)]]
    measures = make_metrics(recipe, 2)
    score(Red(), Painted(), size=(16, 8), precision=CPU, metrics=measures)
    assert measures["Spacings"].metric.seen == [None, None, None]


def test_further_metrics_change_no_confusion_matrix(tmp_path):
    metrics = make_metrics(recipe_with(tmp_path, "kd.metrics.BoundaryIoU"), 2)
    plain = score(Where(), Painted(), size=(16, 8), precision=CPU)
    assert plain.metrics == {}
    assert (score(Where(), Painted(), size=(16, 8), precision=CPU, metrics=metrics).confusion == plain.confusion).all()


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("Raises", r"my.py:Raises raised ZeroDivisionError: division by zero \(my.py:28\)"),
        ("Refuses", r"my.py:Refuses: nothing was seen \(my.py:33\)"),
        ("Empty", r"my.py:Empty: value\(\) returned no numbers; return at least one, by name"),
        ("Sideways", "my.py:Sideways: direction must be 'higher' or 'lower', got 'left'"),
        ("Half", r"my.py:Half has no state, value \(my.py:45\); see docs/add-a-metric.md"),
    ],
)
def test_a_metric_that_fails_is_reported_in_one_line_before_training_and_in_a_score(tmp_path, name, fault):
    recipe = recipe_with(tmp_path, f"my.py:{name}")
    (line,) = check_metrics(recipe, torch.zeros(8, 8, dtype=torch.uint8), torch.randn(2, 4, 4))
    assert re.fullmatch(rf"{tmp_path}/r\.yaml:7:22: evaluate\.metrics\.0: {fault}", line)
    with pytest.raises(RecipeError) as caught:
        score(Red(), Painted(), size=(16, 8), precision=CPU, metrics=make_metrics(recipe, 2))
    assert caught.value.mistakes == [line]


def test_good_metrics_pass_and_all_bad_ones_are_named(tmp_path):
    maps = torch.full((8, 8), 255), torch.randn(3, 8, 8)
    assert check_metrics(recipe_with(tmp_path), *maps) == []
    good = recipe_with(tmp_path, "my.py:Seen", "kd.metrics.BoundaryIoU", "kd.metrics.Confusion")
    assert check_metrics(good, *maps) == []
    Maker(good).check()
    bad = recipe_with(tmp_path, "my.py:Raises", "my.py:Seen", "my.py:Empty")
    assert [line.split(": ")[1] for line in check_metrics(bad, *maps)] == ["evaluate.metrics.0", "evaluate.metrics.2"]


def test_the_call_of_a_metric_is_checked(tmp_path):
    for metric, fault in (
        ("{use: kd.metrics.BoundaryIoU, args: {rato: 0.1}}", "takes no 'rato'; did you mean 'ratio'?"),
        ("{use: kd.metrics.BoundaryIoU, args: {num_classes: 3}}", "'num_classes' is set by the engine; remove it"),
        ("my.py:Wide", "my.py:Wide needs 'channels'"),
        ("kd.metrics.BoundryIoU", "kd.metrics has no 'BoundryIoU'; did you mean 'BoundaryIoU'?"),
    ):
        with pytest.raises(RecipeError) as caught:
            Maker(recipe_with(tmp_path, metric)).check()
        (line,) = caught.value.mistakes
        assert ": evaluate.metrics.0" in line
        assert line.endswith(fault)


def test_metrics_change_the_id_and_an_empty_list_does_not(tmp_path):
    ids = {recipe_with(tmp_path, *metrics).id for metrics in ([], ["kd.metrics.BoundaryIoU"], ["my.py:Seen"])}
    assert len(ids) == 3
    plain = recipe_with(tmp_path)
    for overrides in ([], ["evaluate.flip=true"]):
        without, empty = (read_recipe(plain.file, [*overrides, *more]) for more in ([], ["evaluate.metrics=[]"]))
        assert without.id == empty.id


def test_a_metric_is_listed_once(tmp_path):
    fault = "evaluate.metrics: each metric must be given once, got BoundaryIoU 2 times"
    with pytest.raises(RecipeError, match=fault):
        recipe_with(tmp_path, "kd.metrics.BoundaryIoU", "kd.metrics.BoundaryIoU")
