"""Write the tables of docs/results from the runs kept in docs/results/data: their results and counts, no weights.

    python docs/results_table.py             # writes the tables anew; a test compares the pages with this output
    python docs/results_table.py RUNS NAME   # keeps the finished runs of a folder in docs/results/data/NAME

A table begins with `<!-- runs: NAME -->`. Its first row is what the others are compared with, seed by seed and image
by image (docs/intervals.md). In a study, the rows of a network stand together: each is compared with the first row of
its network, and `*` marks a gain that is not 0 after Holm's adjustment for all gains of the table.
"""

import json
import os
import re
import statistics
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from kd.intervals import LEVEL, Interval, holm, interval
from kd.metrics import scores
from kd.runs import ImageCounts, is_finished, read_counts, read_result, read_teacher_score, write_result
from kd.runs import write_teacher_score as write_score
from kd.runs.counts import TEACHER_COUNTS

RESULTS = Path(__file__).resolve().parent / "results"
DATA = RESULTS / "data"
LOSSES = DATA / "losses" / "steps.json"  # docs/losses_steps.py
TABLES = {  # name -> label of each row -> its run directories
    "shapes": {
        "student alone, 100 labels": "mobilenetv3_kl_cwd-97334c5d/seed*",
        "distilled, 100 labels and 1,900 images": "mobilenetv3_kl_cwd-e8342df6/seed*",
        "teacher, 2,000 labels": "teacher_deeplabv3plus-*/seed*",
    },
    "shapes-pruned": {
        "pruned, 100 labels": "mobilenetv3_pruned_kl_cwd-5ac09a53/seed*",
        "pruned, distilled from the whole student": "mobilenetv3_pruned_kl_cwd-59a6cbe0/seed*",
        "the whole student": "mobilenetv3_kl_cwd-e8342df6/seed0",
    },
    "camvid-resampling": {
        "resized to `size`, then enlarged": "before/teacher_deeplabv3plus-*/seed*",
        "sampled once from the file's pixels": "after/teacher_deeplabv3plus-*/seed*",
    },
    "camvid-few": {
        "46 labels": "few_mobilenetv3_aspp_kl-44e386c8/seed*",
        "46 labels, distilled on 46 + 321": "few_mobilenetv3_aspp_kl-4798a266/seed*",
        "367 labels": "few_mobilenetv3_aspp_kl-45675dda/seed*",
        "the teacher, 46 labels": "few_teacher_deeplabv3plus-*/seed*",
    },
    "camvid-fcn": {
        "labels": "mobilenetv3_aspp_kl_cwd-eb7db5c5/seed0",
        "labels, PixelKL": "mobilenetv3_aspp_kl_cwd-35ab3bf9/seed0",
        "labels, PixelKL, CWD": "mobilenetv3_aspp_kl_cwd-2570b0d8/seed0",
        "the teacher, FCNResNet50": "teacher_fcn_resnet50-3db43c45/seed0",
    },
    "losses": {
        name: f"{variant['run']}/seed*"
        for name, variant in json.loads(LOSSES.read_text(encoding="utf-8"))["variants"].items()
    }
    | {"teacher": "teacher_deeplabv3plus-*/seed*"},
}
STUDIES = {  # name -> network -> what it learns by -> its run directories
    "camvid-study": {
        "teacher, DeepLabV3Plus": {"labels, 40 epochs": "teacher_deeplabv3plus_120-c20ecc65/seed*"},
        "MobileNetV3SmallASPPLite": {
            "labels": "mobilenetv3_aspp_kl_cwd-4641419b/seed*",
            "labels, PixelKL": "mobilenetv3_aspp_kl_cwd-2e999762/seed*",
            "labels, PixelKL, CWD": "mobilenetv3_aspp_kl_cwd-29131ba6/seed*",
            "labels, 24 epochs": "mobilenetv3_aspp_kl_cwd-2738ea25/seed*",
        },
        "MobileNetV3SmallASPP": {
            "labels": "mobilenetv3_aspp_kl_cwd-eb7db5c5/seed*",
            "labels, PixelKL": "mobilenetv3_aspp_kl_cwd-7c055c11/seed*",
            "labels, PixelKL, CWD": "mobilenetv3_aspp_kl_cwd-e3c91100/seed*",
            "labels, CWD": "mobilenetv3_aspp_kl_cwd-d0864dcf/seed*",
            "labels, DIST": "mobilenetv3_aspp_kl_cwd-dac4eb21/seed*",
            "labels, AT": "mobilenetv3_aspp_kl_cwd-4bb57fe9/seed*",
            "labels, CIRKD": "mobilenetv3_aspp_kl_cwd-7bfd033e/seed*",
        },
        "LRASPPMobileNetV3Large": {
            "labels": "mobilenetv3_aspp_kl_cwd-0cf9a431/seed*",
            "labels, PixelKL": "mobilenetv3_aspp_kl_cwd-16127359/seed*",
            "labels, PixelKL, CWD": "mobilenetv3_aspp_kl_cwd-92db6057/seed*",
        },
        "MobileNetV2UNet": {
            "labels": "mobilenetv3_aspp_kl_cwd-6ba346e8/seed*",
            "labels, PixelKL": "mobilenetv3_aspp_kl_cwd-05d522a9/seed*",
            "labels, PixelKL, CWD": "mobilenetv3_aspp_kl_cwd-289a9556/seed*",
        },
    },
}
_TABLE = re.compile(r"(<!-- runs: (\S+) -->\n)(?:\|.*\n)*")


def page(text: str) -> str:
    """The text of a page with its tables written anew."""
    return _TABLE.sub(lambda match: match[1] + "".join(f"{line}\n" for line in table(match[2])), text)


def table(name: str) -> list[str]:
    """The lines of a table."""
    if name in STUDIES:
        return study(name)
    rows = {label: sorted(DATA.joinpath(name).glob(pattern)) for label, pattern in TABLES[name].items()}
    first = next(iter(rows.values()))
    head = (
        "| | mIoU % of seeds 0, 1, … | mean ± sd | points above the first row, 95 % interval |",
        "| --- | --- | --- | --- |",
    )
    return [*head, *(row(label, run_dirs, first) for label, run_dirs in rows.items())]


def study(name: str) -> list[str]:
    """The lines of the table of a study."""
    lines: list[str] = []
    gains: dict[str, Interval] = {}
    for network, variants in STUDIES[name].items():
        of_network = {label: sorted(DATA.joinpath(name).glob(pattern)) for label, pattern in variants.items()}
        first = next(iter(of_network.values()))
        for label, run_dirs in of_network.items():
            line = f"| {network} | {label} | {scored(run_dirs)} | "
            lines.append(line)
            if run_dirs != first:
                gains[line] = gain([(1, run_dirs), (-1, first)])
    adjusted = dict(zip(gains, holm([found.p_value for found in gains.values()]), strict=True))
    cells = {line: points(found) + (" *" if adjusted[line] < 1 - LEVEL else "") for line, found in gains.items()}
    head = (
        "| network | learns by | mIoU % of seeds 0, 1, … | mean ± sd | points above its first row, 95 % interval |",
        "| --- | --- | --- | --- | --- |",
    )
    return [*head, *(f"{line}{cells.get(line, '–')} |" for line in lines)]


def row(label: str, run_dirs: list[Path], first: list[Path]) -> str:
    """One line: the scores of these runs, and the difference from those of the first row, if the seeds are the same."""
    above = "–"
    if run_dirs != first and len(run_dirs) == len(first):
        above = difference([(1, run_dirs), (-1, first)])
    return f"| {label} | {scored(run_dirs)} | {above} |"


def scored(run_dirs: list[Path]) -> str:
    """Two cells: the score of each run, and mean ± sd."""
    found = [100 * scores(read_result(run_dir).splits["val"].confusion).miou for run_dir in run_dirs]
    spread = f" ± {statistics.stdev(found):.1f}" if len(found) > 1 else ""
    return f"{', '.join(f'{value:.1f}' for value in found)} | {statistics.mean(found):.1f}{spread}"


def difference(terms: list[tuple[float, list[Path]]]) -> str:
    """The text of `gain`."""
    return points(gain(terms))


def gain(terms: list[tuple[float, list[Path]]]) -> Interval:
    """The sum of factor · mIoU of these runs, seed by seed and image by image."""
    found = [(factor, counts(run_dirs)) for factor, run_dirs in terms]
    return interval([(factor, [c.counts for c in each]) for factor, each in found], found[0][1][0].groups)


def points(found: Interval) -> str:
    """Points of mIoU with their interval."""
    value = round(100 * found.value, 1) + 0.0  # no -0.0
    return f"{value:+.1f} ± {100 * found.half_width:.1f}".replace("-", "−")


def counts(run_dirs: list[Path]) -> list[ImageCounts]:
    """The counts of each image of the validation split."""
    return [read_counts(run_dir)["val"] for run_dir in run_dirs]


def keep(runs: Path, name: str) -> None:
    """Keep the results of all finished runs of a folder; where teacher and images lie on this machine is left out."""
    for run_dir in filter(is_finished, sorted(runs.glob("*/seed*"))):
        result, images, kept = (
            read_result(run_dir),
            placeless(read_counts(run_dir)),
            DATA / name / run_dir.parent.name / run_dir.name,
        )
        splits = {split: replace(found, per_image=images.get(split)) for split, found in result.splits.items()}
        result = replace(result, splits=splits)
        if result.teacher is not None and result.teacher.run is not None:
            result = replace(result, teacher=replace(result.teacher, run="/".join(Path(result.teacher.run).parts[-2:])))
        kept.mkdir(parents=True, exist_ok=True)
        taught = read_teacher_score(run_dir, id=result.id, seed=result.seed)
        beside = result.teacher is not None and is_finished(runs / (result.teacher.run or "…"))  # kept once, as a run
        if taught is not None and not beside:
            of_images = placeless(read_counts(run_dir, TEACHER_COUNTS)).get("val")
            write_score(kept, replace(taught, per_image=of_images), id=result.id, seed=result.seed)
        write_result(kept, result)


def placeless(splits: Mapping[str, ImageCounts]) -> dict[str, ImageCounts]:
    """The same counts, with the name of an image below the folder that all images of its split share."""
    folders = {split: os.path.commonpath([os.path.dirname(name) for name in splits[split].names]) for split in splits}
    return {
        split: found._replace(names=tuple(Path(name).relative_to(folders[split]).as_posix() for name in found.names))
        for split, found in splits.items()
    }


if __name__ == "__main__":
    if len(sys.argv) == 3:
        keep(Path(sys.argv[1]), sys.argv[2])
    for file in sorted(RESULTS.glob("*.md")):
        file.write_text(page(file.read_text(encoding="utf-8")), encoding="utf-8")
