"""A run is used again only for the inputs that it was made from."""

import json
import os
import re
import shutil
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import ranks
from farms import CLASSES, add, correct, picture, write_farm
from steps import at_each_step
from tiny import cut_at, equal, read, run, weights, write_recipes
from torn import count_writes

import kd
import kd.train.provenance.inputs
from kd.cli import main
from kd.compare import compare
from kd.compare.answer import warnings
from kd.compare.listing import list_runs
from kd.compare.plain import to_json
from kd.errors import DataError, InputsError, RecipeError, StorageError
from kd.files.manifest import read_verified
from kd.inputs import read_inputs, write_inputs
from kd.parts.data import Data
from kd.parts.teacher.leakage import trained_on
from kd.parts.trained import load_network
from kd.recipe import baseline_of
from kd.runs import read_result, replace_inputs, run_directory
from kd.train import one_run
from kd.train.provenance.inputs import find
from kd.train.provenance.record import Record

RUNS = Path("runs")


def refused(recipe, **options):
    """The line that refuses a run."""
    with pytest.raises(InputsError) as caught:
        run(recipe, RUNS, **options)
    assert caught.value.exit_status == 2
    (line,) = caught.value.mistakes
    return line


def recorded(run_dir, split="train", kind="images"):
    """The recorded SHA-256 of the files of a split, by name."""
    return {file.name: file.sha256 for file in getattr(read_inputs(run_dir).splits[split], kind)}


@pytest.fixture
def finished(folder):
    """A finished run on six images, four for training; its recipe, and its directory."""
    recipe = read(write_farm(folder).relative_to(folder))
    (run_dir,), _ = run(recipe, RUNS)
    return recipe, run_dir


def test_another_folder_with_the_same_files_is_the_same_data(finished):
    recipe, run_dir = finished
    shutil.copytree("farm", "moved")
    _, lines = run(read("r.yaml", "data.args.root=moved"), RUNS)
    assert lines == [f"{run_dir}: finished (val mIoU {100 * kd_miou(run_dir):.1f} %)"]
    correct(Path("moved/masks/0.png"))
    line = refused(read("r.yaml", "data.args.root=moved"))
    assert line.startswith(f"{run_dir}: made from farm, not from moved: 1 of 4 train labels changed, first masks/0.")
    assert line.endswith(
        "; kd run r.yaml data.args.root=moved --trust --fresh trains it again, "
        "kd run r.yaml data.args.root=moved --trust --accept-inputs keeps it and marks it"
    )
    run(recipe, RUNS)  # the first folder is as it was


def kd_miou(run_dir):
    return next(line.miou for line in list_runs(run_dir.parents[1]) if line.id == run_dir.parent.name[-8:])


def test_a_touched_file_is_compared_by_content_once(finished, monkeypatch):
    recipe, run_dir = finished
    monkeypatch.setattr(kd.files.fingerprint, "_SETTLED", -(10**18))  # or the times of a moment ago are not relied on
    hashes = []
    ordinary = kd.inputs.hashing.sha256
    monkeypatch.setattr(kd.inputs.hashing, "sha256", lambda path: hashes.append(Path(path).name) or ordinary(path))
    run(recipe, RUNS)
    for file in Path("farm/masks").iterdir():
        os.utime(file, (1, 1))
    hashes.clear()
    run(recipe, RUNS)
    assert sorted(hashes) == [f"{number}.png" for number in range(6)]
    hashes.clear()
    run(recipe, RUNS)
    assert hashes == []
    assert read_result(run_dir).marks == ()


def test_the_files_that_are_hashed_at_the_start_are_counted(folder, monkeypatch):
    recipe, shown = read(write_farm(folder).relative_to(folder)), []

    @contextmanager
    def progress(title, total, unit, *, quiet):
        yield lambda done: None if quiet else shown.append(f"{title} {done}/{total} {unit}")

    monkeypatch.setattr(kd.train.provenance.inputs, "progress", progress)
    data = Data(recipe, quiet=True)
    found = find(recipe, data.train, data.val, None)
    inputs = found.recorded(None, quiet=False)
    masks = len(data.train) + len(data.val)
    assert shown == [f"hashes the inputs {done}/{masks} files" for done in range(1, masks + 1)]
    shown.clear()
    assert found.recorded(inputs, quiet=True) == inputs
    assert shown == []


def test_corrected_labels_are_another_run_or_a_marked_one(finished):
    recipe, run_dir = finished
    correct(Path("farm/masks/1.png"))
    correct(Path("farm/masks/0.png"))
    line = refused(recipe)
    assert "1 of 4 train labels changed, first masks/0.png (" in line
    assert "1 of 2 val labels changed, first masks/1.png (" in line
    _, lines = run(recipe, RUNS, accept_inputs=True)
    assert "; 1 of 4 train labels changed" in lines[0]
    _, lines = run(recipe, RUNS)  # accepted once
    assert lines[0].startswith(f"{run_dir}: finished (")
    assert read_result(run_dir).marks == (line.partition("seed0: ")[2].partition("; kd run")[0],)
    (listed,) = list_runs(RUNS)
    assert listed.marks == read_result(run_dir).marks
    comparison = compare(run_dir)
    assert to_json(comparison)["networks"][0]["inputs"] == list(listed.marks)
    assert [note.kind for note in comparison.notes if listed.marks[0] in note.text] == ["inputs"]
    correct(Path("farm/masks/2.png"))
    assert "2 of 4 train labels changed" in refused(recipe)  # another difference than the accepted one
    (again,), lines = run(recipe, RUNS, fresh=True)
    assert again == run_dir
    assert read_result(run_dir).marks == ()
    assert len(list(run_dir.parent.glob("seed0-before-*"))) == 1


def test_a_kill_while_other_inputs_are_accepted_leaves_the_run_whole(finished, monkeypatch):
    """It is refused again, or marked everywhere; never accepted without the mark that tables show."""
    recipe, run_dir = finished
    correct(Path("farm/masks/0.png"))
    found = compare_inputs(run_dir, Data(recipe, quiet=True), recipe)
    inputs = kd.train.provenance.inputs.accepted(found.before, found.what, found.now)

    def dies(at):
        if at == number:
            raise KeyboardInterrupt

    refusals = set()
    for number in range(1, 100):
        copy = RUNS / f"{number}" / run_dir.parent.name / "seed0"
        shutil.copytree(run_dir, copy)
        with monkeypatch.context() as patched, suppress(KeyboardInterrupt):
            calls = count_writes(patched, dies)
            replace_inputs(copy, inputs, kd.train.provenance.inputs.in_result(inputs))
        marks, accepts = read_result(copy).marks, read_inputs(copy).accepted
        assert marks or not accepts
        load_network(copy, trust=True)
        refusals.add((bool(marks), bool(accepts)))
        if len(calls) < number:
            break
    assert refusals == {(False, False), (True, False), (True, True)}


def compare_inputs(run_dir, data, recipe):
    return kd.train.provenance.inputs.compare(run_dir, find(recipe, data.train, data.val, None), lambda: None)


def test_both_ways_work_as_they_are_printed(finished, capsys):
    correct(Path("farm/masks/0.png"))
    assert main(["run", "r.yaml", "--trust"]) == 2
    printed = capsys.readouterr().err
    fresh, accept = re.findall(r"kd (run .+? --(?:fresh|accept-inputs)) ", printed)
    assert (fresh, accept) == ("run r.yaml --trust --fresh", "run r.yaml --trust --accept-inputs")
    assert main(accept.split()) == 0
    assert main(["run", "r.yaml", "--trust"]) == 0
    assert main(["list"]) == 0
    assert "finished, other inputs" in capsys.readouterr().out
    assert main(fresh.split()) == 0
    assert main(["list"]) == 0
    assert "other inputs" not in capsys.readouterr().out


def test_a_stopped_run_resumes_on_other_data_only_with_a_mark(folder):
    recipe = read(write_farm(folder).relative_to(folder))
    cut_at(1, recipe, RUNS)
    (run_dir,) = RUNS.glob("*/seed0")
    add(Path("farm"), 8, 9)
    line = refused(recipe)
    assert "images were added, first images/" in line or "image was added, first images/" in line
    assert "labels were" not in line  # a mask for each image
    assert not (run_dir / "result.json").exists()
    run(recipe, RUNS, accept_inputs=True)
    (mark,) = read_result(run_dir).marks
    assert "added" in mark
    assert {"images/8.png", "images/9.png"} <= recorded(run_dir).keys() | recorded(run_dir, "val").keys()


def test_only_images_that_were_read_are_hashed(folder):
    recipe = read(write_farm(folder, 12).relative_to(folder), "train.steps=2")
    (run_dir,), _ = run(recipe, RUNS)
    unread = [name for name, digest in recorded(run_dir).items() if digest is None]
    assert len(unread) == len(recorded(run_dir)) - 4
    assert None not in recorded(run_dir, "val").values()
    assert None not in recorded(run_dir, kind="labels").values()
    assert read_inputs(run_dir).note == f"not read, known by size and time only: {len(unread)} train images"
    os.utime(Path("farm", unread[0]), (1, 1))
    run(recipe, RUNS)
    Path("farm", unread[0]).write_bytes(Path("farm", unread[0]).read_bytes() + b"\0")
    assert f"1 of {len(recorded(run_dir))} train images changed, first {unread[0]} (" in refused(recipe)


def test_images_are_hashed_before_the_checkpoint_that_knows_them(folder):
    recipe = read(write_farm(folder).relative_to(folder))
    cut_at(1, recipe, RUNS)
    (run_dir,) = RUNS.glob("*/seed0")
    read_so_far = [name for name, digest in recorded(run_dir).items() if digest]
    assert len(read_so_far) == 2
    picture(7)[0].save(Path("farm", read_so_far[0]))
    assert f"1 of 4 train images changed, first {read_so_far[0]} (" in refused(recipe)


def test_a_file_that_changes_while_the_run_trains_marks_it(folder, monkeypatch):
    recipe = read(write_farm(folder).relative_to(folder))
    at_each_step(monkeypatch, before=lambda recipe, step: step == 3 and correct(Path("farm/masks/0.png")))
    (run_dir,), _ = run(recipe, RUNS)
    assert read_result(run_dir).marks == ("1 file changed while it trained, first train/masks/0.png",)


def test_the_weights_of_another_teacher_are_another_input(folder):
    write_farm(folder)
    recipe = read("student.yaml")
    (run_dir,), _ = run(recipe, RUNS)
    teacher = run_directory(recipe.teacher_recipe, RUNS, 0)
    correct(Path("farm/masks/0.png"))
    line = refused(recipe)
    assert line.startswith(f"{teacher}: 1 of 4 train labels changed, first masks/0.png (")
    assert "kd run student.yaml" in line
    _, lines = run(recipe, RUNS, fresh=True)
    assert any(f"{teacher}: 1 of 4 train labels changed" in line and "; moved to " in line for line in lines)
    (before,) = run_dir.parent.glob("seed0-before-*")
    shutil.rmtree(run_dir)
    before.rename(run_dir)
    assert "the teacher has other weights (" in refused(recipe)
    assert read_inputs(run_dir).teacher.run == f"{teacher.parent.name}/seed0"


@pytest.mark.slow
def test_a_stopped_teacher_from_other_inputs_is_trained_again_with_fresh(folder):
    write_farm(folder)
    recipe = read("student.yaml")
    cut_at(1, recipe.teacher_recipe, RUNS)
    teacher = run_directory(recipe.teacher_recipe, RUNS, 0)
    correct(Path("farm/masks/0.png"))
    assert refused(recipe).startswith(f"{teacher}: 1 of 4 train labels changed")
    assert not run_directory(recipe, RUNS, 0).exists()
    _, lines = run(recipe, RUNS, fresh=True)
    assert lines[0].startswith(f"{teacher}: 1 of 4 train labels changed, first masks/0.png (")
    assert read_result(teacher).marks == ()


@pytest.mark.slow
def test_a_resumed_run_scores_an_accepted_teacher_again(folder):
    write_farm(folder)
    recipe = read("student.yaml")
    cut_at_student(recipe)
    run_dir = run_directory(recipe, RUNS, 0)
    score = (run_dir / "teacher.json").read_bytes()
    for number in range(6):
        correct(Path(f"farm/masks/{number}.png"))
    run(recipe, RUNS, accept_inputs=True)
    assert (run_dir / "teacher.json").read_bytes() != score


def cut_at_student(recipe):
    run(recipe.teacher_recipe, RUNS, role="teacher")
    cut_at(2, recipe, RUNS)


def as_of_version_2(run_dir, recipe):
    """Make a run one of version 0.2: without a record of its inputs, under its old id."""
    for file in ("inputs.json", "manifest.json"):
        (run_dir / file).unlink(missing_ok=True)
    content = json.loads((run_dir / "result.json").read_text()) | {"id": recipe.old_id, "format": 1}
    del content["inputs"]
    (run_dir / "result.json").write_text(json.dumps(content))
    return run_dir.parent.rename(run_dir.parents[1] / f"r-{recipe.old_id}") / "seed0"


def test_a_run_of_an_old_version_is_found_marked_and_not_used_silently(finished):
    recipe, run_dir = finished
    old = as_of_version_2(run_dir, recipe)
    assert list_runs(RUNS)[0].marks == ("inputs not recorded",)
    assert [note.text for note in compare(recipe, runs=RUNS).notes if note.kind == "inputs"] == [
        "alone: inputs not recorded"
    ]
    assert refused(recipe).startswith(
        f"{old}: its inputs were not recorded, as kd 0.2 and earlier did not; kd run r.yaml"
    )
    run(recipe, RUNS, accept_inputs=True)
    assert read_result(old).marks == ("inputs not recorded",)
    run(recipe, RUNS)
    (new,), _ = run(recipe, RUNS, fresh=True)
    assert new == RUNS / f"r-{recipe.id}" / "seed0"
    assert read_result(new).marks == ()


def test_an_unfinished_run_of_an_old_version_resumes_with_a_mark(folder):
    recipe = read(write_farm(folder).relative_to(folder))
    cut_at(2, recipe, RUNS)
    old = RUNS / f"r-{recipe.old_id}" / "seed0"
    if recipe.old_id != recipe.id:
        next(RUNS.glob("r-*")).rename(old.parent)
    shutil.rmtree(old / "checkpoints")  # they state their run, which those of version 0.2 do not
    (old / "inputs.json").unlink()
    assert "its inputs were not recorded" in refused(recipe)
    run(recipe, RUNS, accept_inputs=True)
    assert read_result(old).marks == ("inputs not recorded",)
    load_network(old, trust=True)


def test_another_revision_of_the_results_is_another_input(finished, monkeypatch):
    recipe, _ = finished
    monkeypatch.setattr(kd.train.provenance.inputs, "RESULTS_REVISION", kd.RESULTS_REVISION + 1)
    assert f"kd computes results in another way now (revision {kd.RESULTS_REVISION}, now" in refused(recipe)


def test_data_that_are_gone(finished):
    recipe, run_dir = finished
    shutil.rmtree("farm/masks")
    with pytest.raises(DataError, match=r"seed0 is finished, but cannot be compared with its data: kd run r\.yaml"):
        run(recipe, RUNS)
    _, lines = run(recipe, RUNS, accept_inputs=True)
    assert lines[0].startswith(f"{run_dir}: finished")


def test_scores_on_other_validation_images_are_compared_with_a_first_line(finished):
    """The labels of both are the same, so only the record of the inputs distinguishes them."""
    _, run_dir = finished
    picture(7)[0].save("farm/images/1.png")
    (other,), _ = run(read("r.yaml", "train.steps=3"), RUNS)
    lines = warnings(compare(run_dir, other))
    assert lines[0] == (
        f"warning: {run_dir.parent.name} and {other.parent.name} were scored on different val data (1 file differs); "
        "their scores cannot be compared"
    )
    assert warnings(compare(run_dir)) == []


def test_a_baseline_that_was_trained_on_other_labels_is_a_first_line(folder):
    """The validation images are the same, so the scores can be compared, but not attributed to distillation."""
    write_farm(folder)
    recipe = read("student.yaml")
    (student, baseline), _ = run(recipe, RUNS, baseline=True)
    assert [line for line in warnings(compare(student)) if "trained on" in line] == []
    correct(Path("farm/masks/0.png"))
    run(recipe, RUNS, fresh=True)  # without its baseline
    assert warnings(compare(student))[0] == (
        f"warning: {baseline.parent.name} and {student.parent.name} were trained on different data (1 file differs); "
        "the difference is not the effect of distillation"
    )


def test_code_runs_and_is_kept_as_it_was_when_the_command_started(folder, monkeypatch):
    write_farm(folder)
    recipe = baseline_of(read("student.yaml"))
    code = Path("nets.py").read_bytes()

    def edit(recipe, step):
        Path("nets.py").write_text("raise RuntimeError('edited')")
        Path("teacher.yaml").write_text("edited: true")

    at_each_step(monkeypatch, before=edit)
    (run_dir,), _ = run(recipe, RUNS)
    assert (run_dir / "sources/nets.py").read_bytes() == code
    Path("nets.py").unlink()
    network = load_network(run_dir, trust=True)
    assert equal(network.state_dict(), weights(run_dir))
    (run_dir / "sources/nets.py").write_bytes(code + b"\n")
    with pytest.raises(StorageError, match=r"sources/nets\.py"):
        load_network(run_dir, trust=True)


def test_without_its_record_a_finished_run_takes_no_other_code(folder):
    write_farm(folder)
    (run_dir,), _ = run(baseline_of(read("student.yaml")), RUNS)
    (run_dir / "inputs.json").unlink()
    Path("nets.py").write_text("raise RuntimeError('edited')")
    lost = r"inputs\.json: missing; the weights in student\.safetensors are intact; mv "
    for use in (lambda: load_network(run_dir, trust=True), lambda: trained_on(run_dir, None)):
        with pytest.raises(StorageError, match=lost):
            use()


def test_a_changed_digest_in_the_record_of_a_stopped_run_is_noticed(folder):
    """Its file has the same stamp, so it would not be hashed again, and the result would state the wrong digest."""
    recipe = read(write_farm(folder).relative_to(folder))
    cut_at(1, recipe, RUNS)
    (run_dir,) = RUNS.glob("*/seed0")
    file = run_dir / "inputs.json"
    whole, digest = file.read_text(), recorded(run_dir, kind="labels")["masks/0.png"]
    assert digest
    file.write_text(whole.replace(digest, ("0" if digest[0] != "0" else "1") + digest[1:]))
    with pytest.raises(StorageError, match=r"inputs\.json: changed after kd wrote it \(SHA-256 .*trains it again$"):
        run(recipe, RUNS)
    content = json.loads(whole)
    assert (content.pop("id"), content.pop("seed")) == (recipe.id, 0)
    del content["sha256"]
    file.write_text(json.dumps(content))  # as kd 0.5 wrote it
    run(recipe, RUNS)
    assert read_inputs(run_dir).id == recipe.id
    assert read_result(run_dir).marks == ()


def test_a_class_map_that_changes_between_two_runs_of_a_command_stops_it(folder, monkeypatch):
    write_farm(folder)
    Path("classes.yaml").write_text("[soil, leaf, stem]")
    recipe = read("r.yaml", "data.args.classes=classes.yaml")
    Path("classes.yaml").write_text("[soil, stem, leaf]")
    with pytest.raises(RecipeError, match=r"classes\.yaml: has changed \(.{8}, now .{8}\) since the recipe was read"):
        run(recipe, RUNS)
    assert not RUNS.exists()
    edited = read("r.yaml", "data.args.classes=classes.yaml")
    assert edited.id != recipe.id
    (run_dir,), _ = run(edited, RUNS)
    Path("classes.yaml").unlink()
    message = "classes.yaml: is gone since the run was trained; restore it, or train the recipe again"
    with pytest.raises(RecipeError, match=re.escape(message)):
        kd.evaluate(run_dir, trust=True)


def removed_at(step: int, run_dir: Path) -> str:
    """The line of a run whose directory was removed."""
    return (
        f"{run_dir}: was removed while the run trained; its recipe, its inputs and a checkpoint of step {step} "
        "are there again, its curves are lost; the same command resumes the run"
    )


def test_a_run_directory_that_is_removed_while_the_run_trains(folder, monkeypatch):
    recipe = read(write_farm(folder).relative_to(folder))
    run_dir = run_directory(recipe, RUNS, 0)
    with monkeypatch.context() as patched:
        at_each_step(patched, before=lambda recipe, step: step == 2 and shutil.rmtree(RUNS))
        with pytest.raises(StorageError, match="was removed while the run trained") as caught:
            run(recipe, RUNS)
    assert str(caught.value) == removed_at(2, run_dir)
    _, lines = run(recipe, RUNS)
    assert "  resumes at step 2 of 4" in lines
    for name in ("result.json", "metrics.jsonl", "recipe.yaml", "environment.json", "inputs.json"):
        assert (run_dir / name).is_file(), name


@pytest.mark.parametrize(
    ("place", "before"), [("keep_predictions", True), ("write_result", True), ("write_result", False)]
)
def test_a_run_directory_that_is_removed_while_the_result_is_written(folder, monkeypatch, place, before):
    """Each file that is written afterwards creates the directory again, and the manifest lists what is there."""
    recipe = read(write_farm(folder).relative_to(folder))
    run_dir, ordinary = run_directory(recipe, RUNS, 0), getattr(one_run, place)

    def removed(*arguments, **options):
        if before:
            shutil.rmtree(RUNS)
        found = ordinary(*arguments, **options)
        if not before:
            shutil.rmtree(RUNS)
        return found

    with monkeypatch.context() as patched:
        patched.setattr(one_run, place, removed)
        with pytest.raises(StorageError) as caught:
            run(recipe, RUNS)
    assert str(caught.value) == removed_at(4, run_dir)
    _, lines = run(recipe, RUNS)
    assert "  resumes at step 4 of 4" in lines
    assert read_result(run_dir).marks == ()
    load_network(run_dir, trust=True)
    for name in ("recipe.yaml", "environment.json", "inputs.json", "metrics.jsonl"):
        read_verified(run_dir, name)


def test_a_users_dataset_without_files_is_named_once(tmp_path):
    _, lines = run(read(write_recipes(tmp_path)), tmp_path / "runs", baseline=True)
    lines_on_it = [line for line in lines if "files(index)" in line]
    assert len(lines_on_it) == 1
    assert lines_on_it[0].endswith(
        "nets.py:Stripes has no files(index), so changed files are not noticed, only added and removed samples; "
        "docs/add-a-dataset.md has an example"
    )


def test_a_changed_file_that_holds_many_samples_is_noticed(folder):
    text = """
class Packed(Stripes):
    def __init__(self, split):
        super().__init__(split=split)
        self.sources = (Path(f"{split}.bin"),)
"""
    path = write_recipes(folder)
    nets = folder / "nets.py"
    nets.write_text("from pathlib import Path\n" + nets.read_text() + text)
    for file in folder.glob("*.yaml"):
        file.write_text(file.read_text().replace("nets.py:Stripes", "nets.py:Packed"))
    for split in ("train", "val"):
        Path(f"{split}.bin").write_text(split)
    recipe = read(path)
    (run_dir,), lines = run(recipe, RUNS)
    assert not any("files(index)" in line for line in lines)
    assert [file.name for file in read_inputs(run_dir).splits["train"].labels] == ["train.bin"]
    Path("train.bin").write_text("other")
    with pytest.raises(InputsError, match=r"1 of 1 train files changed, first train\.bin \("):
        run(recipe, RUNS)


def test_what_is_written_is_read_back(finished):
    _, run_dir = finished
    inputs = read_inputs(run_dir)
    write_inputs(run_dir.with_name("copy"), inputs)
    assert read_inputs(run_dir.with_name("copy")) == inputs
    text = (run_dir / "inputs.json").read_text()
    assert sum(line.startswith('["images/') for line in text.splitlines()) == 6  # a line for each file
    changed = inputs.model_copy(update={"splits": {name: replace_name(split) for name, split in inputs.splits.items()}})
    write_inputs(run_dir.with_name("odd"), changed)
    assert read_inputs(run_dir.with_name("odd")) == changed


def replace_name(split):
    return split.model_copy(update={"images": tuple(file._replace(name='a "],\n["ü.png') for file in split.images)})


def test_two_processes_refuse_once_and_record_all_images(folder):
    write_farm(folder).rename("student.yaml")
    work = ranks.kd(folder)
    assert ranks.statuses(ranks.start(2, work)) == [0, 0]
    run_dir = ranks.the_run(folder)
    assert None not in recorded(run_dir).values()
    assert None not in recorded(run_dir, "val").values()
    correct(Path("farm/masks/0.png"))
    assert ranks.statuses(ranks.start(2, work)) == [2, 2]
    assert (folder / "err0").read_text().count("1 of 4 train labels changed") == 1
    assert (folder / "err1").read_text() == ""
    assert ranks.statuses(ranks.start(2, ranks.kd(folder, "--accept-inputs"))) == [0, 0]
    assert len(read_result(run_dir).marks) == 1


class Many:
    """A dataset of files that nobody decodes."""

    class_names = CLASSES

    def __init__(self, folder, count):
        self.folder, self.count = folder, count

    def __len__(self):
        return self.count

    def files(self, index):
        return self.folder / f"{index}.png", self.folder / f"{index}-mask.png"


@pytest.mark.slow
def test_a_start_with_10000_unchanged_files_takes_a_second(folder):
    """Measure on an idle machine: `pytest -m slow -s -k 10000_unchanged`; the bound here is for a busy one."""
    recipe = read(write_farm(folder).relative_to(folder))
    splits = {}
    for name, count in (("train", 4000), ("val", 1000)):
        splits[name] = Many(folder / name, count)
        splits[name].folder.mkdir()
        for index in range(count):
            for path in splits[name].files(index):
                path.write_bytes(f"{path}".encode() * 20)
    time.sleep(1.1)  # until the times can be relied on
    found = find(recipe, splits["train"], splits["val"], None)
    record = Record(Path("run"), found.recorded(None), found, seed=0)
    record.write()
    record.save(10**6)
    assert read_inputs(Path("run")).splits["train"].unread == 0
    began = time.perf_counter()
    compared = kd.train.provenance.inputs.compare(
        Path("run"), find(recipe, splits["train"], splits["val"], None), lambda: None
    )
    seconds = time.perf_counter() - began
    print(f"compared 10,000 unchanged files in {seconds:.2f} s")
    assert compared.what == ""
    assert seconds < 4
