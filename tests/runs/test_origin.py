"""What a file states on where it comes from."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from command import check_small, kd
from safetensors.torch import load, save
from tiny import read, run, write_recipes

from kd.errors import StorageError
from kd.recipe import baseline_of, read_recipe, to_yaml
from kd.runs import as_recipe, origin_of, read_origin, read_origins, with_origin
from kd.runs.origin import RECIPE
from kd.runs.result import Result, SplitResult

STATED = {"run": "0123abcd/seed0", "name": "a", "role": "student", RECIPE: "student: {use: students.MobileNetV2UNet}\n"}


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    write_recipes(folder)
    (folder / "alone.yaml").write_text(to_yaml(baseline_of(read(folder / "student.yaml"))))
    ((finished,), _) = run(read(folder / "alone.yaml", "train.steps=2"), folder / "runs")
    return finished


def varint(number: int) -> bytes:
    digits = [number >> place & 127 for place in range(0, max(1, number.bit_length()), 7)]
    return bytes([*(digit | 128 for digit in digits[:-1]), digits[-1]])


def field(number: int, content: bytes) -> bytes:
    return varint(number * 8 + 2) + varint(len(content)) + content


def onnx_file(stated: dict[str, str], graph: bytes = b"g" * 300) -> bytes:
    """An ONNX file by the definition of its protocol buffers: version, graph, metadata."""
    entries = [field(14, field(1, name.encode()) + field(2, text.encode())) for name, text in stated.items()]
    return varint(8) + varint(10) + field(7, graph) + b"".join(entries)


def test_a_run_states_its_recipe_scores_data_and_versions(run_dir):
    origin = read_origin(run_dir / "student.safetensors")
    assert origin["run"] == f"{run_dir.parent.name[-8:]}/seed0"
    assert (json.loads(origin["classes"]), json.loads(origin["colors"])) == (
        ["dark", "bright"], [[0, 0, 0], [255, 255, 0]],
    )  # fmt: skip
    result = json.loads((run_dir / "result.json").read_text())
    matrix = np.array(result["splits"]["val"]["confusion"])
    iou = matrix.diagonal() / (matrix.sum(0) + matrix.sum(1) - matrix.diagonal())
    assert json.loads(origin["scores"])["val"]["miou"] == pytest.approx(iou.mean(), abs=1e-6)
    assert json.loads(origin["data"]) == {name: result["inputs"][name] for name in ("train", "val")}
    assert json.loads(origin["versions"]) == result["versions"]


def test_the_recipe_in_a_file_is_the_same_recipe(run_dir, tmp_path):
    text = as_recipe(read_origin(run_dir))
    assert str(tmp_path.parent) not in text  # no place on this machine
    (tmp_path / "again.yaml").write_text(text)
    (tmp_path / "nets.py").write_text((run_dir.parents[2] / "nets.py").read_text())
    assert read_recipe(tmp_path / "again.yaml", trust=True).id == run_dir.parent.name[-8:]


def test_equal_runs_write_equal_files(run_dir, tmp_path):
    recipe = read(run_dir.parents[2] / "alone.yaml", "train.steps=2", "log.every=1", "train.seeds=[0, 5]")
    run_dirs, _ = run(recipe, tmp_path)
    name = "student.safetensors"
    assert (run_dirs[0] / name).read_bytes() == (run_dir / name).read_bytes()
    assert (run_dirs[1] / name).read_bytes() != (run_dir / name).read_bytes()


def test_tensors_stay_as_they_are():
    tensors = {"b": torch.arange(3.0), "a": torch.ones(1, dtype=torch.int8)}
    data = with_origin(save(tensors), STATED | {"é": "\n'\""})
    assert {name: tensor.tolist() for name, tensor in load(data).items()} == {"a": [1], "b": [0, 1, 2]}
    assert with_origin(save(tensors), STATED | {"é": "\n'\""}) == data


def test_an_onnx_file_is_read_without_onnx(tmp_path):
    long = STATED | {"classes": json.dumps(["x" * 400])}
    (tmp_path / "a.onnx").write_bytes(onnx_file(long))
    assert read_origin(tmp_path / "a.onnx") == long


def test_an_exported_folder_stands_for_its_file(tmp_path):
    (tmp_path / "model.onnx").write_bytes(onnx_file(STATED))
    assert read_origin(tmp_path) == STATED


def test_the_folder_of_a_program_for_torch_stands_for_it(tmp_path):
    (tmp_path / "model.pt2").touch()
    with pytest.raises(StorageError) as refused:
        read_origin(tmp_path)
    assert str(refused.value) == f"{tmp_path}/model.pt2: kd reads the recipe in .safetensors, .onnx, .xml files"


def test_a_real_onnx_file(tmp_path):
    onnx = pytest.importorskip("onnx", reason="needs the extra onnx: pip install 'kd-segmentation[onnx]'")
    image = onnx.helper.make_tensor_value_info("images", 1, [1])
    graph = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["images"], ["out"])], "g", [image], [])
    model = onnx.helper.make_model(graph)
    onnx.helper.set_model_props(model, STATED)
    onnx.save(model, tmp_path / "a.onnx")
    assert read_origin(tmp_path / "a.onnx") == STATED


def test_a_hostile_text_stays_a_comment():
    text = as_recipe(STATED | {"name": "a\nstudent: {use: os.system}"})
    assert text.splitlines()[:3] == ["# run: 0123abcd/seed0", "# name: a student: {use: os.system}", "# role: student"]
    assert text.endswith("\n\nstudent: {use: students.MobileNetV2UNet}")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.pt", b"x", "a.pt: kd reads the recipe in .safetensors, .onnx, .xml files"),
        ("a.onnx", b"", "a.onnx: an empty file"),
        ("a.onnx", onnx_file(STATED)[:-9], "a.onnx: not a readable .onnx file (damaged, or not copied whole)"),
        ("a.onnx", b"\xff" * 20, "a.onnx: not a readable .onnx file (damaged, or not copied whole)"),
        ("a.onnx", b"<!DOCTYPE html>", "a.onnx: not a readable .onnx file (damaged, or not copied whole)"),
        ("a.safetensors", b"\xff" * 20, "a.safetensors: not a readable .safetensors file (damaged, "),
        ("a.safetensors", b"\x04" + b"\0" * 7 + b"[[[[", "a.safetensors: not a readable .safetensors file (damaged, "),
        ("a.safetensors", save({"a": torch.ones(1)}), "a.safetensors: holds no recipe"),
        (
            "a.safetensors", save({"a": torch.ones(1)}, {"run": "0123abcd/seed0"}),
            "a.safetensors: holds no recipe (a run of kd 0.3 or older: its recipe is beside the weights)",
        ),
    ],
)  # fmt: skip
def test_what_holds_no_recipe_is_one_line(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(StorageError) as caught:
        read_origin(tmp_path / name)
    assert str(caught.value).startswith(f"{tmp_path}/{message}")


def test_a_score_of_nothing_is_null(run_dir):
    split = SplitResult(np.zeros((2, 2), np.int64), ["a", "b"], 3)
    result = Result(
        "0123abcd", "a", 0, "student", "N", None, None, "last", {"val": split}, 1, 1.0, 1.0, None, {},
    )  # fmt: skip
    recipe = read_recipe(run_dir / "recipe.yaml", trust=True)
    origin = origin_of(recipe, result, in_channels=3, colors=[(0, 0, 0)])
    assert json.loads(origin["scores"]) == {"val": {"miou": None, "images": 3, "against": "labels"}}
    assert json.loads(origin["data"]) == {}


def test_the_command_prints_it_without_torch(run_dir, folder, capsys):
    assert kd("recipe", run_dir) == 0
    assert capsys.readouterr().out == as_recipe(read_origin(run_dir)) + "\n"
    check_small(f"recipe {run_dir / 'student.safetensors'}")
    for name in ("nowhere.onnx", "nowhere"):
        assert kd("recipe", name) == 6
        assert capsys.readouterr().err == f"{name}: no such file\n"


def test_a_folder_stands_for_its_first_finished_run(run_dir, folder, capsys):
    assert read_origin(run_dir.parent) == read_origin(run_dir)
    (folder / "seed0").mkdir()
    (folder / "seed0/recipe.yaml").touch()
    for name, message in (
        ("seed0", "seed0: this run is not finished; kd run seed0 continues it"),
        ("..", "..: holds no finished run; kd list shows all runs"),
    ):
        assert kd("recipe", name) == 2
        assert capsys.readouterr().err == f"{message}\n"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("{", "not a readable page (damaged, or not copied whole)"),
        ("[]", "not a readable page (damaged, or not copied whole)"),
        ('{"origins": [1]}', "not a readable page (damaged, or not copied whole)"),
        ('{"origins": [{}]}', "holds no recipe"),
    ],
)
def test_a_page_without_a_recipe_is_one_line(tmp_path, data, message):
    (tmp_path / "a.html").write_text(f'<script type="application/json" id="data">{data}</script>')
    with pytest.raises(StorageError) as caught:
        read_origins(tmp_path / "a.html")
    assert str(caught.value) == f"{tmp_path}/a.html: {message}"


def test_a_page_states_the_recipes_of_all_its_runs(run_dir, folder, capsys):
    (folder / "nets.py").write_text((run_dir.parents[2] / "nets.py").read_text())
    assert kd("compare", run_dir, "--trust", "--html", "page.html") == 0
    assert read_origins(folder / "page.html") == [read_origin(run_dir)]
    capsys.readouterr()
    assert kd("recipe", "page.html") == 0
    assert capsys.readouterr().out == as_recipe(read_origin(run_dir)) + "\n"
    two = json.dumps({"origins": [STATED, {"name": "without"}, STATED | {"name": "b"}]})
    (folder / "two.html").write_text(f'<script type="application/json" id="data">{two}</script>')
    assert kd("recipe", "two.html") == 0
    assert capsys.readouterr().out.count("\n---\n") == 1


def test_three_lines_load_the_weights_without_training_code(run_dir):
    program = f"""
import sys
sys.path.insert(0, {str(run_dir.parents[2])!r})
from safetensors.torch import load_file
import nets
network = nets.Net(num_classes=2, in_channels=3, channels=4)
network.load_state_dict(load_file({str(run_dir / "student.safetensors")!r}))
network.eval()
print([name for name in sys.modules if name.startswith(("kd.train", "kd.parts", "kd.recipe"))])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
