import io
import json
import re
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from kd.compare import compare_command, list_command
from kd.compare.answer import decision, headline, warnings
from kd.compare.gathering.gather import gather
from kd.compare.page.report import _sort_values
from kd.compare.plain import to_json
from kd.compare.tables import count, in_points, is_gain, points, summary_rows
from kd.runs import MetricResult
from kd.units import percent


def printed(call, *args, width=140, **keywords):
    file = io.StringIO()
    call(*args, console=Console(file=file, width=width, highlight=False), **keywords)
    return [line.rstrip() for line in file.getvalue().splitlines()]


def test_the_terminal_shows_sentence_tables_page_and_notes(made, trio):
    run_dir = trio()
    lines = printed(compare_command, [str(run_dir)], html=made.folder / "page.html")
    assert lines == [
        "Distillation changed the mIoU by +15.2 points (66.7 → 81.8 % mIoU), without an interval"
        "; the teacher is 23.8 points above the baseline",
        "Decision: take the teacher where it is fast enough: the student is 8.7 points below it (road −8.7, sky −8.7)",
        "val: 4 images, 3 classes; scores in percent, differences in points of mIoU",
        "",
        "          network  mIoU %  vs baseline  vs teacher  pixel acc. %   params     MB  train min",
        "teacher   Big        90.5            –           –          95.0  40.00 M  160.0        1.0",
        "baseline  Small      66.7            –           –          80.0   6.83 M   27.3       11.2",
        "student   Small      81.8        +15.2        −8.7          90.0   6.83 M   27.3       11.2",
        "",
        "IoU %  teacher  baseline  student   gain",
        "sky       90.5      66.7     81.8  +15.2",
        "road      90.5      66.7     81.8  +15.2",
        "sign         –         –        –      –",
        "",
        f"report: {made.folder / 'page.html'}",
        "absent: no val pixel is labelled sign",
        "no interval for small_kl-cccccccc: a run stores no counts of each image (kd 0.1 wrote none), or those of "
        "other images",
    ]


def test_a_teacher_no_better_than_the_baseline_is_the_first_line(made):
    made.teacher()
    made.baseline(80)
    run_dir = made.student(78, taught=80)
    assert printed(compare_command, [str(run_dir)])[:2] == [
        "warning: the teacher (66.7 % mIoU) is not better than the baseline (66.7 %); train a better teacher first",
        "Distillation changed the mIoU by −2.7 points (66.7 → 63.9 % mIoU), without an interval",
    ]
    assert (run_dir / "report.html").is_file()


@pytest.mark.parametrize(("others", "common", "warned"), [(99, 70, False), (60, 96, True)])
def test_a_teacher_is_compared_with_the_baseline_of_the_students_seeds(made, others, common, warned):
    """The baseline has further seeds, whose mean is on the other side of the teacher's score."""
    made.teacher()
    for seed, right in enumerate((common, others, others)):
        made.baseline(right, seed=seed)
    lines = warnings(gather([str(made.student(taught=90))]))
    line = "warning: the teacher (81.8 % mIoU) is not better than the baseline (92.3 %); train a better teacher first"
    assert lines == [line] * warned


def test_without_a_baseline_the_last_line_has_the_command(made):
    made.teacher()
    lines = printed(compare_command, [str(made.student())])
    assert lines[0] == (
        "The student reaches 81.8 % mIoU, the teacher 90.5 %; without a baseline, the effect of distillation is unknown"
    )
    assert lines[-1] == (
        "no baseline: the gain is unknown; kd run recipes/small_kl.yaml --baseline adds it (about 11 min)"
    )


def test_the_row_shows_seeds_and_the_best_step(made, trio):
    trio(select="best")
    made.student(80, seed=1, select="best")
    lines = printed(compare_command, [str(made.folder / "small_kl-cccccccc")])
    row = next(line for line in lines if line.startswith("student"))
    assert row.split("  ")[0] == "student, 2 seeds, best step"
    assert "74.2 ± 10.7" in row  # of 81.8182 and 66.6667: mean 74.2424, sample deviation 15.1515 / √2
    assert "mean ± standard deviation over seeds" in lines[2]


@pytest.mark.parametrize(
    ("right", "sentence"),
    [
        (60, "cost 11.0 points (53.8 → 42.9 % mIoU), 95 % interval −11.0 … −11.0; the teacher is 28.0 points above"),
        (70, "changed the mIoU by 0.0 points (53.8 → 53.8 % mIoU), 95 % interval 0.0 … 0.0: not distinguishable"),
        (80, "gained 12.8 of the 28.0 points between baseline and teacher (46 ± 0 %) (53.8 → 66.7 % mIoU)"),
        (90, "gained 28.0 of the 28.0 points between baseline and teacher (100 ± 0 %) (53.8 → 81.8 % mIoU)"),
        (95, "gained 36.6 points (53.8 → 90.5 % mIoU), 95 % interval +36.6 … +36.6; the teacher is 28.0 points above"),
    ],
)
def test_the_headline_is_the_effect_of_distillation(made, right, sentence):
    """Every image has the same counts, so that the choice of images makes no difference."""
    made.teacher()
    made.baseline(val=made.counted(*[70] * 5))
    student = made.student(val=made.counted(*[right] * 5), taught_val=made.counted(*[90] * 5))
    (line,) = headline(gather([str(student)]))
    assert line.startswith(f"Distillation {sentence}")


@pytest.mark.parametrize(("right", "points"), [(80, "0.0"), (78, "−2.7"), (90, "+15.2")])
def test_without_an_interval_the_headline_claims_no_effect(made, right, points):
    made.teacher()
    made.baseline()
    (line,) = headline(gather([str(made.student(right))]))
    assert line.startswith(f"Distillation changed the mIoU by {points} points (66.7 → ")
    assert line.endswith(" % mIoU), without an interval; the teacher is 23.8 points above the baseline")


def test_several_students_get_a_sentence_each_by_name(made, trio):
    first, second = trio(), made.student(78, name="small_cwd-dddddddd")
    comparison = gather([str(first), str(second)])
    assert headline(comparison) == [
        "small_kl: distillation changed the mIoU by +15.2 points (66.7 → 81.8 % mIoU), without an interval"
        "; the teacher is 23.8 points above the baseline",
        "small_cwd: distillation changed the mIoU by −2.7 points (66.7 → 63.9 % mIoU), without an interval"
        "; the teacher is 23.8 points above the baseline",
    ]
    header = printed(compare_command, [str(first), str(second)], html=made.folder / "page.html", width=200)[11]
    assert header.split("  ")[-2:] == ["gain small_kl", "gain small_cwd"]
    alone = gather([str(made.teacher())])
    assert headline(alone) == ["1 network on the same 4 val images"]
    assert warnings(alone) == []


def test_json_is_the_comparison_and_nothing_else(made, trio):
    run_dir = trio()
    content = json.loads("\n".join(printed(compare_command, [str(run_dir)], form="json", width=20)))
    assert not (run_dir / "report.html").exists()
    assert (content["schema_version"], content["report"]) == (4, None)
    assert content["decision"][0].startswith("Decision: take the teacher")
    assert content["units"]["scores"] == "percent"
    assert content["absent"] == ["sign"]
    student = content["networks"][2]
    assert student["miou"] == {"mean": 81.8182, "sd": None, "seeds": [81.8182]}
    assert student["iou"] == {"sky": 81.8182, "road": 81.8182, "sign": None}
    assert (student["vs_baseline"]["points"], student["vs_teacher"]["points"]) == (15.1515, -8.658)
    assert student["vs_baseline"]["seeds"] == [0]
    assert (student["role"], student["teacher"], student["baseline"]) == (
        "student",
        "big-aaaaaaaa",
        "small_kl-bbbbbbbb",
    )
    expected = """key role name label network runs seeds select inputs miou pixel_accuracy mean_accuracy mean_dice iou
    metrics teacher baseline vs_baseline vs_teacher weak_baseline closed parameters size latency seconds
    images_per_second images_seen peak_memory"""
    assert list(student) == expected.split()


def test_scores_over_nothing_are_null_in_json_and_a_dash_in_text(made, trio):
    comparison = gather([str(trio())])
    nothing = replace(comparison.entries[0].splits[0], confusion=np.zeros((3, 3), np.int64))
    empty = replace(comparison, entries=tuple(replace(entry, splits=(nothing,)) for entry in comparison.entries))
    assert json.loads(json.dumps(to_json(empty), allow_nan=False))["networks"][0]["miou"]["mean"] is None
    assert percent(float("nan")) == "–"


def test_figures_are_written_with_one_decimal_and_a_true_minus():
    assert [points(value) for value in (0.013, -0.004, 0.0004, -0.0004, None, float("nan"))] == [
        "+1.3",
        "−0.4",
        "0.0",
        "0.0",
        "–",
        "–",
    ]
    assert [in_points(value) for value in (0.013, -0.0004, None, float("nan"))] == [1.3, 0.0, None, None]
    assert [is_gain(value) for value in (0.0006, 0.0004, 0.0, -0.1, None, float("nan"))] == [True] + [False] * 5
    assert [count(value) for value in (6_831_509, 100_000, 12_345)] == ["6.83 M", "0.10 M", "12.3 k"]


def test_the_list_of_runs(made, trio, capsys):
    trio()
    list_command(made.folder)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["run", "id", "seed", "role", "val", "mIoU", "%", "changed", "state"]
    cells = lines[3].split()
    assert [*cells[:5], cells[-1]] == ["small_kl", "cccccccc", "0", "student", "81.8", "finished"]
    assert lines[3].index("81.8") + 4 == lines[0].index("mIoU %") + 6  # numbers end at the right edge
    list_command(made.folder / "none")
    assert capsys.readouterr().out == f"{made.folder / 'none'}: holds no runs; kd run RECIPE trains one\n"


def boundary(mean, class_0=None):
    return {"BoundaryIoU": MetricResult({"mean": mean, "class 0": class_0}, "%", "higher")}


def test_a_narrow_terminal_gets_blocks_that_repeat_the_rows_names(made, trio):
    lines = printed(compare_command, [str(trio())], page=False, width=60)
    start = next(index for index, line in enumerate(lines) if line.startswith("          network"))
    assert lines[start : start + 9] == [
        "          network  mIoU %  vs baseline  vs teacher",
        "teacher   Big        90.5            –           –",
        "baseline  Small      66.7            –           –",
        "student   Small      81.8        +15.2        −8.7",
        "",
        "          pixel acc. %   params     MB  train min",
        "teacher           95.0  40.00 M  160.0        1.0",
        "baseline          80.0   6.83 M   27.3       11.2",
        "student           90.0   6.83 M   27.3       11.2",
    ]


def test_gains_have_a_colour_on_a_terminal_only(made, monkeypatch):
    made.teacher()
    made.baseline(val=made.counted(70, 71, 70))
    run_dir = made.student(val=made.counted(80, 80, 81))
    for color, expected in (("", True), ("1", False)):
        monkeypatch.setenv("NO_COLOR", color)
        file = io.StringIO()
        console = Console(file=file, width=140, force_terminal=True, color_system="standard", highlight=False)
        compare_command([str(run_dir)], page=False, console=console)
        assert ("\x1b[32m" in file.getvalue()) is expected  # green
    assert "\x1b" not in "".join(printed(compare_command, [str(run_dir)], page=False))


@pytest.mark.parametrize(
    ("right", "sentence"),
    [
        (96, "Decision: take the student: it is 1.8 points ahead of its teacher"),
        (95, "Decision: take the student: it is 0.0 points from its teacher"),
        (94, "Decision: take the student: its teacher is 1.8 points ahead, less than 2"),
        (93, "Decision: look at the classes: the student is 3.6 points below its teacher, most on road −3.6, sky −3.6"),
        (90, "Decision: take the teacher where it is fast enough: the student is 8.7 points below it "
         "(road −8.7, sky −8.7)"),
    ],
)  # fmt: skip
def test_the_decision_follows_the_teachers_lead(made, right, sentence):
    made.teacher()
    made.baseline()
    assert decision(gather([str(made.student(right))])) == [sentence]


def test_the_decision_is_about_the_best_student(made, trio):
    first, second = trio(), made.student(94, name="small_cwd-dddddddd")
    assert decision(gather([str(first), str(second)])) == [
        "Decision: take the student small_cwd: its teacher is 1.8 points ahead, less than 2"
    ]
    assert decision(gather([str(made.teacher())])) == []


def test_further_metrics_are_columns_over_seeds_in_table_json_and_page(made):
    px = MetricResult({"distance": 12.3456}, "px", "lower")
    made.teacher()
    made.baseline(metrics=boundary(0.5))
    made.student(metrics=boundary(0.61, 0.25) | {"my(reach=3)": px}, seed=0)
    run_dir = made.student(80, metrics=boundary(0.65) | {"my(reach=3)": px._replace(values={"distance": 14.0})}, seed=1)
    page = made.folder / "page.html"
    lines = printed(compare_command, [str(run_dir.parent)], html=page, width=180)
    header, *rows = (re.split(r"  +", line.strip()) for line in lines[4:8])
    assert header[2:7] == ["vs baseline", "vs teacher", "pixel acc. %", "BoundaryIoU %", "my(reach=3) px ↓"]
    assert [row[6:8] for row in rows] == [["–", "–"], ["50.0", "–"], ["63.0 ± 2.8", "13.2 ± 1.17"]]
    content = json.loads("\n".join(printed(compare_command, [str(run_dir.parent)], form="json")))
    teacher, baseline, student = (network["metrics"] for network in content["networks"])
    assert teacher == {}
    assert list(baseline) == ["BoundaryIoU"]
    iou, distance = student["BoundaryIoU"], student["my(reach=3)"]
    assert (iou["unit"], iou["direction"]) == ("%", "higher")
    assert iou["values"]["mean"] == {"mean": 63.0, "sd": 2.8284, "seeds": [61.0, 65.0]}
    assert iou["values"]["class 0"] == {"mean": None, "sd": None, "seeds": [25.0, None]}
    assert (distance["unit"], distance["direction"]) == ("px", "lower")
    assert distance["values"]["distance"]["seeds"] == [12.3456, 14.0]
    html = page.read_text()
    assert ">BoundaryIoU %<" in html
    assert ">13.2 ± 1.17<" in html
    assert "↓: lower is better." in html


def test_a_metric_in_two_units_is_two_columns(made):
    runs = []
    for name, value, unit in (("a-aaaaaaaa", 10.0, "px"), ("b-bbbbbbbb", 1.2, "mm")):
        runs.append(str(made.write(name, 90, metrics={"H": MetricResult({"mean": value}, unit, "lower")})))
    comparison = gather(runs)
    header, rows = summary_rows(comparison)
    assert header[6:8] == ["H px ↓", "H mm ↓"]
    assert [row[6:8] for row in rows] == [["10", "–"], ["–", "1.2"]]
    assert [_sort_values(comparison, entry)[6:8] for entry in comparison.entries] == [[10.0, None], [None, 1.2]]


def test_a_metric_that_a_seed_does_not_define_is_a_dash(made):
    made.student(metrics=boundary(None))
    made.student(metrics=boundary(0.5), seed=1)
    lines = printed(compare_command, [str(made.folder / "small_kl-cccccccc")], page=False)
    row = next(line for line in lines if line.startswith("student"))
    assert re.split(r"  +", row)[6] == "–"
    assert not any(line.startswith("report:") for line in lines)
