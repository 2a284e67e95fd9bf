"""Many mistakes at once, and the word that was meant."""

import pickle
import re
import shlex
import tomllib
from pathlib import Path

import pytest
from recipe_text import ALONE, TEXT, mistakes

from kd import errors
from kd.errors import did_you_mean, shell_word, short


def test_all_mistakes_at_once_in_the_order_of_the_file(folder: Path) -> None:
    text = (
        TEXT.replace("workers: 1", "worker: 1").replace("epochs: 100", "steps: -2").replace("device: cpu", "device: x")
    )
    text = text.replace("lr: 1e-2, ", "lr: 1e-2, lr: .nan, ").replace("kd.losses.PixelKL", "mine.py:KL")
    assert mistakes(text, "log.every=0") == [
        "r.yaml:9:3: data.worker: unknown key; did you mean 'workers'?",
        "r.yaml:13:12: distill.kl.loss.use: 'mine.py:KL' would be imported, but is not part of kd; if you trust this "
        "recipe: kd run r.yaml log.every=0 --trust",
        "r.yaml:22:52: optimizer.args.lr: given twice, first at r.yaml:22:42; remove one",
        "r.yaml:25:3: train.steps: must be at least 1, got -2",
        "r.yaml:37:1: device: must be 'auto', 'cpu', 'cuda' or 'mps', got 'x'; known: auto, cpu, cuda, mps",
        "<log.every=0>: log.every: must be at least 1, got 0",
    ]


def test_very_many_mistakes_are_counted(folder: Path) -> None:
    found = mistakes(ALONE + "".join(f"x{i}: 1\n" for i in range(80)))
    assert len(found) == 51
    assert found[-1] == "… and 30 more"


KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]
ARGUMENTS = {
    errors.InputsError: (Path("runs/a"), "other images", "kd run a.yaml"),
    errors.StoppedError: (15,),
    errors.TapError: ("layer5", "no such tap"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_other_processes_get_a_copy_of_any_error(kind: type[Exception]) -> None:
    error = kind(*ARGUMENTS.get(kind, ("what is wrong",)))
    copied = pickle.loads(pickle.dumps(error))
    assert (type(copied), str(copied), vars(copied)) == (kind, str(error), vars(error))


def test_an_error_in_a_package_that_kd_depends_on_is_no_code_of_the_users() -> None:
    project = tomllib.loads((Path(__file__).resolve().parents[1] / "pyproject.toml").read_text())["project"]
    names = [re.split(r"[^\w-]", needed)[0] for needed in project["dependencies"]]
    modules = {{"pillow": "PIL", "pyyaml": "yaml"}.get(name, name) for name in names}
    assert set(errors._PACKAGES) == {*modules, "beartype"}


def test_did_you_mean() -> None:
    assert did_you_mean("cwd", ["CWD", "AT"]) == "; did you mean 'CWD'?"
    assert did_you_mean("zzz", ["b", "a"]) == "; known: a, b"
    assert did_you_mean("x", []) == ""
    assert did_you_mean("x" * 100_000, ["x" * 60]).startswith("; known: ")


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("a=1", "a=1"),
        ("a={b: c}", "'a={b: c}'"),
        ("a={use: 'x.py:Y'}", "\"a={use: 'x.py:Y'}\""),
        ("it's $HOME", "'it'\"'\"'s $HOME'"),
    ],
)
def test_a_word_reads_back_as_it_was(text: str, word: str) -> None:
    assert shell_word(text) == word
    assert shlex.split(word) == [text]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("no such\n operator", "no such operator"),
        ("", "RuntimeError"),
        (
            "[ONNXRuntimeError] : 1 : FAIL : Load model from a b.onnx failed:/src/core/graph/model.cc:256 "
            "ns::Model::Model(ns::Proto&&, const ns::Options&) Unsupported model IR version: 99, max supported: 14\n",
            "Unsupported model IR version: 99, max supported: 14",
        ),
        ("[ONNXRuntimeError] : 7 : INVALID_PROTOBUF : Load model from a.onnx failed:Cut off.", "Cut off"),
        ("Exception from a/b.cpp:84: Check 'x == 1' failed at c.cpp:5: No such operation\n", "No such operation"),
        ("In Node n0, Error No Op registered for Gelu with domain_version of 6", "no operator Gelu in its opset 6"),
        ("[ONNXRuntimeError] : 2 : INVALID_ARGUMENT : Got 3 (expected 1) Please fix", "Got 3 (expected 1) Please fix"),
    ],
)
def test_an_error_of_another_package_is_its_reason_alone(text: str, line: str) -> None:
    assert short(RuntimeError(text)) == line
