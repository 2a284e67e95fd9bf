"""`kd export` and `kd.export`: what is written, and that nothing is where something is wrong."""

import dataclasses
import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from command import kd as command
from disk import make_read_only, small_disk
from PIL import Image
from tiny import read, run, trained_alone

import kd
from kd.components import Maker
from kd.data.dataset import resize_image
from kd.data.images.read import read_image
from kd.deploy.export.card import card
from kd.deploy.export.folder import as_trained, facts_of
from kd.deploy.export.formats import FORMATS
from kd.deploy.export.graph import Form, Graph
from kd.deploy.export.to_int8 import Quantized, Row
from kd.evaluation.trained import open_trained
from kd.runs import TeacherResult


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    return trained_alone(tmp_path_factory.mktemp("trained"))


@pytest.fixture
def written(folder, monkeypatch):
    """The calls that write a file: it holds a few bytes, and PyTorch computes what an ONNX file would."""
    calls, graphs = [], []

    def write(file, network, form, metadata):
        file.write_bytes(b"a graph")
        calls.append((form, metadata))
        graphs.append(Graph(network, argmax=form.argmax))

    def computed(images):
        with torch.no_grad():
            return graphs[-1](torch.from_numpy(images)).numpy()

    onnx = FORMATS["onnx"]._replace(needed=(), write=write, open=lambda file: computed)
    monkeypatch.setitem(FORMATS, "onnx", onnx)
    return calls


def names(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


SAMPLES = [f"samples/{kind}/{number}.png" for kind in ("images", "masks") for number in (1, 2, 3)]


def test_a_folder_with_the_file_and_what_explains_it(run_dir, folder, written, capsys):
    assert command("export", run_dir, "--trust") == 0
    files = [str(path.relative_to("exported")) for path in Path("exported").rglob("*") if path.is_file()]
    assert sorted(files) == ["README.md", "classes.json", "model.onnx", "predict.py", *SAMPLES]
    ((form, metadata),) = written
    assert form == Form(3, (32, 32))
    facts = json.loads(Path("exported/classes.json").read_text())
    assert (facts["classes"], facts["colors"]) == (["dark", "bright"], [[0, 0, 0], [255, 255, 0]])
    assert (facts["recipe"], facts["seed"], facts["file"]) == (run_dir.parent.name, 0, "model.onnx")
    assert (facts["size"], facts["channels"], facts["dtype"], facts["output"]) == ([32, 32], 3, "float32", "logits")
    assert facts["weights_sha256"] == hashlib.sha256((run_dir / "student.safetensors").read_bytes()).hexdigest()
    assert facts["miou_with"] == ""
    assert facts["versions"]["kd"] == kd.__version__
    assert facts["miou"]["val"] == kd.metrics.scores(kd.evaluate(run_dir, trust=True).confusion).miou
    assert {name: facts[name] if isinstance(facts[name], str) else json.loads(text)
            for name, text in metadata.items() if name in facts} == facts  # in the file itself too  # fmt: skip
    origin = kd.runs.read_origin(run_dir)
    assert {name: metadata[name] for name in ("run", "data", "scores", "recipe_yaml")}.items() <= origin.items()
    line = capsys.readouterr().out.splitlines()[1]
    miou = f"{100 * facts['miou']['val']:.2f}"
    assert line.startswith(
        "exported/model.onnx: 0.0 MB, takes one image of 32×32; 12 validation images checked: 100.00 % of the pixels "
        "agree, logits differ by at most "
    )
    assert line.endswith(f", mIoU {miou} % (the network's: {miou} %)")


def test_the_samples_are_validation_images_with_the_networks_masks(run_dir, folder, written):
    kd.export(run_dir, "exported", size=(48, 40), trust=True)
    network = kd.load_student(run_dir, trust=True)
    for number, index in ((1, 0), (2, 4), (3, 8)):  # of twelve
        image = read_image(Path(f"exported/samples/images/{number}.png"), 3)
        own = Maker(read(run_dir / "recipe.yaml")).dataset("val")[index, 0].image
        assert torch.equal(image, resize_image(own, (48, 40)))
        with torch.no_grad():
            expected = Graph(network, argmax=True)(image[None])[0]
        mask = Image.open(f"exported/samples/masks/{number}.png")
        assert (np.asarray(mask) == expected.numpy()).mean() > 0.999
        assert mask.getpalette()[:6] == [0, 0, 0, 255, 255, 0]


def test_the_readme_has_classes_scores_recipe_and_limits(run_dir, folder, written):
    kd.export(run_dir, "exported", dynamic=True, uint8=True, trust=True)
    text = Path("exported/README.md").read_text()
    headings = [line for line in text.splitlines() if line.startswith("## ")]
    assert headings == [f"## {name}" for name in (
        "The file", "Scores", "Classes", "Data", "License", "Limits", "Recipe"
    )]  # fmt: skip
    result = json.loads((run_dir / "result.json").read_text())
    scores = kd.metrics.scores(np.array(result["splits"]["val"]["confusion"]))
    (row,) = [line.split(" | ") for line in text.splitlines() if line.startswith("| val | ")]
    low, high = map(float, row[2].split(" to "))
    assert row[1] == f"{100 * scores.miou:.1f}"
    assert low < 100 * scores.miou < high
    assert f"| 1 | bright | \\#ffff00 | {100 * scores.iou[1]:.1f} |" in text
    assert "any number and size, RGB, uint8, 0 to 255" in text
    assert "\nkd loaded no weights before the training. kd does not know" in text
    again = yaml.safe_load(text.partition("```yaml\n")[2].partition("```")[0])
    assert again["student"]["args"] == {"channels": 4}
    assert str(run_dir.parents[2]) not in text  # no path of this machine


def test_the_readme_is_that_of_the_run_whatever_the_command_changes(run_dir, folder, written):
    kd.export(run_dir, "exported", size=(48, 40), trust=True)
    changed = ["evaluate.size=[48, 40]", "data.size=[40, 40]", "data.args.count=12"]
    kd.export(run_dir, "changed", changed, trust=True)
    text = Path("changed/README.md").read_text()
    assert "one image of 40×48 pixels" in text
    assert "The scores are those of images of 32×32 pixels" in text
    assert text == Path("exported/README.md").read_text()


def test_a_distilled_run_names_its_teacher(run_dir, folder, written, monkeypatch):
    trained = open_trained(run_dir, trust=True)
    teacher = TeacherResult("<b>big", "teachers.FCN", None, 9, trained.result.splits)
    result = dataclasses.replace(trained.result, teacher=teacher, remarks=["its head | started\x1b\nfrom scratch"])
    taught = dataclasses.replace(trained, result=result)
    origin, form = as_trained(trained)[1], Form(3, (32, 32))
    text = card(taught, origin, FORMATS["onnx"], form, verdict="", megabytes=1.0, scripted=False)
    assert r"distilled from \<b\>big (teachers.FCN)" in text
    assert r"- its head \| started\\x1b\\nfrom scratch" in text
    assert "predict.py photo.jpg" not in text


@pytest.mark.parametrize(
    ("changed", "start"),
    [
        ({"args": {"network": {"use": "nets.py:Net"}, "file": "runs/a/seed0"}}, "runs/a/seed0"),  # Pruned
        ({"args": {"folder": "models/b2"}}, "models/b2"),  # HuggingFace
        ({"args": {"files": ["a.pth", None, {"file": "b.pth", "key": "model"}]}}, "a.pth, b.pth"),  # Ensemble
        ({"weights": "imagenet", "args": {"files": None}}, "imagenet"),
    ],
)
def test_the_card_names_what_the_training_started_from(run_dir, changed, start):
    trained = open_trained(run_dir, trust=True)
    student = trained.recipe.student.model_copy(update=changed)
    begun = dataclasses.replace(trained, recipe=trained.recipe.model_copy(update={"student": student}))
    row = Row("per tensor", 0.5, 10, 0.1)
    text = card(
        begun, as_trained(trained)[1], FORMATS["onnx"], Form(3, (32, 32)), verdict="", megabytes=1.0, scripted=False,
        quantized=Quantized((row,), row, 12, 7),
    )  # fmt: skip
    assert f"\nThe training started from {start}. kd does not know" in text
    assert "with scales from 7 training images. Scored" in text


@pytest.mark.parametrize(
    ("uint8", "values", "divided"),
    [(False, "float32 in [0, 1]", ", and divided by 255"), (True, "uint8, 0 to 255", "")],
)
def test_the_ranges_of_a_network_leave_with_its_file(run_dir, uint8, values, divided):
    trained, origin = as_trained(open_trained(run_dir, trust=True))
    args = {"channels": 2, "ranges": [[0, 4095], [-1, 1]]}
    data = trained.recipe.data.model_copy(update={"use": "kd.data.Folders", "args": args})
    deep = dataclasses.replace(trained, recipe=trained.recipe.model_copy(update={"data": data}), in_channels=2)
    form = Form(2, (32, 32), uint8=uint8)
    facts = facts_of(deep, origin, FORMATS["onnx"], form)
    taken = (
        f"2 channels, {values}, not normalised (the file does that); a number v becomes 255 (v - low) / (high - low), "
        f"rounded, cut to 0 to 255{divided}, with [low, high] of the channels: [[0.0, 4095.0], [-1.0, 1.0]]"
    )
    assert (facts["input"], facts["ranges"]) == (f"images (N, C, H, W), {taken}", [[0, 4095], [-1, 1]])
    text = card(deep, origin, FORMATS["onnx"], form, verdict="", megabytes=1.0, scripted=False)
    assert f"(N, C, H, W): one image of 32×32 pixels, {taken}. The scores" in text
    own = facts_of(trained, origin, FORMATS["onnx"], Form(4, (32, 32), uint8=uint8))  # a dataset of the user's
    assert (own["input"], own["ranges"]) == (
        f"images (N, C, H, W), 4 channels, {values}, not normalised (the file does that)", None
    )  # fmt: skip


def test_the_form_reaches_the_file(run_dir, folder, written):
    file = kd.export(run_dir, folder / "a/b", size=(64, 48), argmax=True, dynamic=True, uint8=True, trust=True)
    assert (file, file.is_file()) == (folder / "a/b/model.onnx", True)
    assert written[0][0] == Form(3, (64, 48), True, True, True)


def test_the_images_of_the_check_may_be_elsewhere(run_dir, folder, written, capsys):
    assert command("export", run_dir, "data.args.count=2", "--trust") == 0
    assert "; 2 validation images checked: " in capsys.readouterr().out
    assert command("export", run_dir, "train.steps=2", "--trust", "--out", "other") == 2
    assert capsys.readouterr().err.startswith(f"<train.steps=2>: {run_dir} is trained already; only data, evaluate, ")


def test_a_file_that_differs_is_refused_and_nothing_is_left(run_dir, folder, written, monkeypatch, capsys):
    wrong = FORMATS["onnx"]._replace(open=lambda file: lambda images: np.zeros((1, 2, 32, 32), np.float32))
    monkeypatch.setitem(FORMATS, "onnx", wrong)
    assert command("export", run_dir, "--trust", "--out", "new/out") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("stripes 0 at 32×32, batch 1: the file's logits differ from the network's by ")
    assert "most for class " in line
    assert names(folder) == ["new"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--out", "full"), "full: already there; choose another --out, or remove it\n"),
        (("--size", "8", "64"), "--size 8 64: at least 32 pixels each\n"),
        (("--int8", "--max-drop", "101"), "--max-drop 101: points of mIoU, from 0 to 100\n"),
        (("--to", "pt2", "--int8"), "--int8: model.pt2 stays in float32; use --to onnx or --to openvino\n"),
    ],
)
def test_mistakes_are_one_line(run_dir, folder, written, capsys, options, message):
    (folder / "full").mkdir()
    (folder / "full/notes.txt").touch()
    assert command("export", run_dir, "--trust", *options) == 2
    assert capsys.readouterr().err == message
    assert names(folder) == ["full", "full/notes.txt"]


def test_an_empty_folder_is_taken(run_dir, folder, written):
    (folder / "exported").mkdir()
    assert command("export", run_dir, "--trust") == 0
    assert Path("exported/model.onnx").exists()


def test_a_missing_package_is_named_with_the_command_that_installs_it(run_dir, folder, written, monkeypatch, capsys):
    monkeypatch.setitem(FORMATS, "onnx", FORMATS["onnx"]._replace(needed=("onnx", "onnxruntime")))
    monkeypatch.setattr(
        "kd.deploy.export.formats.find_spec", lambda package: None if package == "onnxruntime" else "there"
    )
    assert command("export", run_dir, "--trust") == 2
    assert capsys.readouterr().err == ("--to onnx: onnxruntime is not installed; pip install 'kd-segmentation[onnx]'\n")


def test_a_disk_that_cannot_be_written_is_one_line(run_dir, folder, written, capsys):
    with small_disk(folder / "small", 64):
        make_read_only(folder / "small")
        assert command("export", run_dir, "--trust", "--out", "small/out") == 6
    assert capsys.readouterr().err == ("small/out: cannot be written (Read-only file system); choose another --out\n")


def test_what_a_score_adds_beyond_one_pass_is_named(run_dir, folder, written, capsys, monkeypatch):
    (folder / "nets.py").write_text((run_dir.parents[2] / "nets.py").read_text())
    text = (run_dir.parents[2] / "alone.yaml").read_text().replace(str(run_dir.parents[2]), str(folder))
    (folder / "flip.yaml").write_text(text)
    run(read(folder / "flip.yaml", "train.steps=1", "evaluate.flip=true"), folder / "runs")
    (folder_of_run,) = (folder / "runs").iterdir()
    assert command("export", folder_of_run, "--trust") == 0
    assert capsys.readouterr().out.splitlines()[-1] == (
        "not in the file: evaluate.flip; it computes one pass over the image"
    )
    assert command("export", folder_of_run, "evaluate.flip=false", "--trust", "--out", "plain") == 0  # the run's score
    assert "not in the file" not in capsys.readouterr().out
    for out in ("exported", "plain"):
        assert json.loads(Path(out, "classes.json").read_text())["miou_with"] == "evaluate.flip"
        scores = Path(out, "README.md").read_text().partition("## Scores")[2].partition("##")[0]
        assert scores.endswith(" They were taken with evaluate.flip; the file computes one pass over the image.\n\n")


@pytest.mark.slow
@pytest.mark.parametrize("to", ["onnx", "openvino"])
def test_a_folder_in_int8(run_dir, folder, capsys, to):
    """Whole, by the real packages."""
    for package in ("onnx", "onnxscript", "onnxruntime", FORMATS[to].needed[-1]):
        pytest.importorskip(package, reason="needs pip install 'kd-segmentation[onnx,openvino]'")
    assert command("export", run_dir, "--trust", "--to", to, "--int8", "--max-drop", "20", "--size", 64, 64) == 0
    _, header, before, *tried, last = capsys.readouterr().out.splitlines()
    assert header.split() == ["mIoU", "%", "MB", "ms"]
    assert before.startswith("float32 ")
    assert [line.split("  ")[0] for line in tried] == ["INT8 per tensor", "INT8 per channel"]
    (kept,) = [line for line in tried if line.endswith("(this file)")]
    facts = json.loads(Path("exported/classes.json").read_text())
    assert (facts["precision"], facts["int8"]["images"]) == ("int8", 12)
    assert kept.startswith(f"INT8 {facts['int8']['scales']} ")
    assert f"exported/{FORMATS[to].file}: " in last
    _, stated = kd.runtimes.exported.open_file(Path("exported") / FORMATS[to].file)
    assert stated.precision == "int8"
    done = subprocess.run([sys.executable, "predict.py", "--check"], cwd="exported", capture_output=True, check=False)
    assert done.returncode == 0, done.stderr  # the masks are those of this file
    assert "## INT8" in Path("exported/README.md").read_text()
