"""What every metric of `kd.metrics` keeps."""

import math
from inspect import signature
from pathlib import Path

import numpy as np
import pytest
import torch

import kd.metrics
from kd.metrics import Metric

PAGES = Path(__file__).resolve().parents[2] / "docs" / "metrics"
PUBLIC = [getattr(kd.metrics, name) for name in kd.metrics.__all__]
METRICS = [kind for kind in PUBLIC if isinstance(kind, type) and hasattr(kind, "update") and kind is not Metric]
CLASSES = 3


@pytest.fixture
def images():
    """Labels and probabilities of images of different sizes, some pixels ignored."""
    made = []
    for height, width in ((12, 16), (9, 7), (16, 16), (1, 5)):
        labels = torch.randint(0, CLASSES, (height, width))
        labels[:, -2:] = 255
        made.append((labels, torch.randn(CLASSES, height, width).softmax(0)))
    return made


def build(kind):
    """A metric as recipes build it: the number of classes goes to those that ask for it."""
    return kind(**({"num_classes": CLASSES} if "num_classes" in signature(kind).parameters else {}))


def measured(kind, images):
    metric = build(kind)
    for labels, probabilities in images:
        metric.update(labels, probabilities)
    return metric


def test_there_are_metrics():
    assert {"BoundaryIoU", "Confusion"} <= {kind.__name__ for kind in METRICS}


@pytest.mark.parametrize("kind", METRICS)
def test_it_has_all_that_the_protocol_asks_for(kind):
    metric = build(kind)
    assert isinstance(metric, Metric)
    assert isinstance(metric.unit, str)
    assert metric.direction in ("higher", "lower")


@pytest.mark.parametrize("kind", METRICS)
def test_states_of_parts_add_up_to_the_state_of_the_whole(kind, images):
    metric = measured(kind, images)
    whole, parts = metric.state(), [measured(kind, images[start::2]).state() for start in (0, 1)]
    assert all(isinstance(array, np.ndarray) for array in whole.values())
    total = {name: parts[0][name] + parts[1][name] for name in whole}
    assert all(np.allclose(total[name], whole[name], rtol=1e-12) for name in whole)
    values = metric.value(total)
    of_whole = metric.value(whole)
    assert {name: value and pytest.approx(value, rel=1e-12) for name, value in of_whole.items()} == values
    assert values
    assert all(value is None or math.isfinite(value) for value in values.values())


@pytest.mark.parametrize("kind", METRICS)
def test_ignored_pixels_change_nothing(kind, images):
    others = []
    for labels, probabilities in images:
        changed = torch.where(labels == 255, torch.rand(probabilities.shape).softmax(0), probabilities)
        others.append((labels, changed))
    one, other = (measured(kind, each) for each in (images, others))
    assert one.value(one.state()) == other.value(other.state())


@pytest.mark.parametrize("kind", METRICS)
def test_without_a_scored_pixel_nothing_is_defined(kind):
    metric = measured(kind, [(torch.full((6, 6), 255), torch.ones(CLASSES, 6, 6) / CLASSES)])
    assert set(metric.value(metric.state()).values()) == {None}


@pytest.mark.parametrize("kind", METRICS)
def test_it_has_a_page(kind):
    assert (PAGES / f"{kind.__module__.rpartition('.')[2]}.md").is_file()
