"""What counts as the content of a file or folder that a recipe names."""

from kd.recipe.sources import digest_of


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
