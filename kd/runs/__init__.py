"""A run directory: its path and its content. Reading a result needs no torch.

runs/<recipe's stem>-<id>/seed<k>/
    recipe.yaml          the resolved recipe
    environment.json     versions, hardware, command
    log.txt              everything that the run reported, with times
    metrics.jsonl        one line per report, with its step
    <role>/events.…      TensorBoard, named by the role: student, baseline or teacher
    checkpoints/         see kd.train.between_steps.checkpoint
    inputs.json          what the run read, by content, see kd.inputs
    sources/             copies of the recipe's `file.py` and of what it imports beside it
    teacher.json         the teacher's score on the same images; teacher-counts.npz: image by image
    student.safetensors  the finished network's weights, see kd.parts.trained
    failure.json         why it ended without a result, see kd.runs.state
    counts.npz           each image's counts in the final score
    predictions.npz      what network and teacher predict in some of the images, for the page of a comparison
    result.json          the final score: every table is computed from it
    manifest.json        the SHA-256 of the others, see kd.files.manifest; with it the run is finished
"""

from kd.runs.counts import ImageCounts
from kd.runs.directory import (
    id_of,
    in_its_folder,
    is_finished,
    locked,
    may_be_finished,
    read_run_recipe,
    refuse_inside,
    run_command,
    run_directory,
    short_name,
    teacher_directories,
)
from kd.runs.environment import read_environment
from kd.runs.finding import by_seed, finished_at, finished_below, finished_of
from kd.runs.kept_maps import KEPT, MOST, read_predictions, spread, write_predictions
from kd.runs.latency import Latency, Measured, read_latency, write_latency
from kd.runs.metrics import latest, read_metrics
from kd.runs.origin import (
    Origin,
    as_recipe,
    origin_of,
    read_origin,
    read_origins,
    read_run_origin,
    recipe_in,
    with_origin,
)
from kd.runs.overview import Overview, read_overview
from kd.runs.result import (
    NOT_RECORDED,
    OLD_FORMAT,
    SPLIT,
    Against,
    MetricResult,
    Result,
    ResultInputs,
    SplitResult,
    TeacherResult,
    forget_result,
    read_counts,
    read_result,
    replace_inputs,
    write_result,
)
from kd.runs.resuming import place_of, resumable
from kd.runs.state import (
    Failure,
    claim,
    failure_noted,
    is_locked,
    read_failure,
    state_of,
    write_failure,
)
from kd.runs.teacher_score import forget_teacher_score, has_teacher_score, read_teacher_score, write_teacher_score

__all__ = [
    "KEPT",
    "MOST",
    "NOT_RECORDED",
    "OLD_FORMAT",
    "SPLIT",
    "Against",
    "Failure",
    "ImageCounts",
    "Latency",
    "Measured",
    "MetricResult",
    "Origin",
    "Overview",
    "Result",
    "ResultInputs",
    "SplitResult",
    "TeacherResult",
    "as_recipe",
    "by_seed",
    "claim",
    "failure_noted",
    "finished_at",
    "finished_below",
    "finished_of",
    "forget_result",
    "forget_teacher_score",
    "has_teacher_score",
    "id_of",
    "in_its_folder",
    "is_finished",
    "is_locked",
    "latest",
    "locked",
    "may_be_finished",
    "origin_of",
    "place_of",
    "read_counts",
    "read_environment",
    "read_failure",
    "read_latency",
    "read_metrics",
    "read_origin",
    "read_origins",
    "read_overview",
    "read_predictions",
    "read_result",
    "read_run_origin",
    "read_run_recipe",
    "read_teacher_score",
    "recipe_in",
    "refuse_inside",
    "replace_inputs",
    "resumable",
    "run_command",
    "run_directory",
    "short_name",
    "spread",
    "state_of",
    "teacher_directories",
    "with_origin",
    "write_failure",
    "write_latency",
    "write_predictions",
    "write_result",
    "write_teacher_score",
]
