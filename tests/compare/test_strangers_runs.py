"""A stranger's run directory is compared as data: nothing is followed out of it, and its words are no commands."""

import json
import os
import re
import shlex
import shutil

import numpy as np
import pytest
from safetensors.torch import save

from kd.cli import main
from kd.compare.gathering.gather import gather
from kd.compare.page.sources import run_texts
from kd.errors import StorageError, shown
from kd.files.storage import write_json
from kd.runs import (
    locked,
    read_counts,
    read_environment,
    read_metrics,
    read_origin,
    read_result,
    read_run_recipe,
    with_origin,
)
from kd.runs.result import write_manifest

SECRET = "correct horse battery staple"
ESCAPE = "a\x1b[2Jb\nc\u202ed"
SHOWN = r"a\x1b[2Jb\nc\u202ed"


def forge(run_dir, name, **changed):
    """Change a JSON file of a run, and write the manifest that fits it, as a stranger can."""
    write_json(run_dir / name, json.loads((run_dir / name).read_text()) | changed)
    result = json.loads((run_dir / "result.json").read_text())
    write_manifest(run_dir, id=result["id"], seed=result["seed"])


def test_links_in_a_run_are_not_followed_out_of_it(made, tmp_path):
    run_dir, private = made.baseline(), tmp_path / "private"
    private.write_text(f"secret: {SECRET}\n")
    (run_dir / "manifest.json").unlink()
    for name in ("recipe.yaml", "environment.json", "metrics.jsonl", "counts.npz", "result.json"):
        (run_dir / name).unlink(missing_ok=True)
        (run_dir / name).symlink_to(private)
    texts = dict(run_texts([run_dir]))
    why = f"a link that leads out of {run_dir}; put the file itself there"
    assert set(texts.values()) == {f"{path}: {why}" for path in texts}
    for read in (read_result, read_counts, read_run_recipe, read_environment):
        with pytest.raises(ValueError, match=why):
            read(run_dir)
    with pytest.warns(UserWarning, match=why):
        assert read_metrics(run_dir) == []


@pytest.mark.parametrize("name", ["student.safetensors", "model.onnx", "model.xml"])
def test_a_page_states_nothing_of_a_file_that_a_run_links_to(made, tmp_path, name):
    run_dir, private = made.baseline(), tmp_path / "private.safetensors"
    private.write_bytes(with_origin(save({}), {"recipe_yaml": SECRET}))
    if name == "model.xml":
        private.write_text(f'<net><rt_info><kd><recipe_yaml value="{SECRET}"/></kd></rt_info></net>')
    if name == "model.onnx":
        entry = b"\x0a\x0brecipe_yaml\x12" + bytes([len(SECRET)]) + SECRET.encode()  # an entry of ONNX's metadata
        private.write_bytes(b"\x72" + bytes([len(entry)]) + entry)
    (run_dir / name).unlink(missing_ok=True)
    shutil.copy(private, run_dir / name)
    forge(run_dir, "result.json")  # the manifest fits the private file
    (run_dir / name).unlink()
    (run_dir / name).symlink_to(private)
    page = tmp_path / "page.html"
    assert main(["compare", str(run_dir), "--html", str(page)]) == 0
    assert SECRET not in page.read_text()
    (tmp_path / "exported").mkdir()
    (tmp_path / "exported" / name).symlink_to(private)
    if name != "student.safetensors":
        with pytest.raises(StorageError, match=rf"{name}: a link that leads out of .*/exported; put the file itself"):
            read_origin(tmp_path / "exported")


def test_a_run_writes_through_no_link_and_no_pipe(made, tmp_path):
    run_dir, private = made.baseline(), tmp_path / "private"
    private.write_text(SECRET)
    for name in (".lock", ".owner", "log.txt"):
        for make, what in (
            (lambda path: path.symlink_to(private), "a link"),
            (lambda path: path.symlink_to("none"), "a link"),
            (os.mkfifo, "a pipe"),
        ):
            make(run_dir / name)
            with pytest.raises(StorageError) as caught, locked(run_dir):
                pass
            assert str(caught.value) == f"{run_dir / name}: {what}, and this run would write to it; remove it"
            (run_dir / name).unlink()
    assert private.read_text() == SECRET


@pytest.mark.parametrize("name", ["checkpoints", "sources"])
def test_a_run_removes_nothing_behind_a_link_to_a_folder(made, tmp_path, name):
    """Training sweeps and prunes its folders: behind such a link, somebody else's."""
    run_dir, elsewhere = made.baseline(), tmp_path / "elsewhere"
    elsewhere.mkdir()
    (run_dir / name).symlink_to(elsewhere)
    with pytest.raises(StorageError) as caught, locked(run_dir):
        pass
    assert str(caught.value) == (
        f"{run_dir / name}: a link, and this run would write to it; put the folder itself there, or choose --runs DIR"
    )
    (run_dir / name).unlink()
    elsewhere.rename(run_dir / name)
    with locked(run_dir):
        pass


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("kd run r.yaml a=b --trust --baseline --runs my runs", "kd run r.yaml a=b --runs my"),
        ("kd run --tru 'r s.yaml' '--trust=1' $(id)=1", "kd run 'r s.yaml' '$(id)=1'"),
        ("kd run r.yaml --runs --trust", "kd run r.yaml"),
        ("kd run --trust", "kd run small_kl.yaml"),
        ("rm -rf / #.yaml --trust", "kd run small_kl.yaml"),
        ("kd run 'r.yaml", "kd run small_kl.yaml"),
        (["kd"], "kd run small_kl.yaml"),
    ],
)
def test_the_command_of_a_run_never_trusts(made, command, expected):
    run_dir = made.student()
    forge(run_dir, "environment.json", command=command)
    (note,) = [note.text for note in gather([run_dir]).notes if note.kind == "no baseline"]
    assert note.startswith(f"no baseline: the gain is unknown; {expected} --baseline adds it")
    (note,) = [note.text for note in gather([run_dir], trust=True).notes if note.kind == "no baseline"]
    assert f"; {expected} --trust --baseline adds it" in note  # the user's own, of this command


def test_a_name_in_a_result_is_one_word_of_a_command(made):
    run_dir = made.student(name="x; rm -rf ~ #-cccccccc")
    forge(run_dir, "environment.json", command=None)
    (note,) = [note.text for note in gather([run_dir]).notes if note.kind == "no baseline"]
    command = note.partition("; ")[2].partition(" adds it")[0]
    assert shlex.split(command) == ["kd", "run", "x; rm -rf ~ #.yaml", "--baseline"]


def test_its_recipe_is_not_trusted_and_the_fix_has_none_of_its_words(made):
    run_dir = made.baseline()
    (run_dir / "recipe.yaml").write_text("student: {use: 'evil.py:Net'}\n")
    forge(run_dir, "result.json")
    with pytest.raises(ValueError, match=r"is not part of kd; if you trust it, add --trust$"):
        read_run_recipe(run_dir)


def test_a_private_run_that_a_result_names_is_not_shown(made, tmp_path, capsys):
    private = type(made)(tmp_path / "private").write("big-aaaaaaaa", 95, network="teachers.Big")
    (private / "recipe.yaml").write_text(SECRET)
    run_dir = made.student()
    teacher = json.loads((run_dir / "result.json").read_text())["teacher"]
    forge(run_dir, "result.json", teacher=teacher | {"run": str(private)})
    assert main(["compare", str(run_dir)]) == 0
    assert SECRET not in (run_dir / "report.html").read_text()
    assert SECRET not in capsys.readouterr().out


@pytest.mark.parametrize("shape", [(), (1, 2, 3), (1, 4, 3), (0, 3, 3), (1, 3, 3)])
@pytest.mark.parametrize("name", ["counts.npz", "teacher-counts.npz"])
def test_counts_of_another_score_cost_the_interval_and_not_the_comparison(made, capsys, name, shape):
    made.baseline(val=made.counted(80, 70))
    run_dir = made.student(val=made.counted(90, 75), taught_val=made.counted(95, 95))
    names = np.array([f"{index}.png" for index in range(shape[0])], np.str_) if shape else np.array("a")
    np.savez(run_dir / name, **{"val": np.ones(shape, np.int64), "val/names": names})
    forge(run_dir, "result.json")
    assert main(["compare", str(run_dir), "--no-page"]) == 0
    (line,) = set(" ".join(capsys.readouterr().out.split()).split("left out, ")[1:])
    what = "on val, its counts do not add up to the score in result.json" if shape else "<U1 () is no row of names"
    assert line.startswith(f"so that there is no interval: {run_dir / name}: cannot be read ({what}); mv ")


@pytest.mark.parametrize(
    ("key", "name"),
    [
        *(("baseline", name) for name in ("a\0b-01234567", "../private-01234567", "a-*", f"{'a' * 300}-01234567")),
        *(("teacher.run", name) for name in ("a\0b", "a" * 5_000)),
    ],
)
def test_a_name_that_no_folder_has_costs_one_run(made, capsys, key, name):
    made.student()
    run_dir = made.student(seed=1)
    teacher = json.loads((run_dir / "result.json").read_text())["teacher"]
    changed = {"baseline": name} if key == "baseline" else {"teacher": teacher | {"run": name}}
    forge(run_dir, "result.json", **changed)
    assert main(["compare", str(run_dir.parent), "--no-page"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    what = "folder of runs" if key == "baseline" else "path"
    assert f"left out: {run_dir}/result.json: {key}: {shown(name)} is no {what}; mv " in printed
    assert main(["list", "--runs", str(made.folder)]) == 0
    assert capsys.readouterr().out.count("damaged: result.json: ") == 1


@pytest.mark.parametrize("run", ["a" * 300 + "/seed0", "é" * 2_000, "x/" * 2_000, "/" + "a" * 4_000])
def test_a_teachers_run_that_cannot_be_looked_up_is_not_found(made, run):
    run_dir = made.student()
    teacher = json.loads((run_dir / "result.json").read_text())["teacher"]
    forge(run_dir, "result.json", teacher=teacher | {"run": run}, baseline=f"{'é' * 240}-01234567")
    (teacher_entry,) = gather([run_dir]).of_role("teacher")
    assert teacher_entry.run_dirs == ()


def test_names_of_classes_runs_and_files_stay_in_their_line(made, trio, capsys):
    trio()
    for file in made.folder.glob("*/seed0/result.json"):
        file.write_text(file.read_text().replace('"sky"', json.dumps(ESCAPE)))
        forge(file.parent, file.name)
    (made.folder / "small_kl-cccccccc").rename(made.folder / f"{ESCAPE}-cccccccc")
    run_dir = made.folder / f"{ESCAPE}-cccccccc" / "seed0"
    page = made.folder / "page.html"
    assert main(["compare", str(run_dir), "--html", str(page)]) == 0
    assert main(["list", "--runs", str(made.folder)]) == 0
    captured = capsys.readouterr()
    ours = re.compile(r"<script>.*?</script>", re.DOTALL)  # kd's own, which hold nothing of a run
    for text in (captured.out, captured.err, ours.sub("", page.read_text(encoding="utf-8"))):
        assert all(line.isprintable() for line in text.split("\n"))
    assert captured.out.count(SHOWN) >= 2  # a class and a run
    assert f'<th scope="row">{SHOWN}</th>' in page.read_text() or SHOWN in page.read_text()
    assert main(["compare", str(run_dir), "--json", "--no-page"]) == 0
    printed = capsys.readouterr().out
    assert printed.isascii()
    assert json.loads(printed)["classes"][0] == ESCAPE


def test_a_page_shows_no_folder_of_this_machine(made):
    run_dir = made.baseline()
    (run_dir / "recipe.yaml").write_text(
        "teacher: {recipe: /home/ann/work/t.yaml, run: null}\n"
        "student: {use: '/home/ann/my code/nets.py:Net'}\n"
        "  run: runs/t-01234567/seed0\n"
    )
    (text,) = [text for file, text in run_texts([run_dir]) if file.endswith("recipe.yaml")]
    assert text == (
        "teacher: {recipe: t.yaml, run: null}\nstudent: {use: 'nets.py:Net'}\n  run: runs/t-01234567/seed0\n"
    )


@pytest.mark.parametrize(
    ("changed", "key"),
    [
        ({"seconds": 1e308}, "seconds"),
        ({"images_per_second": 1e308}, "images_per_second"),
        ({"metrics": {"values": {"far": 1e308}, "unit": "px", "direction": "lower"}}, "splits.val.metrics.Mine"),
    ],
)
def test_a_number_whose_sum_over_seeds_is_infinite_leaves_out_its_run(made, changed, key):
    made.student(85, seed=1)
    run_dir = made.student()
    content = json.loads((run_dir / "result.json").read_text())
    if metric := changed.pop("metrics", None):
        changed["splits"] = {"val": content["splits"]["val"] | {"metrics": {"Mine": metric}}}
    forge(run_dir, "result.json", **changed)
    comparison = gather([run_dir.parent])
    assert comparison.of_role("student")[0].seeds == (1,)
    (note,) = [note.text for note in comparison.notes if note.kind == "damaged"]
    assert note.startswith(f"left out: {run_dir / 'result.json'}: {key}")


def test_a_network_without_parameters_has_a_page(made):
    made.baseline()
    student = made.student(parameters=0)
    assert main(["compare", str(student), "--html", str(made.folder / "page.html")]) == 0
    assert "times as many" not in (made.folder / "page.html").read_text()
