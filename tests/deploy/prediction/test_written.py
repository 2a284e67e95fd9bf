"""The files of a prediction: drawn in bands, they are those of the whole picture."""

import io
from types import SimpleNamespace

import numpy as np
from PIL import Image

from kd.deploy.prediction.written import Prediction, write
from kd.pictures import BAND, as_rgb, colourise, jpeg, overlay

COLORS = ((0, 0, 0), (255, 255, 0))


def test_pictures_of_several_bands_are_those_of_the_whole_image(tmp_path):
    random = np.random.default_rng(0)
    height, width = 2 * BAND + 7, 12
    image = as_rgb(random.integers(0, 256, (3, height, width), dtype=np.uint8))
    classes = random.integers(0, 2, (height, width), dtype=np.uint8)
    trained = SimpleNamespace(colors=COLORS, classes=("a", "b"))
    write(Prediction("x", image, classes, None), trained, tmp_path, ["masks", "color", "overlay"])
    assert (np.asarray(Image.open(tmp_path / "masks/x.png")) == classes).all()
    assert (np.asarray(Image.open(tmp_path / "color/x.png")) == colourise(classes, COLORS)).all()
    whole = Image.open(io.BytesIO(jpeg(overlay(image, classes, COLORS))))
    assert (np.asarray(Image.open(tmp_path / "overlay/x.jpg")) == np.asarray(whole)).all()
