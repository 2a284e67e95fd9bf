"""What a source of weights is, by its content, and what is found in it."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from kd.errors import StorageError, WeightsError
from kd.networks.weight_files import read_weights
from kd.runs.result import write_manifest


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "empty: the download or the copy failed; get it again"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:12\nsize 9\n",
            "a Git LFS pointer, not the weights; run: git lfs pull",
        ),
        (
            b"\n <!doctype html><title>Sign in</title>",
            "a web page, not the weights: the download failed; get it again, and look at it in a browser first",
        ),
        (b'{"error": "not found"}', "a text in JSON, not the weights: the download failed; get it again"),
        (b"\x1f\x8b\x08" + bytes(20), "a gzip archive; unpack it, and name the file inside"),
        (bytes(257) + b"ustar" + bytes(250), "a tar archive; unpack it, and name the file inside"),
        (b"\x89HDF\r\n\x1a\n" + bytes(20), "an HDF5 file of Keras; kd reads weights of PyTorch only"),
    ],
)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_files_that_are_no_weights_are_named(tmp_path: Path, content: bytes, what: str, suffix: str) -> None:
    file = tmp_path / f"a{suffix}"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=f"^{re.escape(f'{file} is {what}')}$"):
        read_weights(str(file), None)


@pytest.mark.filterwarnings("ignore:`torch.jit")
def test_a_torchscript_archive_is_named(tmp_path: Path) -> None:
    torch.jit.save(torch.jit.trace(nn.Conv2d(1, 1, 1), torch.zeros(1, 1, 2, 2)), tmp_path / "a.pt")
    with pytest.raises(ValueError, match=r"is a TorchScript archive; save the state_dict\(\) of its network"):
        read_weights(str(tmp_path / "a.pt"), None)


@pytest.mark.parametrize("share", [0.5, 0.99])
def test_a_file_that_was_cut_off_is_named(tmp_path: Path, share: float) -> None:
    torch.save({"a": torch.rand(100)}, tmp_path / "a.pt")
    content = (tmp_path / "a.pt").read_bytes()
    (tmp_path / "a.pt").write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match="is an archive that was cut off"):
        read_weights(str(tmp_path / "a.pt"), None)


def test_no_message_contains_torchs_own_advice(tmp_path: Path) -> None:
    (tmp_path / "a.pt").write_bytes(b"\x80\x02not a pickle")
    with pytest.raises(ValueError, match="is not a readable PyTorch file") as caught:
        read_weights(str(tmp_path / "a.pt"), None)
    assert "weights_only" not in str(caught.value)


def test_the_content_decides_about_the_format(tmp_path: Path) -> None:
    save_file({"a": torch.ones(2)}, tmp_path / "a.pth")
    assert read_weights(str(tmp_path / "a.pth"), None).tensors["a"].tolist() == [1, 1]


@pytest.mark.parametrize("length", [0x3C, 0x7B, 0x20 + 0x100])
def test_the_length_of_a_header_is_no_text(tmp_path: Path, length: int) -> None:
    """Its first byte may be `<`, `{` or a space."""
    file = tmp_path / "a.safetensors"
    header = b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'.ljust(length)
    file.write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    assert len(read_weights(str(file), None).tensors) == 1


@pytest.mark.parametrize(
    "content",
    [
        {"state_dict": {"a": torch.ones(1)}, "meta": {"dataset_meta": {"classes": ["sky", "road"], "palette": [1]}}},
        {"model": {"a": torch.ones(1)}, "meta": {"CLASSES": ("sky", "road")}},
        {"a": torch.ones(1), "class_names": ["sky", "road"], "classes": 2},
        {"state_dict": {"a": torch.ones(1)}, "hyper_parameters": {"classes": ["sky", "road"]}},
        {"state_dict": {"a": torch.ones(1)}, "hyper_parameters": {"id2label": {1: "road", 0: "sky"}}},
        {"model": {"a": torch.ones(1)}, "names": {"1": "road", "0": "sky"}},
        {"a": torch.ones(1), "class_names": {"road": 1, "sky": 0}},
        {"a": torch.ones(1), "label2id": {"sky": 0, "road": 1}, "classes": {1: "road", 2: "sky"}, "names": {}},
    ],
)
def test_the_names_of_the_classes_are_found(tmp_path: Path, content: dict[str, Any]) -> None:
    torch.save(content, tmp_path / "a.pth")
    weights = read_weights(str(tmp_path / "a.pth"), None)
    assert weights.classes == ("sky", "road")
    assert list(weights.tensors) == ["a"]


@pytest.mark.parametrize(("named", "classes"), [('["sky", "road"]', ("sky", "road")), ("sky", None), ("[1]", None)])
def test_the_names_of_the_classes_in_a_safetensors_file(tmp_path: Path, named: str, classes: Any) -> None:
    save_file({"a": torch.ones(1)}, tmp_path / "a.safetensors", metadata={"classes": named})
    assert read_weights(str(tmp_path / "a.safetensors"), None).classes == classes


@pytest.mark.parametrize(
    ("content", "place", "name"),
    [
        (nn.Linear(2, 2), "", "torch.nn.modules.linear.Linear"),
        ({"epoch": 3, "model": nn.Linear(2, 2)}, "['model']", "torch.nn.modules.linear.Linear"),
        (nn.DataParallel(nn.Linear(2, 2)), "", "torch.nn.parallel.data_parallel.DataParallel"),
    ],
)
def test_a_network_pickled_whole_gets_the_command_that_converts_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: Any, place: str, name: str
) -> None:
    torch.save(content, tmp_path / "a's.pth")
    with pytest.raises(ValueError, match=r"holds a whole network") as caught:
        read_weights(str(tmp_path / "a's.pth"), None)
    message = str(caught.value)
    assert f"({name})" in message
    assert "\n" not in message
    command = shlex.split(message[message.index("python -c ") :])
    assert f"){place}; " in command[2]
    monkeypatch.chdir(tmp_path)
    exec(command[2], {})  # what a reader who trusts the file does
    converted = read_weights(str(tmp_path / "a's.safetensors"), None).tensors
    assert [tuple(tensor.shape) for tensor in converted.values()] in ([(2,), (2, 2)], [(2, 2), (2,)])


def test_foreign_objects_beside_the_weights_are_passed_over_by_name(tmp_path: Path) -> None:
    torch.save({"model": {"a": torch.ones(1)}, "path": Path("x"), "network": nn.Linear(1, 1)}, tmp_path / "a.pth")
    weights = read_weights(str(tmp_path / "a.pth"), None)
    assert list(weights.tensors) == ["a"]
    assert weights.passed[0].startswith("pathlib.")


def test_the_manifest_of_a_run_proves_its_weights_without_its_result(tmp_path: Path) -> None:
    """Whoever removes the result does not make changed weights a plain file."""
    run_dir, file = tmp_path / "x-0123abcd/seed0", tmp_path / "x-0123abcd/seed0/student.safetensors"
    run_dir.mkdir(parents=True)
    save_file({"a": torch.ones(2)}, file)
    (run_dir / "result.json").write_text("{}")
    write_manifest(run_dir, id="0123abcd", seed=0)
    (run_dir / "result.json").unlink()
    with pytest.raises(StorageError, match=r"result\.json: missing; the weights in student\.safetensors are"):
        read_weights(str(run_dir), None)
    save_file({"a": torch.zeros(2)}, file)
    for source in (run_dir, file):
        with pytest.raises(WeightsError, match=r"student\.safetensors: changed after the run wrote it \(SHA-256 "):
            read_weights(str(source), None)
