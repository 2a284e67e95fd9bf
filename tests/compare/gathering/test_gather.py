import shutil

import numpy as np
import pytest

from kd.compare.answer import headline
from kd.compare.comparison import Note
from kd.compare.gathering.gather import gather
from kd.compare.tables import facts
from kd.errors import RecipeError, StorageError
from kd.recipe import baseline_of, read_recipe
from kd.runs import MetricResult, SplitResult, run_directory

RECIPE = """
teacher: {use: students.MobileNetV3SmallASPP}
student: {use: students.MobileNetV3SmallASPP}
data: {use: kd.data.Shapes, args: {count: 4}, size: [64, 64]}
supervised: {use: kd.losses.CrossEntropy}
distill: {kl: {loss: {use: kd.losses.PixelKL}}}
optimizer: {use: torch.optim.SGD, args: {lr: 0.1}}
train: {epochs: 1, batch_size: 2, seeds: [0, 1]}
"""


UNCOUNTED = (
    "no interval for small_kl-cccccccc: a run stores no counts of each image (kd 0.1 wrote none), or those of other "
    "images"
)


def keys(comparison):
    return [(entry.role, entry.key) for entry in comparison.entries]


def test_a_students_run_brings_its_teacher_and_its_baseline(made, trio):
    comparison = gather([str(trio())])
    assert keys(comparison) == [
        ("teacher", "big-aaaaaaaa"),
        ("baseline", "small_kl-bbbbbbbb"),
        ("student", "small_kl-cccccccc"),
    ]
    teacher, baseline, student = comparison.entries
    assert teacher.miou == pytest.approx(95 / 105)
    assert baseline.miou == pytest.approx(80 / 120)
    assert student.miou == pytest.approx(90 / 110)
    assert comparison.gain(student).value == pytest.approx(90 / 110 - 80 / 120)
    assert comparison.to_teacher(student).value == pytest.approx(90 / 110 - 95 / 105)
    assert comparison.gain(teacher) is None
    assert comparison.to_teacher(baseline) is None
    assert (teacher.seconds, teacher.parameters, teacher.megabytes) == (60.0, 40_000_000, 160.0)
    assert comparison.absent == ("sign",)
    assert student.iou[2] is None
    assert comparison.notes == (
        Note("absent", "absent: no val pixel is labelled sign"),
        Note("no interval", UNCOUNTED),
    )


def test_a_folder_of_seeds_is_their_mean_and_sample_deviation(made, trio):
    trio()
    made.student(80, seed=10)
    made.student(70, seed=2)
    comparison = gather([str(made.folder / "small_kl-cccccccc")])
    student = comparison.of_role("student")[0]
    assert student.seeds == (0, 2, 10)  # by number, not as text
    values = [90 / 110, 70 / 130, 80 / 120]
    mean = sum(values) / 3
    figure = student.figure("miou")
    assert figure.mean == pytest.approx(mean)
    assert figure.sd == pytest.approx((sum((value - mean) ** 2 for value in values) / 2) ** 0.5)
    line = (
        "small_kl-cccccccc has seeds 0, 2, 10, its baseline 0: compared over 0 alone; "
        "kd run recipes/small_kl.yaml 'train.seeds=[0,2,10]' --baseline trains the missing seeds"
    )
    assert comparison.gain(student).value == pytest.approx(90 / 110 - 80 / 120)  # of seed 0, whatever the others have
    assert comparison.gain(student).seeds == (0,)
    assert Note("seeds differ", line) in comparison.notes


@pytest.mark.parametrize("both", [False, True])
def test_seeds_that_are_finished_and_not_named_are_compared_by_a_command(made, both):
    made.teacher()
    for seed in range(3):
        one = {"seed": seed, "val": made.counted(80, 81)}
        made.baseline(**one)
        run_dir = made.student(**one)
    comparison = gather([run_dir, *([made.folder / "small_kl-bbbbbbbb" / "seed2"] * both)])
    fix = f"kd compare {run_dir.parent} compares further seeds"
    line = f"small_kl-cccccccc has seeds 2, its baseline 0, 1, 2: compared over 2 alone; {fix}"
    notes = [note.text for note in comparison.notes if note.kind in ("one seed", "seeds differ")]
    one_seed = f"one seed: training noise is not in this interval; {fix}"
    assert notes == ([one_seed] if both else [one_seed, line])
    assert gather([run_dir.parent]).gain(comparison.of_role("student")[0]).seeds == (0, 1, 2)


def test_two_seeds_named_apart_are_one_row(made, trio):
    first, second = trio(), made.student(80, seed=1)
    comparison = gather([str(first), str(second), str(first)])
    assert [entry.seeds for entry in comparison.of_role("student")] == [(0, 1)]


@pytest.mark.parametrize(
    ("other", "seed", "what"),
    [
        ("b-bbbbbbbb", 1, "is of run bbbbbbbb, but {mine}/seed0 of run aaaaaaaa"),
        ("a-aaaaaaaa", 0, "is seed 0 of run aaaaaaaa, as {mine}/seed0 is"),
    ],
)
@pytest.mark.parametrize("name", ["seed1", "best"])
def test_runs_of_a_renamed_folder_are_seeds_only_of_one_recipe(made, other, seed, what, name):
    mine = made.folder / "mine"
    mine.mkdir(parents=True)
    made.write("a-aaaaaaaa", 80).rename(mine / "seed0")
    made.write(other, 90, seed=seed).rename(mine / name)
    targets = [mine] if name == "seed1" else [mine / "seed0", mine / name]
    with pytest.raises(RecipeError) as caught:
        gather(targets)
    assert str(caught.value) == f"{mine / name}: {what.format(mine=mine)}; move one of them into another folder"
    (made.folder / "other").mkdir()
    (mine / name).rename(made.folder / "other" / name)
    assert len(gather([mine / "seed0", made.folder / "other" / name]).entries) == 2


def test_without_its_baseline_the_gain_is_unknown_and_the_last_note_has_the_command(made):
    made.teacher()
    comparison = gather([str(made.student())])
    assert comparison.gain(comparison.of_role("student")[0]) is None
    line = "no baseline: the gain is unknown; kd run recipes/small_kl.yaml --baseline adds it (about 11 min)"
    assert comparison.notes[-1] == Note("no baseline", line)


def test_two_students_share_a_teacher_and_a_baseline_that_another_recipe_trained(made, trio):
    first = trio()
    second = made.student(85, name="small_cwd-dddddddd", baseline="small_cwd-bbbbbbbb")
    comparison = gather([str(first), str(second)])
    assert [entry.role for entry in comparison.entries] == ["teacher", "baseline", "student", "student"]
    assert [comparison.label(entry) for entry in comparison.entries] == ["teacher", "baseline", "small_kl", "small_cwd"]
    assert all(comparison.gain(student) is not None for student in comparison.of_role("student"))
    assert not any(note.kind == "no baseline" for note in comparison.notes)


def test_a_teacher_with_another_score_for_another_student_is_a_row_of_its_own(made, trio):
    first, second = trio(), made.student(85, name="small_cwd-dddddddd", taught=94)
    comparison = gather([str(first), str(second)])
    assert [entry.key for entry in comparison.of_role("teacher")] == [
        "big-aaaaaaaa",
        "big-aaaaaaaa for small_cwd-dddddddd",
    ]
    students = comparison.of_role("student")
    assert comparison.to_teacher(students[1]).value == pytest.approx(85 / 115 - 94 / 106)


def test_a_teacher_among_the_targets_is_one_row(made, trio):
    comparison = gather([str(made.folder / "big-aaaaaaaa"), str(trio())])
    assert [entry.role for entry in comparison.entries] == ["teacher", "baseline", "student"]


def test_runs_without_a_teacher_are_alone(made):
    comparison = gather([str(made.teacher()), str(made.baseline())])
    assert [entry.role for entry in comparison.entries] == ["alone", "alone"]


def test_moved_runs_find_their_teacher(made, trio, tmp_path):
    trio()
    shutil.move(made.folder, tmp_path / "elsewhere")
    comparison = gather([str(tmp_path / "elsewhere" / "small_kl-cccccccc")])
    assert comparison.entries[0].run_dirs == (tmp_path / "elsewhere" / "big-aaaaaaaa" / "seed0",)


def test_a_teacher_without_a_run_has_scores_and_no_times(made, trio):
    trio()
    shutil.rmtree(made.folder / "big-aaaaaaaa")
    teacher = gather([str(made.folder / "small_kl-cccccccc")]).entries[0]
    assert (teacher.key, teacher.run_dirs, teacher.seconds) == ("big", (), None)
    assert teacher.miou == pytest.approx(95 / 105)


@pytest.mark.parametrize(
    ("changed", "what"),
    [
        ({"images": 9}, "images differ (4 and 9)"),
        ({"classes": ["sky", "road", "pole"]}, "classes differ (sky, road, sign and sky, road, pole)"),
        (
            {"confusion": np.diag([90, 100, 10])},
            "labelled pixels of each class differ (100, 100, 0 and 90, 100, 10)",
        ),
    ],
)
def test_scores_on_other_data_are_refused(made, trio, changed, what):
    student = trio()
    val = {
        "confusion": np.array([[90, 10, 0], [10, 90, 0], [0, 0, 0]]),
        "classes": ["sky", "road", "sign"],
        "images": 4,
    }
    other = made.write("other-eeeeeeee", 0, val=SplitResult(**(val | changed)))
    with pytest.raises(RecipeError) as caught:
        gather([str(student), str(other)])
    assert str(caught.value) == (
        f"big-aaaaaaaa and other-eeeeeeee cannot be compared: their val {what}; "
        "compare runs that were scored on the same data"
    )


def test_predicting_an_absent_class_and_choosing_on_the_same_images_are_noted(made, trio):
    student = trio(select="best", val=None)
    matrix = np.array([[90, 5, 5], [10, 90, 0], [0, 0, 0]])
    made.student(0, select="best", val=SplitResult(matrix, ["sky", "road", "sign"], 4))
    notes = gather([str(student)]).notes
    assert Note("absent", "student predicts sign, which is absent: its IoU of 0 lowers the mIoU") in notes
    line = "select: best (student): the step was chosen on these images, so the score is optimistic"
    assert Note("best step", line) in notes


def test_a_network_that_predicts_one_class_only_is_named(made, trio):
    sky = SplitResult(np.array([[100, 0, 0], [100, 0, 0], [0, 0, 0]]), ["sky", "road", "sign"], 4)
    student = trio()
    made.baseline(val=sky)
    notes = [note.text for note in gather([str(student)]).notes if note.kind == "one class"]
    assert notes == ["baseline predicts only sky: it has learned almost nothing"]


def test_a_folder_without_results_is_one_line(tmp_path):
    with pytest.raises(RecipeError) as caught:
        gather([str(tmp_path)])
    assert str(caught.value) == f"{tmp_path}: holds no finished run; kd list shows all runs"


def test_one_image_or_one_group_has_no_interval_and_a_line_that_says_why(made):
    made.teacher()
    made.baseline(val=made.counted(80))
    alone = gather([str(made.student(val=made.counted(90)))])
    assert "no interval: there is one image, and nothing shows how another one would differ" in texts(alone)
    assert ", without an interval" in headline(alone)[0]
    assert facts(alone).startswith("val: 1 image, 3 classes; scores in percent, differences in points of mIoU")
    assert "interval" not in facts(alone)
    of_group = {"groups": ("a", "a", "a")}
    made.baseline(val=made.counted(80, 80, 80, **of_group))
    together = gather([str(made.student(val=made.counted(90, 90, 90, **of_group)))])
    assert "no interval: all images are of one group, and nothing shows how another one would differ" in texts(together)


def test_a_metric_without_a_value_is_a_line(made):
    values = {"distance": None, "missed": 1.0}
    made.teacher()
    made.baseline(metrics={"SurfaceDistance": MetricResult(values, "px", "lower")})
    student = made.student(metrics={"SurfaceDistance": MetricResult(values | {"distance": 2.0}, "px", "lower")})
    line = "SurfaceDistance has no value for baseline: in a seed it is not defined, or NaN"
    assert line in texts(gather([str(student)]))


def texts(comparison):
    return [note.text for note in comparison.notes]


def test_a_recipe_finds_its_runs_or_names_the_command_that_makes_them(made, tmp_path):
    file = tmp_path / "kl.yaml"
    file.write_text(RECIPE)
    recipe = read_recipe(file)
    with pytest.raises(RecipeError) as caught:
        gather([recipe], runs=made.folder)
    folder = run_directory(recipe, made.folder, 0).parent
    assert str(caught.value) == (f"{file}: no finished run in {folder}; kd run {file} --runs {made.folder} trains it")
    made.student(name=folder.name, baseline=run_directory(baseline_of(recipe), made.folder, 0).parent.name)
    comparison = gather([recipe], runs=made.folder)
    assert comparison == gather([str(file)], runs=made.folder) == gather([file], runs=made.folder)
    assert comparison.of_role("student")[0].seeds == (0,)
    assert [note.text for note in comparison.notes[-2:]] == [
        f"{folder.name}: unfinished seeds: 1; kd run {file} --runs {made.folder} finishes them",
        f"no baseline: the gain is unknown; kd run {file} --runs {made.folder} --baseline adds it (about 11 min)",
    ]
    with pytest.raises(RecipeError, match="no finished run in"):
        gather([str(file)], runs=made.folder, overrides=["train.epochs=2"])  # another recipe, another run


def test_a_damaged_run_is_left_out_with_a_line(made, trio):
    trio()
    other = made.student(85, seed=1)
    (other / "result.json").write_bytes((other / "result.json").read_bytes() + b" ")
    comparison = gather([str(other.parent)])
    assert comparison.of_role("student")[0].seeds == (0,)
    (note,) = [note.text for note in comparison.notes if note.kind == "damaged"]
    assert note.startswith(f"left out: {other / 'result.json'}: changed after the run wrote it (SHA-256 ")
    assert note.endswith(f"mv {other} {other}-damaged, then the same kd run, trains it again")


def test_a_damaged_baseline_or_teacher_does_not_hide_the_student(made, trio):
    student = trio()
    (made.folder / "small_kl-bbbbbbbb/seed0/manifest.json").unlink()
    (made.folder / "big-aaaaaaaa/seed0/result.json").write_text("")
    comparison = gather([str(student)])
    assert [entry.role for entry in comparison.entries] == ["teacher", "student"]
    assert comparison.entries[0].run_dirs == ()
    assert comparison.entries[0].miou == pytest.approx(95 / 105)  # as the student's result holds it
    kinds = [note.kind for note in comparison.notes]
    assert (kinds.count("damaged"), kinds.count("no baseline")) == (2, 0)  # kd run --baseline could not add it


def test_nothing_but_damaged_runs_is_an_error(made):
    run_dir = made.student()
    (run_dir / "manifest.json").write_text("{}")
    with pytest.raises(StorageError, match=r"manifest\.json: cut or changed .*; mv .* trains it again"):
        gather([str(run_dir)])


def test_runs_of_kd_0_2_are_compared_with_a_note(made):
    run_dir = made.student()
    (run_dir / "manifest.json").unlink()
    result = run_dir / "result.json"
    result.write_text(result.read_text().replace('"format": 2', '"format": 1'))
    notes = [note.text for note in gather([str(run_dir)]).notes if note.kind == "not verified"]
    assert notes == [f"not verified, because kd 0.2 or older wrote no manifest.json: {run_dir}"]
