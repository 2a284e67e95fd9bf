"""Which components a recipe may name without `--trust`."""

import re
from pathlib import Path

import pytest
from recipe_text import ALONE, TEXT, mistakes, read

from kd.errors import RecipeError
from kd.recipe import read_recipe
from kd.recipe.trust import TRUSTED, is_trusted, nearly_trusted


@pytest.mark.parametrize("module", TRUSTED)
def test_a_name_directly_under_a_module_of_ours_is_trusted(module: str) -> None:
    assert is_trusted(f"{module}.Name")


REFUSED = [
    "os.system", "builtins.exec", "subprocess.run", "kd.cli.main", "kd.runs.Run",
    "kd.components.build.build", "kd.recipe.yaml12.compose",
    "kd.train.session.run", "kd.engine.schedules.poly", "kd.losses.feature.cwd.CWD", "kd.losses.feature.CWD",
    "kd.loses.CWD",
    "losses.CWD", "kd.losses_.CWD", "kd.data.datasets.folders.os", "kd.data.datasets.folders.os.system",
    "teachers.wrap.Wrapped",
    "teachers.fcn.torch.hub.load", "students.x.y", "torch.optim.lr_scheduler.LambdaLR", "torch.optim.adam.Adam",
    "torch.hub.load", "torch.load", "torch.nn.Linear", "torchvision.models.resnet18", "Teachers.X", "TORCH.OPTIM.SGD",
    "kd.lоsses.CWD", "kd.losses.sub.__import__", "importlib.import_module", "pickle.loads", "shutil.rmtree",
    "yaml.unsafe_load", "numpy.load", "my_package.Loss", "kd.components.user_files.x",
    "kd.recipe.read_recipe", "kd.networks.weights.load",
    "loss.py:Loss", "./loss.py:Loss", "../loss.py:Loss", "/etc/loss.py:Loss", "kd/losses.py:CWD", "kd.losses.py:CWD",
    "a b.py:X", "teachers.py:X", "~/x.py:X", "C:/x.py:X", "kd.data.x.CamVid", "kd.schedules.x.poly",
]  # fmt: skip


@pytest.mark.parametrize("component", REFUSED)
def test_without_trust_any_other_component_is_refused(folder: Path, component: str) -> None:
    assert len(set(REFUSED)) >= 50
    text = ALONE.replace("students.MobileNetV3SmallASPP", f"'{component}'")
    [line] = mistakes(text)
    assert line.startswith(f"r.yaml:1:11: student.use: '{component}'")
    assert line.endswith(" would be imported, but is not part of kd; if you trust this recipe: kd run r.yaml --trust")
    assert read(text, trust=True).student.use == component


@pytest.mark.parametrize(
    "component",
    ["CWD", "kd..CWD", ".CWD", "kd.losses.", "", "loss.py:", ":Loss", "loss.txt:Loss", "loss.py:a.b", "loss.py:a()",
     "kd.losses.CWD()", "kd.losses.CWD\\n", "kd.losses.1", "a.b;c", "lo\\nss.py:X", "kd losses.CWD"],
)  # fmt: skip
def test_a_text_that_is_not_a_component_is_refused_even_with_trust(folder: Path, component: str) -> None:
    Path("r.yaml").write_text(ALONE.replace("students.MobileNetV3SmallASPP", f'"{component}"'))
    for trust in (False, True):
        with pytest.raises(RecipeError) as caught:
            read_recipe("r.yaml", trust=trust)
        [line] = caught.value.mistakes
        assert re.match(r"r.yaml:1:11: student.use: must (be package.module.Name or file.py:Name|not be empty)", line)


def test_one_line_lists_all_untrusted_components(folder: Path) -> None:
    text = TEXT.replace("kd.losses.AT", "my loss.py:AT").replace("kd.losses.PixelKL", "kd.loses.PixelKL")
    text = text.replace("kd.data.RandomFlip", "my loss.py:AT").replace("students.Mo", "students.deep.Mo")
    assert mistakes(text, "data.args.root=a b") == [
        "r.yaml:2:11: student.use: 'students.deep.MobileNetV3SmallASPP' (did you mean "
        "'students.MobileNetV3SmallASPP'?), 'my loss.py:AT', 'kd.loses.PixelKL' (did you mean 'kd.losses.PixelKL'?) "
        "would be imported, but are not part of kd; if you trust this recipe: "
        "kd run r.yaml 'data.args.root=a b' --trust"
    ]


def test_a_hidden_component_needs_trust_too(folder: Path) -> None:
    text = ALONE.replace("lr: 0.01", "lr: 0.01, deep: [[{a: {use: os.system}}]]")
    [line] = mistakes(text)
    assert line.startswith("r.yaml:4:65: optimizer.args.deep.0.0.a.use: 'os.system' would be imported")


def test_a_private_name_resembles_nothing() -> None:
    assert nearly_trusted("kd.loses.PixelKL") == "did you mean 'kd.losses.PixelKL'?"
    assert nearly_trusted("kd.losses._pixels") == ""
