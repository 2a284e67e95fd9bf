"""Networks that have left their run: files of weights and exported files, scored and predicted as the run's own."""

import json
import shutil
from pathlib import Path
from xml.sax.saxutils import quoteattr

import numpy as np
import pytest
import torch
from command import kd as command
from PIL import Image
from safetensors.torch import load_file
from tiny import read, trained_alone

import kd
from kd.deploy.export.folder import as_texts, as_trained, facts_of
from kd.deploy.export.formats import FORMATS
from kd.deploy.export.graph import Form, Graph
from kd.errors import RecipeError, StorageError, WeightsError
from kd.evaluation.trained import open_trained
from kd.recipe import baseline_of, to_yaml
from kd.runs import read_origin
from kd.runtimes.exported import OPENERS, Opened


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    return trained_alone(tmp_path_factory.mktemp("trained"))


@pytest.fixture
def weights(run_dir, folder):
    """The weights alone, in another folder, beside the code of the network."""
    shutil.copy(run_dir.parents[2] / "nets.py", folder)
    return Path(shutil.copy(run_dir / "student.safetensors", folder / "small.safetensors"))


@pytest.fixture
def exported(run_dir, folder, monkeypatch):
    """Write an OpenVINO file, which PyTorch computes, and give the sizes of the images that it gets."""
    shutil.copy(run_dir.parents[2] / "nets.py", folder)

    def write(**options):
        form, trained = Form(3, (32, 32), **options), open_trained(run_dir, trust=True)
        graph, sizes = Graph(trained.network, argmax=form.argmax), []

        def compute(images):
            sizes.append(images.shape)
            assert images.dtype == np.dtype(form.dtype)
            assert form.dynamic or images.shape == (1, 3, 32, 32)
            with torch.no_grad():
                return graph(torch.from_numpy(images)).numpy()

        trained, origin = as_trained(trained)
        metadata = origin | as_texts(facts_of(trained, origin, FORMATS["openvino"], form))
        texts = "".join(f"<{name} value={quoteattr(text, {chr(10): '&#10;'})}/>" for name, text in metadata.items())
        Path("model.xml").write_text(f"<net><rt_info><kd>{texts}</kd></rt_info></net>")
        monkeypatch.setitem(OPENERS, ".xml", lambda file: Opened(compute, metadata))
        monkeypatch.setattr("kd.runtimes.exported.find_spec", lambda package: "installed")
        return sizes

    return write


FORMS = [{}, {"argmax": True}, {"uint8": True}, {"dynamic": True}, {"dynamic": True, "argmax": True, "uint8": True}]


@pytest.mark.parametrize("options", FORMS)
def test_an_exported_file_scores_as_its_run(run_dir, exported, options):
    sizes = exported(**options)
    ours, theirs = kd.evaluate(run_dir, trust=True), kd.evaluate("model.xml", trust=True)
    assert np.abs(ours.confusion - theirs.confusion).sum() <= 4  # rounding
    assert (theirs.classes, theirs.images) == (ours.classes, 12)
    assert max(size[0] for size in sizes) == (4 if options.get("dynamic") else 1)


def test_weights_score_as_their_run(run_dir, weights, folder):
    expected = kd.evaluate(run_dir, trust=True)
    assert kd.evaluate(weights, trust=True) == expected
    state = {f"module.{name}": tensor for name, tensor in load_file(weights).items()}
    torch.save({"state_dict": state}, "other.pth")
    with pytest.raises(StorageError) as caught:
        kd.evaluate("other.pth", trust=True)
    assert str(caught.value) == (
        "other.pth: kd reads the recipe in .safetensors, .onnx, .xml files; name one with --recipe RECIPE"
    )
    assert kd.evaluate("other.pth", recipe=run_dir.parents[2] / "alone.yaml", trust=True) == expected


def test_weights_in_their_run_directory_are_the_run(run_dir):
    assert open_trained(run_dir / "student.safetensors", trust=True).result is not None


def test_a_recipe_for_files_scores_weights_in_their_run_directory_too(run_dir, folder, capsys):
    small = folder / "small.yaml"
    small.write_text(to_yaml(baseline_of(read(run_dir.parents[2] / "student.yaml", "evaluate.size=[64, 64]"))))
    shutil.copy(run_dir.parents[2] / "nets.py", folder)
    by_another = kd.evaluate(run_dir / "student.safetensors", recipe=small, trust=True)
    assert by_another == kd.evaluate(run_dir, overrides=["evaluate.size=[64, 64]"], trust=True)
    assert by_another != kd.evaluate(run_dir / "student.safetensors", trust=True)
    named = (run_dir, run_dir.parent)
    for command_of in (("evaluate", *named), ("predict", run_dir, "photo.png", "--with", run_dir.parent)):
        assert command(*command_of, "--recipe", "gone.yaml", "--trust") == 2
        assert capsys.readouterr().err == (
            f"--recipe gone.yaml: no file of a network is named ({run_dir}, {run_dir.parent}); remove it, or name the "
            "run's student.safetensors\n"
        )
    with pytest.raises(RecipeError, match=r"^no run is named$"):
        kd.predict([], "photo.png")


def test_rows_of_files_and_runs_stand_side_by_side(run_dir, weights, exported, capsys):
    exported()
    assert command("evaluate", run_dir, "small.safetensors", "model.xml", "--trust", "--json") == 0
    rows = json.loads(capsys.readouterr().out)["runs"]
    assert [row["run"] for row in rows] == [str(run_dir), "small.safetensors", "model.xml"]
    assert {(row["id"], row["seed"], row["name"], row["role"]) for row in rows} == {
        (run_dir.parent.name.rpartition("-")[2], 0, "alone", "baseline")
    }
    assert command("evaluate", "small.safetensors", "model.xml", "--trust") == 0
    assert "mean of" not in capsys.readouterr().out  # they are no seeds of a recipe


def test_a_file_of_one_size_is_given_that_size(exported, folder):
    sizes = exported()
    options = ["evaluate.size=[64, 64]", "evaluate.scales=[0.5, 1.0]", "evaluate.flip=true"]
    with pytest.warns(UserWarning, match="alone") as caught:
        kd.evaluate("model.xml", overrides=[*options, "data.args.count=2"], trust=True)
    assert [str(each.message) for each in caught] == [
        "model.xml: the file takes images of 32×32 alone: another size and several scales of the recipe left out"
    ]
    assert sizes == [(1, 3, 32, 32)] * len(sizes)  # asserted in the file too
    sizes.clear()
    windows = ["evaluate.size=[64, 64]", "evaluate.window=[32, 32]", "data.args.count=1"]
    kd.evaluate("model.xml", overrides=windows, trust=True)
    assert len(sizes) > 1  # windows of its size are, over a larger image


def test_a_file_that_predicts_classes_has_no_made_up_probabilities(exported):
    exported(argmax=True)
    metric = "evaluate.metrics=[{use: kd.metrics.CalibrationError}]"
    with pytest.warns(UserWarning, match="the file predicts classes alone: metrics see probabilities of 0 and 1"):
        scored = kd.evaluate("model.xml", overrides=[metric], trust=True)
    hits, pixels = scored.confusion.trace(), scored.confusion.sum()
    assert scored.metrics["CalibrationError"].values["ece"] == pytest.approx(1 - hits / pixels)


def test_an_exported_file_predicts_without_the_code_of_its_recipe(run_dir, exported, folder, capsys):
    exported()
    Path("nets.py").unlink()
    image = torch.randint(0, 256, (40, 50, 3), dtype=torch.uint8).numpy()
    Image.fromarray(image).save("photo.png")
    assert command("predict", "model.xml", "photo.png") == 0
    assert capsys.readouterr().out.startswith("model.xml: nets.py:Net, 2 classes, images scored at 32×32\n")
    (ours,) = kd.predict(run_dir, "photo.png", trust=True)
    assert (np.asarray(Image.open("predictions/masks/photo.png")) == ours.classes).mean() > 0.98  # resized twice


def test_tiles_of_a_file_of_one_size_are_of_that_size(exported, folder, capsys):
    sizes = exported()
    Image.fromarray(torch.randint(0, 256, (40, 50, 3), dtype=torch.uint8).numpy()).save("photo.png")
    assert command("predict", "model.xml", "photo.png", "--tiles", 64, 64) == 2
    assert capsys.readouterr().err == "--tiles 64 64: model.xml takes 32×32 alone; use --tiles 32 32\n"
    assert command("predict", "model.xml", "photo.png", "--tiles", 32, 32) == 0
    assert set(sizes) == {(1, 3, 32, 32)}
    assert len(sizes) == 4  # nothing is compared with one pass


def test_what_is_wrong_is_one_line(run_dir, weights, exported, folder, capsys):
    exported()
    assert command("evaluate", "model.xml") == 2
    assert "would be imported, but are not part of kd" in capsys.readouterr().err
    assert command("evaluate", "model.xml", "train.steps=9", "--trust") == 2
    assert capsys.readouterr().err.startswith("<train.steps=9>: model.xml is trained already; only data, evaluate, ")
    assert command("export", "small.safetensors", "--to", "pt2", "--trust") == 2
    assert capsys.readouterr().err == "small.safetensors: a file, not a run; name the run directory or the recipe\n"
    Path("none.safetensors").write_bytes(weights.read_bytes()[:50])
    assert command("evaluate", "none.safetensors", "gone.onnx", "--trust") == 6
    assert capsys.readouterr().err.splitlines() == [
        "none.safetensors: not a readable .safetensors file (damaged, or not copied whole)",
        "gone.onnx: no such file",
    ]


def test_weights_that_do_not_fit_are_refused(weights, folder):
    data = weights.read_bytes()
    text = Path("nets.py").read_text()
    Path("nets.py").write_text(text.replace("nn.Conv2d(channels, num_classes, 1)", "nn.Conv2d(channels, 5, 1)"))
    with pytest.raises(
        WeightsError, match=r"small\.safetensors: head.bias is \(2,\) in the file and \(5,\) in the network"
    ):
        kd.evaluate(weights, trust=True)
    Path("nets.py").write_text(text)
    weights.write_bytes(data.replace(b'"in_channels":"3"', b'"in_channels":"x"'))
    with pytest.raises(WeightsError, match=r"small\.safetensors: .* \(what it states of its classes, "):
        kd.evaluate(weights, trust=True)


def test_the_colours_of_a_file_are_those_of_its_classes(weights):
    trained = open_trained(weights, trust=True)
    assert (trained.classes, trained.colors, trained.in_channels) == (("dark", "bright"), ((0, 0, 0), (255, 255, 0)), 3)
    assert json.loads(read_origin(weights)["classes"]) == ["dark", "bright"]
    with pytest.raises(RecipeError, match="a file, not a run"):
        _ = trained.of_run
