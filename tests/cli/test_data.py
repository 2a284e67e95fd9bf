"""`kd data`."""

import pytest
from command import kd

RECIPE = """
student: {use: students.MobileNetV3SmallASPPLite, weights: nowhere.pth}
data: {use: kd.data.Shapes, args: {count: 8, size: 32}, size: [32, 32], workers: 0}
supervised: {use: kd.losses.CrossEntropy}
optimizer: {use: torch.optim.SGD, args: {lr: 0.1}}
train: {steps: 4, batch_size: 4}
"""


def test_data_prints_the_classes_and_writes_page_and_png(folder, capsys, monkeypatch):
    monkeypatch.setattr("kd.data.speed.time.monotonic", iter(range(10_000)).__next__)  # seconds pass between batches
    monkeypatch.setattr("kd.data.datasets.shapes._HELD_OUT", 4)
    (folder / "r.yaml").write_text(RECIPE)
    assert kd("data", "r.yaml", "--images", "3", "data.size=[40, 40]") == 0
    out = capsys.readouterr().out.splitlines()
    out = [line for line in out if not line.startswith("counts the labels")]  # shown because ten seconds seem to pass
    assert out[0] == "r.yaml: 8 training and 4 validation images"
    assert out[1].split() == ["class", "train", "val"]
    assert out[2].split()[0] == "background"
    assert out[-1] == "3 training images as they are augmented: r-data.html and r-data.png"
    assert (folder / "r-data.html").read_text().startswith("<!doctype html>")
    assert (folder / "r-data.png").read_bytes().startswith(b"\x89PNG")
    assert kd("data", "r.yaml", "--out", "sheets/crops.html") == 0
    assert (folder / "sheets/crops.png").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--images", 0), "--images: must be at least 1, got 0\n"),
        (
            ("--out", "a.PNG"),
            "--out: must name the page, such as sheet.html, beside which a PNG is written, got a.PNG\n",
        ),
        (("--out", "."), "--out: must name the page, such as sheet.html, beside which a PNG is written, got .\n"),
    ],
)
def test_options_that_show_nothing(folder, capsys, arguments, message):
    (folder / "r.yaml").write_text(RECIPE)
    assert kd("data", "r.yaml", *arguments) == 2
    assert capsys.readouterr().err == message
    assert [file.name for file in folder.iterdir()] == ["r.yaml"]


def test_wrong_data_end_with_3(folder, capsys):
    (folder / "r.yaml").write_text(
        RECIPE.replace("kd.data.Shapes, args: {count: 8, size: 32}", "kd.data.CamVid, args: {root: here}")
    )
    assert kd("data", "r.yaml") == 3
    assert capsys.readouterr().err.startswith("CamVid: no here/train; ")
