"""`kd export` and `kd.export`: what is written, and that nothing is where something is wrong."""

import hashlib
import json

import pytest
import torch
from command import kd as command
from disk import make_read_only, small_disk
from tiny import read, run, write_recipes

import kd
from kd.deploy.graph import Graph
from kd.recipe import baseline_of, to_yaml


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    """A finished run."""
    folder = tmp_path_factory.mktemp("trained")
    write_recipes(folder)
    (folder / "alone.yaml").write_text(to_yaml(baseline_of(read(folder / "student.yaml"))))
    ((finished,), _) = run(read(folder / "alone.yaml"), folder / "runs")
    return finished


@pytest.fixture
def written(folder, monkeypatch):
    """The calls that write a file: it holds a few bytes, and PyTorch computes what an ONNX file would."""
    calls = []

    def write_onnx(file, network, shape, *, dynamic, argmax, metadata):
        file.write_bytes(b"a graph")
        calls.append({"shape": shape, "dynamic": dynamic, "argmax": argmax, "metadata": metadata})
        graph = Graph(network, argmax=argmax)
        monkeypatch.setattr("kd.deploy.export.open_onnx", lambda file: lambda images: computed(graph, images))

    def computed(graph, images):
        with torch.no_grad():
            return graph(torch.from_numpy(images)).numpy()

    monkeypatch.setattr("kd.deploy.export.write_onnx", write_onnx)
    monkeypatch.setattr("kd.deploy.export.find_spec", lambda package: "installed")
    return calls


def names(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_a_folder_with_the_file_and_its_classes(run_dir, folder, written, capsys):
    assert command("export", run_dir, "--trust") == 0
    assert names(folder) == ["exported", "exported/classes.json", "exported/model.onnx"]
    (call,) = written
    assert (call["shape"], call["dynamic"], call["argmax"]) == ((3, 32, 32), False, False)
    facts = json.loads((folder / "exported/classes.json").read_text())
    assert (facts["classes"], facts["colors"]) == (["dark", "bright"], [[0, 0, 0], [255, 255, 0]])
    assert (facts["recipe"], facts["seed"]) == (run_dir.parent.name, 0)
    assert facts["weights_sha256"] == hashlib.sha256((run_dir / "student.safetensors").read_bytes()).hexdigest()
    assert facts["versions"]["kd"] == kd.__version__
    assert facts["miou"]["val"] == kd.metrics.scores(kd.evaluate(run_dir, trust=True).confusion).miou
    texts = call["metadata"]
    stored = {name: texts[name] if isinstance(value, str) else json.loads(texts[name]) for name, value in facts.items()}
    assert stored == facts  # in the file itself too
    origin = kd.runs.read_origin(run_dir)
    assert {name: texts[name] for name in ("run", "data", "scores", "recipe_yaml")}.items() <= origin.items()
    line = capsys.readouterr().out.splitlines()[1]
    assert line.startswith(
        "exported/model.onnx: 0.0 MB, takes one image of 32×32; 6 validation images checked: 100.00 % of the pixels "
        "agree, logits differ by at most "
    )


def test_size_argmax_and_dynamic_reach_the_file(run_dir, folder, written):
    file = kd.export(run_dir, folder / "a/b", size=(64, 48), argmax=True, dynamic=True, trust=True)
    assert (file, file.is_file()) == (folder / "a/b/model.onnx", True)
    assert [written[0][key] for key in ("shape", "dynamic", "argmax")] == [(3, 64, 48), True, True]


def test_the_images_of_the_check_may_be_elsewhere(run_dir, folder, written, capsys):
    assert command("export", run_dir, "data.args.count=2", "--trust") == 0
    assert "; 2 validation images checked: " in capsys.readouterr().out
    assert command("export", run_dir, "train.steps=2", "--trust", "--out", "other") == 2
    assert capsys.readouterr().err.startswith(f"<train.steps=2>: {run_dir} is trained already; only data, evaluate, ")


def test_a_file_that_differs_is_refused_and_nothing_is_left(run_dir, folder, written, monkeypatch, capsys):
    monkeypatch.setattr("kd.deploy.graph.F.interpolate", lambda logits, size, **how: logits.repeat(1, 1, 4, 4))
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
    assert names(folder) == ["exported", "exported/classes.json", "exported/model.onnx"]


def test_a_missing_package_is_named_with_the_command_that_installs_it(run_dir, folder, written, monkeypatch, capsys):
    monkeypatch.setattr("kd.deploy.export.find_spec", lambda package: None if package == "onnxruntime" else "installed")
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
