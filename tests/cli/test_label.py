"""`kd label`: images without labels in, a data set with masks where the network is sure out."""

import json
import os

import numpy as np
import pytest
import torch
from command import kd
from disk import fill, small_disk
from PIL import Image
from tiny import read, run, write_pictures, write_recipes

from kd.data import Folders
from kd.deploy.label import LEVELS, Rule, _labelled
from kd.recipe import baseline_of, to_yaml
from kd.types import resize


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    """A finished run."""
    folder = tmp_path_factory.mktemp("trained")
    write_recipes(folder)
    (folder / "alone.yaml").write_text(to_yaml(baseline_of(read(folder / "student.yaml"))))
    return run(read(folder / "alone.yaml"), folder / "runs")[0][0]


@pytest.fixture
def photos(folder):
    """Two pictures, and one in a folder below."""
    write_pictures(folder / "below", 3)
    (folder / "photos/street").mkdir(parents=True)
    for index in range(3):
        os.rename(f"below/{index}.png", f"photos/street/{index}.png")
    return folder / "photos"


def pixels(file):
    return np.asarray(Image.open(file))


def sets(out):
    """The files of a data set without their suffixes, by folder."""
    return {kind: sorted(str(p.relative_to(out / kind).with_suffix("")) for p in (out / kind).rglob("*.*")) for kind in
            ("images", "masks", "confidence")}  # fmt: skip


def test_the_class_and_its_probability_are_those_of_the_resized_logits():
    logits = torch.randn(5, 9, 7, generator=torch.Generator().manual_seed(0))
    classes, levels = _labelled(logits, (150, 33))  # three bands
    probability, expected = resize(logits[None], (150, 33))[0].softmax(0).max(0)
    assert (classes == expected.numpy()).mean() > 0.999  # rounding may decide a tie otherwise
    np.testing.assert_allclose(levels / LEVELS, probability.numpy(), atol=2e-5)
    assert _labelled(1000.0 * logits, (9, 7)).levels.max() == LEVELS


def test_a_share_of_each_class_is_kept_the_surest_first_and_ties_together():
    tally = np.zeros((3, LEVELS + 1), np.int64)
    tally[0, [10, 500, 900]] = 5, 3, 2
    tally[1, 7] = 4
    assert Rule(per_class=0.2).least(tally).tolist()[:2] == [900, 7]
    assert Rule(per_class=0.3).least(tally).tolist()[:2] == [500, 7]
    assert Rule(per_class=1.0).least(tally).tolist()[:2] == [10, 7]
    assert Rule(min_confidence=0.5).least(tally).tolist() == [32768] * 3


def test_masks_hold_the_sure_pixels_and_folders_reads_the_result(run_dir, photos, folder, capsys):
    assert kd("label", run_dir, "photos", "--out", "labelled", "--min-confidence", "0.6", "--trust") == 0
    assert kd("label", run_dir, "photos", "--out", "whole", "--min-confidence", "0", "--trust") == 0
    for index in range(3):
        name = f"street/{index}.png"
        levels, whole = pixels(f"labelled/confidence/{name}"), pixels(f"whole/masks/{name}")
        assert levels.dtype == np.uint16
        assert (pixels(f"labelled/masks/{name}") == np.where(levels >= round(0.6 * LEVELS), whole, 255)).all()
        assert os.path.samefile(photos / name, f"labelled/images/{name}")
    args = {"classes": "labelled/classes.yaml", "val": "34%"}
    splits = [Folders("labelled", split, **args) for split in ("train", "val")]
    assert splits[0].class_names == ("dark", "bright")
    read_back = {os.path.basename(s.name): s.labels for data in splits for s in (data[i, 0] for i in range(len(data)))}
    assert all((labels.numpy() == pixels(f"labelled/masks/street/{name}")).all() for name, labels in read_back.items())
    report = json.loads((folder / "labelled/labels.json").read_text())
    kept = sum((pixels(f"labelled/masks/street/{i}.png") != 255).sum() for i in range(3))
    assert report["pixels"] == {"all": 40 * (20 + 21 + 22), "kept": kept}
    assert (report["rule"], report["images"]) == ({"min_confidence": 0.6}, 3)
    lines = capsys.readouterr().out.splitlines()
    assert f"labelled: 3 images; {100 * kept / 2520:.1f} % of the pixels are labelled, 255 elsewhere" in lines
    assert not [name for name in os.listdir() if name.startswith(".tmp")]


def test_the_printed_setting_trains_on_the_result(run_dir, photos, folder, capsys):
    os.rename("photos/street", "flat")
    assert kd("label", run_dir, "flat", "--out", "labelled", "--per-class", "50%", "--trust") == 0
    setting = capsys.readouterr().out.splitlines()[-1]
    write_recipes(folder)
    override = setting.removeprefix("in a recipe: ").strip("'")
    assert kd("check", "teacher.yaml", "--trust", override, "data.args.val=34%") == 0
    report = json.loads((folder / "labelled/labels.json").read_text())
    for label, name in enumerate(("dark", "bright")):
        of = report["classes"][name]
        kept = sum((pixels(f"labelled/masks/{i}.png") == label).sum() for i in range(3))
        assert of["kept"] == kept >= of["predicted"] / 2
    assert (folder / "labelled/classes.yaml").read_text() == "{dark: 0, bright: 1}\n"


def test_bad_images_are_left_out_and_listed(run_dir, photos, folder, capsys):
    (photos / "street/1.png").write_bytes(b"no picture")
    assert kd("label", run_dir, photos, "--out", "labelled", "--trust") == 3
    assert capsys.readouterr().err.startswith(f"{photos}/street/1.png: cannot be read as an image")
    assert set(map(tuple, sets(folder / "labelled").values())) == {("street/0", "street/2")}
    for index in (0, 2):
        (photos / f"street/{index}.png").write_bytes(b"no picture")
    assert kd("label", run_dir, photos, "--out", "none", "--trust") == 3
    assert capsys.readouterr().err.count("\n") == 3
    assert not os.path.exists("none")


def test_a_full_disk_is_one_line_that_names_the_folder(run_dir, photos, folder, capsys):
    with small_disk(folder / "small", 64):
        fill(folder / "small")
        assert kd("label", run_dir, photos, "--out", "small/out", "--trust") == 6
        assert os.listdir("small") == ["filler"]
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("small/out")
    assert "cannot be written (No space left on device); " in line


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["photos", "--out", "photos"], "photos: already there; choose another --out, or remove it\n"),
        (["--out", "x"], "no images: name files, folders or patterns after the run\n"),
        (["nothing", "--out", "x"], "nothing: no such file or folder\n"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(run_dir, photos, arguments, message, capsys):
    before = sorted(os.listdir())
    assert kd("label", run_dir, *arguments, "--trust") in (2, 3)
    assert capsys.readouterr().err == message
    assert sorted(os.listdir()) == before


@pytest.mark.parametrize("rule", [("--min-confidence", "1.2"), ("--per-class", "x"), ("--per-class", "-1%")])
def test_a_rule_out_of_range_is_refused(rule, capsys):
    with pytest.raises(SystemExit, match="2"):
        kd("label", "run", "photos", "--out", "x", *rule)
    assert rule[0] in capsys.readouterr().err.splitlines()[-1]
