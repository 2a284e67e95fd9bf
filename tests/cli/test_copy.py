"""`kd copy`."""

from command import kd


def test_copy_lists_the_recipes_or_copies_one(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert kd("copy") == 0
    header, *lines, last = capsys.readouterr().out.splitlines()
    assert last == (
        "studies: camvid/methods_study.yaml, camvid/study.yaml, shapes/losses_study.yaml; "
        "kd study NAME --list shows the runs of one"
    )
    assert header.split() == ["recipe", "data", "what", "result"]
    [line] = [line for line in lines if line.startswith("shapes/mobilenetv3_kl_cwd.yaml ")]
    assert " Shapes The demo: pixel-wise KL and CWD on the logits." in " ".join(line.split())
    assert kd("copy", "camvid/study.yaml") == 2
    error = "camvid/study.yaml: a study, not a recipe; kd study camvid/study.yaml trains it\n"
    assert capsys.readouterr().err == error
    assert kd("copy", "shapes/mobilenetv3_kl_cwd.yaml") == 0
    assert capsys.readouterr().out == "shapes/mobilenetv3_kl_cwd.yaml\n"
    assert (tmp_path / "shapes/teacher_deeplabv3plus.yaml").is_file()  # the recipe names it
    assert kd("copy", "camvid/mobilenetv3_aspp_kl.yaml", "other") == 0
    assert (tmp_path / "other/camvid/teacher_deeplabv3plus.yaml").is_file()
    (tmp_path / "shapes/mobilenetv3_kl_cwd.yaml").write_text("mine")
    capsys.readouterr()
    assert kd("copy", "shapes/mobilenetv3_kl_cwd.yaml") == 2
    assert "exists and differs from" in capsys.readouterr().err
    assert (tmp_path / "shapes/mobilenetv3_kl_cwd.yaml").read_text() == "mine"
