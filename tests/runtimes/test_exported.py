"""Exported files that do not do what they state: one line each."""

from pathlib import Path

import numpy as np
import pytest
import torch

from kd.errors import RecipeError, WeightsError
from kd.runtimes.exported import OPENERS, Opened, open_file

STATED = {
    "classes": '["a", "b"]', "colors": "[]", "channels": "3", "size": "[4, 6]", "dynamic": "true", "dtype": "float32",
    "output": "logits",
}  # fmt: skip


def broken(images):
    raise RuntimeError("no such\n operator")


@pytest.fixture
def opened(folder, monkeypatch):
    def open_as(compute, **stated):
        Path("a.onnx").touch()
        monkeypatch.setattr("kd.runtimes.exported.find_spec", lambda package: "installed")
        monkeypatch.setitem(OPENERS, ".onnx", lambda file: Opened(compute, STATED | stated))
        return open_file(Path("a.onnx"))

    return open_as


IMAGES = torch.zeros(2, 3, 4, 6)


@pytest.mark.parametrize(
    ("compute", "stated", "message"),
    [
        (broken, {}, "a.onnx: cannot compute images (2, 3, 4, 6): no such operator"),
        (
            lambda images: np.zeros((2, 5, 4, 6), np.float32),
            {},
            "a.onnx: its output is (2, 5, 4, 6), but its metadata promise (2, 2, 4, 6)",
        ),
        (
            lambda images: np.full((2, 4, 6), 2),
            {"output": "classes"},
            "a.onnx: its output is not the index of one of its 2 classes",
        ),
    ],
)
def test_what_a_file_computes_is_checked(opened, compute, stated, message):
    network, _ = opened(compute, **stated)
    with pytest.raises(WeightsError) as caught:
        network(IMAGES)
    assert str(caught.value) == message


def test_classes_become_logits_and_pixels_integers(opened):
    seen = []

    def compute(images):
        seen.append(images)
        return np.arange(24).reshape(1, 4, 6) % 2

    network, facts = opened(compute, output="classes", dtype="uint8", dynamic="false")
    logits = network(IMAGES + 1 / 255).logits
    assert logits.shape == (2, 2, 4, 6)
    assert (logits.argmax(1) == torch.arange(24).view(4, 6) % 2).all()
    assert [images.shape for images in seen] == [(1, 3, 4, 6)] * 2  # one by one
    assert (seen[0].dtype, int(seen[0].max())) == (np.uint8, 1)
    assert (facts.size, facts.classes) == ((4, 6), ("a", "b"))


@pytest.mark.parametrize("stated", [{"classes": '["a"]'}, {"size": "[4]"}, {"dtype": "bfloat16"}, {"colors": "x"}])
def test_metadata_are_checked(opened, stated):
    with pytest.raises(WeightsError, match=r"^a\.onnx: .*; its metadata are not those of a file by kd export; "):
        opened(broken, **stated)


def test_a_missing_runtime_is_named(folder, monkeypatch):
    Path("a.onnx").touch()
    monkeypatch.setattr("kd.runtimes.exported.find_spec", lambda package: None)
    with pytest.raises(RecipeError) as caught:
        open_file(Path("a.onnx"))
    assert str(caught.value) == "a.onnx: onnxruntime is not installed; pip install 'kd-segmentation[onnx]'"
