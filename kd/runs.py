"""A run directory: where it is, and what is in it.

runs/<recipe's stem>-<id>/seed<k>/
    recipe.yaml          the resolved recipe
    environment.json     versions, hardware, command
    metrics.jsonl        one line a report, with its step
    events.out.tfevents  TensorBoard
    checkpoints/         see kd.train.checkpoint
    student.safetensors  the finished network's weights
    result.json          what every table is computed from
"""

import dataclasses
import json
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from kd.components import Maker
from kd.errors import LockedError, StorageError
from kd.recipe import Recipe, read_recipe
from kd.storage import read_json, write_atomic, write_json

FORMAT = 1  # of result.json


@dataclasses.dataclass(frozen=True)
class SplitResult:
    """A network's score on one split: everything else is computed from the confusion matrix."""

    confusion: list[list[int]]  # rows are labels, columns predictions
    classes: list[str]
    images: int


@dataclasses.dataclass(frozen=True)
class TeacherResult:
    """The teacher as this run's student met it, scored by the same code on the same split."""

    name: str
    network: str
    run: str | None
    parameters: int
    splits: dict[str, SplitResult]


@dataclasses.dataclass(frozen=True)
class Result:
    """What a finished run says of itself."""

    id: str
    name: str  # the recipe's stem
    seed: int
    role: str  # "student", "baseline" (a student without a teacher) or "teacher"
    network: str
    teacher: TeacherResult | None
    baseline: str | None  # the directory of the twin without distillation, beside this one's
    select: str  # "last" or "best": which step's weights were scored
    splits: dict[str, SplitResult]
    parameters: int
    seconds: float  # spent in training, all sessions together
    images_per_second: float
    peak_memory: int  # bytes: CUDA's peak, or the process's resident peak on a CPU
    versions: dict[str, str]
    format: int = FORMAT


def run_directory(recipe: Recipe, runs: Path, seed: int) -> Path:
    """`runs/<stem>-<id>/seed<k>`, or where a recipe of another name that says the same already has its runs.

    So two distilled recipes that share their baseline train it once.
    """
    name = f"{recipe.stem}-{recipe.id}"
    if not (runs / name).is_dir():
        others = sorted(path.name for path in runs.glob(f"*-{recipe.id}"))
        name = others[0] if others else name
    return runs / name / f"seed{seed}"


def write_result(run: Path, result: Result) -> None:
    """Write `result.json`; from here on the run counts as finished."""
    write_json(run / "result.json", dataclasses.asdict(result))


def is_finished(run: Path) -> bool:
    """Whether the run has its result."""
    return (run / "result.json").is_file()


def read_result(run: Path) -> Result:
    """Read a finished run's `result.json`.

    Raises:
        StorageError: missing, damaged, or of a format that this version does not know.
    """
    file = run / "result.json"
    content = read_json(file)
    try:
        if content["format"] != FORMAT:
            raise StorageError(f"{file}: has format {content['format']}, this version reads {FORMAT}; update kd")
        teacher = content["teacher"]
        if teacher is not None:
            teacher = TeacherResult(**(teacher | {"splits": _splits(teacher["splits"])}))
        return Result(**(content | {"teacher": teacher, "splits": _splits(content["splits"])}))
    except (KeyError, TypeError, AttributeError) as error:
        raise StorageError(f"{file}: is not a result of kd ({error}); delete the file and run again") from None


def _splits(content: dict[str, Any]) -> dict[str, SplitResult]:
    return {name: SplitResult(**split) for name, split in content.items()}


def read_metrics(run: Path) -> list[dict[str, Any]]:
    """The lines of `metrics.jsonl`, oldest first; none where there is no file. A torn last line is left out.

    So is a damaged one, with a warning: a curve with a gap is worth more than none, and scores come from `result.json`.
    """
    file = run / "metrics.jsonl"
    if not file.is_file():
        return []
    found = []
    for number, line in enumerate(file.read_bytes().split(b"\n")[:-1], start=1):
        try:
            content = json.loads(line)
            if not isinstance(content["step"], int):
                raise TypeError
        except (ValueError, TypeError, KeyError):
            warnings.warn(f"{file}:{number}: not a line of metrics, the file is damaged; left out", stacklevel=2)
        else:
            found.append(content)
    return found


def write_weights(run: Path, network: nn.Module) -> None:
    """Write a network's weights as `student.safetensors`, keys as the network's own."""
    state = {key: value.detach().cpu().contiguous() for key, value in network.state_dict().items()}
    write_atomic(run / "student.safetensors", save(_unshared(state)))


def _unshared(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Safetensors refuses tensors that share memory; a tied weight is written twice."""
    seen: set[int] = set()
    result = {}
    for key, value in state.items():
        result[key] = value.clone() if value.data_ptr() in seen else value
        seen.add(value.data_ptr())
    return result


def read_run_recipe(run_dir: Path, *, trust: bool = False) -> Recipe:
    """The recipe that a run directory keeps; no file that it names is opened.

    Raises:
        RecipeError: it is missing or wrong, or names code that is not trusted.
    """
    return read_recipe(run_dir / "recipe.yaml", trust=trust, id=run_dir.parent.name.rpartition("-")[2])


def load_network(run_dir: Path, *, recipe: Recipe | None = None, trust: bool = False) -> nn.Module:
    """The finished network of a run, in evaluation mode on the CPU.

    Args:
        run_dir: of a finished run.
        recipe: the run's, where it has been read already.
        trust: whether the run's recipe may name code outside kd; without `recipe`.

    Raises:
        StorageError: the run has no weights, or they do not fit the recipe's network.
        RecipeError: the run's recipe names code that is not trusted.
    """
    recipe = recipe or read_run_recipe(run_dir, trust=trust)
    classes = next(iter(read_result(run_dir).splits.values())).classes
    channels = read_json(run_dir / "environment.json")["in_channels"]
    network = Maker(recipe).network(recipe.student.network, len(classes), channels)
    load_weights(run_dir, network)
    return network.eval()


def load_weights(run_dir: Path, network: nn.Module) -> None:
    """Load the weights of a finished run into its network.

    Raises:
        StorageError: there are none, they are damaged, or they are those of another network.
    """
    file = run_dir / "student.safetensors"
    try:
        network.load_state_dict(load_file(file))
    except (OSError, SafetensorError) as error:
        raise StorageError(f"{file}: cannot be read ({error}); run the recipe again") from None
    except RuntimeError as error:
        raise StorageError(f"{file}: does not fit the network ({_first_line(error)})") from None


def _first_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


def teacher_directories(recipe: Recipe, runs: Path) -> list[Path]:
    """The run directories of a recipe's teacher, one a seed of the teacher's recipe; none without a teacher run."""
    if recipe.teacher is None:
        return []
    if recipe.teacher.run is not None:
        return [Path(recipe.teacher.run)]
    teacher = recipe.teacher_recipe
    return [run_directory(teacher, runs, seed) for seed in teacher.train.seeds] if teacher else []


@contextmanager
def locked(run: Path) -> Iterator[None]:
    """Keep every other process out of a run directory.

    Raises:
        LockedError: another process is in it; the message says which.
        StorageError: it cannot be made.
    """
    owner = run / ".owner"
    lock = FileLock(run / ".lock")
    try:
        run.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except OSError as error:
        if isinstance(error, Timeout):
            raise LockedError(f"{run}: in use by {_owner(owner)}") from None
        raise StorageError(f"{run}: cannot be written ({error.strerror}); choose --runs DIR") from None
    try:
        owner.write_text(f"process {os.getpid()} on {os.uname().nodename}", encoding="utf-8")
        yield
    finally:
        owner.unlink(missing_ok=True)
        lock.release()


def _owner(file: Path) -> str:
    return file.read_text(encoding="utf-8") if file.is_file() else "another process"
