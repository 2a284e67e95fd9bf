"""`kd latency`: what is measured, the table, the JSON and the budget."""

import json
import shutil
from pathlib import Path

import pytest
from command import kd
from tiny import read, run, write_recipes

from kd.deploy.latency import latency, loading
from kd.deploy.latency.costs import Budget, Row
from kd.deploy.latency.loading import RUNTIMES, load_torch, planned
from kd.deploy.latency.subjects import Source, Subject, build, find_subjects
from kd.deploy.timing import CannotMeasureError, Shape, Timing, measure
from kd.errors import RecipeError
from kd.networks.arithmetic import count_macs
from kd.runs import read_latency

NET = "students.MobileNetV3SmallASPPLite"


@pytest.fixture
def here(monkeypatch):
    """Measure in this process, one core, torch alone: the seconds are made up, ten calls of which one is slow."""
    calls = []

    def measured(load, *, runtime, threads, rounds):
        calls.append((load.func.__name__, runtime, threads, rounds))
        timing = measure(load, runtime=runtime, threads=threads, rounds=1)
        return timing._replace(seconds=(0.02,) * 9 + (0.05,), memory=12_300_000)

    monkeypatch.setattr(latency, "measured", measured)
    monkeypatch.setattr(latency, "find_spec", lambda name: name == "torch" or None)
    return calls


def shown(capsys):
    return capsys.readouterr().out.splitlines()


def test_an_untrained_network_is_measured(folder, here, capsys):
    arguments = ("--size", 64, 96, "--runtimes", "torch", "--threads", 1, "--rounds", 5)
    assert kd("latency", NET, *arguments, "--fps", 20, "--max-mb", 100) == 0
    lines = shown(capsys)
    assert here == [("load_torch", "torch", 1, 5)]
    assert lines[0] == f"measuring {NET}, torch, batch 1"
    assert lines[1].endswith(", 1 thread, median of 5 calls after 3 to warm up")
    cells = lines[3].split()
    assert cells[:9] == [NET, "96×64", "torch", "fp32", "1", "20.0", "50.0", "50.0", "12"]
    assert float(cells[9]) == pytest.approx(sum(p.numel() for p in build(source(NET))[0].parameters()) * 4e-6, rel=0.05)
    assert lines[4] == f"{NET}: 2,516,853 parameters, {macs((64, 96)) / 1e9:.3g} GMAC for an image of 96×64"
    assert lines[5] == "budget: 20 images/s at p95, 100 MB; 1 of 1 within"


def source(name, **changes):
    return Source(name, (), Path("runs"), True, 5)._replace(**changes)


def macs(size):
    return count_macs(build(source(NET, classes=21))[0], size)


def test_json_has_the_numbers(folder, here, capsys):
    assert kd("latency", NET, "--size", 64, 64, "--batch", 2, "--threads", 1, "--json", "--fps", 21) == 0
    found = json.loads(capsys.readouterr().out)
    rows = found["rows"]
    assert [(row["runtime"], row["batch"], row["height"], row["width"]) for row in rows] == [
        (runtime, batch, 64, 64) for runtime in ("torch", "compiled") for batch in (1, 2)
    ]
    assert [row["within"] for row in rows] == [False, True, False, True]  # 20 and 40 images/s at p95
    assert (rows[1]["median_seconds"], rows[1]["images_per_second"], rows[1]["peak_bytes"]) == (0.02, 100.0, 12_300_000)
    assert (rows[0]["parameters"], rows[0]["macs"]) == (2_516_853, macs((64, 64)))
    assert found["budget"] == {"fps": 21.0, "max_mb": None}
    assert found["not_measured"] == [
        "onnxruntime is not installed; pip install 'kd-segmentation[onnx]'",
        "openvino is not installed; pip install 'kd-segmentation[openvino]'",
    ]


@pytest.fixture
def compiled_as_it_is(monkeypatch):
    monkeypatch.setattr(loading.torch, "compile", lambda graph: graph)


pytestmark = pytest.mark.usefixtures("compiled_as_it_is")


def test_a_recipe_without_a_run_is_measured_untrained(folder, here, capsys):
    write_recipes(folder)
    assert kd("latency", "student.yaml", "--trust", "--runtimes", "torch", "--threads", 1) == 0
    assert shown(capsys)[3].split()[:4] == ["student.yaml", "32×32", "torch", "fp32"]
    assert build(source("student.yaml"))[0].num_classes == 2  # of its data


def test_what_a_run_measures_is_kept_for_the_comparison(folder, here, capsys):
    (run_dir,), _ = run(read(write_recipes(folder), "teacher=null", "distill=null", "train.steps=1"), folder / "runs")
    call = ("latency", run_dir, "--trust", "--runtimes", "torch", "--threads", 1)
    assert kd(*call, "--size", 64, 64) == 0
    assert not (run_dir / "latency.json").exists()  # not the recipe's size
    assert kd(*call, "--batch", 2) == 0
    assert shown(capsys)[-1] == f"kept for kd compare: {run_dir / 'latency.json'}"
    assert read_latency(run_dir).milliseconds == pytest.approx(20.0)
    assert kd("compare", run_dir, "--no-page") == 0
    lines = shown(capsys)
    (place,) = [index for index, line in enumerate(lines) if " ms " in f"{line} " and "params" in line]
    end = lines[place].index(" ms") + 3
    assert lines[place + 1][:end].endswith(" 20.0")
    assert "ms: one image of the recipe's size, torch in float32, 1 thread of " in "\n".join(lines)
    (run_dir / "latency.json").unlink()
    (run_dir / "latency.json").mkdir()
    assert kd(*call) == 0
    assert shown(capsys)[-1].startswith(f"not kept for kd compare: {run_dir / 'latency.json'}: cannot be written")


def test_weights_that_state_their_recipe_are_measured(folder, here, capsys):
    (run_dir,), _ = run(read(write_recipes(folder), "teacher=null", "distill=null", "train.steps=1"), folder / "runs")
    shutil.copy(run_dir / "student.safetensors", folder)
    assert kd("latency", "student.safetensors", "--trust", "--runtimes", "torch", "--threads", 1) == 0
    assert shown(capsys)[3].split()[1:4] == ["32×32", "torch", "fp32"]


def test_a_file_is_measured_where_it_runs_and_a_folder_for_its_files(folder):
    for name in ("a.onnx", "b.xml", "classes.json"):
        (folder / name).write_bytes(b"")
    found = list(find_subjects(source("."), None))
    assert [subject.name for subject in found] == ["a.onnx", "b.xml"]
    plans = [list(planned(subject, RUNTIMES, 4, int8=True)) for subject in found]
    assert plans == [
        [("onnx", 1, False), ("onnx", 4, False), ("openvino", 1, False), ("openvino", 4, False)],
        [("openvino", 1, False), ("openvino", 4, False)],
    ]


@pytest.mark.parametrize("name", ["exported", "exported/model.pt2"])
def test_a_program_for_torch_is_one_line(folder, capsys, name):
    (folder / "exported").mkdir()
    (folder / "exported/model.pt2").write_bytes(bytes(300_000))
    for command in ("latency", "predict"):
        assert kd(command, name, *["photo.png"] * (command == "predict")) == 2
        assert capsys.readouterr().err == (
            f"{name}: an exported program for torch, which kd does not open again; name its run\n"
        )


def test_a_network_in_int8_is_measured_where_that_exists(folder):
    (subject,) = find_subjects(source(NET), (64, 64))
    assert [str(cell) for cell in planned(subject, ("torch", "onnx"), 2, int8=True)] == [
        "torch, batch 1",
        "torch, batch 2",
        "ONNX Runtime, batch 1",
        "ONNX Runtime, batch 2",
        "ONNX Runtime in INT8, batch 1",
        "ONNX Runtime in INT8, batch 2",
    ]


def test_a_full_disk_is_one_line(folder, here, monkeypatch, capsys):
    def write_onnx(file, network, form, metadata):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(latency, "find_spec", lambda name: True)
    monkeypatch.setattr(loading, "find_spec", lambda name: True)
    monkeypatch.setattr(loading, "write_onnx", write_onnx)
    monkeypatch.setattr(latency.tempfile, "tempdir", str(folder))
    assert kd("latency", NET, "--size", 64, 64, "--threads", 1, "--runtimes", "onnx") == 6
    assert capsys.readouterr().err == (
        f"{folder}: cannot be written (No space left on device); free space, or set TMPDIR to another folder\n"
    )
    assert not list(folder.iterdir())


def test_every_network_gets_a_file_of_its_own(folder, here, monkeypatch, capsys):
    """Also where nothing of the one before could be measured."""
    written = []

    def write_onnx(file, network, form, metadata):
        assert not file.exists()
        written.append(type(network).__name__)
        file.touch()
        raise RecipeError("no such operation")

    monkeypatch.setattr(latency, "find_spec", lambda name: True)
    monkeypatch.setattr(loading, "find_spec", lambda name: True)
    monkeypatch.setattr(loading, "write_onnx", write_onnx)
    assert kd("latency", NET, "students.MobileNetV2UNet", "--size", 64, 64, "--threads", 1, "--runtimes", "onnx") == 2
    assert written == ["MobileNetV3SmallASPPLite", "MobileNetV2UNet"]
    assert "students.MobileNetV2UNet: ONNX Runtime, batch 1: no such operation" in capsys.readouterr().err


def test_what_cannot_be_measured_is_a_line_and_the_rest_is_shown(folder, here, monkeypatch, capsys):
    fine = latency.measured

    def measured(load, **options):
        if load.args[2]:
            raise CannotMeasureError("no compiler")
        return fine(load, **options)

    monkeypatch.setattr(latency, "measured", measured)
    arguments = ("--size", 64, 64, "--threads", 1, "--runtimes", "torch", "compiled")
    assert kd("latency", NET, *arguments) == 0
    assert shown(capsys)[-1] == f"not measured: {NET}: torch compiled, batch 1: no compiler"
    assert kd("latency", NET, *arguments[:-2], "compiled") == 2
    assert capsys.readouterr().err == f"kd latency: {NET}: torch compiled, batch 1: no compiler\n"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--size", 32, 64), "kd latency: --size: must be at least 64, got 32"),
        (("--batch", 0), "kd latency: --batch: must be at least 1, got 0"),
        (("--fps", -1), "kd latency: --fps: must be above 0, got -1"),
        (("--max-mb", "nan"), "kd latency: --max-mb: must be above 0, got nan"),
        (("--threads", 9999), "--threads 9999: this process has "),
    ],
)
def test_numbers_out_of_range_are_one_line(folder, capsys, options, message):
    assert kd("latency", NET, *options) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(message)


def test_a_name_that_is_nothing_is_one_line(folder, capsys):
    assert kd("latency", "nowhere.onnx") == 2
    assert capsys.readouterr().err.startswith("nowhere.onnx: no such file")


def test_a_budget_holds_for_95_of_100_calls_and_counts_the_batch():
    timing = Timing(Shape(4, 3, 64, 64), (0.1,) * 95 + (9.0,) * 5, None, 3_000_000)
    row = Row(Subject("a", {}, None, (3, 64, 64)), "torch", "fp32", timing)
    assert row.fits(Budget(40, 3))
    assert not row.fits(Budget(40.1, 3))
    assert not row.fits(Budget(40, 2.9))
    assert not row._replace(timing=timing._replace(seconds=(0.1,) * 94 + (9.0,) * 6)).fits(Budget(40, None))


def test_torch_computes_the_network_and_counts_its_bytes():
    loaded = load_torch(source(NET), Shape(2, 3, 64, 80), False, 1)
    images = loading.np.zeros(loaded.shape, loading.np.float32)
    assert loaded.compute(images).shape == (2, 5, 64, 80)
    assert loaded.size == sum(t.numel() * t.element_size() for t in build(source(NET))[0].state_dict().values())


@pytest.mark.slow
def test_every_runtime_in_its_own_process(folder, capsys, monkeypatch):
    for package in ("onnx", "onnxscript", "onnxruntime", "openvino"):
        pytest.importorskip(package, reason="needs pip install 'kd-segmentation[onnx,openvino]'")
    arguments = ("--size", 64, 64, "--threads", 1, "--batch", 2, "--rounds", 3, "--json")
    assert kd("latency", NET, *arguments, "--runtimes", "torch", "onnx", "openvino", "--int8") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["not_measured"] == []
    assert [(row["runtime"], row["precision"], row["batch"]) for row in found["rows"]] == [
        (runtime, precision, batch)
        for runtime, precisions in (("torch", ["fp32"]), ("onnx", ["fp32", "int8"]), ("openvino", ["fp32", "int8"]))
        for precision in precisions
        for batch in (1, 2)
    ]
    assert found["rows"][4]["file_bytes"] < found["rows"][2]["file_bytes"] / 2
    assert all(row["median_seconds"] > 0 and row["peak_bytes"] > 0 for row in found["rows"])
