"""Hostile recipes and checkpoints are refused, and none of their code runs. A tenth by default, all with `slow`."""

import hashlib
import io
import os
import pickle
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
import torch
from tiny import in_child, tenth

from kd.errors import NoCheckpointError
from kd.train.between_steps.checkpoint import Checkpoints

PATHS = """
kd.cli.main kd.losses.os.system kd.losses.__dict__ kd.losses._pixels.torch.load kd.components.build.find kd
kd.components.user_files.x
torch.optim.lr_scheduler.LambdaLR torch.optim.optimizer.pickle torch.load torch.hub.load os.system sys.exit
subprocess.run builtins.exec importlib.import_module students..os teachers.wrap.os kd.train.session.run_recipe
nets.py:Net ../../x.py:Y /etc/passwd:x kd/losses.py:X kd.data.datasets.folders.Path pickle.loads kd.losses:KL
kd.schedules.math.cos KD.losses.KL http://x.y/z.py:A

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
import sys, time
from kd.cli import main
from kd.memory import resident_peak
for name in sys.argv[1:]:
    began = time.process_time()
    status = main(["run", name])
    assert status == 2, (name, status)
    assert time.process_time() - began < 10, name  # seconds; 0.4 on an idle machine, and without limits for ever
    assert "torch" not in sys.modules, name
print(resident_peak())
"""


@pytest.mark.parametrize("count", tenth(200))
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
    assert int(child.stdout.split()[-1]) < 200e6  # bytes


class Call:
    """Pickles as a call."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


def hostile_checkpoints(folder):
    """Pickles that call functions, raw and in torch's container, in every protocol; and files that only look right."""
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
            yield saved({"step": 9, "x": Call(function, *arguments)}, pickle_protocol=protocol)
    for name in ("torch.serialization os.system", "torch._utils sys.modules", "collections OrderedDict.__init__"):
        module, function = name.split()
        yield f"\x80\x02c{module}\n{function}\nX\x02\x00\x00\x00ls\x85R.".encode("latin-1")
    script = io.BytesIO()
    torch.jit.save(torch.jit.trace(torch.nn.ReLU(), torch.ones(1)), script)
    yield script.getvalue()
    for name in ("../../../outside", secret, "archive/data.pkl"):
        inside = io.BytesIO()
        with zipfile.ZipFile(inside, "w") as archive:
            archive.writestr(name, saved({"step": 9}))
        yield inside.getvalue()
    with tarfile.open(folder / "tar", "w") as archive:
        archive.add(folder / "secret", "../../outside")
    yield (folder / "tar").read_bytes()
    yield from (b"", b"PK\x03\x04", b"PK\x05\x06" + bytes(18), b"\x80\x02]" + b"(" * 100_000, bytes(1_000_000))


def saved(content, **options):
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()


@pytest.mark.filterwarnings("ignore:.torch.jit:FutureWarning")
@pytest.mark.parametrize("count", tenth(100))
def test_hostile_checkpoints_run_no_code_and_read_nothing_else(tmp_path, count):
    (tmp_path / "secret").write_text("secret")
    payloads = list(hostile_checkpoints(tmp_path))
    assert len(payloads) >= 100
    some = payloads if count == 100 else payloads[:: len(payloads) // count]
    inside = tmp_path / "checkpoints"
    inside.mkdir()
    for data in some:
        (inside / f"step-9-{hashlib.sha256(data).hexdigest()[:8]}.pt").write_bytes(data)

    def work():
        opened = []
        sys.addaudithook(lambda event, details: opened.append(str(details[0])) if event == "open" else None)
        with pytest.raises(NoCheckpointError) as caught:
            Checkpoints(inside).newest()
        assert str(caught.value).count("not a checkpoint of kd (") == len(list(inside.iterdir()))
        assert not [path for path in opened if str(tmp_path) in path and str(inside) not in path]

    assert in_child(work) == 0
    assert not (tmp_path / "canary").exists()
