"""Scores of a real run against plain loops: nothing of `kd.scoring` is used to check it."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from ranks import kd, start, statuses, the_run, write_plain
from tiny import equal, read, run, weights, write_recipes

from kd.components import Maker
from kd.data.loader import evaluation_batches
from kd.parts.trained import load_network
from kd.recipe import baseline_of
from kd.runs import read_counts, read_metrics, read_result


def by_hand(network, images, starts):
    """Probabilities (N, 2, 48, 64) by plain loops: every scale, straight and mirrored, every window.

    Args:
        starts: scale -> the first rows and columns of the windows of 32 × 32.
    """
    size, total = (48, 64), 0
    for scale, (tops, lefts) in starts.items():
        scaled = images if scale == 1 else F.interpolate(images, scale_factor=scale, mode="bilinear")
        for mirrored in (False, True):
            inputs = scaled.flip(3) if mirrored else scaled
            sums, counts = torch.zeros(len(images), 2, *inputs.shape[2:]), torch.zeros(inputs.shape[2:])
            for top in tops:
                for left in lefts:
                    rows, columns = slice(top, top + 32), slice(left, left + 32)
                    logits = F.interpolate(network(inputs[..., rows, columns]).logits, (32, 32), mode="bilinear")
                    sums[..., rows, columns] += logits.softmax(1)
                    counts[rows, columns] += 1
            mean = sums / counts
            mean = mean.flip(3) if mirrored else mean
            total = total + F.interpolate(mean, size, mode="bilinear", antialias=True)
    return total / (2 * len(starts))


def counted(rows, columns):
    """A confusion matrix of two classes, in plain counts."""
    return torch.tensor([[((rows == r) & (columns == c)).sum() for c in (0, 1)] for r in (0, 1)])


@torch.no_grad()
def test_the_result_is_what_size_windows_scales_and_mirror_images_give_by_hand(tmp_path):
    options = "evaluate={size: [48, 64], window: [32, 32], scales: [1.0, 1.5], flip: true}"
    recipe = baseline_of(read(write_recipes(tmp_path), options))
    with torch.enable_grad():
        (run_dir,), _ = run(recipe, tmp_path / "runs")
        (plain,), _ = run(baseline_of(read(tmp_path / "student.yaml")), tmp_path / "runs")
    assert equal(weights(run_dir), weights(plain))  # scoring changes no training
    network, val = load_network(run_dir, trust=True), Maker(recipe).dataset("val")
    starts = {1.0: ((0, 16), (0, 16, 32)), 1.5: ((0, 20, 40), (0, 16, 32, 48, 64))}  # overlapping by a third at least
    expected = torch.zeros(2, 2, dtype=torch.int64)
    for batch in evaluation_batches(val, (48, 64), batch_size=4):
        logs = by_hand(network, batch.images.float() / 255, starts).log()
        predictions = F.interpolate(logs, (32, 32), mode="bilinear", antialias=True).argmax(1)
        expected += sum(counted(*maps) for maps in zip(batch.labels, predictions, strict=True))
    result = torch.from_numpy(read_result(run_dir).splits["val"].confusion)
    assert (result - expected).abs().sum() <= 4  # of 12 · 32 · 32 pixels: two may be near a tie
    assert (torch.from_numpy(read_result(plain).splits["val"].confusion) - expected).abs().sum() > 40


@torch.no_grad()
def test_agreement_is_the_share_of_pixels_that_both_predict_alike(tmp_path):
    recipe = read(write_recipes(tmp_path), "train.steps=30", "train.evaluate_every=30")
    with torch.enable_grad():
        (run_dir,), _ = run(recipe, tmp_path / "runs")
    teacher_dir = tmp_path / "runs" / read_result(run_dir).teacher.run
    networks = [load_network(folder, trust=True) for folder in (run_dir, teacher_dir)]
    same = pixels = 0
    for batch in evaluation_batches(Maker(recipe).dataset("val"), (32, 32), batch_size=4):
        logits = [network(batch.images.float() / 255).logits for network in networks]
        student, teacher = (F.interpolate(maps, (32, 32), mode="bilinear").argmax(1) for maps in logits)
        same, pixels = same + (student == teacher).sum().item(), pixels + student.numel()
    (line,) = [line for line in read_metrics(run_dir) if "agreement/pixel_accuracy" in line]
    assert line["agreement/pixel_accuracy"] == pytest.approx(same / pixels, abs=4 / pixels)
    assert 0.5 < same / pixels < 1


METRICS = "evaluate.metrics=[{use: kd.metrics.BoundaryIoU}, {use: kd.metrics.BoundaryIoU, args: {ratio: 0.1}}]"


def test_each_images_counts_are_kept_and_two_processes_keep_the_same(tmp_path):
    recipe = read(write_plain(tmp_path / "one"), METRICS, "data.args={count: 7}")
    (alone,), _ = run(recipe, tmp_path / "one" / "runs")
    network, val = load_network(alone, trust=True), Maker(recipe).dataset("val")
    (batch,) = evaluation_batches(val, (32, 32), batch_size=7)
    expected = []
    for image, labels in zip(batch.images, batch.labels, strict=True):
        predicted = F.interpolate(network(image[None].float() / 255).logits, (32, 32), mode="bilinear")[0].argmax(0)
        masks = [((predicted == k) & (labels == k), predicted == k, labels == k) for k in (0, 1)]
        expected.append([[int(mask.sum()) for mask in of_class] for of_class in masks])
    names, counts, _ = read_counts(alone)["val"]
    assert names == tuple(f"stripes {index}" for index in range(7))
    assert counts.tolist() == expected
    write_plain(tmp_path / "two")
    assert statuses(start(2, kd(tmp_path / "two", METRICS, "data.args={count: 7}"))) == [0, 0]
    both = the_run(tmp_path / "two")
    result, two = read_result(both), read_counts(both)["val"]
    assert two.names == names
    assert (np.abs(two.counts - counts).sum(axis=(0, 1)) <= 8).all()  # weights that differ in the last digits
    split = result.splits["val"]
    sums = (split.confusion.diagonal(), split.confusion.sum(0), split.confusion.sum(1))
    assert two.counts.sum(0).T.tolist() == [counts.tolist() for counts in sums]
    for scored in (split, result.teacher.splits["val"]):
        assert list(scored.metrics) == ["BoundaryIoU", "BoundaryIoU(ratio=0.1)"]
        assert all(0 <= metric.headline <= 1 for metric in scored.metrics.values())
    for label, metric in split.metrics.items():
        assert metric.headline == pytest.approx(read_result(alone).splits["val"].metrics[label].headline, abs=0.02)
