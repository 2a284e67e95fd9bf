"""`kd check`."""

from command import kd


def test_overrides_may_be_anywhere_on_the_command_line(recipe, capsys):
    assert kd("check", recipe, "train.steps=5", "--trust", "train.batch_size=2") == 0
    assert "5 steps" in capsys.readouterr().out


def test_imports_lists_without_importing(recipe, capsys):
    (recipe.parent / "nets.py").write_text("raise SystemExit('imported')")
    assert kd("check", "--imports", recipe) == 0
    assert "nets.py:Net" in capsys.readouterr().out.splitlines()
