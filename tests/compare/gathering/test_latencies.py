"""The latencies that runs have stored, in the tables, the JSON and the CSV of a comparison."""

import pytest
from manifests import list_anew

from kd.compare.gathering.gather import gather
from kd.compare.plain import to_csv, to_json
from kd.compare.tables import milliseconds, summary_rows
from kd.files.storage import write_json
from kd.runs import Measured, write_latency

CPU = "A processor (AVX2)"
RECIPE = """\
student: {{use: students.MobileNetV3SmallASPP}}
data: {{use: kd.data.Shapes, args: {{count: 9}}, size: [{height}, 64]}}
supervised: {{use: kd.losses.CrossEntropy}}
optimizer: {{use: torch.optim.SGD, args: {{lr: 0.1}}}}
train: {{steps: 10, batch_size: 2}}
"""


def store(run_dir, seconds, *, threads=2, processor=CPU, **changes):
    row = {"runtime": "torch", "precision": "fp32", "batch": 1, "height": 64, "width": 64}
    measured = Measured(**(row | changes), median_seconds=seconds, p95_seconds=2 * seconds)
    write_latency(run_dir, [measured], processor=processor, threads=threads)


def sized(run_dir, height=64):
    """A run with its recipe, which states the size of its images."""
    (run_dir / "recipe.yaml").write_text(RECIPE.format(height=height))
    list_anew(run_dir)
    return run_dir


@pytest.fixture
def pair(made, trio):
    """A finished teacher, and a baseline and a student of one size; the student's directory."""
    student = sized(trio())
    sized(made.folder / "small_kl-bbbbbbbb" / "seed0")
    return student


def column(comparison, title):
    header, rows = summary_rows(comparison)
    return [row[header.index(title)] for row in rows] if title in header else None


def test_networks_of_one_kind_and_size_share_a_measurement(made, pair):
    student = pair
    store(student, 0.0123)
    comparison = gather([str(student)])
    assert column(comparison, "ms") == ["–", "12.3", "12.3"]
    assert not comparison.all_timed
    store(made.folder / "big-aaaaaaaa" / "seed0", 0.4567)
    comparison = gather([str(student)])
    assert column(comparison, "ms") == ["457", "12.3", "12.3"]
    assert comparison.all_timed
    data = to_json(comparison)
    assert [network["latency"] for network in data["networks"]] == [456.7, 12.3, 12.3]
    assert data["latency"] == f"one image of the recipe's size, torch in float32, 2 threads of {CPU}"
    assert ",457," not in to_csv(comparison)
    assert ",456.7," in to_csv(comparison)


def test_a_measurement_at_another_size_is_not_shared(made, pair):
    other = sized(made.student(name="small_kl-dddddddd"), 128)
    store(other, 0.04, height=128)
    comparison = gather([str(pair), str(other)])
    assert column(comparison, "ms") == ["–", "–", "–", "40.0"]
    assert not comparison.all_timed
    store(pair, 0.01)
    assert column(gather([str(pair), str(other)]), "ms") == ["–", "10.0", "10.0", "40.0"]


def test_without_a_measurement_there_is_no_column_and_the_json_has_null(trio):
    comparison = gather([str(trio())])
    assert column(comparison, "ms") is None
    assert to_json(comparison)["latency"] is None


@pytest.mark.parametrize("changes", [{"runtime": "onnx"}, {"precision": "int8"}, {"batch": 8}])
def test_only_one_image_in_torch_counts(trio, changes):
    student = trio()
    store(student, 0.01, **changes)
    assert column(gather([str(student)]), "ms") is None


@pytest.mark.parametrize("other", [{"threads": 1}, {"processor": "Another one"}])
def test_measurements_that_cannot_be_compared_are_left_out_with_the_command(made, pair, other):
    first, second = pair, made.student(94, name="small_cwd-dddddddd", network="students.Other")
    teacher = made.folder / "big-aaaaaaaa" / "seed0"
    store(teacher, 0.5)
    store(first, 0.01)
    store(second, 0.001, **other)
    comparison = gather([str(first), str(second)])
    assert column(comparison, "ms") == ["500", "10.0", "10.0", "–"]
    (note,) = [note.text for note in comparison.notes if note.kind == "latency"]
    baseline = made.folder / "small_kl-bbbbbbbb" / "seed0"
    assert note == (
        "latency measured otherwise, and not shown: small_cwd; "
        f"kd latency {teacher} {baseline} {second} measures all alike"
    )


def test_a_damaged_measurement_is_left_out_with_a_line(trio):
    student = trio()
    (student / "latency.json").write_text('{"processor": "x", "threads": 0, "rows": []}')
    comparison = gather([str(student)])
    assert column(comparison, "ms") is None
    (note,) = [note.text for note in comparison.notes if note.kind == "damaged"]
    assert note.startswith(f"left out: {student / 'latency.json'}: threads: ")
    assert note.endswith("; kd latency measures it again")


@pytest.mark.parametrize(
    ("value", "text"), [(0.1234, "0.12"), (4.2, "4.20"), (31, "31.0"), (1234.6, "1235"), (None, "–")]
)
def test_milliseconds_are_shown_as_precisely_as_they_are_measured(value, text):
    assert milliseconds(value) == text


def test_a_measurement_that_changed_or_is_of_another_run_is_left_out(made, trio):
    student, teacher = trio(), made.folder / "big-aaaaaaaa" / "seed0"
    store(student, 0.01)
    store(teacher, 0.5)
    own, other = (run_dir / "latency.json" for run_dir in (student, teacher))
    for content, what in (
        (own.read_text().replace("0.01", "0.02"), "changed after kd wrote it (SHA-256 "),
        (other.read_text(), "is of run aaaaaaaa, seed 0"),
        (own.read_text()[:-20], "not valid JSON ("),
    ):
        own.write_text(content)
        (note,) = [note.text for note in gather([str(student)]).notes if note.kind == "damaged"]
        assert note.startswith(f"left out: {own}: {what}")
        assert note.endswith("; kd latency measures it again")
        store(student, 0.01)


def test_a_measurement_of_kd_0_5_is_read(pair):
    student = pair
    row = {"runtime": "torch", "precision": "fp32", "batch": 1, "height": 64, "width": 64}
    row |= {"median_seconds": 0.0123, "p95_seconds": 0.02}
    write_json(student / "latency.json", {"processor": CPU, "threads": 2, "rows": [row]})
    assert column(gather([str(student)]), "ms") == ["–", "12.3", "12.3"]
