"""Which images a command line names, and the names of their predictions."""

import numpy as np
import pytest
from PIL import Image

from kd.deploy.prediction.photos import find_photos
from kd.errors import DataError


@pytest.fixture
def photos(folder):
    for name in ("trip/b.png", "trip/a.JPG", "trip/notes.txt", "towns/x/1.png", "towns/y/1.png", "new [1].png"):
        (folder / name).parent.mkdir(exist_ok=True, parents=True)
        if name.endswith(".txt"):
            (folder / name).touch()
        else:
            Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(folder / name)
    return folder


@pytest.mark.parametrize(
    ("inputs", "names"),
    [
        (["trip"], ["a", "b"]),  # text files are no images
        (["towns"], ["x/1", "y/1"]),  # folders in folders keep their names
        (["towns/*"], None),  # two images of one name
        (["trip/*.png", "new [1].png"], ["b", "new [1]"]),  # a pattern, and a name with its signs
        (["trip/b.png", "trip", "trip/../trip/b.png"], ["b", "a"]),  # each once
        (["**/y/*.png"], ["1"]),
    ],
)
def test_images_are_found_once_and_named_below_their_folder(photos, inputs, names):
    if names is None:
        with pytest.raises(DataError, match=r"^towns/y/1.png: has the same name as towns/x/1.png, and so have"):
            find_photos(inputs)
    else:
        assert [photo.name for photo in find_photos(inputs)] == names


def test_every_input_without_images_is_a_line(photos):
    (photos / "empty").mkdir()
    with pytest.raises(DataError) as caught:
        find_photos(["trip", "empty", "nowhere", "trip/*.tif"])
    assert caught.value.mistakes == [
        "empty: no image in this folder or below it",
        "nowhere: no such file or folder",
        "trip/*.tif: no file matches this pattern",
    ]


def test_earlier_predictions_are_left_out(photos):
    assert [photo.name for photo in find_photos(["towns"], without=[photos / "towns/y"])] == ["x/1"]


def test_folders_beside_images_are_not_read_and_a_line_states_it(photos):
    lines: list[str] = []
    (photos / "trip/day 2").mkdir()
    (photos / "trip/b.png").rename(photos / "trip/day 2/b.png")
    (photos / "trip/.thumbs").mkdir()
    (photos / "trip/out/masks").mkdir(parents=True)
    found = find_photos(["trip", "towns"], without=[photos / "trip/out/masks"], say=lines.append)
    assert [photo.name for photo in found] == ["a", "x/1", "y/1"]
    assert lines == ["trip: not read: 1 folder beside its images, such as day 2"]
