"""The demo's claim: its teacher scores higher than the student trained alone, over several seeds."""

import statistics

import pytest
import torch

from kd.metrics import scores
from kd.recipe import baseline_of, read_recipe
from kd.runs import read_result
from kd.train.session import run_recipe


def miou(run_dir):
    """Percent."""
    return 100 * scores(read_result(run_dir).splits["val"].confusion).miou


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_teacher_is_five_points_better_than_the_baseline_over_three_seeds(tmp_path):
    torch.set_num_threads(2)
    student = read_recipe("shapes/mobilenetv3_kl_cwd.yaml", ["train.seeds=[0, 1, 2]"])
    teacher = read_recipe(student.teacher_recipe.file, ["train.seeds=[0, 1, 2]"])
    teachers = list(map(miou, run_recipe(teacher, runs=tmp_path, role="teacher", quiet=True)))
    students = list(map(miou, run_recipe(student, runs=tmp_path, quiet=True)))
    baselines = list(map(miou, run_recipe(baseline_of(student), runs=tmp_path, quiet=True)))
    print(f"\nmIoU, percent: teacher {teachers}, baseline {baselines}, student {students}")
    gaps = [teacher - baseline for teacher, baseline in zip(teachers, baselines, strict=True)]
    assert statistics.mean(gaps) >= 5, gaps
