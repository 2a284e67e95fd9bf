"""Shapes in annotations are checked in tests, and only there."""

import importlib
import subprocess
import sys
from pathlib import Path

import jaxtyping
import pytest
import torch
from shape_checks import TYPECHECKER

from kd.losses import MSE
from kd.losses._pixels import members

WRONG = """
from jaxtyping import Float
from torch import Tensor, nn


def transposed(matrix: Float[Tensor, "n m"]) -> Float[Tensor, "n m"]:
    return matrix.T


class Loss(nn.Module):
    def forward(self, student: Float[Tensor, "N C h w"], teacher: Float[Tensor, "N C h w"]) -> Float[Tensor, ""]:
        return (student - teacher).square().mean(1)
"""


@pytest.fixture
def wrong(tmp_path, monkeypatch):
    """A module whose annotations promise other shapes than its functions return."""
    (tmp_path / "wrong_annotations.py").write_text(WRONG, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    with jaxtyping.install_import_hook("wrong_annotations", TYPECHECKER):
        yield importlib.import_module("wrong_annotations")
    del sys.modules["wrong_annotations"]


def test_a_wrong_return_annotation_is_caught(wrong) -> None:
    assert wrong.transposed(torch.zeros(2, 2)).shape == (2, 2)
    with pytest.raises(jaxtyping.TypeCheckError, match=r"return value of wrong_annotations\.transposed"):
        wrong.transposed(torch.zeros(2, 3))


def test_a_wrong_loss_is_caught(wrong) -> None:
    maps = torch.zeros(2, 3, 4, 5)
    with pytest.raises(jaxtyping.TypeCheckError, match=r"return value of wrong_annotations\.Loss\.forward"):
        wrong.Loss()(maps, maps)
    with pytest.raises(jaxtyping.TypeCheckError, match="The problem arose whilst typechecking parameter 'teacher'"):
        wrong.Loss()(maps, maps[1:])


def test_compiled_code_is_not_checked(wrong) -> None:
    compiled = torch.compile(wrong.transposed, backend="eager", fullgraph=True)
    assert compiled(torch.zeros(2, 3)).shape == (3, 2)


def test_the_losses_are_checked() -> None:
    with pytest.raises(jaxtyping.TypeCheckError, match="'labels'"):
        members(torch.zeros(1, 2, 2), 3)  # labels are integers
    with pytest.raises(jaxtyping.TypeCheckError, match="'student'"):
        MSE()(torch.zeros(3, 2, 2), torch.zeros(3, 2, 2))  # no batch


def test_nothing_is_checked_outside_tests() -> None:
    code = "import torch, kd.losses._pixels as p; print(p.members(torch.zeros(1, 2, 2), 3).shape)"
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "torch.Size([1, 3, 2, 2])"
