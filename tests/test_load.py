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

from kd.files.storage import write_json
from kd.runs import (
    KEPT,
    ImageCounts,
    Result,
    SplitResult,
    TeacherResult,
    read_result,
    spread,
    write_predictions,
    write_result,
    write_teacher_score,
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

ROOT = str(Path(__file__).parents[1])
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

    taught, run_dirs = confusion(), []
    for index in range(number):
        stem, seed = f"student{index // 5}", index % 5
        run_dir = folder / f"{stem}-{index // 5:08x}" / f"seed{seed}"
        matrix = confusion()
        split = SplitResult(matrix, names, 100, per_image=counted(matrix))
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


def counted(matrix: np.ndarray) -> ImageCounts:
    """The counts of 100 images that add up to a confusion matrix; all are alike but the first."""
    total = np.stack((matrix.diagonal(), matrix.sum(0), matrix.sum(1)), 1)
    counts = np.repeat(total[None] // 100, 100, 0)
    counts[0] += total % 100
    return ImageCounts(tuple(f"image {index}" for index in range(100)), counts)


def pair_with_baselines(run_dirs: Sequence[Path]) -> None:
    """Make the second half of the runs the baselines of the first half, whose teacher's counts are stored too."""
    half = len(run_dirs) // 2
    for index, run_dir in enumerate(run_dirs):
        result = read_result(run_dir)
        assert result.teacher is not None
        val = {"val": replace(result.splits["val"], per_image=counted(result.splits["val"].confusion))}
        if index < half:
            taught = result.teacher.splits["val"]
            taught = replace(taught, per_image=counted(taught.confusion))
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


def as_installed() -> dict[str, str]:
    """The environment of a command: one thread, and kd's modules compiled, as an installation has them."""
    subprocess.run([sys.executable, "-m", "compileall", "-q", f"{ROOT}/kd"], check=True)
    return os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": ROOT}


def measured(folder: Path, *arguments: str) -> tuple[float, str]:
    """The CPU seconds of a command, and what it printed."""
    environment, command = as_installed(), [sys.executable, "-m", "kd", *arguments]
    before, began = os.times(), time.monotonic()
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


def write_photographs(folder: Path, number: int) -> list[np.ndarray]:
    """Validation images of 360 × 480 with their masks of 3 classes; the masks."""
    across, down = np.meshgrid(np.linspace(0, 12, 480), np.linspace(0, 9, 360))
    masks = []
    for index in range(number):
        for split in ("train", "val") if index < 4 else ("val",):
            for kind in ("images", "masks"):
                (folder / split / kind).mkdir(parents=True, exist_ok=True)
            mask = ((np.sin(across + index) * np.cos(down) > 0) + (down > 5)).astype(np.uint8)
            image = (80 + 60 * np.sin(across[..., None] * (1, 2, 3)) + mask[..., None]).astype(np.uint8)
            Image.fromarray(image).save(folder / split / "images" / f"{index:03}.png")
            Image.fromarray(mask).save(folder / split / "masks" / f"{index:03}.png")
        masks.append(mask)
    return masks


def write_study(folder: Path, masks: Sequence[np.ndarray]) -> list[Path]:
    """Thirty finished runs on these images: a teacher, a baseline and eight students, with three seeds each."""
    from kd.components import Maker
    from kd.parts.trained import write_weights
    from kd.recipe import read_recipe, to_yaml

    shapes = "data: {use: kd.data.Shapes, args: {count: 32}, size: [64, 64], workers: 0}"
    data = FOLDERS.replace("root: .", f"root: {folder}").replace("[64, 64]", "[360, 480]")
    (folder / "net.yaml").write_text(ALONE.replace(shapes, data))
    recipe = read_recipe(folder / "net.yaml")
    network = Maker(recipe).network(recipe.student.network, 3, 3)
    images = tuple(str(Maker(recipe).dataset("val")[index, 0].name) for index in range(len(masks)))
    taught = None
    run_dirs = []
    stems = ["big", "plain", *(f"student{index}" for index in range(8))]
    for place, stem in enumerate(stems):
        for seed in range(3):
            run_dir = folder / "runs" / f"{stem}-{place:08x}" / f"seed{seed}"
            maps = [np.roll(mask, 3 + place + seed + index % 7, 1) for index, mask in enumerate(masks)]
            counts = np.array([[[((m == k) & (p == k)).sum(), (p == k).sum(), (m == k).sum()] for k in range(3)]
                               for m, p in zip(masks, maps, strict=True)])  # fmt: skip
            pairs = sum(
                np.bincount((m.astype(int) * 3 + p).ravel(), minlength=9) for m, p in zip(masks, maps, strict=True)
            )
            split = SplitResult(pairs.reshape(3, 3), ["a", "b", "c"], len(masks), per_image=ImageCounts(images, counts))
            taught = taught or split
            teacher = TeacherResult("big", "teachers.Big", str(folder / "runs/big-00000000/seed0"), 7, {"val": taught})
            student = place > 1
            role, of, baseline = ("student", teacher, "plain-00000001") if student else ("baseline", None, None)
            result = Result(
                f"{place:08x}", stem, seed, role, "students.S", of, baseline, "last", {"val": split}, 5, 1.5, 2.5, 9, {}
            )
            write_json(run_dir / "environment.json", {"command": f"kd run {stem}.yaml", "in_channels": 3})
            (run_dir / "recipe.yaml").write_text(to_yaml(recipe))
            write_weights(run_dir, network)
            (run_dir / "metrics.jsonl").write_text('{"step": 1, "val/miou": 0.5, "loss/kl": 1.0}\n' * 300)
            write_predictions(run_dir, {images[index]: maps[index] for index in spread(len(masks), KEPT)}, {})
            if student:
                write_teacher_score(run_dir, taught, id=result.id, seed=seed)
            write_result(run_dir, result)
            run_dirs.append(run_dir)
    return run_dirs


def test_thirty_runs_of_101_images_are_compared_with_their_page_in_twenty_seconds(tmp_path: Path) -> None:
    run_dirs = write_study(tmp_path, write_photographs(tmp_path, 101))
    used, out = measured(tmp_path, "compare", "--html", "page.html", *map(str, run_dirs))
    assert "student7" in out
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert page.count("<article") == 24
    assert len(page) < 5_000_000
    assert used <= 20


def test_a_hundred_terms_are_checked_in_ten_seconds(tmp_path: Path) -> None:
    terms = "".join(f"  t{index}: {LOSSES[index % len(LOSSES)]}\n" for index in range(100))
    teacher = "teacher: {use: teachers.DeepLabV3Plus, args: {backbone: mobilenet_v2, decoder: 64}}\n"
    (tmp_path / "r.yaml").write_text(f"{teacher}distill:\n{terms}{ALONE}")
    used, _ = measured(tmp_path, "check", "r.yaml")
    assert used <= 10


def seconds_until(text: str, folder: Path, *arguments: str) -> float:
    """The seconds until a command prints a text."""
    environment, command = as_installed(), [sys.executable, "-m", "kd", *arguments]
    began = time.monotonic()
    with subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        seconds = next(time.monotonic() - began for line in process.stdout if text in line)
        process.stdout.read()
    assert process.returncode == 0
    print(f"{' '.join(arguments)[:60]}: {seconds:.1f} s until {text!r}")
    return seconds


@pytest.mark.skipif(
    not hasattr(os, "getloadavg") or os.getloadavg()[0] > 1, reason="the clock is that of a busy machine"
)
def test_twenty_thousand_images_are_checked_in_ten_seconds_and_started_in_fifteen(tmp_path: Path) -> None:
    """By the clock, on two idle cores: workers share the reading."""
    write_images(tmp_path, 20_000)
    shapes = "data: {use: kd.data.Shapes, args: {count: 32}, size: [64, 64], workers: 0}"
    (tmp_path / "r.yaml").write_text(ALONE.replace(shapes, FOLDERS.replace(", workers: 0", "")))
    assert seconds_until("train: ", tmp_path, "check", "r.yaml") <= 10
    assert seconds_until("from labels alone, seed 0 on cpu", tmp_path, "run", "r.yaml") <= 15
