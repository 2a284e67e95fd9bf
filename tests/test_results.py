"""The tables of docs/results are those of the runs kept beside them, and other texts state the same figures."""

import re
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kd.cli.demo import THREE_SEEDS
from kd.runs import ImageCounts, read_counts

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
SCRIPT = runpy.run_path(str(DOCS / "results_table.py"))


@pytest.mark.parametrize("path", sorted((DOCS / "results").glob("*.md")), ids=lambda path: path.stem)
def test_the_tables_are_those_of_the_kept_runs(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert SCRIPT["page"](text) == text, "python docs/results_table.py"


def test_every_kept_run_is_in_a_table_of_a_page() -> None:
    shown = set(re.findall(r"<!-- runs: (\S+) -->", "".join(p.read_text() for p in (DOCS / "results").glob("*.md"))))
    of_studies = {
        name: {p for rows in parts.values() for p in rows.values()} for name, parts in SCRIPT["STUDIES"].items()
    }
    patterns = {name: set(rows.values()) for name, rows in SCRIPT["TABLES"].items()} | of_studies
    assert shown == patterns.keys()
    listed = {run for name, found in patterns.items() for p in found for run in (SCRIPT["DATA"] / name).glob(p)}
    assert listed == {path.parent for path in SCRIPT["DATA"].rglob("result.json")}


def test_a_kept_run_names_no_folder_of_the_machine_that_trained_it() -> None:
    for file in SCRIPT["DATA"].rglob("*counts.npz"):
        for split in read_counts(file.parent, file.name).values():
            assert not any(Path(name).is_absolute() for name in split.names), file


def test_the_names_of_kept_images_begin_below_the_folder_that_they_share() -> None:
    def names(*names: str) -> tuple[str, ...]:
        counts = ImageCounts(names, np.zeros((len(names), 2, 3), np.int64))
        return SCRIPT["placeless"]({"val": counts})["val"].names

    assert names("/data/val/a.png", "/data/val/b.png") == ("a.png", "b.png")
    assert names("/data/farm/a.png", "/data/park/a.png") == ("farm/a.png", "park/a.png")
    assert names("shapes/val/0", "shapes/val/1") == ("0", "1")
    assert names("a.png") == ("a.png",)


def sections() -> list[Any]:
    """The parts of pages that hold a table of figures, below the head of their page, which may speak for all."""
    others = [DOCS / name for name in ("networks.md", "intervals.md", "methods/costs.md")]
    found = []
    for page in sorted([*(DOCS / "results").glob("*.md"), *others]):
        head, *parts = re.split(r"^## ", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
        for part in (head, *parts):
            title = part.partition("\n")[0].removeprefix("# ")
            if re.search(r"\| \**[\d,]+\.\d+[^|a-z]* \|", part):
                found.append(pytest.param(head + part, id=f"{page.stem}: {title}"))
    return found


@pytest.mark.parametrize("text", sections())
def test_figures_stand_beside_their_commit_machine_and_command(text: str) -> None:
    assert re.search(r"\b[Cc]ommits? [0-9a-f]{7}\b", text)
    assert re.search(r"EPYC|H100|H200|any machine", text)
    assert re.search(r"`kd |^(kd|pytest) ", text, re.MULTILINE)


@pytest.mark.parametrize("path", sorted((ROOT / "recipes").rglob("*.yaml")), ids=lambda path: path.stem)
def test_figures_at_the_top_of_a_recipe_name_their_commit_and_machine(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for part in re.findall(r"^# (?:Result|Rule) .*\n(?:#   .*\n)*", text, re.MULTILINE):
        if re.search(r"\d\.\d (?:± [\d.]+ )?%", part):
            assert re.search(r"\bcommits? [0-9a-f]{7}\b", part)
            assert re.search(r"EPYC|H100|H200", part)


def test_every_recipe_and_page_has_a_figure_or_a_reason() -> None:
    files = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *DOCS.rglob("*.md"), *(ROOT / "recipes").rglob("*.yaml")]
    assert [file for file in files if "not yet measured" in file.read_text(encoding="utf-8").lower()] == []


def cells(table: str, label: str) -> tuple[str, str]:
    """Mean and gain of a row."""
    (row,) = (line for line in SCRIPT["table"](table) if line.startswith(f"| {label} |"))
    mean, gain = row.strip("| ").split(" | ")[2:]
    return mean, gain


def test_texts_state_the_figures_of_the_kept_runs() -> None:
    def text(name: str) -> str:
        return (ROOT / name).read_text(encoding="utf-8")

    alone, _ = cells("shapes", "student alone, 100 labels")
    student, gain = cells("shapes", "distilled, 100 labels and 1,900 images")
    teacher, _ = cells("shapes", "teacher, 2,000 labels")
    for words in (f"teacher {teacher} %", f"baseline {alone} %", f"student {student} %: {gain} points"):
        assert words in THREE_SEEDS
    assert f"mIoU {student} %; baseline {alone} %" in text("recipes/shapes/mobilenetv3_kl_cwd.yaml")
    assert f"mIoU {teacher} %" in text("recipes/shapes/teacher_deeplabv3plus.yaml")
    assert f"over three seeds the gain is {gain} points" in text("README.md")
    assert f"{gain} |" in text("docs/methods/cwd.md")
    few, _ = cells("camvid-few", "46 labels, distilled on 46 + 321")
    labels, _ = cells("camvid-few", "46 labels")
    assert f"mIoU {few} %; baseline {labels} %" in text("recipes/camvid/few_mobilenetv3_aspp_kl.yaml")
    (of_few, _), (resampled, _) = (
        cells("camvid-few", "the teacher, 46 labels"),
        cells("camvid-resampling", "sampled once from the file's pixels"),
    )
    assert f"mIoU {of_few} %" in text("recipes/camvid/few_teacher_deeplabv3plus.yaml")
    assert f"mIoU {resampled} %" in text("recipes/camvid/teacher_deeplabv3plus.yaml")


def test_texts_state_the_gains_of_the_camvid_study() -> None:
    rows = [line.strip("| ").split(" | ") for line in SCRIPT["study"]("camvid-study")[2:]]
    gains = {(network, terms): gain for network, terms, _, _, gain in rows if "PixelKL" in terms}
    assert not any(gain.endswith("*") for gain in gains.values())
    points = {key: gain.split(" ± ")[0] for key, gain in gains.items()}
    above = [key for key, gain in gains.items() if number(points[key]) > number(gain.split(" ± ")[1])]
    assert above == [("MobileNetV2UNet", "labels, PixelKL, CWD")]
    low, *_, high = sorted(points.values(), key=number)
    page = " ".join((DOCS / "results" / "camvid.md").read_text(encoding="utf-8").split())
    camvid = ROOT / "recipes" / "camvid"
    teacher = (camvid / "teacher_deeplabv3plus_120.yaml").read_text(encoding="utf-8")
    assert f"at 120 × 160, 40 epochs, val mIoU {rows[0][3]} %" in teacher
    of_fcn, ahead = cells("camvid-fcn", "the teacher, FCNResNet50")
    assert f"val mIoU {of_fcn} %" in (camvid / "teacher_fcn_resnet50.yaml").read_text(encoding="utf-8")
    assert f"the {ahead.split(' ')[0].strip('+')} points that this teacher is ahead" in page
    assert f"The teacher is {number(rows[0][3]) - number(of_fcn):.1f} points below the DeepLabV3+" in page
    same_seed = [row[2].split(", ")[0] for row in rows if row[0] == "MobileNetV3SmallASPP" and "PixelKL" in row[1]]
    assert "the same seed of this student has {} and {} %".format(*same_seed) in page
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"four small students gained {low} to {high} points; of the eight intervals" in readme
    assert f"{gains[above[0]]} with PixelKL + CWD" in readme
    assert [sum(number(value) > 0 for value in points.values()), len(points)] == [6, 8]
    assert "Six of eight gains with PixelKL are positive" in page
    of_aspp = [points["MobileNetV3SmallASPP", terms] for terms in ("labels, PixelKL", "labels, PixelKL, CWD")]
    assert "MobileNetV3SmallASPP gains nothing: {} with PixelKL and {} with both terms".format(*of_aspp) in page
    recipe = (ROOT / "recipes" / "camvid" / "study.yaml").read_text(encoding="utf-8")
    for terms, words in (("labels, PixelKL", "PixelKL"), ("labels, PixelKL, CWD", "PixelKL + CWD")):
        low, *_, high = sorted((value for (_, of), value in points.items() if of == terms), key=number)
        assert f"{words} {low} to {high}" in " ".join(recipe.replace("#", "").split())


@pytest.mark.parametrize(
    ("name", "terms", "page"),
    [
        ("AT", "AT", "at"),
        ("CIRKD", "CIRKDMiniBatch + CIRKDMemory", "cirkd"),
        ("CWD", "CWD", "cwd"),
        ("DIST", "DIST", "dist"),
        ("PixelKL", "PixelKL", "pixel_kl"),
    ],
)
def test_the_page_of_a_method_states_its_gain_on_camvid(name: str, terms: str, page: str) -> None:
    rows = [line.strip("| ").split(" | ") for line in SCRIPT["study"]("camvid-study")[2:]]
    gains = {(network, terms): gain for network, terms, _, _, gain in rows}
    gain = gains["MobileNetV3SmallASPP", f"labels, {name}"]
    measured = (DOCS / "methods" / f"{page}.md").read_text(encoding="utf-8")
    assert f"MobileNetV3SmallASPP at 120 × 160, 3 seeds | {terms} | {gain} |" in measured
    if name != "PixelKL":
        for file in (DOCS / "results" / "camvid.md", ROOT / "recipes" / "camvid" / "methods_study.yaml"):
            text = " ".join(file.read_text(encoding="utf-8").replace("#", "").split())
            assert f"{name} {gain}" in text


def number(text: str) -> float:
    """A number as the tables print it."""
    return float(text.replace("−", "-"))


def test_the_page_of_losses_names_the_intervals_without_0() -> None:
    text = (DOCS / "results" / "losses.md").read_text(encoding="utf-8")
    row = r"^\| ([\w ]+) \| [\d., ]+ \| [\d.]+ ± [\d.]+ \| ([+−])([\d.]+) ± ([\d.]+) \|$"
    found = re.findall(row, text, re.MULTILINE)
    assert f"Of {len(found)} rows" in text  # the longer baselines have a ×
    apart = [(name, sign) for name, sign, points, width in found if float(points) > float(width)]
    assert apart == [("BPKD", "+"), ("CWD", "+"), ("NFD", "+"), ("ICKD", "−"), ("DiceCE", "+")]
    assert "intervals of BPKD, CWD, NFD and DiceCE lie above 0, and that of ICKD below 0" in text


@pytest.mark.parametrize("name", ["README.md", "docs/results/shapes.md"])
def test_the_output_of_the_demo_is_that_of_seed_0(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    rows = SCRIPT["TABLES"]["shapes"].values()
    alone, student, teacher = ([min((SCRIPT["DATA"] / "shapes").glob(pattern))] for pattern in rows)
    gain, behind = (SCRIPT["difference"]([(1, student), (-1, other)]) for other in (alone, teacher))
    assert re.search(rf"^student .* {re.escape(gain)}  {re.escape(behind)} ", text, re.MULTILINE)
