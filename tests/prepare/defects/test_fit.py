"""Whether masks fit, on images that are drawn for it: three bright stripes that only their own mask has."""

import numpy as np
import pytest
import torch
from made_sets import made_set

from kd.prepare.defects.copies import GRID, look
from kd.prepare.defects.fit import misfits, of_the_set


def looks(count=12, *, change=None):
    """Images of a bright, a dark and a middle class: two rectangles at random places, their sides on whole cells."""
    random = np.random.default_rng(0)
    found = []
    for number in range(count):
        labels = np.zeros((GRID, GRID), np.uint8)
        for label in (1, 2):
            top, left = random.integers(5, 60, 2)
            labels[top : top + 24, left : left + 30] = label
        image = np.array([120, 200, 40], np.float64)[labels] + random.normal(0, 6, labels.shape)
        if change is not None:
            labels = np.ascontiguousarray(change(number, labels))
        image = torch.from_numpy(image.clip(0, 255).astype(np.uint8)).expand(3, -1, -1).contiguous()
        found.append(look(image, torch.from_numpy(labels), f"{number}.png"))
    return found


CLASSES = ("ground", "bright", "dark")


def test_masks_that_fit_are_not_reported():
    assert misfits(looks(), CLASSES) == ([], "")


def only(changed):
    return lambda number, labels: changed(labels) if number == 4 else labels


@pytest.mark.parametrize(
    ("change", "kind", "text"),
    [
        (lambda labels: np.roll(labels, 12, 1), "shifted mask", "it fits when it is moved 12 % of the width left"),
        (lambda labels: np.roll(labels, -10, 0), "shifted mask", "it fits when it is moved 10 % of the height down"),
        (lambda labels: labels[:, ::-1], "mirrored mask", "it fits when it is flipped left to right"),
        (lambda labels: labels[::-1, ::-1], "mirrored mask", "it fits when it is turned by 180°"),
        (
            lambda labels: np.choose(labels, [0, 2, 1]).astype(np.uint8),
            "inverted classes",
            "it fits when bright and dark are exchanged",
        ),
    ],
)
def test_a_mask_that_does_not_fit_is_named_with_what_would(change, kind, text):
    (found,), note = misfits(looks(change=only(change)), CLASSES)
    assert (found.image, found.kind, found.text, note) == (4, kind, text, "")


def exchanged(labels):
    first, second = np.unique(labels)[:2]
    return np.where(labels == first, second, np.where(labels == second, first, labels))


@pytest.mark.parametrize(
    ("seed", "number", "change", "kind"),
    [
        (
            37,
            3,
            exchanged,
            "inverted classes",
        ),  # worse than masks of other images
        (43, 5, exchanged, "inverted classes"),  # of four classes; one has a sixth of the image
        (
            49,
            19,
            lambda labels: np.roll(labels, labels.shape[1] // 8, 1),
            "shifted mask",
        ),  # most of it is still right
    ],
)
def test_masks_that_fit_badly_in_part_are_found(seed, number, change, kind):
    made = made_set(seed)
    found = []
    for index, (image, labels) in enumerate([*made.train, *made.val]):
        own = change(labels).astype(np.uint8) if index == number else labels
        found.append(look(torch.from_numpy(image).permute(2, 0, 1).contiguous(), torch.from_numpy(own), str(index)))
    kept = [each for each in found if len(each.classes) > 1]
    (misfit,), note = misfits(kept, made.classes)
    assert (kept[misfit.image].name, misfit.kind, note) == (str(number), kind, "")


def test_exchanged_masks_name_each_other():
    all_looks = looks()
    first, second = all_looks[2], all_looks[9]
    all_looks[2], all_looks[9] = first._replace(labels=second.labels), second._replace(labels=first.labels)
    found, _ = misfits(all_looks, CLASSES)
    assert {(misfit.image, misfit.kind, misfit.other) for misfit in found} == {
        (2, "swapped mask", 9),
        (9, "swapped mask", 2),
    }


@pytest.mark.parametrize(
    ("change", "kind", "text"),
    [
        (lambda _, labels: labels[::-1], "mirrored set", "all masks fit when they are flipped top to bottom"),
        (
            lambda _, labels: np.roll(labels, (-4, 7), (0, 1)),
            "shifted set",
            "all masks fit when they are moved 4 % of the height down and 7 % of the width left",
        ),
    ],
)
def test_what_concerns_all_masks_is_one_line(change, kind, text):
    (found,) = of_the_set(looks(change=change), 3)
    assert (found.image, found.kind, found.text) == (None, kind, text)


def test_where_images_show_nothing_of_the_classes_nothing_is_reported():
    random = np.random.default_rng(1)
    all_looks = [one._replace(labels=random.permutation(one.labels.ravel()).reshape(GRID, GRID)) for one in looks()]
    found, note = misfits(all_looks, CLASSES)
    assert found == []
    assert note.startswith("whether single masks fit their images is undecided")


def test_fewer_than_eight_are_too_few():
    assert misfits(looks(7), CLASSES)[1].endswith("fewer than 8 masks hold several classes")
