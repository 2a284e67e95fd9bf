"""Run directories: compared, listed, damaged, stopped or in use; and the command that a message prints or names."""

import contextlib
import json
import os
import re
import shlex
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from advised_checks import CODE
from command import kd
from farms import correct, write_farm
from following import Row, run_advised, succeeds
from manifests import list_anew, unfinish
from poison import poison
from steps import at_each_step
from tiny import NETWORKS, write_recipes

import kd as toolkit
from kd import distributed
from kd.files.storage import write_atomic
from kd.runs import locked, read_counts
from kd.train import step
from kd.train.between_steps.checkpoint import Checkpoints

ALONE = ("student.yaml", "--trust", "teacher=null", "distill=null", "train.steps=4")
SHORT = ("student.yaml", "--trust", "distill.hint=null", "train.steps=2")


def run(*arguments: str, name: str = "student") -> Path:
    """Run a recipe, which must end well; its first run directory."""
    write_recipes(Path())
    Path("nets.py").write_text(NETWORKS + CODE)
    succeeds("run", *(arguments or ALONE))
    return only(name)


def only(name: str = "student") -> Path:
    return min(path for path in Path("runs").glob(f"{name}-*/seed*") if re.fullmatch(r"seed\d+", path.name))


def again(*arguments: str) -> None:
    succeeds("run", *(arguments or ALONE))


def bad_teacher() -> None:
    """A teacher that learns nothing."""
    write_recipes(Path())
    text = Path("teacher.yaml").read_text()
    Path("bad.yaml").write_text(text.replace("lr: 0.1", "lr: 1e-9").replace("steps: 8", "steps: 1"))


LONGER = ("student.yaml", "--trust", "distill.hint=null", "train.steps=4")
BAD = (*LONGER, "teacher.recipe=bad.yaml")


def compare(*arguments: str) -> int:
    return kd("compare", *arguments, "--no-page")


def only_student() -> str:
    """The first seed of the run that has a teacher."""
    return str(min(Path("runs").glob("student-*/*/teacher.json")).parent)


def renamed(*run_dirs: Path) -> int:
    """Compare the runs of a folder that the user has made."""
    for seed, run_dir in enumerate(run_dirs):
        shutil.copytree(run_dir, f"mine/seed{seed}")
    return compare("mine")


def apart() -> None:
    Path("other").mkdir()
    shutil.move("mine/seed1", "other/seed1")
    assert compare("mine", "other") == 0


COMPARED = [
    Row(
        "mine/seed1: is seed 0 of run {}, as mine/seed0 is; move one of them into another folder",
        lambda: renamed(run(), only()),
        lambda _: apart(),
    ),
    Row(
        "mine/seed1: is of run {}, but mine/seed0 of run {}; move one of them into another folder",
        lambda: (run(), again(*ALONE, "train.steps=3"), renamed(*Path("runs").glob("student-*/seed0"))),
        lambda _: apart(),
    ),
    Row(
        "'a' and --runs 'b': two folders of runs; remove one of them",
        lambda: kd("list", "a", "--runs", "b"),
        lambda _: (Path("a").mkdir(), succeeds("list", "a"), succeeds("list", "--runs", "a")),
    ),
    Row(
        "runs: holds no runs; kd run RECIPE trains one",
        lambda: kd("list"),
        lambda text: (run(), succeeds("list")),
    ),
    Row(
        "no baseline: the gain is unknown; {} --baseline adds it (about {})",
        lambda: (run(*SHORT), compare(*SHORT)),
        lambda text: (run_advised(text, " adds it"), compare(*SHORT)),
    ),
    Row(
        "has seeds 0, 1, its baseline 0: compared over 0 alone; {} --baseline trains the missing seeds",
        lambda: (run(*SHORT, "--baseline"), again(*SHORT, "train.seeds=[0, 1]"), compare(*SHORT, "train.seeds=[0, 1]")),
        lambda text: (run_advised(text, " trains the missing"), compare(*SHORT, "train.seeds=[0, 1]")),
    ),
    Row(
        "student-{} has seeds 0, its baseline 0, 1: compared over 0 alone; "
        "kd compare runs/student-{} compares further seeds",
        lambda: (run(*SHORT, "train.seeds=[0, 1]", "--baseline"), compare(only_student())),
        lambda text: run_advised(text, " compares further"),
    ),
    Row(
        ": unfinished seeds: 1; {} finishes them",
        lambda: (run(), compare(*ALONE, "train.seeds=[0, 1]")),
        lambda text: (run_advised(text, " finishes them"), compare(*ALONE, "train.seeds=[0, 1]")),
    ),
    Row(
        ": this run is not finished; kd run {} --trust continues it",
        lambda: (unfinish(run()), kd("predict", only(), "--trust")),
        lambda text: (run_advised(text, " continues it"), compare(str(only()), "--trust")),
    ),
    Row(
        "empty: holds no finished run; kd list shows all runs",
        lambda: (Path("empty").mkdir(), compare("empty")),
        lambda text: run_advised(text, " shows all"),
    ),
    Row(
        "runs: no run directory; name one, such as x-0123abcd/seed0 (kd list shows all)",
        lambda: (run(), kd("diff", "student.yaml", "runs")),
        lambda text: (succeeds("list"), kd("diff", "student.yaml", only())),
    ),
    Row(
        "student.yaml: no finished run in runs/student-{}; kd run student.yaml {} trains it",
        lambda: (write_recipes(Path()), compare(*ALONE)),
        lambda text: (run_advised(text, " trains it"), compare(*ALONE)),
    ),
    Row(
        "one seed: training noise is not in this interval; train.seeds=[0,1,2] adds it",
        lambda: (run(*SHORT, "--baseline"), compare(*SHORT)),
        lambda text: (again(*SHORT, "--baseline", "train.seeds=[0,1,2]"), compare(*SHORT, "train.seeds=[0,1,2]")),
    ),
    Row(
        "cannot be compared: their val images differ ({} and {}); compare runs that were scored on the same data",
        lambda: (run(), again(*ALONE, "data.args.count=5"), compare(*map(str, Path("runs").iterdir()))),
        lambda text: compare(*map(str, list(Path("runs").iterdir())[:1])),
    ),
    Row(
        "is not better than the baseline ({} %); train a better teacher first",
        lambda: (bad_teacher(), run(*BAD, "--baseline"), compare(*BAD)),
        lambda text: (again(*LONGER, "--baseline"), compare(*LONGER)),
    ),
]


def damaged(name: str) -> Path:
    """A finished run in which one byte of a file is another."""
    run_dir = run()
    file = run_dir / name
    data = bytearray(file.read_bytes())
    data[-3] ^= 1
    file.write_bytes(data)
    return run_dir


def opened(run_dir: Path | None = None) -> None:
    toolkit.load_student(run_dir or only(), trust=True)


def moved(text: str, look: Callable[[], object] = opened) -> None:
    """Run the printed `mv`, then the same `kd run`."""
    printed = re.search(r"mv (\S+) (\S+), then the same kd run, trains it again", text)
    assert printed, text
    shutil.move(printed[1], printed[2])
    again()
    look()


def listed(file: str, change: Callable[[Path], object]) -> Path:
    """A finished run whose file was changed before it was listed in the manifest."""
    run_dir = run()
    change(run_dir / file)
    return list_anew(run_dir)


def edit(file: Path, **values: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def unlisted(name: str) -> Path:
    run_dir = run()
    content = (run_dir / name).read_bytes()
    (run_dir / name).unlink()
    list_anew(run_dir)
    (run_dir / name).write_bytes(content)
    return run_dir


def exchanged() -> Path:
    """A run with the weights of another one."""
    run_dir = run()
    again(*ALONE, "train.seeds=[1]")
    shutil.copy(run_dir.with_name("seed1") / "student.safetensors", run_dir)
    return list_anew(run_dir)


def remove(path: Path) -> None:
    path.unlink()


DAMAGED = [
    Row(
        "student.safetensors: changed after the run wrote it (SHA-256 {}…, manifest.json has {}…); its score in "
        "result.json is intact; to have weights, mv ",
        lambda: opened(damaged("student.safetensors")),
        moved,
    ),
    Row(
        "result.json: changed after the run wrote it (SHA-256 {}…, manifest.json has {}…); the weights in "
        "student.safetensors are intact; mv ",
        lambda: compare(str(damaged("result.json"))),
        moved,
    ),
    Row(
        "student.safetensors: missing; its score in result.json is intact; to have weights, mv ",
        lambda: (remove(run() / "student.safetensors"), opened()),
        moved,
    ),
    Row(
        "student.safetensors: not in manifest.json; its score in result.json is intact; to have weights, mv ",
        lambda: opened(unlisted("student.safetensors")),
        moved,
    ),
    Row(
        "student.safetensors: not kept: the run was stored as results alone, for kd list and kd compare; to have it, "
        "mv ",
        lambda: (remove(run() / "student.safetensors"), list_anew(only()), compare(str(only())), opened()),
        moved,
    ),
    Row(
        "is of run {}, seed 0, but its folder is of {}, seed 5; put it back, or mv ",
        lambda: (run().rename(only().with_name("seed5")), compare(str(only()))),
        lambda text: (only().rename(only().with_name("seed0")), compare(str(only()))),
    ),
    Row(
        "manifest.json: missing, so result.json cannot be verified; mv ",
        lambda: (run(*ALONE, "train.checkpoints=unfinished"), remove(only() / "manifest.json"), compare(str(only()))),
        moved,
    ),
    Row(
        "result.json: has format 99, but this version reads {}; update kd, or mv ",
        lambda: compare(str(listed("result.json", lambda file: edit(file, format=99)))),
        moved,
    ),
    Row(
        "counts.npz: cannot be read ({}); mv ",
        lambda: read_counts(listed("counts.npz", lambda file: file.write_bytes(b"PK")), "counts.npz"),
        moved,
    ),
    Row(
        "student.safetensors: of run {}/seed1, not of run {}/seed0; mv ",
        lambda: opened(exchanged()),
        moved,
    ),
]


def corrected() -> None:
    """A finished run on labels that are others now."""
    write_farm(Path())
    succeeds("run", "r.yaml", "--trust")
    correct(Path("farm/masks/0.png"))
    kd("run", "r.yaml", "--trust")


def both_ways(text: str) -> None:
    """Run both commands that are printed, each on a copy."""
    shutil.copytree("runs", "copy")
    fresh, accept = re.findall(r"kd (run [^;,\n]+? --(?:fresh|accept-inputs)) ", text)
    succeeds(*shlex.split(accept))
    succeeds("run", "r.yaml", "--trust")
    shutil.rmtree("runs")
    os.rename("copy", "runs")
    succeeds(*shlex.split(fresh))
    succeeds("run", "r.yaml", "--trust")


def without_data() -> None:
    write_farm(Path())
    succeeds("run", "r.yaml", "--trust")
    os.rename("farm", "away")
    kd("run", "r.yaml", "--trust")


def accepted(text: str) -> None:
    found = re.search(r"kd (run [^\n;]*? --accept-inputs) keeps", text)
    assert found
    succeeds(*shlex.split(found[1]))


def in_use() -> None:
    write_recipes(Path())
    run_dir = run()
    unfinish(run_dir)
    with locked(run_dir):
        kd("run", *ALONE)


def linked(file: Path) -> None:
    file.unlink()
    file.symlink_to("/dev/null")


INPUTS = [
    Row(
        "1 of 4 train labels changed, first masks/0.png ({}); kd run r.yaml --trust --fresh trains it again, kd run "
        "r.yaml --trust --accept-inputs keeps it and marks it",
        corrected,
        both_ways,
    ),
    Row(
        "; runs/r-{}/seed0 is finished, but cannot be compared with its data: kd run r.yaml --trust --accept-inputs "
        "keeps it as it is",
        without_data,
        accepted,
    ),
    Row("seed0: in use by process {}; wait for it, or stop it first", in_use, lambda text: again()),
    Row(
        "runs/student-{}/seed0: cannot be written ({}); choose --runs DIR",
        lambda: (write_recipes(Path()), Path("runs").write_text(""), kd("run", *ALONE)),
        lambda text: again(*ALONE, "--runs", "other"),
    ),
    Row(
        "log.txt: a link, and this run would write to it; remove it",
        lambda: (
            unfinish(run()),
            remove(only() / "log.txt"),
            os.symlink("/dev/null", only() / "log.txt"),
            kd("run", *ALONE),
        ),
        lambda text: (remove(only() / "log.txt"), again()),
    ),
    Row(
        "checkpoints: a link, and this run would write to it; put the folder itself there, or choose --runs DIR",
        lambda: (
            unfinish(run()),
            os.rename(only() / "checkpoints", "elsewhere"),
            (only() / "checkpoints").symlink_to(Path("elsewhere").absolute()),
            kd("run", *ALONE),
        ),
        lambda text: (
            remove(only() / "checkpoints"),
            os.rename("elsewhere", only() / "checkpoints"),
            again(),
            again(*ALONE, "--runs", "other"),
        ),
    ),
]


def stopped(change: Callable[[dict[str, Any]], object] | None = None, *arguments: str) -> Path:
    """A run that was stopped before its end, with its last checkpoint changed."""
    run_dir = run(*(arguments or ALONE))
    unfinish(run_dir)
    if change is not None:
        checkpoints = Checkpoints(run_dir / "checkpoints", f"{run_dir.parent.name[-8:]}/seed0")
        found = checkpoints.newest()
        assert found
        change(found[0])
        for file in (run_dir / "checkpoints").glob("step-*"):
            file.unlink()
        checkpoints.save(found[0], step=found[0]["step"], best=False)
    return run_dir


def spoil(folder: Path) -> None:
    for file in folder.glob("step-*.pt"):
        file.write_bytes(b"nothing")


def fresh(text: str) -> None:
    again(*ALONE, "--fresh")


BEST = ("train.select=best", "train.evaluate_every=2")
CHECKPOINTS = [
    Row(
        "no valid checkpoint among 2: {}; start over with --fresh",
        lambda: (spoil(stopped() / "checkpoints"), kd("run", *ALONE)),
        fresh,
    ),
    Row(
        "checkpoints: holds another.Net, but the recipe has nets.py:Net, 2 classes; use --fresh",
        lambda: (stopped(lambda state: state.update(network="another.Net")), kd("run", *ALONE)),
        fresh,
    ),
    Row(
        "checkpoints: does not fit this recipe ({}); use --fresh",
        lambda: (stopped(lambda state: state.update(student={})), kd("run", *ALONE)),
        fresh,
    ),
]


@contextlib.contextmanager
def patched() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patch:
        yield patch


def poisoned(*changes: str, where: str = "loss", steps: tuple[int, ...] = (1, 2)) -> int:
    """A run in which some steps are not finite."""
    write_recipes(Path())
    with patched() as patch:
        poison(patch, where, *steps)
        return kd("run", *ALONE, *changes)


def without_checkpoints(*changes: str) -> int:
    """A run whose checkpoints are removed before a step that is not finite."""
    with patched() as patch:
        at_each_step(patch, after=lambda recipe, at: [file.unlink() for file in only().glob("checkpoints/step-*")])
        return poisoned(*changes, steps=(3,))


def patient(*changes: str) -> None:
    """A check of a recipe that counts evaluations."""
    write_recipes(Path())
    succeeds("check", *ALONE, "train.patience=2", *changes)


def tamed(*changes: str) -> None:
    """The same run with a lower rate, in which the steps are finite."""
    again(*ALONE, *changes, "optimizer.args.lr=0.01")
    again(*ALONE, *changes, "train.clip_norm=1")


def at_step(number: int, act: Callable[[], object]) -> int:
    """A run, in the middle of which something happens."""
    write_recipes(Path())
    with patched() as patch:
        patch.setattr("sys.argv", ["kd", "run", *ALONE])
        at_each_step(patch, after=lambda recipe, at: act() if at == number else None)
        return kd("run", *ALONE)


def with_memory_for(images: int, error: type[BaseException], *changes: str) -> int:
    """A run on a machine whose memory holds so many images."""
    write_recipes(Path())
    ordinary = step.distill_step

    def limited(run: Any, batch: Any, *rest: Any) -> Any:
        if len(batch.images) > images:
            raise error("you tried to allocate 99 bytes")
        return ordinary(run, batch, *rest)

    with patched() as patch:
        patch.setattr(step, "distill_step", limited)
        return kd("run", *ALONE, *changes)


def not_deterministic(*changes: str) -> int:
    """A run with an operation that repeats to the last bit only by chance."""
    write_recipes(Path())
    ordinary = step.distill_step

    def strict(*arguments: Any) -> Any:
        if torch.are_deterministic_algorithms_enabled():
            raise RuntimeError("bincount_cuda does not have a deterministic implementation")
        return ordinary(*arguments)

    with patched() as patch:
        patch.setattr(step, "distill_step", strict)
        return kd("run", *ALONE, *changes)


def overflowing(*changes: str) -> int:
    """A run whose statistics, which no loss reads, overflow where the rate is high and nothing is clipped."""
    write_recipes(Path())
    ordinary = step.distill_step

    def spoilt(run: Any, *rest: Any) -> Any:
        if run.optimizer.param_groups[0]["lr"] > 1 and "train.clip_norm=1" not in changes:
            mean = run.student.network.norm.running_mean
            run.optimizer.register_step_post_hook(lambda *_: mean.fill_(float("nan")))
        return ordinary(run, *rest)

    with patched() as patch:
        patch.setattr(step, "distill_step", spoilt)
        return kd("run", *ALONE, *changes)


def alone_in_the_group() -> None:
    """One of two processes whose other one dies."""
    with patched() as patch:
        patch.setenv("WORLD_SIZE", "2")
        patch.setattr("torch.distributed.init_process_group", lambda *options: None)
        with distributed.joined("cpu"):
            raise RuntimeError("Connection closed by peer")


LATE = '''

class Late(Net):
    """Fails at its eighth training batch."""

    count = 0

    def forward(self, images):
        if self.training and torch.is_grad_enabled():
            Late.count += 1
        if Late.count > %s:
            raise KeyError("late")
        return super().forward(images)
'''


def late(count: str) -> int:
    write_recipes(Path())
    Path("nets.py").write_text(NETWORKS + LATE % count)
    return kd("run", *ALONE, "student.use=nets.py:Late", "train.steps=30", "log.every=30", "train.save_every=30")


TRAINED = [
    Row(
        "step 2: NaN in the student, not saved; the last checkpoint is good; lower optimizer.args.lr, or "
        "set train.clip_norm",
        lambda: overflowing("optimizer.args.lr=9"),
        lambda text: (overflowing("optimizer.args.lr=0.1"), overflowing("optimizer.args.lr=9", "train.clip_norm=1")),
    ),
    Row(
        "warning: train.patience has no effect: it needs 4 evaluations or more, and the run of 4 steps has 1; "
        "set train.evaluate_every=1",
        lambda: patient("train.evaluate_every=0"),
        lambda text: patient("train.evaluate_every=1"),
    ),
    Row(
        "no checkpoint to return to; start over with --fresh",
        lambda: without_checkpoints("train.on_nan=restore"),
        lambda text: poisoned("train.on_nan=restore", "--fresh", steps=(3,)),
    ),
    Row(
        "; this is one more than train.nan_limit 1; lower optimizer.args.lr, or set train.clip_norm",
        lambda: poisoned("train.on_nan=skip", "train.nan_limit=1"),
        lambda text: tamed("train.on_nan=skip", "train.nan_limit=1"),
    ),
    Row(
        "stopped by SIGTERM; the same command resumes the run: kd run student.yaml ",
        lambda: at_step(2, lambda: os.kill(os.getpid(), signal.SIGTERM)),
        lambda text: succeeds(*shlex.split(text.partition("resumes the run: kd ")[2].splitlines()[0])),
    ),
    Row(
        "seed0: was removed while the run trained; its recipe, its inputs and a checkpoint of step 4 are there again, "
        "its curves are lost; the same command resumes the run",
        lambda: at_step(3, lambda: shutil.rmtree(only())),
        lambda text: again(),
    ),
    Row(
        "out of GPU memory with train.batch_size 4 in micro-batches of 4 (train.accumulate 1, 1 process); set "
        "train.accumulate=2 ({})",
        lambda: with_memory_for(2, torch.OutOfMemoryError),
        lambda text: with_memory_for(2, torch.OutOfMemoryError, *re.findall(r"train\.accumulate=\d", text)),
    ),
    Row(
        "out of memory: you tried to allocate 99 bytes; use a smaller train.batch_size, data.size or network",
        lambda: with_memory_for(2, MemoryError),
        lambda text: with_memory_for(2, MemoryError, "train.batch_size=2"),
    ),
    Row(
        "deterministic: bincount_cuda has no deterministic implementation; replace the component that calls it, or set "
        "deterministic: false",
        lambda: not_deterministic("deterministic=true"),
        lambda text: not_deterministic("deterministic=false"),
    ),
    Row(
        "process 0 of 1: another process of this run has died (see its message); the same command resumes from the "
        "last checkpoint",
        alone_in_the_group,
        lambda text: again() if write_recipes(Path()) else None,
    ),
    Row(
        "KeyError: 'late'{}; this code is not part of kd: correct it",
        lambda: late("20"),
        lambda text: late("2000"),
    ),
    Row(
        "a.txt: cannot be written ({}); free space or choose --runs DIR",
        lambda: (Path("folder").write_text(""), write_atomic(Path("folder/a.txt"), b"")),
        lambda text: (os.remove("folder"), write_atomic(Path("folder/a.txt"), b"")),
    ),
]

ROWS = [*COMPARED, *DAMAGED, *INPUTS, *CHECKPOINTS, *TRAINED]
