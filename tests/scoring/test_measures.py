"""The further metrics of a recipe: built, checked, and given each image."""

import pickle
import re

import numpy as np
import pytest
import torch
from painted import CPU, Painted, Red, Where

from kd.components import Maker
from kd.errors import RecipeError
from kd.recipe import read_recipe
from kd.scoring import check_metrics, make_metrics, score, score_beside

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


class Overwrites(Seen):
    def update(self, labels, probabilities):
        labels[labels == 255] = 0


class Unitless(Seen):
    unit = None


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
        ("Unitless", "my.py:Unitless: unit must be text, such as '%' or '', got None"),
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


def test_a_metric_that_changes_what_others_read_is_named(tmp_path):
    (line,) = check_metrics(recipe_with(tmp_path, "my.py:Overwrites"), torch.zeros(8, 8).long(), torch.randn(2, 4, 4))
    assert line.endswith(
        "my.py:Overwrites: update() changes its labels or probabilities, which other metrics read, in place; change "
        "a copy of them, such as labels.clone()"
    )


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
