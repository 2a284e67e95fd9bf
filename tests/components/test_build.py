"""Components from recipes: which are found and trusted, and the messages for wrong calls."""

import importlib
import importlib.metadata
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import torch
from recipe_text import ALONE
from torch import nn

from kd.components import Maker
from kd.errors import DataError, RecipeError
from kd.recipe import Recipe, Use, read_recipe

ROOT = Path(__file__).parents[2]

COMPONENTS = """\
from kd.errors import RecipeError
from kd.errors import DataError


class Plain:
    def __init__(self, size: int, rate: float = 0.5, *, name: str | None = None, inner=None) -> None:
        if rate < 0:
            raise ValueError(f"rate must be at least 0, got {rate}")
        self.size, self.rate, self.name, self.inner = size, rate, name, inner


class Open:
    def __init__(self, path, **options):
        with open(path) as file:
            self.text, self.options = file.read(), options


def function(a, b=2):
    return a + b


def refuses():
    raise RecipeError("a line of its own")


def has_no_data():
    raise DataError("x.png: unreadable")


def buggy():
    return {}["key"]


number = 3
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, which is a recipe's too, with a file of components."""
    (tmp_path / "mine.py").write_text(COMPONENTS)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def made(name: str, args: dict[str, Any] | None = None, **supplied: Any) -> Any:
    return maker().build(Use(use=name, args=args or {}), **supplied)


def maker(trust: bool = True) -> Maker:
    """Bound to a recipe in the current folder."""
    Path("recipe.yaml").write_text(ALONE)
    return Maker(read_recipe("recipe.yaml", trust=trust))


def refused(name: str, args: dict[str, Any] | None = None, **supplied: Any) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        made(name, args, **supplied)
    return caught.value.mistakes


def test_a_component_receives_its_arguments_and_the_engines(folder: Path) -> None:
    built = made("mine.py:Plain", {"rate": 1, "name": "x"}, size=7)
    assert (built.size, built.rate, built.name, built.inner) == (7, 1, "x", None)
    assert made("mine.py:function", {"a": 1}) == 3
    assert made("fractions.Fraction", {"numerator": 1, "denominator": 2}) * 2 == 1
    adapter = made("kd.adapters.Conv1x1", in_channels=3, out_channels=5)
    assert adapter(torch.zeros(1, 3, 4, 4)).shape == (1, 5, 4, 4)
    optimizer = made("torch.optim.SGD", {"lr": 0.25}, params=nn.Linear(2, 2).parameters())
    assert optimizer.defaults["lr"] == 0.25


def test_components_in_arguments_are_built_first_at_any_depth(folder: Path) -> None:
    half = {"use": "fractions.Fraction", "args": {"numerator": 1, "denominator": 2}}
    inner = {"use": "mine.py:Plain", "args": {"size": 1, "inner": [half, {"deep": [half]}]}}
    built = made("mine.py:Plain", {"size": 2, "inner": inner})
    assert built.inner.size == 1
    assert built.inner.inner[0] * 2 == 1
    assert built.inner.inner[1]["deep"][0] * 2 == 1


@pytest.mark.parametrize(
    ("name", "args", "supplied", "expected"),
    [
        ("mine.py:Plain", {"size": 1, "rat": 2}, {}, ["takes no 'rat'; did you mean 'rate'?"]),
        ("mine.py:Plain", {}, {}, ["needs 'size'"]),
        ("mine.py:Plain", {"a": 1, "rate": "hot"}, {},
         ["takes no 'a'; known: inner, name, rate, size", "needs 'size'", "takes float as 'rate', got 'hot'"]),
        ("mine.py:Plain", {"size": 3.5}, {}, ["takes int as 'size', got 3.5"]),
        ("mine.py:Plain", {"size": True}, {}, ["takes int as 'size', got true"]),
        ("mine.py:Plain", {"size": None}, {}, ["takes int as 'size', got null"]),
        ("mine.py:Plain", {"size": 1, "name": 3}, {}, ["takes str | None as 'name', got 3"]),
        ("mine.py:Plain", {"size": 1, "rate": -1}, {}, ["rate must be at least 0, got -1 (mine.py:8)"]),
        ("mine.py:function", {}, {"x": 1},
         ["takes no 'x', which kd passes to every component here; add it, or use another component", "needs 'a'"]),
        ("mine.py:Open", {"path": "none.txt"}, {},
         ["raised FileNotFoundError: [Errno 2] No such file or directory: 'none.txt' (mine.py:14)"]),
        ("torch.optim.SGD", {"lr": "hot"}, {"params": []}, ["takes float | torch.Tensor as 'lr', got 'hot'"]),
        ("torch.optim.SGD", {"lr": -1.0}, {"params": [torch.zeros(1)]}, ["Invalid learning rate: -1.0"]),
    ],
)  # fmt: skip
def test_a_wrong_call(
    folder: Path, name: str, args: dict[str, Any], supplied: dict[str, Any], expected: list[str]
) -> None:
    mistakes = [line.removeprefix(f"{name}: {name}").lstrip(": ") for line in refused(name, args, **supplied)]
    assert mistakes == expected


def test_a_recipe_must_not_give_an_argument_of_the_engine(folder: Path) -> None:
    assert refused("mine.py:Plain", {"size": 1}, size=2) == ["mine.py:Plain: 'size' is set by the engine; remove it"]


def test_a_component_with_keyword_arguments_takes_any_name(folder: Path) -> None:
    Path("a.txt").write_text("hello")
    assert made("mine.py:Open", {"path": "a.txt", "more": 1}, split="val").options == {"more": 1, "split": "val"}


def test_recipe_and_data_errors_of_a_component_pass_unchanged(folder: Path) -> None:
    assert refused("mine.py:refuses") == ["a line of its own"]
    with pytest.raises(DataError, match=r"^x.png: unreadable$"):
        made("mine.py:has_no_data")


def test_an_error_of_a_users_component_is_one_line_with_its_place(folder: Path) -> None:
    (line,) = refused("mine.py:buggy")
    assert re.fullmatch(r"mine\.py:buggy: mine\.py:buggy raised KeyError: 'key' \(mine\.py:\d+\)", line)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("torch.optim.SDG", "torch.optim has no 'SDG'; did you mean 'SGD'?"),
        ("torch.optim.lr_scheduler", "torch.optim has no 'lr_scheduler'"),
        ("torch.optim.Optimizer", "torch.optim has no 'Optimizer'"),
        ("torch.optim.LBFGS", "torch.optim.LBFGS cannot train here: it calls the loss several times a step; "
         "use SGD or AdamW"),
        ("torch.optim.SparseAdam", "torch.optim.SparseAdam cannot train here: it takes sparse gradients only; "
         "use SGD or AdamW"),
        ("torch.optim.Muon", "torch.optim.Muon cannot train here: it takes matrices only, and convolutions have four "
         "dimensions; use SGD or AdamW"),
        ("kd.losses.CWd", "kd.losses has no 'CWd'; did you mean 'CWD'?"),
        ("kd.losses.feature", "kd.losses has no 'feature'"),
        ("kd.losses.nn", "kd.losses has no 'nn'"),
        ("kd.schedules.__loader__", "kd.schedules.__loader__ is a SourceFileLoader, not a class or function"),
        ("kd.adapters.nn", "kd.adapters has no 'nn'; known: "),
        ("nowhere.Loss", "there is no module 'nowhere'"),
        ("json.nowhere.Loss", "there is no module 'json.nowhere'"),
        ("json.dumbs", "json has no 'dumbs'; did you mean 'dumps'?"),
        ("math.pi", "math.pi is a float, not a class or function"),
        ("none.py:Loss", "no file none.py"),
        ("mine.py:Plane", "mine.py has no 'Plane'; did you mean 'Plain'?"),
        ("mine.py:number", "mine.py:number is a int, not a class or function"),
    ],
)  # fmt: skip
def test_a_component_that_is_not_found(folder: Path, name: str, expected: str) -> None:
    with pytest.raises(RecipeError) as caught:
        maker().find(Use(use=name))
    [line] = caught.value.mistakes
    assert line.startswith(f"{name}: {expected}")


@pytest.mark.parametrize("name", ["mine.py:Plain", "os.system", "kd.cli.main", "torch.optim.sgd.SGD"])
def test_an_untrusted_component_is_refused_again_when_it_is_built(folder: Path, name: str) -> None:
    with pytest.raises(RecipeError) as caught:
        maker(trust=False).find(Use(use=name))
    assert caught.value.mistakes == [f"{name}: '{name}' is not part of kd; if you trust it, add --trust"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("import nothing_of_this_name\n", "ModuleNotFoundError: No module named 'nothing_of_this_name' (line 1)"),
        ("x = 1\ndef f(:\n", "SyntaxError: invalid syntax (line 2)"),
        ("def f():\n    return 1 / 0\n\nf()\n", "ZeroDivisionError: division by zero (line 2)"),
        ("raise ValueError('two\\nlines')\n", "ValueError: two\\nlines (line 1)"),
        ("import sys\nsys.exit(3)\n", "SystemExit: 3 (line 2)"),
    ],
)
def test_a_file_that_cannot_be_imported_is_one_line(folder: Path, text: str, expected: str) -> None:
    Path("broken.py").write_text(text)
    assert refused("broken.py:X") == [f"broken.py:X: importing broken.py failed: {expected}"]


def test_a_package_that_cannot_be_imported_is_one_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("needy.py").write_text("import nothing_of_this_name\n")
    Path("sick.py").write_text("raise OSError('no such device')\n")
    monkeypatch.syspath_prepend(str(folder))
    assert refused("needy.X") == ["needy.X: needy needs the module 'nothing_of_this_name', which is not installed"]
    assert refused("sick.X") == ["sick.X: importing sick failed: OSError: no such device"]


@pytest.mark.parametrize(
    ("name", "package"),
    [
        ("segmentation_models_pytorch.Unet", "segmentation-models-pytorch"),
        ("timm.create_model", "timm"),
        ("timm.models.resnet.resnet18", "timm"),
        ("transformers.SegformerForSemanticSegmentation.from_pretrained", "transformers"),
    ],
)
def test_an_optional_package_that_is_missing_names_its_extra(
    monkeypatch: pytest.MonkeyPatch, name: str, package: str
) -> None:
    missing = Missing(name.partition(".")[0])
    for module in [module for module in sys.modules if module.partition(".")[0] == missing.name]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setattr(sys, "meta_path", [missing, *sys.meta_path])
    assert refused(name) == [f"{name}: {package} is not installed; pip install 'kd-segmentation[zoo]'"]
    extras = tomllib.loads(Path(__file__).parents[2].joinpath("pyproject.toml").read_text())["project"]
    (zoo,) = extras["optional-dependencies"]["zoo"]  # kd-segmentation[hf,smp,timm]
    named = [extras["optional-dependencies"][extra] for extra in zoo.rstrip("]").partition("[")[2].split(",")]
    assert package in [text.partition(">")[0] for texts in named for text in texts]


class Missing:
    """Hides a package, as if it were not installed."""

    def __init__(self, name: str) -> None:
        self.name = name

    def find_spec(self, name: str, *_: object) -> None:
        if name.partition(".")[0] == self.name:
            raise ModuleNotFoundError(f"No module named {self.name!r}", name=self.name)


RECIPE = """\
teacher: {use: teachers.FCNResNet50}
student: {use: students.MobileNetV3SmallASPP}
data: {use: kd.data.Shapes, size: [64, 64], augment: [{use: kd.data.RandomFlip}]}
supervised: {use: kd.losses.CrossEntropy}
distill:
  kl: {loss: {use: kd.losses.PixelKL, args: {temperature: 4.0}}}
  cwd:
    loss: {use: kd.losses.CWD}
    at: {student: high, teacher: layer4}
    adapter: {use: kd.adapters.Conv1x1}
    weight: {use: kd.schedules.linear, args: {start: 0.0, end: 3.0, over: 10%}}
optimizer: {use: torch.optim.SGD, args: {lr: 0.01}}
train: {steps: 10, batch_size: 4}
"""


def recipe(*overrides: str) -> Recipe:
    Path("r.yaml").write_text(RECIPE)
    return read_recipe("r.yaml", overrides, trust=True)


def test_a_recipe_with_correct_calls_passes(folder: Path) -> None:
    Maker(recipe()).check()


def test_all_wrong_calls_of_a_recipe_are_reported_at_once_with_their_places(folder: Path) -> None:
    wrong = recipe("student.args.in_channels=3", "distill.cwd.weight.args.steps=3")
    Path("r.yaml").write_text(
        RECIPE.replace("temperature: 4.0", "temperatur: 4.0").replace("RandomFlip}", "RandomFlop}")
        .replace("{lr: 0.01}", "{lr: hot, params: 1}").replace("FCNResNet50", "FCNResNet5")
        .replace("CrossEntropy}", "CrossEntropy, args: {x: [{use: mine.py:Plain}]}}")
    )  # fmt: skip
    many = read_recipe("r.yaml", trust=True)
    with pytest.raises(RecipeError) as caught:
        Maker(wrong).check()
    assert caught.value.mistakes == [
        "<student.args.in_channels=3>: student.args.in_channels: 'in_channels' is set by the engine; remove it",
        "<distill.cwd.weight.args.steps=3>: distill.cwd.weight.args.steps: 'steps' is set by the engine; remove it",
    ]
    with pytest.raises(RecipeError) as caught:
        Maker(many).check()
    lines = caught.value.mistakes
    assert lines[0].startswith("r.yaml:1:1: teacher: teachers has no 'FCNResNet5'; did you mean 'FCNResNet50'?")
    assert lines[1].startswith("r.yaml:3:55: data.augment.0: kd.data has no 'RandomFlop'; did you mean 'RandomFlip'?")
    assert lines[2].startswith("r.yaml:4:50: supervised.args.x: kd.losses.CrossEntropy takes no 'x'")
    assert lines[3:] == [
        "r.yaml:4:54: supervised.args.x.0: mine.py:Plain needs 'size'",
        "r.yaml:6:46: distill.kl.loss.args.temperatur: kd.losses.PixelKL takes no 'temperatur'; "
        "did you mean 'temperature'?",
        "r.yaml:12:51: optimizer.args.params: 'params' is set by the engine; remove it",
        "r.yaml:12:42: optimizer.args.lr: torch.optim.SGD takes float | torch.Tensor as 'lr', got 'hot'",
    ]


def test_a_component_in_the_wrong_place(folder: Path) -> None:
    with pytest.raises(RecipeError) as caught:
        Maker(recipe("distill.cwd.adapter.use=kd.losses.CrossEntropy")).check()
    assert caught.value.mistakes == [
        f"r.yaml:10:5: distill.cwd.adapter: kd.losses.CrossEntropy takes no '{name}', "
        "which kd passes to every component here; add it, or use another component"
        for name in ("in_channels", "out_channels")
    ]


def _run(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Python in a fresh process, in `folder`, which precedes our checkout on the import path."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, (folder, ROOT)))}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_a_folder_that_shadows_ours_is_named(folder: Path) -> None:
    (folder / "teachers").mkdir()
    (folder / "teachers/__init__.py").write_text("raise SystemExit('imported')")
    code = (
        "from kd.components import Maker; from kd.recipe import Use\n"
        "try: Maker().find(Use(use='teachers.FCNResNet50'))\n"
        "except ValueError as error: print(error)"
    )
    done = _run(code, folder)
    expected = (
        f"teachers.FCNResNet50: {folder.resolve() / 'teachers'} shadows {ROOT.resolve() / 'teachers'}; "
        "rename it, or run from another folder\n"
    )
    assert (done.stdout, done.returncode) == (expected, 0), done.stderr


def test_a_torchvision_of_another_torch_is_one_line_with_the_fix(folder: Path) -> None:
    (folder / "torchvision").mkdir()
    (folder / "torchvision/__init__.py").write_text(
        "raise RuntimeError('operator torchvision::nms does not exist\\nx')"
    )
    code = (
        "from kd.components.build import check_torch\n"
        "try: check_torch()\n"
        "except ValueError as error: print(error)"
    )  # fmt: skip
    done = _run(code, folder)
    versions = [importlib.metadata.version(name) for name in ("torch", "torchvision")]
    assert done.stdout == (
        f"torch {versions[0]} and torchvision {versions[1]} do not work together (operator torchvision::nms does not "
        "exist); pip install --upgrade torch torchvision\n"
    ), done.stderr
