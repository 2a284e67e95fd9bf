import io

import numpy as np
import pytest
from PIL import Image

from kd.constants import IGNORE
from kd.pictures import (
    BLUE,
    GAINED,
    LOST,
    STILL_WRONG,
    VOID,
    WRONG,
    as_rgb,
    changes,
    colourise,
    confusion_picture,
    differences,
    jpeg,
    label_png,
    marks_png,
    overlay,
    panel,
    png,
)

COLORS = [(255, 0, 0), (0, 255, 0)]
BLACK = np.zeros((1, 4, 3), np.uint8)


def opened(data):
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def test_labels_take_their_classes_colours_and_ignored_pixels_are_striped():
    labels = np.array([[0, 1, 255, 255], [1, 255, 255, 0]], np.uint8)
    red, green, (light, dark) = (255, 0, 0), (0, 255, 0), VOID
    expected = [[red, green, light, dark], [green, light, dark, red]]
    assert colourise(labels, COLORS).tolist() == [[list(color) for color in row] for row in expected]


def test_a_label_map_is_stored_as_indices_under_the_classes_colours():
    labels = np.array([[0, 1], [1, 1]], np.int64)
    stored = Image.open(io.BytesIO(label_png(labels, COLORS)))
    assert np.asarray(stored).tolist() == labels.tolist()
    assert opened(label_png(labels, COLORS)).tolist() == [[[255, 0, 0], [0, 255, 0]], [[0, 255, 0], [0, 255, 0]]]


def test_an_overlay_mixes_and_leaves_ignored_pixels_alone():
    image = np.full((1, 2, 3), 100, np.uint8)
    mixed = overlay(image, np.array([[0, 255]], np.uint8), COLORS, opacity=0.25)
    assert mixed.tolist() == [[[139, 75, 75], [100, 100, 100]]]


def shown_marks(marks):
    """The colours of a row of marks as a browser shows them; None where the PNG is transparent."""
    (row,) = np.asarray(Image.open(io.BytesIO(marks_png(marks))).convert("RGBA")).tolist()
    return [tuple(pixel[:3]) if pixel[3] else None for pixel in row]


def test_differences_are_marked_except_where_nothing_is_scored():
    marks = differences(np.array([[0, 1, 1, 0]]), np.array([[0, 0, 255, 0]]))
    assert shown_marks(marks) == [None, WRONG, None, None]


def test_changes_tell_gained_lost_and_still_wrong_apart():
    labels, before, after = np.array([[0, 0, 0, 0]]), np.array([[1, 0, 1, 0]]), np.array([[0, 1, 1, 0]])
    assert shown_marks(changes(before, after, labels)) == [GAINED, LOST, STILL_WRONG, None]
    assert shown_marks(changes(before, after, np.full((1, 4), 255))) == [None] * 4


def test_images_of_one_and_of_other_channels_are_grey():
    one = np.arange(4, dtype=np.uint8).reshape(1, 2, 2)
    assert as_rgb(one)[1, 0].tolist() == [2, 2, 2]
    assert as_rgb(np.concatenate([one, one + 9]))[1, 0].tolist() == [2, 2, 2]
    assert as_rgb(np.concatenate([one, one + 9, one + 18]))[1, 0].tolist() == [2, 11, 20]


def test_label_maps_survive_the_png_and_images_stay_photographs():
    labels = colourise(np.random.default_rng(0).integers(0, 2, (16, 16)), COLORS)
    assert (opened(png(labels)) == labels).all()
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    assert (opened(png(noise)) == noise).all()
    assert Image.open(io.BytesIO(jpeg(noise))).format == "JPEG"


def test_a_panel_puts_rows_of_images_under_their_titles():
    red, green = np.full((10, 20, 3), (255, 0, 0), np.uint8), np.full((10, 20, 3), (0, 255, 0), np.uint8)
    picture = opened(panel([("image", red), ("student", green)], [("", green), ("", red)], width=40))
    assert picture.shape == (26 + 20 + 6 + 20, 40 + 6 + 40, 3)
    assert picture[30, 10].tolist() == [255, 0, 0]
    assert picture[30, 60].tolist() == [0, 255, 0]
    assert picture[60, 10].tolist() == [0, 255, 0]
    assert (picture[:26] < 100).any()  # the titles
    with pytest.raises(ValueError, match=r"panel: rows have \[1, 2\] images; give each row the same columns"):
        panel([("a", red)], [("a", red), ("b", red)])


def cells(picture, classes):
    """The colour near each cell's corner, away from its number."""
    count, size = len(classes), len(picture)
    cell = min(max(640 // count, 4), 40)
    margin = size - cell * count - 1
    corners = margin + cell * np.arange(count) + 1
    return picture[corners[:, None], corners].tolist()


def test_a_confusion_matrix_is_dark_where_the_share_of_a_label_is_large():
    classes = ["sky", "road", "never"]
    picture = confusion_picture(np.array([[3, 1, 0], [0, 8, 0], [0, 0, 0]]), classes)
    white, blue, most = [255] * 3, list(BLUE), [round(255 + 0.75 * (channel - 255)) for channel in BLUE]
    drawn = cells(picture, classes)
    assert drawn[0][0] == most
    assert (drawn[0][2], drawn[1][1], drawn[1][0], drawn[2]) == (white, blue, white, [white] * 3)
    assert (picture.dtype, picture.shape[2]) == (np.uint8, 3)


def test_classes_are_named_beside_the_cells_where_there_is_room():
    for names in (["a very long name", "b"], ["a", "b"]):
        picture = confusion_picture(np.eye(2), names)
        margin = len(picture) - 2 * 40 - 1
        assert (picture[margin : margin + 40, :margin] < 128).any()  # beside its row
        assert (picture[:margin, margin : margin + 40] < 128).any()  # above its column
    many = confusion_picture(np.eye(150), [f"class {index}" for index in range(150)])
    assert len(many) == 150 * 4 + 8 + 1


@pytest.mark.parametrize("classes", [2, 3, 20])
def test_a_mask_as_png_keeps_indices_and_ignored_pixels_whatever_the_number_of_classes(classes):
    labels = np.array([[0, classes - 1, IGNORE]])
    colors = [(10 * label, 0, 5) for label in range(classes)]
    picture = Image.open(io.BytesIO(label_png(labels, colors)))
    assert np.asarray(picture).tolist() == labels.tolist()
    assert np.asarray(picture.convert("RGB"))[0, :2].tolist() == [[0, 0, 5], [10 * (classes - 1), 0, 5]]
