"""What the folder of a network of transformers states on the form of its images; transformers is not needed."""

import json
import os
from pathlib import Path

import pytest

from teachers.huggingface import _preprocess

FIX = "correct it, or remove it and give preprocess"


def stated(folder: Path, text: str) -> dict[str, object]:
    (folder / "preprocessor_config.json").write_text(text)
    return _preprocess(folder / "preprocessor_config.json", 3)


def test_mean_and_std_are_those_of_the_folder(tmp_path: Path) -> None:
    assert _preprocess(tmp_path / "preprocessor_config.json", 3) == {}
    three = [0.5, 1, 0.25]
    assert stated(tmp_path, json.dumps({"image_mean": three, "image_std": None})) == {"mean": three}
    assert stated(tmp_path, json.dumps({"image_mean": three, "image_std": [1, 2]})) == {
        "mean": three
    }  # of two channels
    assert stated(tmp_path, json.dumps({"do_normalize": True, "size": 512})) == {}  # transformers has ImageNet's
    plain = {"mean": [0.0] * 3, "std": [1.0] * 3}
    assert stated(tmp_path, json.dumps({"image_mean": three, "do_normalize": False})) == plain


def test_order_and_scale_are_those_of_the_folder(tmp_path: Path) -> None:
    plain = {"mean": [0.0] * 3, "std": [1.0] * 3}
    assert stated(tmp_path, json.dumps({"do_flip_channel_order": True, "do_resize": True})) == plain | {"order": "bgr"}
    mean, std = [123.7, 116.3, 103.5], [58.4, 57.1, 57.4]
    wide = {"do_rescale": False, "image_mean": mean, "image_std": std}
    assert stated(tmp_path, json.dumps(wide)) == {"mean": mean, "std": std, "scale": 255.0}
    twice = {"rescale_factor": 0.00784313725, "do_normalize": False}
    assert stated(tmp_path, json.dumps(twice)) == plain | {"scale": 2.0}
    usual = {"rescale_factor": 0.00392156862745098, "image_mean": mean, "do_flip_channel_order": False}
    assert stated(tmp_path, json.dumps(usual)) == {"mean": mean}


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("{", f"not valid JSON (Expecting property name enclosed in double quotes: line 1 column 2 (char 1)); {FIX}"),
        ("[]", f"[] is not a mapping; {FIX}"),
        ('{"image_mean": 0.5}', f"image_mean: 0.5 is not a list of numbers; {FIX}"),
        ('{"image_std": {"a": 1, "b": 2, "c": 3}}', f"image_std: a mapping is not a list of numbers; {FIX}"),
        ('{"image_std": [1, "2", 3]}', f"image_std: [1, '2', 3] is not a list of numbers; {FIX}"),
        ('{"rescale_factor": "1/255"}', f"rescale_factor: '1/255' is not a number above 0; {FIX}"),
        (" " * 256_001, "larger than 256,000 bytes, the limit for settings of a network"),
    ],
)
def test_settings_that_cannot_be_used_are_one_line(tmp_path: Path, text: str, what: str) -> None:
    with pytest.raises(ValueError, match="preprocessor_config") as caught:
        stated(tmp_path, text)
    assert str(caught.value) == f"{tmp_path}/preprocessor_config.json: {what}"


def test_very_deep_and_very_long_settings_are_one_line(tmp_path: Path) -> None:
    for text in ("[" * 100_000, "9" * 5_000):
        with pytest.raises(ValueError, match=r"preprocessor_config\.json: not valid JSON \("):
            stated(tmp_path, text)


def test_a_pipe_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "preprocessor_config.json")
    assert _preprocess(tmp_path / "preprocessor_config.json", 3) == {}
