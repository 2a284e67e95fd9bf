"""What `kd data` shows: shares that can be counted by hand, and pictures of what training sees."""

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from kd.prepare.sheet import Sheet, Shown, make_sheet, sheet_page, sheet_png
from kd.recipe import read_recipe

RECIPE = """
student: {use: students.MobileNetV3SmallASPPLite}
data:
  use: kd.data.Folders
  args: {root: ., classes: [left, right], images: "{split}/images", masks: "{split}/masks"}
  size: [32, 32]
  crop: [40, 32]
  workers: 0
supervised: {use: kd.losses.CrossEntropy}
optimizer: {use: torch.optim.SGD, args: {lr: 0.1}}
train: {steps: 4, batch_size: 4}
"""


@pytest.fixture
def recipe(folder):
    """Four training and two validation images of 32×32: a quarter is class 1, an eighth is ignored."""
    mask = np.zeros((32, 32), np.uint8)
    mask[:, :8], mask[:, -4:] = 1, 255
    for split, count in (("train", 4), ("val", 2)):
        for kind in ("images", "masks"):
            (folder / split / kind).mkdir(parents=True)
        for number in range(count):
            image = np.random.default_rng(number).integers(0, 256, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(image).save(folder / f"{split}/images/{number}.png")
            Image.fromarray(mask).save(folder / f"{split}/masks/{number}.png")
    (folder / "r.yaml").write_text(RECIPE)
    return read_recipe("r.yaml")


def test_shares_and_pictures_are_those_of_the_training_images(recipe):
    sheet = make_sheet(recipe, images=3, warm=0.0, timed=0.0)
    assert sheet.title == "r.yaml: 4 training and 2 validation images"
    assert sheet.rows() == [("left", "71.4 %", "71.4 %"), ("right", "28.6 %", "28.6 %")]  # of 20 + 8 columns
    # of 40 rows, 8 are padding; of the 32 others, an eighth is ignored
    assert (
        sheet.lines[0] == "augmented: 30.0 % of the pixels have no label, 20.0 % of all are padding (4 images of 32×40)"
    )
    assert re.fullmatch(r"loader: \d+ images/s \(no worker\)", sheet.lines[1])
    assert [shown.name for shown in sheet.shown] == [f"train/images/{number}.png" for number in (0, 2, 3)]
    original = np.asarray(Image.open("train/images/2.png"))
    assert np.array_equal(sheet.shown[1].image[:32], original)
    assert not sheet.shown[1].image[32:].any()


def test_what_the_dataset_notes_is_shown(recipe):
    recipe = read_recipe("r.yaml", ["data.args.ranges=[0, 510]"])
    (line,) = (line for line in make_sheet(recipe, images=1, warm=0.0, timed=0.0).lines if line.startswith("images:"))
    assert line == "images: 0 … 510 becomes 0 … 255 in steps of 2: networks see 8 bits, whatever the files hold"


def test_more_images_than_there_are_show_all(recipe):
    assert len(make_sheet(recipe, images=99, warm=0.0, timed=0.0).shown) == 4


def sheet_of(count, name="a.png"):
    image, labels = np.full((8, 12, 3), 90, np.uint8), np.zeros((8, 12), np.uint8)
    shares = ([0.5, 0.0004], [None, 1.0])
    lines = ["warning: <b>", "a fact"]
    return Sheet("<i>", ("x", "<td>"), ((9, 9, 9), (1, 2, 3)), shares, lines, [Shown(name, image, labels)] * count)


def test_the_page_is_one_file_without_links_and_names_are_text():
    page = sheet_page(sheet_of(2, "<script>\x1b[31m.png"))
    assert "<script" not in page
    assert page.count(r"&lt;script&gt;\x1b[31m.png") == 2
    assert re.findall(r'(?:src|href)="(?!data:)', page) == []
    assert '<p class="warning">warning: &lt;b&gt;</p>' in page
    assert "background: rgb(1, 2, 3)" in page
    assert "<td>0.04 %</td><td>100.0 %</td>" in page
    assert "<td>50.0 %</td><td>–</td>" in page
    first = base64.b64decode(re.search(r"data:image/jpeg;base64,([^\"]+)", page)[1])
    assert Image.open(io.BytesIO(first)).size == (12, 8)


@pytest.mark.parametrize(("count", "columns", "rows"), [(1, 2, 1), (4, 8, 1), (5, 8, 2)])
def test_the_png_has_four_pairs_a_row(count, columns, rows):
    width, height = Image.open(io.BytesIO(sheet_png(sheet_of(count)))).size
    assert width == columns * 186 - 6
    assert height == 26 + rows * 120 + (rows - 1) * 6
