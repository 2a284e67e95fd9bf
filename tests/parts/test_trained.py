"""The weights of a finished run: written, verified and loaded."""

import json
import re
import subprocess

import pytest
import torch
from manifests import list_anew, unfinish
from safetensors import safe_open
from safetensors.torch import load_file
from tiny import equal, read, run, weights, write_recipes
from torch import nn

import kd
from kd.errors import RecipeError, StorageError, WeightsError
from kd.parts.trained import write_weights
from kd.recipe import baseline_of
from kd.runs import read_origin


def test_weights_keep_the_networks_own_keys_and_tied_ones_twice(tmp_path):
    network = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    network[1].weight = network[0].weight
    write_weights(tmp_path, network)
    weights = load_file(tmp_path / "student.safetensors")
    assert set(weights) == {"0.weight", "0.bias", "1.weight", "1.bias"}
    assert torch.equal(weights["0.weight"], weights["1.weight"])
    assert json.loads(json.dumps(list(weights)))  # plain strings


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Two runs of one recipe."""
    folder = tmp_path_factory.mktemp("finished")
    run_dirs, _ = run(baseline_of(read(write_recipes(folder), "train.seeds=[0, 1]")), folder / "runs")
    return run_dirs


@pytest.fixture
def run_dir(finished):
    """The first run, which is as it was again afterwards."""
    first = finished[0]
    files = {path: path.read_bytes() for path in first.iterdir() if path.is_file()}
    yield first
    for path, content in files.items():
        path.write_bytes(content)


def test_a_network_is_loaded_with_the_weights_that_its_run_wrote(run_dir):
    assert equal(kd.load_student(run_dir, trust=True).state_dict(), weights(run_dir))
    with safe_open(run_dir / "student.safetensors", "pt") as file:
        assert file.metadata() == read_origin(run_dir)


def test_a_changed_bit_in_the_weights_is_noticed(run_dir):
    file = run_dir / "student.safetensors"
    data = bytearray(file.read_bytes())
    data[-3] ^= 1  # in the middle of a number: safetensors itself sees nothing
    file.write_bytes(data)
    with pytest.raises(WeightsError) as caught:
        kd.load_student(run_dir, trust=True)
    assert caught.value.exit_status == 5
    start, end = str(caught.value).split("student.safetensors: ")[1].split("; ", 1)
    assert start.startswith("changed after the run wrote it (SHA-256 ")
    assert end == (
        f"its score in result.json is intact; to have weights, mv {run_dir} {run_dir}-damaged, "
        "then the same kd run, trains it again"
    )


def test_weights_of_another_run_are_noticed(finished, run_dir):
    (run_dir / "student.safetensors").write_bytes((finished[1] / "student.safetensors").read_bytes())
    with pytest.raises(WeightsError, match="changed after the run wrote it"):
        kd.load_student(run_dir, trust=True)
    list_anew(run_dir)  # a manifest that lists them does not make them this run's
    with pytest.raises(WeightsError, match=r"student\.safetensors: of run \w{8}/seed1, not of run \w{8}/seed0; mv "):
        kd.load_student(run_dir, trust=True)


def safetensors(header, data=b""):
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "SafetensorError: Error while deserializing: header too small"),
        (b"junk", "SafetensorError: Error while deserializing: header too small"),
        (safetensors([]), "SafetensorError: .*invalid JSON in header.*"),
        (
            safetensors({"conv.bias": {"dtype": "F8_E8M0", "shape": [1], "data_offsets": [0, 1]}}, b"0"),
            "KeyError: 'F8_E8M0'",
        ),
    ],
)
def test_weights_that_a_manifest_vouches_for_may_be_anything(run_dir, content, why):
    """A stranger's run is consistent in itself."""
    (run_dir / "student.safetensors").write_bytes(content)
    list_anew(run_dir)
    with pytest.raises(WeightsError) as caught:
        kd.load_student(run_dir, trust=True)
    (line,) = caught.value.mistakes
    start = f"{run_dir}/student.safetensors: cannot be read ("
    end = f"); mv {run_dir} {run_dir}-damaged, then the same kd run, trains it again"
    assert re.fullmatch(f"{re.escape(start)}{why}{re.escape(end)}", line)


def test_weights_without_metadata_state_no_run(run_dir):
    """As those of kd 0.2, and as `null` for the reader of the format."""
    file = run_dir / "student.safetensors"
    tensors, data = {name: value.clone() for name, value in load_file(file).items()}, file.read_bytes()
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")]) | {"__metadata__": None}
    file.write_bytes(safetensors(header, data[8 + int.from_bytes(data[:8], "little") :]))
    assert equal(kd.load_student(list_anew(run_dir), trust=True).state_dict(), tensors)


def test_missing_weights_leave_the_score(run_dir):
    (run_dir / "student.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"safetensors: missing; its score in result\.json is intact; to have wei"):
        kd.load_student(run_dir, trust=True)


@pytest.mark.parametrize("name", ["recipe.yaml", "environment.json", "result.json"])
def test_every_file_that_a_network_is_built_from_is_verified(run_dir, name):
    file = run_dir / name
    file.write_bytes(file.read_bytes().replace(b"1", b"2", 1))
    with pytest.raises(StorageError, match=f"{name}: changed after .*; the weights in student.safetensors are intact"):
        kd.load_student(run_dir, trust=True)


def test_a_run_of_kd_0_2_has_no_manifest_and_is_read(run_dir):
    manifest, result = run_dir / "manifest.json", run_dir / "result.json"
    manifest.unlink()
    with pytest.raises(RecipeError, match=r"this run is not finished; kd run \S+ --trust continues it"):
        kd.load_student(run_dir, trust=True)
    result.write_text(json.dumps(json.loads(result.read_text()) | {"format": 1}))
    assert equal(kd.load_student(run_dir, trust=True).state_dict(), weights(run_dir))


def test_a_run_that_is_not_finished_is_continued_and_not_moved_aside(run_dir):
    unfinish(run_dir)
    (run_dir / "student.safetensors").unlink()
    folder = run_dir.parents[2]
    line = f"{run_dir}: this run is not finished; kd run {run_dir}"
    for expected, call in (
        (f"{line} --trust continues it", lambda: kd.load_student(run_dir, trust=True)),
        (f"weights {run_dir}: {line} continues it", lambda: read_weights(folder, f"student.weights={run_dir}")),
        (
            f"{folder / 'student.yaml'}: teacher: {line} --trust continues it",
            lambda: read_weights(folder, f"teacher={{run: {run_dir}}}"),
        ),
    ):
        with pytest.raises(RecipeError) as caught:
            call()
        assert str(caught.value).endswith(expected)


def read_weights(folder, override):
    """Read the weights that a recipe takes from elsewhere, as the start of its run does."""
    run(read(folder / "student.yaml", override), folder / "elsewhere")


def test_the_advice_trains_the_run_again(tmp_path):
    recipe = baseline_of(read(write_recipes(tmp_path)))
    (first,), _ = run(recipe, tmp_path / "runs")
    right = {name: value.clone() for name, value in weights(first).items()}  # safetensors maps the file
    (first / "student.safetensors").write_bytes(b"")
    with pytest.raises(WeightsError) as caught:
        kd.load_student(first, trust=True)
    command = re.search(r"mv \S+ \S+(?=, then the same kd run)", str(caught.value))[0]
    subprocess.run(command, shell=True, check=True)
    (again,), _ = run(recipe, tmp_path / "runs")
    assert again == first
    assert equal(kd.load_student(first, trust=True).state_dict(), right)
