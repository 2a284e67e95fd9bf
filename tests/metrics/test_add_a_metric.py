"""The example in docs/add-a-metric.md is a metric: it is checked, trained with, kept and compared."""

import re
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from tiny import write_recipes

from kd.cli import main
from kd.components import Maker
from kd.data.loader import evaluation_batches
from kd.parts.trained import load_network
from kd.recipe import read_recipe
from kd.runs import read_metrics, read_result

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "add-a-metric.md").read_text(encoding="utf-8")


def block(kind: str) -> str:
    return re.findall(rf"```{kind}\n(.*?)```", PAGE, re.DOTALL)[0]


@pytest.fixture
def recipe(folder: Path) -> Path:
    """The tiny recipe, with the page's two blocks added as the page shows."""
    plain = write_recipes(folder)
    (folder / "my_metric.py").write_text(block("python"))
    (folder / "recipe.yaml").write_text(plain.read_text() + block("yaml"))
    return Path("recipe.yaml")


def test_the_example_is_checked_trained_with_and_compared(recipe, capsys):
    commands = [line.partition("#")[0].split() for line in block("bash").splitlines()]
    assert [command[:2] for command in commands] == [["kd", "check"], ["kd", "run"], ["kd", "compare"]]
    for _, *arguments in commands:
        assert main(arguments) == 0
    header = next(line for line in capsys.readouterr().out.splitlines() if "pixel acc. %" in line)
    columns = re.split(r"  +", header.strip())
    first = columns.index("pixel acc. %")
    assert columns[first : first + 3] == ["pixel acc. %", "Brier ↓", "BoundaryIoU(ratio=0.05) %"]
    (run_dir,) = Path("runs").glob("recipe-*/seed0")
    result = read_result(run_dir)
    values = result.splits["val"].metrics["Brier"].values["brier"]
    curve = [line["val/Brier"] for line in read_metrics(run_dir) if "val/Brier" in line]
    assert curve[-1] == pytest.approx(values)
    read = read_recipe(recipe, trust=True)
    for split, directory in (
        (result.splits["val"], run_dir),
        (result.teacher.splits["val"], Path("runs") / result.teacher.run),
    ):
        total = pixels = 0
        for batch in evaluation_batches(Maker(read).dataset("val"), (32, 32), batch_size=4):
            with torch.no_grad():
                logits = load_network(directory, trust=True)(batch.images.float() / 255).logits
            probabilities = F.interpolate(logits, (32, 32), mode="bilinear").softmax(1)
            labels = torch.stack(batch.labels).long()
            distance = (probabilities - F.one_hot(labels, 2).movedim(3, 1)).square().sum(1)
            total, pixels = total + distance.sum().item(), pixels + labels.numel()
        assert split.metrics["Brier"].values == {"brier": pytest.approx(total / pixels, abs=1e-6)}


def test_without_trust_it_is_refused_and_a_metric_that_raises_is_one_line_before_training(recipe, capsys):
    assert main(["check", str(recipe), "student.use=students.MobileNetV3SmallASPP"]) == 2
    assert "'my_metric.py:Brier'" in capsys.readouterr().err
    Path("my_metric.py").write_text(block("python").replace("valid = labels != 255", "valid = labels.shape[9]"))
    for command in ("check", "run"):
        assert main([command, str(recipe), "--trust"]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        place = r"recipe\.yaml:\d+:\d+: evaluate\.metrics\.0"
        assert re.fullmatch(rf"{place}: my_metric\.py:Brier raised IndexError: .* \(my_metric\.py:\d+\)", line)
    assert not list(Path("runs").glob("recipe-*"))
