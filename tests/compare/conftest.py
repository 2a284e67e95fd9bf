"""Run directories as training leaves them, made by the same writers."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from kd.files.storage import write_json
from kd.runs import (
    ImageCounts,
    MetricResult,
    Result,
    ResultInputs,
    SplitResult,
    TeacherResult,
    write_result,
    write_teacher_score,
)

CLASSES = ["sky", "road", "sign"]  # no pixel is labelled sign


def confusion(right: int) -> NDArray[np.int64]:
    """Two classes of 100 pixels each, `right` of them correct: IoU right / (200 - right), accuracy right / 100."""
    wrong = 100 - right
    return np.array([[right, wrong, 0], [wrong, right, 0], [0, 0, 0]])


def split(right: int, **changed: Any) -> SplitResult:
    return SplitResult(**({"confusion": confusion(right), "classes": CLASSES, "images": 4} | changed))


def counted(*right: int, groups: tuple[str, ...] | None = None) -> SplitResult:
    """A score with the counts of each image: of each class 100 pixels an image, `right` of them correct."""
    images = np.array([[[hits, 100, 100]] * 2 + [[0, 0, 0]] for hits in right], np.int64)
    names = tuple(f"{index}.png" for index in range(len(right)))
    hits = sum(right)
    wrong = 100 * len(right) - hits
    matrix = np.array([[hits, wrong, 0], [wrong, hits, 0], [0, 0, 0]])
    return SplitResult(matrix, CLASSES, len(right), per_image=ImageCounts(names, images, groups))


class Runs:
    """Writes runs below one folder."""

    split, counted = staticmethod(split), staticmethod(counted)

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(
        self,
        name: str,
        right: int,
        *,
        seed: int = 0,
        val: SplitResult | None = None,
        metrics: dict[str, MetricResult] | None = None,
        **changed: Any,
    ) -> Path:
        run_dir = self.folder / name / f"seed{seed}"
        stem, _, identifier = name.rpartition("-")
        content: dict[str, Any] = {
            "id": identifier,
            "inputs": ResultInputs(train="1" * 64, val="2" * 64, revision=1),
            "name": stem,
            "seed": seed,
            "role": "baseline",
            "network": "students.Small",
            "teacher": None,
            "baseline": None,
            "select": "last",
            "splits": {"val": val or split(right, metrics=metrics or {})},
            "parameters": 6_831_509,
            "seconds": 672.0,
            "images_per_second": 29.06,
            "peak_memory": 10**9,
            "versions": {"kd": "0"},
        }
        write_json(
            run_dir / "environment.json", {"command": f"kd run recipes/{stem}.yaml --baseline", "in_channels": 3}
        )
        (run_dir / "student.safetensors").write_bytes(b"not read here")
        result = Result(**(content | changed))
        if result.teacher is not None and (scored := result.teacher.splits["val"]).per_image is not None:
            write_teacher_score(run_dir, scored, id=identifier, seed=seed)
        write_result(run_dir, result)
        return run_dir

    def teacher(self, right: int = 95) -> Path:
        return self.write("big-aaaaaaaa", right, network="teachers.Big", parameters=40_000_000, seconds=60.0)

    def baseline(self, right: int = 80, **changed: Any) -> Path:
        return self.write("small_kl-bbbbbbbb", right, **changed)

    def student(self, right: int = 90, *, name: str = "small_kl-cccccccc", taught: int = 95, **changed: Any) -> Path:
        teacher = TeacherResult(
            name="big",
            network="teachers.Big",
            run=str(self.folder / "big-aaaaaaaa" / "seed0"),
            parameters=40_000_000,
            splits={"val": changed.pop("taught_val", None) or changed.get("val") or split(taught)},
        )
        settings: dict[str, Any] = {"role": "student", "teacher": teacher, "baseline": "small_kl-bbbbbbbb"}
        return self.write(name, right, **(settings | changed))


@pytest.fixture(scope="session")
def runs_in() -> type[Runs]:
    """Makes the runs of a folder, for fixtures of a wider scope than `made`."""
    return Runs


@pytest.fixture
def made(tmp_path: Path) -> Runs:
    return Runs(tmp_path / "runs")


@pytest.fixture
def trio(made: Runs) -> Callable[..., Path]:
    """A finished teacher, baseline and student; the student's directory."""

    def write(**changed: Any) -> Path:
        made.teacher()
        made.baseline()
        return made.student(**changed)

    return write
