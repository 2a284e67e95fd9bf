"""Many runs, many terms, many images: the time that kd takes of one processor.

CPU time, so that other work on the machine counts little; the limits are those of an idle machine.
"""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kd.runs import (
    ImageCounts,
    Result,
    SplitResult,
    TeacherResult,
    read_counts,
    read_result,
    write_result,
    write_teacher_score,
)
from kd.storage import write_json

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

ALONE = """
student: {use: students.MobileNetV3SmallASPP}
data: {use: kd.data.Shapes, args: {count: 32}, size: [64, 64], workers: 0}
supervised: {use: kd.losses.CrossEntropy}
optimizer: {use: torch.optim.SGD, args: {lr: 0.1}}
train: {steps: 2, batch_size: 4}
device: cpu
"""
LOSSES = (
    "{loss: {use: kd.losses.PixelKL}}",
    "{loss: {use: kd.losses.CWD}}",
    "{loss: {use: kd.losses.MSE}, at: {student: high, teacher: high}, adapter: {use: kd.adapters.Conv1x1}}",
    "{loss: {use: kd.losses.AT}, at: {student: low, teacher: low}}",
)
FOLDERS = (
    "data: {use: kd.data.Folders, args: {root: ., images: '{split}/images', masks: '{split}/masks', "
    "classes: [a, b, c]}, size: [64, 64], workers: 0}"
)


def write_runs(folder: Path, number: int, *, classes: int) -> list[Path]:
    """Finished runs of five seeds each, with a teacher's score and the counts of 100 images."""
    random = np.random.default_rng(0)
    names = [f"class {index}" for index in range(classes)]

    def confusion() -> np.ndarray:
        matrix = random.integers(0, 50, (classes, classes))
        np.fill_diagonal(matrix, 0)
        np.fill_diagonal(matrix, 100_000 - matrix.sum(1))  # every score is of the same labels
        return matrix

    taught, images, run_dirs = confusion(), tuple(f"image {index}" for index in range(100)), []
    for index in range(number):
        stem, seed = f"student{index // 5}", index % 5
        run_dir = folder / f"{stem}-{index // 5:08x}" / f"seed{seed}"
        matrix = confusion()
        counts = np.stack((matrix.diagonal(), matrix.sum(0), matrix.sum(1)), 1) // 100
        split = SplitResult(matrix, names, 100, per_image=ImageCounts(images, np.repeat(counts[None], 100, 0)))
        teacher = TeacherResult("big", "teachers.Big", None, 7, {"val": SplitResult(taught, names, 100)})
        result = Result(
            f"{index // 5:08x}", stem, seed, "student", "students.S", teacher, None, "last", {"val": split},
            5, 1.5, 2.5, 9, {},
        )  # fmt: skip
        write_json(run_dir / "environment.json", {"command": f"kd run {stem}.yaml", "in_channels": 3})
        (run_dir / "student.safetensors").write_bytes(bytes(10_000))
        (run_dir / "metrics.jsonl").write_text('{"step": 1, "val/miou": 0.5}\n' * 50)
        write_result(run_dir, result)
        run_dirs.append(run_dir)
    return run_dirs


def pair_with_baselines(run_dirs: Sequence[Path]) -> None:
    """Make the second half of the runs the baselines of the first half, whose teacher's counts are stored too."""
    half = len(run_dirs) // 2
    for index, run_dir in enumerate(run_dirs):
        result, counts = read_result(run_dir), read_counts(run_dir)["val"]
        assert result.teacher is not None
        val = {"val": replace(result.splits["val"], per_image=counts)}
        if index < half:
            taught = replace(result.teacher.splits["val"], per_image=counts)
            write_teacher_score(run_dir, taught, id=result.id, seed=result.seed)
            write_result(run_dir, replace(result, splits=val, baseline=run_dirs[index + half].parent.name))
        else:
            write_result(run_dir, replace(result, splits=val, role="baseline", teacher=None))


def write_images(folder: Path, number: int) -> None:
    """Small images of noise and their masks, `number` for training and 200 for validation."""
    random = np.random.default_rng(0)
    for split, count in (("train", number), ("val", 200)):
        for kind, shape, values in (("images", (24, 24, 3), 256), ("masks", (24, 24), 3)):
            (folder / split / kind).mkdir(parents=True)
            for index in range(count):
                image = Image.fromarray(random.integers(0, values, shape, np.uint8))
                image.save(folder / split / kind / f"{index:06}.png", compress_level=1)


def measured(folder: Path, *arguments: str) -> tuple[float, str]:
    """The CPU seconds of a command, and what it printed."""
    before = os.times()
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[1])}
    command = [sys.executable, "-m", "kd", *arguments]
    began = time.monotonic()
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    after = os.times()
    assert done.returncode == 0, done.stderr[-2000:]
    used = after.children_user + after.children_system - before.children_user - before.children_system
    print(f"{' '.join(arguments)[:60]}: {used:.2f} s of CPU time, {time.monotonic() - began:.2f} s")
    return used, done.stdout


def test_a_thousand_runs_are_listed_in_a_second(tmp_path: Path) -> None:
    write_runs(tmp_path / "runs", 1000, classes=19)
    used, out = measured(tmp_path, "list")
    assert out.count("finished") == 1000
    assert used <= 1


def test_a_hundred_runs_of_150_classes_are_compared_in_three_seconds(tmp_path: Path) -> None:
    run_dirs = write_runs(tmp_path / "runs", 100, classes=150)
    pair_with_baselines(run_dirs)
    used, out = measured(tmp_path, "compare", "--no-page", *map(str, run_dirs))
    assert "student9" in out
    assert "with 95 % intervals" in out
    assert used <= 3


def test_a_hundred_terms_are_checked_in_ten_seconds(tmp_path: Path) -> None:
    terms = "".join(f"  t{index}: {LOSSES[index % len(LOSSES)]}\n" for index in range(100))
    teacher = "teacher: {use: teachers.DeepLabV3Plus, args: {backbone: mobilenet_v2, decoder: 64}}\n"
    (tmp_path / "r.yaml").write_text(f"{teacher}distill:\n{terms}{ALONE}")
    used, _ = measured(tmp_path, "check", "r.yaml")
    assert used <= 10


def test_twenty_thousand_images_are_checked_in_ten_seconds_and_started_in_fifteen(tmp_path: Path) -> None:
    write_images(tmp_path, 20_000)
    shapes = "data: {use: kd.data.Shapes, args: {count: 32}, size: [64, 64], workers: 0}"
    (tmp_path / "r.yaml").write_text(ALONE.replace(shapes, FOLDERS))
    used, _ = measured(tmp_path, "check", "r.yaml")
    assert used <= 10
    used, _ = measured(tmp_path, "run", "r.yaml")
    assert used <= 15
