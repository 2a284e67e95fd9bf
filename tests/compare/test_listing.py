import json
import os
from pathlib import Path

import pytest
from manifests import list_anew
from private import make_private

from kd.cli import main
from kd.compare.listing import list_rows, list_runs
from kd.errors import StorageError
from kd.runs import read_result


def test_runs_are_listed_finished_and_unfinished(made, trio):
    trio()
    half = made.folder / "small_kl-cccccccc" / "seed1"
    half.mkdir()
    (half / "teacher.json").write_text("{}")
    (half / "metrics.jsonl").write_text('{"step": 20, "val/miou": 0.25}\n{"step": 1130, "lr": 0.1}\n{"step": 11')
    broken = made.write("odd-ffffffff", 80)
    (broken / "result.json").write_text("{")
    (made.folder / "small_kl-cccccccc" / "seed0-before-20260101-000000").mkdir()
    os.utime(made.folder / "big-aaaaaaaa" / "seed0" / "result.json", (0, 86_400 * 365))
    lines = list_runs(made.folder)
    assert [(line.name, line.id, line.seed, line.role, line.state) for line in lines] == [
        ("big", "aaaaaaaa", 0, "teacher", "finished"),
        (
            "odd",
            "ffffffff",
            0,
            "alone",
            "damaged: result.json: changed after the run wrote it (SHA-256 021fb596…, manifest.json has 656ad18f…)",
        ),
        ("small_kl", "bbbbbbbb", 0, "baseline", "finished"),
        ("small_kl", "cccccccc", 0, "student", "finished"),
        ("small_kl", "cccccccc", 1, "student", "unfinished, step 1,130"),
    ]
    assert lines[0].changed.year in (1970, 1971)
    assert lines[0].miou == pytest.approx(95 / 105)
    assert lines[1].miou is None
    assert lines[4].miou == 0.25
    assert list_runs(Path(made.folder, "none")) == []


def test_a_damaged_run_says_why_and_hides_no_other(made, capsys):
    for seed in range(5):
        made.write("small-01234567", 80, seed=seed)
    folder = made.folder / "small-01234567"
    (folder / "seed0/manifest.json").unlink()
    (folder / "seed1/manifest.json").write_bytes(b"")
    (folder / "seed2/environment.json").unlink()
    (folder / "seed3/result.json").unlink()
    states = [line.state for line in list_runs(made.folder)]
    assert states == [
        "damaged: manifest.json: missing, so result.json cannot be verified",
        "damaged: manifest.json: cut or changed (it does not end with its own SHA-256)",
        "damaged: environment.json: missing",
        "damaged: result.json: missing",
        "finished",
    ]
    assert main(["list", "--runs", str(made.folder)]) == 0
    assert "damaged: environment.json: missing" in capsys.readouterr().out


def test_a_run_of_kd_0_2_is_listed_as_not_verified(made):
    run_dir = made.student(80)
    (run_dir / "manifest.json").unlink()
    result = run_dir / "result.json"
    result.write_text(result.read_text().replace('"format": 2', '"format": 1'))
    (line,) = list_runs(made.folder)
    assert (line.state, line.role, line.miou) == ("finished, not verified", "student", pytest.approx(80 / 120))


def test_weights_that_were_left_out_are_no_damage_and_lost_ones_are(made, capsys):
    for seed in range(2):
        made.write("small-01234567", 80, seed=seed)
        (made.folder / f"small-01234567/seed{seed}/student.safetensors").unlink()
    kept = list_anew(made.folder / "small-01234567/seed1")
    assert [line.state for line in list_runs(made.folder)] == [
        "damaged: student.safetensors: missing",
        "finished, weights not kept",
    ]
    assert main(["compare", "--no-page", str(kept)]) == 0
    assert main(["evaluate", str(kept)]) == 6
    assert capsys.readouterr().err == (
        f"{kept}/recipe.yaml: not kept: the run was stored as results alone, for kd list and kd compare; "
        f"to have it, mv {kept} {kept}-results, then the same kd run, trains it again\n"
    )


def test_what_another_user_keeps_private_hides_no_run(made, capsys, monkeypatch):
    for seed in range(3):
        made.write("small-01234567", 80, seed=seed)
    made.write("other-89abcdef", 80)
    make_private(monkeypatch, made.folder / "small-01234567/seed1", made.folder / "other-89abcdef")
    line = r"/other-89abcdef: cannot be read \(Permission denied\); its runs are left out$"
    with pytest.warns(UserWarning, match=line):
        states = [line.state for line in list_runs(made.folder)]
    assert states == ["finished", "damaged: manifest.json: cannot be read (Permission denied)", "finished"]
    assert main(["compare", str(made.folder / "small-01234567"), "--no-page"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    file = made.folder / "small-01234567/seed1/manifest.json"
    assert f"left out: {file}: cannot be read (Permission denied)" in printed
    for command in (["compare", "--no-page"], ["recipe"]):
        assert main([*command, str(file.parent)]) == 6
        assert capsys.readouterr().err == f"{file}: cannot be read (Permission denied)\n"


def test_links_without_an_end_and_dates_that_are_none_hide_no_run(made):
    run_dir = made.write("small-01234567", 80)
    (made.folder / "loop-01234567").symlink_to("loop-01234567")
    (run_dir.parent / "seed7").symlink_to("seed7")
    os.utime(run_dir / "result.json", (2**40, 2**40))
    assert [line.state for line in list_runs(made.folder)] == ["finished"]


@pytest.mark.parametrize("scored", ["test", "nothing"])
def test_a_run_without_a_score_on_val_hides_no_other(made, capsys, scored):
    for seed in range(2):
        made.write("small-01234567", 80, seed=seed)
    run_dir = made.folder / "small-01234567/seed0"
    result = json.loads((run_dir / "result.json").read_text())
    val = result["splits"].pop("val")
    result["splits"] |= {} if scored == "nothing" else {scored: val}
    (run_dir / "result.json").write_text(json.dumps(result))
    list_anew(run_dir)
    states = [line.state for line in list_runs(made.folder)]
    assert states == [f"damaged: result.json: splits: has scores on {scored}, not on val", "finished"]
    assert main(["compare", str(run_dir.parent), "--no-page"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert f"left out: {run_dir}/result.json: splits: has scores on {scored}, not on val; mv {run_dir} " in printed


def test_a_teacher_without_a_score_on_val_is_damage_of_its_students_run(made):
    run_dir = made.student()
    result = json.loads((run_dir / "result.json").read_text())
    result["teacher"]["splits"] = {}
    (run_dir / "result.json").write_text(json.dumps(result))
    list_anew(run_dir)
    with pytest.raises(StorageError, match=r"result\.json: teacher\.splits: has scores on nothing, not on val; mv "):
        read_result(run_dir)


def test_a_number_that_no_float_holds_is_no_score(made):
    """In one unfinished run, it ended the list of all."""
    made.teacher()
    run_dir = made.folder / "small_kl-cccccccc" / "seed0"
    run_dir.mkdir(parents=True)
    (run_dir / "metrics.jsonl").write_text(f'{{"step": 7, "val/miou": 1{"0" * 400}}}\n')
    rows = list_rows(list_runs(made.folder))[1]
    assert [row[0] for row in rows] == ["big", "small_kl"]
    (run_dir / "metrics.jsonl").write_text(f'{{"step": 1{"0" * 400}, "val/miou": 0.5}}\n')
    with pytest.warns(UserWarning, match=r"metrics\.jsonl:1: not a line of metrics"):
        assert list_rows(list_runs(made.folder))[1][1][-1] == "unfinished, step 0"
