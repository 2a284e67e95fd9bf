"""README's blocks do what README states. Tests shorten the training, never the command."""

import re
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import cross_entropy

from kd.cli import main
from kd.recipe.schema import TrainConfig

README = Path(__file__).resolve().parents[1] / "README.md"
MARKED = re.compile(r"<!-- test: (.+?) -->\n```(\w+)\n(.*?)```", re.DOTALL)
BLOCKS = {(name, kind): text for name, kind, text in MARKED.findall(README.read_text(encoding="utf-8"))}
SHORT = ("train.steps=2", "train.epochs=null", "train.batch_size=2", "data.args.count=4")
SHORT += ("data.unlabelled.args.count=8",)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """One folder for all blocks, as a reader would have."""
    return tmp_path_factory.mktemp("reader")


def type_in(folder, monkeypatch, capsys, block, *short):
    """Run the block's `kd` lines in the folder; their output."""
    monkeypatch.chdir(folder)
    for line in block.splitlines():
        program, *arguments = shlex.split(line, comments=True)
        assert program == "kd"
        extra = short if arguments[0] in ("check", "run", "compare") else ()
        assert main([*arguments, *extra]) == 0, line
    return capsys.readouterr().out


def test_every_block_is_known():
    assert sorted(name for name, _ in BLOCKS) == [
        "compare", "folders mine.yaml", "loop", "loss", "loss my_loss.py", "run",
    ]  # fmt: skip


def test_run_a_recipe_then_compare(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    block = BLOCKS["run", "bash"]
    copy, check_and_run = block.split("\n", 1)
    type_in(folder, monkeypatch, capsys, copy)
    teacher = folder / "shapes/teacher_deeplabv3plus.yaml"  # another recipe: overrides do not apply to it
    shortened = re.sub(r"steps: \d+, batch_size: \d+", "steps: 2, batch_size: 2", teacher.read_text())
    teacher.write_text(shortened.replace("count: 2000", "count: 4"))
    out = type_in(folder, monkeypatch, capsys, check_and_run, *SHORT)
    assert "mobilenetv3_kl_cwd.yaml: ok: " in out
    assert "distilled, seed 0" in out
    assert "from labels alone, seed 0" in out
    out = type_in(folder, monkeypatch, capsys, BLOCKS["compare", "bash"], *SHORT)
    assert "report.html" in out
    for word in ("teacher", "baseline", "student", "dashed bar"):
        assert word in out


def test_a_users_loss(folder, monkeypatch, capsys):
    (folder / "shapes/my_loss.py").write_text(BLOCKS["loss my_loss.py", "python"])
    assert len(BLOCKS["loss my_loss.py", "python"].split("class ")[1].splitlines()) <= 10
    out = type_in(folder, monkeypatch, capsys, BLOCKS["loss", "bash"], *SHORT)
    assert "mobilenetv3_kl_cwd.yaml: ok: " in out
    assert "distilled, seed 0" in out


def test_a_users_images(folder, monkeypatch, capsys):
    random = np.random.default_rng(0)
    for name in ("images", "masks"):
        (folder / "mine" / name).mkdir(parents=True)
    for index in range(10):
        Image.fromarray(random.integers(0, 256, (64, 80, 3), dtype=np.uint8)).save(folder / f"mine/images/{index}.jpg")
        mask = random.integers(0, 3, (8, 10), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
        Image.fromarray(mask).save(folder / f"mine/masks/{index}.png")
    recipe = BLOCKS["folders mine.yaml", "yaml"]
    assert len(recipe.splitlines()) <= 10
    (folder / "mine.yaml").write_text(recipe)
    short = ("train.steps=2", "train.epochs=null", "train.batch_size=2", "data.size=[64, 64]", "data.workers=0")
    out = type_in(folder, monkeypatch, capsys, "kd run mine.yaml", *short)
    assert "val mIoU" in out


def test_only_the_losses():
    student_logits = torch.randn(2, 5, 8, 8, requires_grad=True)
    teacher_logits, labels = torch.randn(2, 5, 8, 8), torch.randint(0, 5, (2, 8, 8))
    names = {"cross_entropy": cross_entropy, "student_logits": student_logits, "teacher_logits": teacher_logits}
    block = BLOCKS["loop", "python"]
    assert len([line for line in block.splitlines() if line]) <= 5
    exec(block, names | {"labels": labels})
    assert student_logits.grad.abs().sum() > 0


def test_the_editor_shows_the_text_of_the_schema():
    text = TrainConfig.model_fields["precision"].description
    assert f"\n  precision             {text}\n" in README.read_text(encoding="utf-8")


def test_links_lead_somewhere():
    text = README.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        if "://" not in target:
            assert (README.parent / target).exists(), target
    assert sys.version_info >= (3, 11)  # as README states
