"""The fault suite: a tenth of every count in the default run, the whole under `slow`. A failure names its seed."""

import contextlib
import hashlib
import os
import pickle
import random
import shutil
import signal
import subprocess
import sys
import tarfile
import time
import warnings
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from test_guard import no_nan, poison
from tiny import equal, in_child, read, run, weights, write_recipes

from kd.engine import bookkeeping, progress
from kd.engine import run as run_module
from kd.engine.checkpoint import Checkpoints, NoCheckpointError
from kd.engine.stop import StoppedError
from kd.engine.train import DivergedError
from kd.recipe import baseline_of, teacher_recipe
from kd.runs import LockedError, StorageError, is_finished

MEMORY = """
  memory:
    loss: {use: kd.losses.CIRKDMemory, args: {pixel_queue: 20, region_queue: 20, pixel_samples: 8, region_samples: 8}}
    at: {student: low, teacher: low}
    adapter: {use: kd.adapters.Conv1x1}
"""


def tenth(whole, default=None):
    """`whole` under `slow`, a tenth of it by default."""
    return [pytest.param(default or whole // 10, id="tenth"), pytest.param(whole, id="whole", marks=pytest.mark.slow)]


class Rich(NamedTuple):
    """EMA, accumulation, dropout, taps, an adapter, a memory bank."""

    path: Path
    overrides: tuple[str, ...]
    taught: Path  # runs in which the teacher is trained
    whole: Path  # the run that nothing disturbed
    steps: int

    def again(self, folder, *overrides):
        """The recipe, and `folder` as its runs, where its teacher is trained."""
        shutil.copytree(self.taught, folder)
        return read(self.path, *self.overrides, *overrides)


@pytest.fixture(scope="module")
def rich(request, tmp_path_factory):
    """Of 60 steps under `slow`, of 12 by default."""
    steps = 60 if request.config.getoption("-m") == "slow" else 12
    folder = tmp_path_factory.mktemp("rich")
    path = write_recipes(folder)
    path.write_text(path.read_text() + MEMORY.lstrip("\n"))
    overrides = (f"train.steps={steps}", "train.accumulate=2", "train.ema=0.9", "train.save_every=5")
    overrides += (f"train.evaluate_every={steps // 3}",)
    recipe = read(path, *overrides)
    run(teacher_recipe(recipe), folder / "taught")
    shutil.copytree(folder / "taught", folder / "whole")
    (whole,), _ = run(recipe, folder / "whole")
    return Rich(path, overrides, folder / "taught", whole, steps)


def the_same(done, whole):
    assert equal(weights(done), weights(whole))
    assert (done / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()
    assert not list(done.rglob(".tmp-*"))


def killed_at_step(monkeypatch, recipe, runs, step):
    ordinary = bookkeeping.Bookkeeping.__call__

    def dies(self, training, losses):
        if training.step == step:
            os.kill(os.getpid(), signal.SIGKILL)
        ordinary(self, training, losses)

    def work():
        monkeypatch.setattr(bookkeeping.Bookkeeping, "__call__", dies)
        run(recipe, runs)

    assert os.WTERMSIG(in_child(work)) == signal.SIGKILL


@pytest.mark.parametrize("kills", tenth(60, 4))
def test_killed_at_every_step(rich, tmp_path, monkeypatch, kills):
    for step in range(rich.steps // kills, rich.steps + 1, rich.steps // kills):
        recipe = rich.again(tmp_path / f"{step}", f"data.workers={2 if step % 6 == 0 else 0}")
        killed_at_step(monkeypatch, recipe, tmp_path / f"{step}", step)
        (done,), _ = run(recipe, tmp_path / f"{step}")
        the_same(done, rich.whole)


@pytest.mark.parametrize("kills", tenth(200, 4))
def test_killed_at_random_moments(rich, tmp_path, kills):
    """Killed twice: in the run, and in the resumed one."""
    died = 0
    for seed in range(kills):
        draw = random.Random(seed)
        recipe = rich.again(tmp_path / f"{seed}", f"data.workers={draw.choice([0, 0, 0, 2])}")
        for _ in range(2):
            child = os.fork()
            if child == 0:
                try:
                    run(recipe, tmp_path / f"{seed}")
                finally:
                    os._exit(0)
            time.sleep(draw.uniform(0.05, 0.02 * rich.steps))
            os.kill(child, signal.SIGKILL)
            died += os.WIFSIGNALED(os.waitpid(child, 0)[1])
        (done,), _ = run(recipe, tmp_path / f"{seed}")
        the_same(done, rich.whole)
    assert died


@pytest.mark.parametrize("signals", tenth(200, 4))
def test_signals_at_random_moments(rich, tmp_path, signals):
    """The status is 128 + the signal's number, or 0 where the run was done; the next call ends with the same bits."""
    stopped = 0
    for seed in range(signals):
        draw = random.Random(seed)
        number = draw.choice([signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT])
        recipe = rich.again(tmp_path / f"{seed}")
        runs = tmp_path / f"{seed}"
        (reader, writer) = os.pipe()
        child = os.fork()
        if child == 0:
            status = 99
            try:
                with run_module.stopping() as stop:
                    run_module.stopping = lambda stop=stop: contextlib.nullcontext(stop)  # from here on signals count
                    os.write(writer, b"ready")
                    run(recipe, runs)
                    status = 0
            except StoppedError as error:
                status = 128 + error.signal
            finally:
                os._exit(status)
        os.read(reader, 5)
        os.close(reader)
        os.close(writer)
        time.sleep(draw.uniform(0.0, 0.02 * rich.steps))
        began = time.monotonic()
        os.kill(child, number)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert time.monotonic() - began < 10, seed
        assert status in (0, 128 + number), seed
        stopped += status != 0
        (done,), _ = run(recipe, runs)
        the_same(done, rich.whole)
    assert stopped


OPERATIONS = ("fsync", "replace", "unlink", "open", "close", "chmod", "mkdir")


def test_killed_at_every_operation_of_a_save(tmp_path):
    """Never fewer whole checkpoints than before, and the best is there; nothing is left behind after the next start."""
    operation = 0
    while True:
        folder = tmp_path / str(operation)
        checkpoints = Checkpoints(folder)
        for step in (1, 2, 3):
            save(checkpoints, step, best=step == 1)

        def dies(at=operation, checkpoints=checkpoints):
            counted = []
            for name in OPERATIONS:
                setattr(os, name, dying(getattr(os, name), counted, at))
            save(checkpoints, 4, best=True)

        ended = os.WIFEXITED(status := in_child(dies)) and os.WEXITSTATUS(status) == 99
        whole, _ = checkpoints.newest()
        assert whole["step"] in (3, 4)
        assert len(list(folder.glob("step-*.pt"))) >= 2
        assert checkpoints.best() is not None
        assert torch.load(checkpoints.best(), weights_only=True)["step"] in (1, 4)
        assert not list(folder.glob(".tmp-*"))
        best = torch.load(checkpoints.best(), weights_only=True)["step"]
        save(checkpoints, 5)
        kept = {int(path.name.split("-")[1]) for path in folder.glob("step-*.pt")}
        assert kept == {best, whole["step"], 5}
        operation += 1
        if ended:  # the save had no such operation any more
            break
    assert operation > 12


def dying(ordinary, counted, at):
    """An operation of the system that ends the process before the `at`-th of them all."""

    def call(*arguments, **options):
        if len(counted) == at:
            os._exit(9)
        counted.append(ordinary.__name__)
        return ordinary(*arguments, **options)

    return call


def save(checkpoints, step, *, best=False):
    return checkpoints.save({"step": step, "weights": torch.full((5000,), float(step))}, step=step, best=best)


@pytest.mark.parametrize("kills", tenth(500, 30))
def test_killed_at_random_moments_of_saving(tmp_path, kills):
    checkpoints = Checkpoints(tmp_path)
    save(checkpoints, 1)
    for seed in range(kills):
        before = checkpoints.newest()[0]["step"]
        child = os.fork()
        if child == 0:
            try:
                for step in range(before + 1, before + 1000):
                    save(checkpoints, step, best=step % 3 == 0)
            finally:
                os._exit(0)
        time.sleep(random.Random(seed).uniform(0.001, 0.05))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        state, complaints = checkpoints.newest()
        assert state["step"] >= before, seed
        assert complaints == [], seed
        assert not list(tmp_path.glob(".tmp-*")), seed


@pytest.mark.parametrize("count", tenth(1000))
def test_damaged_checkpoints_are_all_noticed(tmp_path, count):
    checkpoints = Checkpoints(tmp_path / "a")
    older = save(checkpoints, 1)
    newer = save(checkpoints, 2)
    data, other = newer.read_bytes(), older.read_bytes()
    for seed in range(count):
        draw = random.Random(seed)
        damaged = bytearray(data)
        kind = draw.choices(["flip", "cut", "zero", "swap"], [4, 3, 2, 1])[0]
        if kind == "flip":
            damaged[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
        elif kind == "cut":
            del damaged[draw.randrange(len(data)) :]
        elif kind == "zero":
            begin = draw.randrange(len(data) - 4096)
            damaged[begin : begin + 4096] = bytes(4096)
        else:
            damaged[:] = other
        if damaged == data:  # zeros where zeros were
            continue
        newer.write_bytes(damaged)
        state, (complaint,) = checkpoints.newest()
        assert state["step"] == 1, seed
        assert "damaged" in complaint, seed


@pytest.mark.parametrize("writes", tenth(60, 5))
def test_a_disk_that_is_full_at_the_nth_write(rich, tmp_path, monkeypatch, writes):
    """What was whole stays whole; the run ends with the same bits, or with a StorageError and goes on later."""
    for number in range(1, writes + 1):
        recipe = rich.again(tmp_path / f"{number}", "train.steps=6", "train.save_every=2")
        count, ordinary, seen = [], os.fsync, {}

        def full(descriptor, count=count, ordinary=ordinary, number=number, seen=seen):
            count.append(descriptor)
            for path in (tmp_path / f"{number}").glob("student-*/seed0/checkpoints/step-*.pt"):
                seen.setdefault(path, hashlib.sha256(path.read_bytes()).hexdigest())
            if len(count) == number:
                raise OSError(28, "No space left on device")
            ordinary(descriptor)

        with monkeypatch.context() as patched, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            patched.setattr(os, "fsync", full)
            with contextlib.suppress(StorageError):
                run(recipe, tmp_path / f"{number}")
        for path, digest in seen.items():
            if path.exists():
                assert hashlib.sha256(path.read_bytes()).hexdigest() == digest
        (done,), _ = run(recipe, tmp_path / f"{number}")
        assert is_finished(done)
        if number == 1:
            first = weights(done)
        assert equal(weights(done), first)


@pytest.mark.parametrize("count", tenth(30, 2))
@pytest.mark.parametrize("sink", ["Terminal", "TensorBoard"])
def test_a_sink_that_fails_changes_nothing(rich, tmp_path, monkeypatch, sink, count):
    recipe = rich.again(tmp_path / "whole", "train.steps=30", "log.tensorboard=true", "train.evaluate_every=0")
    (whole,), _ = run(recipe, tmp_path / "whole")
    ordinary = getattr(progress, sink).scalars
    for step in range(30 // count, 31, 30 // count):
        recipe = rich.again(tmp_path / f"{step}", "train.steps=30", "log.tensorboard=true", "train.evaluate_every=0")

        def fails(self, at, values, step=step):
            if at == step:
                raise BrokenPipeError
            ordinary(self, at, values)

        with monkeypatch.context() as patched, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            patched.setattr(getattr(progress, sink), "scalars", fails)
            (done,) = run_module.run_recipe(recipe, runs=tmp_path / f"{step}", say=lambda line: None)
        the_same(done, whole)


@pytest.mark.parametrize("count", tenth(50, 1))
@pytest.mark.parametrize("where", ["loss", "gradient", "teacher", "student"])
def test_nan_anywhere_leaves_the_state_before_it(rich, tmp_path, monkeypatch, where, count):
    for step in range(7, 57, 50 // count):
        recipe = rich.again(tmp_path / f"{step}")
        with monkeypatch.context() as patched:
            poison(patched, where, step)
            with pytest.raises(DivergedError, match=f"step {step + 1}: "):
                run(recipe, tmp_path / f"{step}")
        (folder,) = (tmp_path / f"{step}").glob("student-*/seed0")
        saved = [torch.load(path, weights_only=True) for path in (folder / "checkpoints").glob("step-*.pt")]
        assert saved
        assert all(map(no_nan, saved))
        assert max(state["step"] for state in saved) <= step
        (done,), _ = run(recipe, tmp_path / f"{step}")  # it was a passing fault
        the_same(done, rich.whole)


@pytest.mark.parametrize("starts", tenth(100))
def test_simultaneous_starts_have_one_winner(tmp_path, monkeypatch, starts):
    recipe = baseline_of(read(write_recipes(tmp_path)))
    (reader, writer), (gate, opener) = os.pipe(), os.pipe()
    children = []
    for _ in range(starts):
        child = os.fork()
        if child == 0:
            status = 99
            try:
                os.close(opener)
                monkeypatch.setattr(
                    run_module, "_train", lambda *_: os.write(writer, b"w") and os.read(gate, 1) and 1 / 0
                )
                monkeypatch.setattr(run_module, "meet", lambda parts: [])
                run(recipe, tmp_path / "runs")
            except LockedError:
                os.write(writer, b"l")
                status = 7
            finally:
                os._exit(status)
        children.append(child)
    said = b"".join(os.read(reader, 1) for _ in range(starts))  # every one has won or lost before the winner leaves
    os.close(opener)
    statuses = sorted(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children)
    assert sorted(said) == sorted(b"l" * (starts - 1) + b"w")
    assert statuses == [7] * (starts - 1) + [99]


PATHS = """
kd.cli.main kd.losses.os.system kd.losses.__dict__ kd.losses._pixels.torch.load kd.build.find kd kd.files.x
torch.optim.lr_scheduler.LambdaLR torch.optim.optimizer.pickle torch.load torch.hub.load os.system sys.exit
subprocess.run builtins.exec importlib.import_module students..os teachers.wrap.os kd.engine.run.run_recipe
nets.py:Net ../../x.py:Y /etc/passwd:x kd/losses.py:X kd.data.folders.Path pickle.loads kd.losses:KL
kd.engine.schedule.math.cos KD.losses.KL http://x.y/z.py:A

"""


def hostile_recipes(good):
    """Tags, bombs, nesting, huge scalars, and paths that look trusted or are not."""
    for module in ("os.system", "subprocess.Popen", "builtins.eval", "posix.system", "kd.cli.main", "torch.load"):
        for tag in ("object/apply", "object/new", "name", "module", "object"):
            yield f"a: !!python/{tag}:{module} [ls]\n"
    for depth in range(1, 21):
        yield "a: &a0 [x]\n" + "".join(f"b{i}: &a{i + 1} [*a{i}, *a{i}, *a{i}]\n" for i in range(depth * 5))
    for size in (33, 300, 3000, 30000):
        for opening in ("[", "{", "- ", "? ", "a: ["):
            yield opening * size
    for size in (5_000, 100_000, 250_000):
        yield from (f"a: '{'x' * size}'\n", f"{'x' * size}: 1\n", f"a: 0x{'f' * size}\n", "a: 1e" + "9" * size + "\n")
    for path in PATHS.split():
        yield good.replace("students.MobileNetV3SmallASPP", path)
        yield good.replace("kd.losses.CrossEntropy", path)
        yield good.replace("torch.optim.SGD", path)
        yield good + f"schedule: {{use: '{path}'}}\n"
        yield good.replace("{lr: 0.1}", f"{{lr: {{use: '{path}'}}}}")


GOOD = """student: {use: students.MobileNetV3SmallASPP}
data: {use: kd.data.Shapes, size: [64, 64]}
supervised: {use: kd.losses.CrossEntropy}
optimizer: {use: torch.optim.SGD, args: {lr: 0.1}}
train: {steps: 2, batch_size: 2}
"""

REFUSE = """
import re, sys, time
from kd.cli import main
for name in sys.argv[1:]:
    began = time.process_time()
    status = main(["run", name])
    assert status == 2, (name, status)
    assert time.process_time() - began < 1, name
    assert "torch" not in sys.modules, name
print(int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) // 1024)  # MB, since exec
"""


@pytest.mark.parametrize("count", tenth(200, 20))
def test_hostile_recipes_are_refused_before_torch_is_imported(tmp_path, count):
    recipes = list(hostile_recipes(GOOD))
    assert len(recipes) >= 200
    if count < 200:
        recipes = recipes[:: len(recipes) // count]
    for index, text in enumerate(recipes):
        (tmp_path / f"{index}.yaml").write_text(text)
    names = [f"{index}.yaml" for index in range(len(recipes))]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    environment.pop("KD_TRUST", None)
    child = subprocess.run(
        [sys.executable, "-c", REFUSE, *names],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert child.returncode == 0, child.stderr[-2000:]
    assert "Traceback" not in child.stderr
    assert int(child.stdout.split()[-1]) < 200  # MB


class Call:
    """Pickles as a call."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


def hostile_checkpoints(folder):
    """Pickles that call, raw and inside torch's own container, in every protocol; and what only looks like a file."""
    canary, secret = str(folder / "canary"), str(folder / "secret")
    calls = [
        (os.mkdir, canary),
        (os.system, f"touch {canary}"),
        (eval, f"open({canary!r}, 'w')"),
        (exec, f"open({canary!r}, 'w')"),
        (open, canary, "w"),
        (open, secret),
        (Path.touch, Path(canary)),
        (subprocess.Popen, ["touch", canary]),
        (torch.load, secret),
        (torch.hub.load, str(folder), "x"),
        (__import__, "antigravity"),
    ]
    for function, *arguments in calls:
        for protocol in range(6):
            yield pickle.dumps({"step": 9, "x": Call(function, *arguments)}, protocol=protocol)
        for protocol in (2, 3, 4, 5):
            file = folder / "made"
            torch.save({"step": 9, "x": Call(function, *arguments)}, file, pickle_protocol=protocol)
            yield file.read_bytes()
    with tarfile.open(folder / "tar", "w") as archive:
        archive.add(folder / "secret", "../../outside")
    yield (folder / "tar").read_bytes()
    yield from (b"", b"PK\x03\x04", b"PK\x05\x06" + bytes(18), b"\x80\x02]" + b"(" * 100_000, bytes(1_000_000))


@pytest.mark.parametrize("count", tenth(100, 20))
def test_hostile_checkpoints_run_no_code_and_read_nothing_else(tmp_path, count):
    (tmp_path / "secret").write_text("secret")
    payloads = list(hostile_checkpoints(tmp_path))
    assert len(payloads) >= 100

    def work():
        inside, opened = tmp_path / "checkpoints", []
        inside.mkdir()
        payload_files = []
        for data in payloads[:: max(1, len(payloads) // count)]:
            payload_files.append(inside / f"step-9-{hashlib.sha256(data).hexdigest()[:8]}.pt")
            payload_files[-1].write_bytes(data)
        sys.addaudithook(lambda event, details: opened.append(str(details[0])) if event == "open" else None)
        for _ in payload_files:
            try:
                Checkpoints(inside).newest()
                os._exit(1)  # one was believed
            except NoCheckpointError:
                pass
        outside = [path for path in opened if str(tmp_path) in path and str(inside) not in path]
        os._exit(2 if outside else 0)

    assert os.waitstatus_to_exitcode(in_child(work)) == 0
    assert not (tmp_path / "canary").exists()
