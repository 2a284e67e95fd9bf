"""What counts as the content of a file or folder that a recipe names."""

import os

import pytest

from kd.errors import RecipeError
from kd.recipe import read_recipe
from kd.recipe.sources import MAX_FILE, digest_of


def save_pretrained(folder, weights=b"weights"):
    """A folder as transformers writes it."""
    folder.mkdir()
    (folder / "config.json").write_text('{"num_labels": 2}')
    (folder / "model.safetensors").write_bytes(weights)
    return str(folder)


def test_a_pretrained_folder_counts_by_its_configuration_and_weights(tmp_path):
    first, same = save_pretrained(tmp_path / "a"), save_pretrained(tmp_path / "b")
    other = save_pretrained(tmp_path / "c", b"other weights")
    assert digest_of(first) == digest_of(same) != digest_of(other)
    (tmp_path / "a" / "README.md").write_text("a new remark")
    assert digest_of(first) == digest_of(same)
    (tmp_path / "a" / "preprocessor_config.json").write_text("{}")
    assert digest_of(first) != digest_of(same)


def test_other_texts_name_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "relu").write_text("a file without a suffix")
    (tmp_path / "data").mkdir()
    assert [digest_of(text) for text in ("relu", "data", "missing.pt", "")] == [None] * 4


def test_a_run_directory_counts_by_its_weights(tmp_path):
    (tmp_path / "student.safetensors").write_bytes(b"1")
    (tmp_path / "copy.safetensors").write_bytes(b"1")
    assert digest_of(str(tmp_path)) == digest_of(str(tmp_path / "copy.safetensors"))


@pytest.mark.parametrize("name", ["huge.pt", "run/student.safetensors", "pretrained/model.safetensors"])
def test_a_file_without_end_is_one_line(tmp_path, name):
    save_pretrained(tmp_path / "pretrained")
    (tmp_path / "run").mkdir()
    file = tmp_path / name
    with open(file, "wb") as opened:
        os.truncate(opened.fileno(), MAX_FILE + 1)  # all of it a hole
    with pytest.raises(RecipeError) as caught:
        digest_of(str(file if name == "huge.pt" else file.parent))
    assert str(caught.value) == f"{file}: larger than 100,000,000,000 bytes, the limit for a file that a recipe names"


def test_a_place_on_this_machine_is_not_read(folder):
    """The id does not depend on it, whatever it is."""
    with open("train.h5", "wb") as opened:
        os.truncate(opened.fileno(), MAX_FILE + 1)
    (folder / "r.yaml").write_text(
        "student: {use: students.MobileNetV3SmallASPP}\n"
        "data: {use: kd.data.CamVid, size: [64, 64], args: {root: train.h5}}\n"
        "supervised: {use: kd.losses.CrossEntropy}\n"
        "optimizer: {use: torch.optim.SGD, args: {lr: 0.1}}\n"
        "train: {steps: 3, batch_size: 2}\n"
    )
    assert read_recipe("r.yaml").sources.files == {}
    with pytest.raises(RecipeError, match=r"^train.h5: larger than 100,000,000,000 bytes"):
        read_recipe("r.yaml", ["data.args.mapping=train.h5"])
