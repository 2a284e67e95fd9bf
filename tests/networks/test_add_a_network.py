"""The examples in docs/add-a-network.md work as printed; only training and evaluation are shortened."""

import re
import shlex
from pathlib import Path

import pytest
import torch
import torchvision

from kd.cli import main

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "add-a-network.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"```(?:python|yaml)\n# (\S+)\n(.*?)```", PAGE, re.DOTALL))
COMMANDS = [line for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()]
SHORT = ("train.steps=2", "train.batch_size=2", "data.args.count=4", "data.workers=0", "train.evaluate_every=0")


def test_the_examples_are_known() -> None:
    assert list(FILES) == ["my_net.py", "my_net.yaml", "taught.yaml"]
    assert len(COMMANDS) == 4


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files of the page, and weights of the teacher that it names."""
    folder = tmp_path_factory.mktemp("reader")
    for name, text in FILES.items():
        (folder / name).write_text(text)
    teacher = torchvision.models.segmentation.lraspp_mobilenet_v3_large(num_classes=6, weights_backbone=None)
    torch.save(teacher.state_dict(), folder / "my_teacher.pth")
    return folder


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_succeeds(
    command: str, reader: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(reader)
    monkeypatch.setattr("kd.data.datasets.shapes._HELD_OUT", 2)
    program, *arguments = shlex.split(command)
    assert program == "kd"
    assert main([*arguments, *SHORT]) == 0
    output = capsys.readouterr().out
    assert (": ok: " if arguments[0] == "check" else "val mIoU") in output
    if arguments[:2] == ["check", "taught.yaml"]:
        assert "teacher: my_teacher.pth: loaded 272 of 272 tensors" in output


def test_without_trust_the_file_is_refused(
    reader: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(reader)
    assert main(["check", "my_net.yaml", *SHORT]) == 2
    assert "my_net.py:Tiny" in capsys.readouterr().err
