"""The smaller commands, the teacher's cache and what a run notes: what each asks for, done."""

import json
import shlex
import shutil
from collections.abc import Callable
from functools import partial
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from advised_checks import NET, write
from advised_recipes import ALONE, EMA, OWN, TAUGHT
from advised_runs import ALONE as UNTAUGHT
from advised_runs import again, compare, listed, moved, only, run, stopped
from command import kd
from farms import write_farm
from following import Row, run_advised, succeeds
from manifests import unfinish
from PIL import Image
from script import predict_script
from tiny import NETWORKS, write_recipes

from kd.bench import losses as bench_losses
from kd.deploy.latency import latency
from kd.deploy.timing import Timing
from kd.diagnose.calibrate import proposed
from kd.errors import RecipeError
from kd.machine import Precision
from kd.parts.assemble import assemble
from kd.parts.checks.gradients import Pull
from kd.parts.loading import Notes
from kd.parts.roles import to_device
from kd.parts.stream import stream
from kd.parts.teacher import int8 as int8_teacher
from kd.recipe import read_recipe
from kd.runs import read_run_recipe

SHORT = ("student.yaml", "--trust", "train.steps=2")


def tool(name: str, text: str, *arguments: str) -> int:
    """Run a command on a recipe with this text."""
    write(text)
    return kd(name, "r.yaml", "--trust", *arguments)


def helps(name: str, text: str, *arguments: str) -> Callable[[str], object]:
    return lambda printed: (write(text), succeeds(name, "r.yaml", "--trust", *arguments))


def taught(name: str, *arguments: str) -> int:
    write_recipes(Path())
    return kd(name, *SHORT, *arguments)


def benched(name: str) -> object:
    """`kd bench --losses` on small maps, without the seconds that a real teacher takes."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(bench_losses, "teacher_seconds", lambda sizes, precision: 1.0)
        return kd("bench", "--losses", name, "--sizes", "1", "3", "4", "8", "8", "--rounds", "1")


def measured(threads: int) -> int:
    """`kd latency` of a network, in this process."""

    def here(load: Callable[[int], Any], *, runtime: str, **options: int) -> Timing:
        return Timing(load(1).shape, (0.1,), None, 1)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(latency, "measured", here)
        network = ("students.MobileNetV3SmallASPPLite", "--size", "64", "64", "--runtimes", "torch")
        return kd("latency", *network, "--threads", str(threads))


def measured_in(temporary: str) -> int:
    """`kd latency` where files of a moment are written to this folder."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("tempfile.tempdir", temporary)
        return measured(1)


LATENCY = [
    Row(
        "nowhere: cannot be written (No such file or directory); free space, or set TMPDIR to another folder",
        lambda: measured_in("nowhere"),
        lambda text: (Path("there").mkdir(), measured_in("there")),
    ),
    Row(
        "--threads 9999: this process has {} cores; use at most {}",
        lambda: measured(9999),
        lambda text: measured(int(text.split()[-1])),
    ),
]


IDLE = [
    Row(
        "kd check: --plan has no effect with --imports; leave it out",
        lambda: (write(ALONE), kd("check", "r.yaml", "--imports", "--plan")),
        lambda text: succeeds("check", "r.yaml", "--imports"),
    ),
    Row(
        "kd init: --network has no effect with a recipe as --teacher; leave it out",
        lambda: (write_farm(Path()), kd("init", "farm", "--teacher", "teacher.yaml", "--network", "{use: a.B}")),
        lambda text: kd("init", "farm", "--teacher", "teacher.yaml"),
    ),
]
BENCH = [
    Row("kd bench: --losses CW: no such loss; known: {}CWD", lambda: benched("CW"), lambda text: benched("CWD")),
    Row(
        "kd bench: no recipe; name one, or give --losses, --networks or --gpu",
        lambda: kd("bench"),
        lambda text: (write(ALONE), kd("bench", "r.yaml", "--trust", "--rounds", "1"), benched("CWD")),
    ),
]

CALIBRATE = [
    Row(
        "kd calibrate: --batches is 0; it must be 1 or more",
        lambda: tool("calibrate", OWN, "--batches", "0"),
        helps("calibrate", OWN, "--batches", "1"),
    ),
    Row(
        "kd calibrate: --ratio is 0; it must be above 0",
        lambda: tool("calibrate", OWN, "--ratio", "0"),
        helps("calibrate", OWN, "--ratio", "1"),
    ),
    Row(
        "r.yaml: has no term to calibrate; add `teacher` and `distill`",
        lambda: tool("calibrate", ALONE),
        helps("calibrate", OWN),
    ),
    Row(
        "kd calibrate: the term has no gradient on these batches; take more with --batches",
        lambda: proposed(Pull(0.0, 1.0, 0.0), 1.0),
        lambda text: proposed(Pull(1.0, 1.0, 0.0), 1.0),
    ),
    Row(
        "has no result.json; train it: kd run teacher.yaml --trust",
        lambda: taught("calibrate"),
        lambda text: (
            succeeds(*shlex.split(text.rpartition("train it: kd ")[2].splitlines()[0])),
            succeeds("calibrate", *SHORT),
        ),
    ),
    Row(
        "teacher: runs/none has no result.json; name a finished run, or its recipe",
        lambda: taught("check", "teacher={run: runs/none}"),
        lambda text: (
            succeeds("check", *SHORT),
            succeeds("run", "teacher.yaml", "--trust"),
            succeeds("check", *SHORT, f"teacher={{run: {only('teacher')}}}"),
        ),
    ),
]


def farm_teacher(*arguments: str) -> int:
    """A teacher on the same images, divided as its student's."""
    write_farm(Path())
    return kd("calibrate", "student.yaml", "--trust", *arguments)


def loaded(text: str = "") -> None:
    succeeds("run", "teacher.yaml", "--trust")
    succeeds("doctor", *SHORT)


DOCTOR = [
    Row(
        "has no result.json; train it: kd run teacher.yaml data.args.val=20% --trust",
        lambda: farm_teacher("data.args.val=20%"),
        lambda text: (
            succeeds(*shlex.split(text.rpartition("train it: kd ")[2].splitlines()[0])),
            succeeds("calibrate", "student.yaml", "--trust", "data.args.val=20%"),
        ),
    ),
    Row(
        "r.yaml: has no teacher; `kd doctor` examines a recipe's teacher",
        lambda: tool("doctor", ALONE),
        helps("doctor", OWN),
    ),
    Row(
        "r.yaml: its teacher is the student's moving average, which does not exist before training; `kd doctor` "
        "examines a trained teacher",
        lambda: tool("doctor", EMA),
        lambda text: (write(TAUGHT), loaded()),
    ),
    Row(
        "the teacher was never trained: conv.weight was drawn at random, and as stated it scores {} mIoU (guessing "
        "scores 33.3 %); give it weights: teacher.weights=FILE",
        lambda: tool("doctor", OWN),
        lambda text: (
            succeeds("run", "teacher.yaml", "--trust"),
            succeeds("doctor", "r.yaml", "--trust", f"teacher.weights={only('teacher')}"),
        ),
    ),
]


def kept_teacher() -> Path:
    """A finished teacher of a farm, and a copy of its weights alone."""
    write_farm(Path())
    succeeds("run", "teacher.yaml", "--trust")
    shutil.copy(only("teacher") / "student.safetensors", "best.safetensors")
    return only("teacher")


def farm_check(teacher: object) -> int:
    return kd("check", "student.yaml", "--trust", f"teacher={teacher}")


def other_lists() -> int:
    """A teacher that trains on what its student holds out."""
    write_farm(Path())
    text = Path("teacher.yaml").read_text()
    Path("teacher.yaml").write_text(text.replace("val: 40%", "images: ./images, val: 20%"))
    return kd("check", "student.yaml", "--trust")


def same_split(text: str) -> None:
    write_farm(Path())
    succeeds("check", "student.yaml", "--trust")


def start_from_it(*overrides: str) -> int:
    return kd("check", "teacher.yaml", "--trust", f"student.weights={only('teacher')}", *overrides)


KNOWS_TWO = (
    "data.use=nets.py:Three",
    "teacher={use: teachers.ClassMapped, args: {network: {use: 'nets.py:Net', args: {num_classes: 4}}, "
    "source: [dark, bright, sun, sky], target: [dark, bright, none]}}",
)
TEACHERS = [
    Row(
        "teacher: best.safetensors has no record of the images that it was trained on; if they are among those of val, "
        "its score and the student's are too high",
        lambda: (kept_teacher(), farm_check(NET % "best.safetensors")),
        lambda text: farm_check(NET % only("teacher")),
    ),
    Row(
        "so neither its score nor the student's would be a measure; name the teacher by its recipe with the same data, "
        "which takes over the split, or hold out other images",
        other_lists,
        same_split,
    ),
    Row(
        "so the score of a student that starts from it would be no measure; start from a run with the same split, or "
        "hold out other images",
        lambda: (kept_teacher(), start_from_it("data.args.val=50%")),
        lambda text: start_from_it(),
    ),
    Row(
        "distill.kl.at: this teacher knows 2 of the classes, so a term on its logits reads nothing else; give the "
        "logits their own term",
        lambda: tool("check", OWN, *KNOWS_TWO, "distill.kl.at={student: [logits, low], teacher: [logits, low]}"),
        lambda text: tool("check", OWN, *KNOWS_TWO),
    ),
]


def cached(*arguments: str, text: str = OWN) -> int:
    return tool("cache", text, *arguments)


def full_disk(free: int, *arguments: str) -> int:
    """`kd cache` on a disk with so much space."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=free))
        return cached("cache={views: 2}", "data.args.count=200", *arguments)


def failing_disk(fails: bool) -> int:
    def write(self: Any, *maps: Any) -> None:
        raise OSError(28, "No space left on device")

    with pytest.MonkeyPatch.context() as patched:
        if fails:
            patched.setattr("kd.parts.teacher.cache._Store.write", write)
        return cached("cache={views: 2}")


BYTES = """

class Code(nn.Module):
    \"\"\"A network that was trained on images in [0, 255].\"\"\"

    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(1))

    def forward(self, images):
        bright = self.gain * (images.mean(1, keepdim=True) - 120) / 20
        return torch.cat((-bright, bright), 1)


class Bytes(nn.Module):
    \"\"\"The same, given images in [0, 1].\"\"\"

    num_classes, in_channels = 2, 3

    def __init__(self, num_classes, in_channels):
        super().__init__()
        self.taps, self.code = {}, Code()

    def forward(self, images):
        return SegmentationOutput(self.code(images), {}, {})


def code():
    return Code()
"""


def of_bytes(teacher: str) -> int:
    write(OWN)
    Path("nets.py").write_text(Path("nets.py").read_text() + BYTES)
    return kd("doctor", "r.yaml", "--trust", "distill.hint=null", f"teacher={teacher}")


DOCTOR.append(
    Row(
        "the network takes {}; wrap its own code in teachers.Wrapped",
        lambda: of_bytes("{use: 'nets.py:Bytes'}"),
        lambda text: of_bytes(
            "{use: teachers.Wrapped, args: {network: {use: 'nets.py:code'}, "
            "preprocess: {scale: 255, mean: [0, 0, 0], std: [1, 1, 1]}}}"
        ),
    )
)

CACHE = [
    Row(
        "r.yaml: nothing to cache; the recipe needs a `teacher`, and `cache: {views: 4}`",
        lambda: cached(),
        lambda text: succeeds("cache", "r.yaml", "--trust", "cache={views: 4}"),
    ),
    Row(
        "needed, {} free; use fewer cache.views, cache.dtype float16, or another cache.folder",
        lambda: full_disk(300_000),
        lambda text: (full_disk(300_000, "cache.views=1"), full_disk(10**9, "cache.folder=elsewhere")),
    ),
    Row(
        "(No space left on device); free space, and the same command continues",
        lambda: failing_disk(True),
        lambda text: failing_disk(False),
    ),
    Row(
        "cache.dtype: float16 holds at most 65504, but the teacher's 'logits' reaches {}; use bfloat16",
        lambda: cached("cache={views: 1, dtype: float16}", "teacher.use=nets.py:Large"),
        lambda text: cached("cache={views: 1, dtype: bfloat16}", "teacher.use=nets.py:Large"),
    ),
]


def quantized(fault: str) -> None:
    """Ask a teacher in INT8 for its maps, on a device or with a step of the quantisation that fails."""
    device = torch.device("cuda" if fault == "device" else "cpu")
    precision = Precision(device, torch.float32, torch.contiguous_format)
    overrides = (["teacher.precision=int8"] if fault else []) + ["train.scales=[0.5, 1.0]"] * (fault == "scales")
    recipe = read_recipe(write_recipes(Path()), overrides, trust=True)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(int8_teacher, "find_spec", lambda name: True)
        int8_teacher.check_int8(recipe, precision, Notes())
        parts = assemble(recipe, runs=Path("runs"), seed=0, trained=False)
        (batch,) = islice(stream(parts, seed=0), 1)
        floats = parts.teaching
        assert floats is not None

        def export(*arguments: Any) -> Any:
            if fault == "export":
                raise RuntimeError("no such operation")
            return SimpleNamespace(save=lambda file, **options: None)

        def quantize(*arguments: Any, **options: Any) -> None:
            if fault == "quantize":
                raise RecipeError("the network cannot be quantised: no weights")

        def session(file: Path, **options: Any) -> Any:
            def run(names: None, given: dict[str, Any]) -> list[Any]:
                maps = int8_teacher._Graph(floats, ("logits", "low"))(torch.from_numpy(given["images"]))
                return [maps[0].flip(1).numpy(), maps[1].numpy()]  # the other class everywhere

            return SimpleNamespace(run=run)

        patched.setattr(int8_teacher, "onnx_program", export)
        patched.setattr(int8_teacher, "quantize", quantize)
        patched.setattr(int8_teacher, "onnx_session", session)
        teacher = (
            int8_teacher.Int8Teacher(
                floats,
                recipe,
                lambda count: islice(stream(parts, seed=0, steps=count), count),
                precision,
                trained=True,
                say=lambda line: None,
            )
            if recipe.teaches_in_int8
            else floats
        )
        teacher(to_device(batch, precision))


INT8 = [
    Row(message, partial(quantized, fault), lambda text: quantized(""))
    for fault, message in (
        ("device", "teacher.precision: int8 runs on the CPU, and this run is on cuda; remove teacher.precision"),
        ("scales", "int8 computes images of one size, and train.scales changes it; remove teacher.precision"),
        ("export", "the teacher cannot be exported to ONNX: no such operation; remove teacher.precision"),
        ("quantize", "teacher.precision: the network cannot be quantised: no weights; remove teacher.precision"),
        ("agree", "at 0.0 % of the pixels of 16 others (at least 95 %); remove teacher.precision"),
    )
]


def noisy() -> str:
    """A network that draws random numbers of its own, unless operations must repeat."""
    return (
        NETWORKS
        + """

import random


class Noisy(Net):
    def forward(self, images):
        output = super().forward(images)
        factor = 1.0 if torch.are_deterministic_algorithms_enabled() else 1 + random.random()
        return output._replace(logits=factor * output.logits)


class Filed(Stripes):
    def files(self, index):
        return ()
"""
    )


def smoked(*arguments: str) -> int:
    write_recipes(Path())
    Path("nets.py").write_text(noisy())
    Path("r.yaml").write_text(ALONE)
    return kd("run", "r.yaml", "--trust", *arguments)


def changed_weights() -> None:
    """Weights that are others since the recipe was read."""
    kept_teacher()
    recipe = read_recipe("student.yaml", [f"teacher={NET % 'best.safetensors'}"], trust=True)
    data = Path("best.safetensors").read_bytes()
    Path("other.safetensors").write_bytes(data)
    Path("best.safetensors").write_bytes(data[:-1] + b"!")
    recipe.sources.check("best.safetensors")


def restored_weights(text: str) -> None:
    Path("other.safetensors").rename("best.safetensors")
    read_recipe("student.yaml", [f"teacher={NET % 'best.safetensors'}"], trust=True).sources.check("best.safetensors")


def copied_outside() -> int:
    """A recipe whose teacher is in another folder."""
    write_recipes(Path("mine"))
    Path("theirs").mkdir()
    Path("mine/teacher.yaml").rename("theirs/teacher.yaml")
    shutil.copy("mine/nets.py", "theirs")
    text = Path("mine/student.yaml").read_text()
    Path("mine/student.yaml").write_text(text.replace("teacher.yaml", "../theirs/teacher.yaml"))
    return kd("copy", "mine/student.yaml", "copy")


def copied_by_hand(text: str) -> None:
    Path("theirs/teacher.yaml").rename("mine/teacher.yaml")
    source = Path("mine/student.yaml")
    source.write_text(source.read_text().replace("../theirs/", ""))
    succeeds("copy", "mine/student.yaml", "copy")


BEST = ("train.select=best", "train.evaluate_every=2")


SLOW = ("student.yaml", "--trust", "teacher=null", "distill=null", "train.steps=4", "optimizer.args.lr=1e-9")


def without_best(*arguments: str) -> int:
    """A run whose best checkpoint was removed before its end; at this rate, the first one is the best."""
    run_dir = stopped(None, *SLOW, *BEST)
    for file in (run_dir / "checkpoints").glob("step-2-*.pt"):
        file.unlink()
    return kd("run", *SLOW, *BEST)


def damaged_code() -> None:
    """A run, stopped before its end, whose copy of its code is damaged."""
    unfinish(run())
    (copy,) = only().glob("sources/*.py")
    copy.write_text("")
    read_run_recipe(only(), trust=True)


NOTES = [
    Row(
        "result.json: splits: has scores on test, not on val; mv ",
        lambda: compare(str(listed("result.json", only_test))),
        lambda text: moved(text, lambda: compare(str(only()))),
    ),
    Row(
        "sources/nets.py: is damaged (SHA-256 {}, recorded {}); mv ",
        damaged_code,
        lambda text: moved(text, lambda: read_run_recipe(only(), trust=True)),
    ),
    Row(
        " in all; kd clean runs --yes frees it",
        lambda: (unfinish(run()), again(*UNTAUGHT, "--fresh"), kd("clean")),
        lambda text: run_advised(text, " frees it"),
    ),
    Row(
        "--budget: not enough for one epoch: {} an epoch, {} for evaluations, {} for teachers; give more time or fewer "
        "seeds, or train the teacher first",
        lambda: smoked("--budget", "0.00001s"),
        lambda text: smoked("--budget", "1s"),
    ),
    Row(
        "the resumed run ends with other weights than the uninterrupted one: a component draws its own random numbers, "
        "or an operation is not deterministic; try deterministic=true",
        lambda: smoked("--smoke", "student.use=nets.py:Noisy"),
        lambda text: smoked("--smoke", "student.use=nets.py:Noisy", "deterministic=true"),
    ),
    Row(
        "data: nets.py:Stripes has no files(index), so changed files are not noticed, only added and removed samples; "
        "docs/add-a-dataset.md has an example",
        lambda: smoked(),
        lambda text: smoked("data.use=nets.py:Filed"),
    ),
    Row(
        "best.safetensors: has changed ({}, now {}) since the recipe was read; restore it, or run the recipe again",
        changed_weights,
        restored_weights,
    ),
    Row(
        "theirs/teacher.yaml is outside {}/mine; copy it by hand",
        copied_outside,
        copied_by_hand,
    ),
    Row(
        "recipe.schema.json: cannot be written ({}); name another folder",
        lambda: (Path("folder").write_text(""), kd("copy", "shapes/mobilenetv3_kl_cwd.yaml", "folder")),
        lambda text: succeeds("copy", "shapes/mobilenetv3_kl_cwd.yaml", "other"),
    ),
    Row(
        "photos/1.png: not predicted: it would replace photos/1.png; choose another --out",
        lambda: script("photos"),
        lambda text: script("masks"),
    ),
    Row(
        ", and the run has no result without it; start over with --fresh",
        without_best,
        lambda text: again(*SLOW, *BEST, "--fresh"),
    ),
]


def script(out: str) -> object:
    """What `predict.py` of an exported folder exits with for an image in `photos`."""
    Path("photos").mkdir(exist_ok=True)
    Image.new("RGB", (4, 4)).save("photos/1.png")
    return predict_script("photos/1.png", "--out", out)


def only_test(file: Path) -> None:
    content = json.loads(file.read_text())
    content["splits"] = {"test": content["splits"]["val"]}
    file.write_text(json.dumps(content))


ROWS = [*LATENCY, *IDLE, *BENCH, *CALIBRATE, *DOCTOR, *TEACHERS, *CACHE, *INT8, *NOTES]
