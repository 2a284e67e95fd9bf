"""Which images a page shows."""

import numpy as np
import pytest

from kd.compare.page.chosen import PREDICTED, Known, NoSuchImageError, choose, choose_shown, find_named, image_miou

NAMES = tuple(f"val/{index}.png" for index in range(40))


def test_best_median_and_worst_differences_are_shown_and_some_images_of_all():
    differences = np.array([0.0, 0.3, -0.2, np.nan, 0.1, 0.05, -0.4, 0.2])
    chosen = choose_shown(range(8), 4, differences)
    assert chosen == [(1, "best", 0.3), (5, "median", 0.05), (6, "worst", -0.4), (3, "spread", None)]
    assert {each.place for each in choose_shown(range(8), 12, differences)} == set(range(8))
    assert choose_shown(range(8), 4, None) == [(place, "spread", None) for place in (1, 3, 5, 7)]
    assert choose_shown([2, 5], 4, differences) == [(5, "best", 0.05), (2, "worst", -0.2)]


def test_an_images_miou_is_over_the_classes_in_it():
    counts = np.array([[[50, 50, 100], [0, 50, 0], [0, 0, 0]], [[0, 10, 0], [0, 0, 0], [0, 0, 0]]])
    # 50 of 100 pixels right, and 50 wrongly of the second class: IoU 0.5 and 0; an image without labels has none
    assert image_miou(counts).tolist()[:1] == [0.25]
    assert np.isnan(image_miou(counts)[1])


def test_of_many_images_the_first_twelve_have_every_kind():
    shown = choose_shown(range(40), 24, np.linspace(-0.2, 0.2, 40))
    assert [each.why for each in shown[:12]] == ["best"] * 3 + ["median"] * 3 + ["worst"] * 3 + ["spread"] * 3
    assert len({each.place for each in shown}) == 24


def test_all_images_whose_predictions_are_kept_can_be_chosen():
    kept = {NAMES[index] for index in (3, 8, 21)}
    shown = choose(Known(NAMES), kept, length=40)
    assert [each.place for each in shown] == [3, 8, 21]
    assert len(choose(Known(NAMES), kept, length=40, count=2)) == 2
    assert len(choose(Known(), kept, length=40)) == PREDICTED  # nothing is known of the names
    everything = choose(Known(NAMES), kept, length=40, count=100)
    assert len(everything) == 40


def test_named_images_come_first_and_once():
    differences = np.linspace(-0.2, 0.19, 40)
    shown = choose(Known(NAMES, differences), set(NAMES[:6]), length=40, count=5, named=[30, 2])
    assert [(each.place, each.why) for each in shown[:2]] == [(30, "chosen"), (2, "chosen")]
    assert shown[0].difference == pytest.approx(0.1)
    assert len({each.place for each in shown}) == 5
    assert {each.place for each in shown[2:]} < {0, 1, 3, 4, 5}
    assert len(choose(Known(NAMES), (), length=40, count=1, named=[5, 6])) == 2


@pytest.mark.parametrize("text", ["val/7.png", "7.png", "7", "val/7"])
def test_an_image_is_found_by_the_end_of_its_path(text):
    assert find_named([text], NAMES) == [7]


def test_every_image_of_that_name_is_meant():
    assert find_named(["a", "b/1"], ["x/a.png", "y/a.jpg", "b/1.png"]) == [0, 1, 2]


def test_a_name_that_no_image_has_is_an_error_with_some_that_exist():
    with pytest.raises(NoSuchImageError, match=r"--image 70: no val image has that name; such as val/0\.png, val/1"):
        find_named(["7", "70"], NAMES)
    with pytest.raises(NoSuchImageError, match=r"no val image has that name; did you mean 'one.png'\?"):
        find_named(["oen.png"], ["one.png", "two.png"])
