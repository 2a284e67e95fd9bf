"""`kd calibrate`."""

from command import kd


def test_calibrate_prints_a_fragment(recipe, capsys):
    assert kd("calibrate", recipe, "--trust") == 2
    assert "has no result.json; train it: kd run " in capsys.readouterr().err
    assert kd("run", recipe.parent / "teacher.yaml", "--trust") == 0
    capsys.readouterr()
    assert kd("calibrate", recipe, "--trust", "--batches", "1", "--ratio", "0.5") == 0
    out = capsys.readouterr().out
    assert "weighted norm" in out
    assert "\ndistill:\n" in out
