"""A finished run that predicts, is scored again or is exported: what is refused, and what is asked for instead."""

import re
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from advised_calls import Net
from advised_data import save
from advised_runs import ALONE as UNTAUGHT
from advised_runs import edit, listed, only, run
from command import kd
from farms import write_farm
from following import Row, succeeds
from PIL import Image
from samples import Fixed, sample

import kd as kd_package
from kd.compare.gathering.gather import gather
from kd.deploy.export import to_int8
from kd.deploy.export.folder import new_folder
from kd.deploy.export.formats import Format
from kd.deploy.export.gate import check_file
from kd.deploy.export.graph import Form
from kd.deploy.export.to_onnx import write_onnx
from kd.deploy.prediction.ensemble import together
from kd.deploy.prediction.photos import check_channels
from kd.deploy.prediction.predict import _tile
from kd.deploy.timing import Timing
from kd.errors import RecipeError
from kd.evaluation.trained import Identity, Trained, open_trained
from kd.runs import Measured, write_latency
from kd.runtimes.exported import OPENERS, FileNetwork, Opened, open_file, open_onnx
from kd.types import Sample, resize


def predicted(*arguments: object) -> int:
    """Predict with a finished run, whose images are in two folders."""
    if not Path("a").exists():
        run()
        for folder in ("a", "b"):
            save(np.full((32, 32, 3), 9, np.uint8), f"{folder}/1.png")
    return kd("predict", only(), *arguments, "--trust")


def with_colors(*colors: tuple[int, int, int]) -> int:
    run_dir = listed("environment.json", lambda file: edit(file, colors=list(colors)))
    save(np.full((32, 32, 3), 9, np.uint8), "a/1.png")
    return kd("predict", run_dir, "a", "--trust", "--overwrite")


PREDICT = [
    Row(
        "b/1.png: has the same name as a/1.png, and so have their predictions; predict them one after the other, each "
        "with its own --out",
        lambda: predicted("a", "b"),
        lambda text: (predicted("a", "--out", "of_a"), predicted("b", "--out", "of_b")),
    ),
    Row(
        "predictions/masks/1.png: already there; choose another --out, or replace them with --overwrite",
        lambda: (predicted("a"), predicted("a")),
        lambda text: (predicted("a", "--out", "new"), predicted("a", "--overwrite")),
    ),
    Row(
        "r: the network takes 4 channels, an image file has 1 or 3; call kd.load_student and give it your arrays",
        lambda: check_channels(4, Path("r")),
        lambda text: kd_package.load_student(run(), trust=True)(torch.rand(1, 3, 32, 32)),
    ),
    Row(
        "seed0: 1 colours for 2 classes; list a colour for each class",
        lambda: with_colors((0, 0, 0)),
        lambda text: (shutil.rmtree("runs"), with_colors((0, 0, 0), (1, 1, 1))),
    ),
]


def farm_run(*arguments: str) -> Path:
    """A finished run on a farm."""
    if not Path("farm").exists():
        write_farm(Path())
        succeeds("run", "r.yaml", "--trust", *arguments)
    return only("r")


def evaluated(*arguments: str) -> int:
    return kd("evaluate", farm_run(), "--trust", *arguments)


def of_photos(without: str) -> int:
    """Score a run again; the splits that are named have no labels."""
    photos = ("student.yaml", "--trust", "teacher=null", "distill=null", "train.steps=4", "data.use=nets.py:Photos")
    if not Path("runs").exists():
        run(*photos, "data.args={without: []}")
    return kd("evaluate", only(), "--trust", f"data.args={{without: {without}}}")


EVALUATE = [
    Row(
        "runs/student-{}: holds 2 runs; name one, such as runs/student-{}/seed0",
        lambda: (run(*UNTAUGHT, "train.seeds=[0, 1]"), kd_package.evaluate(only().parent, trust=True)),
        lambda text: kd_package.evaluate(text.partition("such as ")[2].splitlines()[0], trust=True),
    ),
    Row(
        "was trained on {} of the {} val images (first {}), so this score is too high; score it on images that it has "
        "not seen",
        lambda: evaluated("data.args.val=80%"),
        lambda text: evaluated(),
    ),
    Row(
        "no pixel of the 12 val images is labelled, so there is no score; label some of them",
        lambda: of_photos("[val]"),
        lambda text: of_photos("[]"),
    ),
    Row(
        "its network takes images of 3 channels, but the data have 1; score it on images of 3 channels",
        lambda: (farm_run(), greyed(), evaluated("data.args.channels=1")),
        lambda text: evaluated("data.args.channels=3"),
    ),
    Row(
        "--csv runs/r-{}.csv: is in the run directory {}/runs/r-{}, to which nothing is added; choose another place",
        lambda: evaluated("--csv", str(farm_run() / "a.csv")),
        lambda text: evaluated("--csv", "a.csv"),
    ),
    Row(
        "is trained already; only {} change how a run is scored",
        lambda: evaluated("train.steps=9"),
        lambda text: evaluated("evaluate.size=[64, 64]"),
    ),
]


def file_alone(*arguments: str) -> int:
    """Score weights that have left their run and state no recipe."""
    if not Path("old.pth").exists():
        torch.save(kd_package.load_student(farm_run(), trust=True).state_dict(), "old.pth")
    return kd("evaluate", "old.pth", "--trust", *arguments)


EVALUATE += [
    Row(
        "old.pth: kd reads the recipe in {} files; name one with --recipe RECIPE",
        lambda: file_alone(),
        lambda text: file_alone("--recipe", "r.yaml"),
    ),
    Row(
        "--recipe r.yaml: no file of a network is named ({}/seed0); remove it, or name the run's student.safetensors",
        lambda: (file_alone("--recipe", "r.yaml"), kd("evaluate", only("r"), "--recipe", "r.yaml", "--trust")),
        lambda text: succeeds("evaluate", only("r") / "student.safetensors", "--recipe", "r.yaml", "--trust"),
    ),
    Row(
        "exported: an exported program for torch, which kd does not open again; name its run",
        lambda: (Path("exported").mkdir(), Path("exported/model.pt2").touch(), kd("evaluate", "exported")),
        lambda text: evaluated("evaluate.size=[64, 64]"),
    ),
    Row(
        "{}/result.json: a file about a run; name the run, {}",
        lambda: kd("evaluate", str(farm_run() / "result.json"), "--trust"),
        lambda text: kd("evaluate", text.rpartition("name the run, ")[2].strip(), "--trust"),
    ),
    Row(
        "photo.png: an image; name a run, a recipe or a file of a network first",
        lambda: (Image.new("RGB", (64, 64)).save("photo.png"), kd("predict", "photo.png", "--trust")),
        lambda text: kd("predict", str(farm_run()), "photo.png", "--trust"),
    ),
    Row(
        "exported: an exported folder; name its file, exported/model.onnx",
        lambda: (Path("exported").mkdir(), Path("exported/model.onnx").touch(), kd("evaluate", "exported")),
        lambda text: Path("exported/model.onnx").stat(),
    ),
    Row(
        "student.safetensors: a file, not a run; name the run directory or the recipe",
        lambda: kd("export", shutil.copy(farm_run() / "student.safetensors", "."), "--to", "pt2", "--trust"),
        lambda text: open_trained(farm_run(), trust=True).of_run,
    ),
]


def greyed() -> None:
    for file in Path("farm/images").iterdir():
        Image.open(file).convert("L").save(file)


def exported(to: str) -> str:
    """Export a run; the next message is another one, as ONNX is not installed for all tests."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("kd.deploy.export.formats.find_spec", lambda package: None)
        try:
            return str(kd_package.export("runs", "out", to=to))
        except RecipeError as error:
            return str(error)


def folder(name: str) -> None:
    with new_folder(Path(name)):
        pass


def written(*, dynamic: bool) -> None:
    """Write a network by an exporter that fails on free sizes."""

    def export(*arguments: Any, **options: Any) -> object:
        if options["dynamic_shapes"] is not None:
            raise RuntimeError("unknown shape")
        return SimpleNamespace(model=SimpleNamespace(metadata_props={}), save=lambda file, **options: None)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(torch.onnx, "export", export)
        write_onnx(Path("a.onnx"), network(), Form(3, (32, 32), dynamic), {})


def loaded(version: str) -> object:
    """Open a file by a runtime that knows it from version 2 on."""

    def session(*arguments: Any, **options: Any) -> object:
        if version < "2":
            raise RuntimeError("unsupported opset")
        return SimpleNamespace(get_modelmeta=lambda: SimpleNamespace(custom_metadata_map={}))

    runtime = SimpleNamespace(
        SessionOptions=lambda: SimpleNamespace(add_session_config_entry=lambda *entry: None),
        InferenceSession=session,
        __version__=version,
        set_default_logger_severity=lambda level: None,
    )
    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(sys.modules, "onnxruntime", runtime)
        return open_onnx(Path("a.onnx"))


FACTS = {"classes": '["a", "b"]', "colors": "[]", "channels": "3", "size": "[32, 32]", "dynamic": "true"}


def opened(**metadata: str) -> None:
    """Open a file with these metadata."""
    Path("a.onnx").touch()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("kd.runtimes.exported.find_spec", lambda package: "installed")
        patched.setitem(OPENERS, ".onnx", lambda file: Opened(computed, metadata))
        open_file(Path("a.onnx"))


def ensemble(*, channels: int = 3, height: int = 32) -> None:
    """Predict by a network together with an exported file of one size, of 32 × 32."""

    def member(name: str, channels: int, height: int) -> Trained:
        network = FileNetwork(computed, 3, dtype="float32", output="logits", one_by_one=True)
        recipe: Any = SimpleNamespace(scored_size=(height, 32))
        colors = ((0, 0, 0), (1, 1, 1), (2, 2, 2))
        return Trained(Path(name), recipe, network, Identity(name, "", 0, "", ""), NAMES, colors, channels)

    together([member("r", 3, height), member("s", channels, 32)])


def tiled(*size: int) -> None:
    """Predict in tiles by an exported file of one size."""
    network = FileNetwork(computed, 3, dtype="float32", output="logits", one_by_one=True)
    trained = SimpleNamespace(network=network, path="a.onnx", recipe=SimpleNamespace(scored_size=(32, 32)))
    _tile(trained, size)


NAMES = ("a", "b", "c")
GOOD = sample([[0] * 40] * 40)


def broken(images: Any) -> Any:
    raise ValueError("no such operator")


def network() -> Net:
    torch.manual_seed(0)
    return Net().eval()


def computed(images: Any) -> Any:
    """What a file of the network computes."""
    return resize(network()(torch.from_numpy(images)).logits, images.shape[2:]).detach().numpy()


def quantized(wrong: int, *, max_drop: float = 1.0, label: int = 0) -> object:
    """Export a file in INT8 with so many wrong pixels of 80, and validation labels of one value."""
    integers = {"float.onnx": 0}

    def computing(file: Path) -> Any:
        classes = np.zeros((1, 8, 10), np.int64)
        classes.reshape(-1)[: int(file.read_text())] = 1
        return lambda images: classes

    labels = Sample(torch.zeros(3, 8, 10, dtype=torch.uint8), torch.full((8, 10), label, dtype=torch.uint8), "a")
    chosen = Format("m", "", (), ("r",), lambda *_: None, computing, lambda a, b, _: b.write_text(a.read_text()), None)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(to_int8, "write_onnx", lambda file, *_: file.write_text(str(integers[file.name])))
        patched.setattr(to_int8, "quantize", lambda file, out, images, **_: out.write_text(str(wrong)))
        patched.setattr(to_int8, "measured", lambda load, **_: Timing(None, (0.1,) * 20, None, 1))
        return to_int8.write_int8(
            Path("m"), SimpleNamespace(network=None, classes=NAMES), chosen._replace(load=lambda *_: None),
            Form(3, (8, 10), argmax=True), Fixed(labels), Fixed(labels), max_drop=max_drop, metadata=lambda tried: {},
        )  # fmt: skip


EXPORT = [
    Row(
        "--int8: model.pt2 stays in float32; use --to onnx or --to openvino",
        lambda: kd("export", "runs", "--to", "pt2", "--int8"),
        lambda text: (exported("onnx"), exported("openvino")),
    ),
    Row(
        "--int8: the file in INT8 scores {} % mIoU, {} points less than in float32 (at most 1); nothing is written; "
        "leave --int8 out, or allow it: --max-drop {}",
        lambda: quantized(8),
        lambda text: quantized(8, max_drop=float(text.split()[-1])),
    ),
    Row(
        "--int8: none of the 1 val images has labels to score files with; add some",
        lambda: quantized(0, label=255),
        lambda text: quantized(0),
    ),
    Row(
        "--to tensorflow: unknown; known: onnx, openvino, pt2",
        lambda: exported("tensorflow"),
        lambda text: exported("onnx"),
    ),
    Row(
        "out: already there; choose another --out, or remove it",
        lambda: (save(np.zeros((2, 2), np.uint8), "out/1.png"), folder("out")),
        lambda text: (folder("new"), shutil.rmtree("out"), folder("out")),
    ),
    Row(
        "file/out: cannot be written ({}); choose another --out",
        lambda: (Path("file").write_text(""), folder("file/out")),
        lambda text: folder("out"),
    ),
    Row(
        "Net: cannot be exported to ONNX: unknown shape; leave --dynamic out",
        lambda: written(dynamic=True),
        lambda text: written(dynamic=False),
    ),
    Row(
        "a.onnx: ONNX Runtime 1.9 does not take the file: unsupported opset; export it again, or pip install --upgrade "
        "onnxruntime",
        lambda: loaded("1.9"),
        lambda text: loaded("2.0"),
    ),
    Row(
        "s: takes images of 1 channels, r of 3; leave it out of --with",
        lambda: ensemble(channels=1),
        lambda text: ensemble(),
    ),
    Row(
        "s: takes images of 32×32, r gets 32×64; add evaluate.size=[32,32]",
        lambda: ensemble(height=64),
        lambda text: ensemble(height=32),
    ),
    Row(
        "--tiles 64 64: a.onnx takes 32×32 alone; use --tiles 32 32",
        lambda: tiled(64, 64),
        lambda text: tiled(*map(int, text.split()[-2:])),
    ),
    Row(
        "a.onnx: {}; its metadata are not those of a file by kd export; export the run again",
        lambda: opened(producer="another"),
        lambda text: opened(**FACTS, dtype="float32", output="logits"),
    ),
    Row(
        "the runtime cannot compute it: no such operator; nothing is written; leave --dynamic out",
        lambda: check_file(broken, network(), Fixed(GOOD), NAMES, Form(3, (32, 32), True)),
        lambda text: check_file(computed, network(), Fixed(GOOD), NAMES, Form(3, (32, 32))),
    ),
]


def timed(threads: Sequence[int] = (1, 1)) -> list[str]:
    """The notes of a comparison of two runs whose networks were measured."""
    if not Path("runs").exists():
        run()
        succeeds("run", *UNTAUGHT, "student.args.channels=5")
    run_dirs = sorted(str(path) for path in Path("runs").iterdir())
    for run_dir, count in zip(run_dirs, threads, strict=True):
        row = Measured(
            runtime="torch", precision="fp32", batch=1, height=32, width=32, median_seconds=0.1, p95_seconds=0.2
        )
        write_latency(Path(run_dir, "seed0"), [row], processor="a processor", threads=count)
    return [note.text for note in gather(run_dirs).notes]


def compared(*arguments: object) -> int:
    return kd("compare", only() if Path("runs").exists() else run(), "--trust", *arguments)


def measures(text: str) -> None:
    """Run the printed `kd latency`, quickly."""
    words = re.search(r"kd (latency .*?) measures all alike", text)
    assert words, text
    succeeds(*shlex.split(words[1]), "--trust", "--runtimes", "torch", "--rounds", 1)
    assert not [
        note for note in (note.text for note in gather(list(Path("runs").iterdir())).notes) if "latency" in note
    ]


COMPARE = [
    Row(
        "--images and --image choose what the page shows, and none is written; add --html FILE",
        lambda: compared("--no-page", "--images", 3),
        lambda text: succeeds("compare", only(), "--trust", "--html", "page.html", "--images", 3),
    ),
    Row(
        "--image nowhere: no val image has that name; such as stripes 0",
        lambda: compared("--html", "page.html", "--image", "nowhere"),
        lambda text: succeeds("compare", only(), "--trust", "--html", "page.html", "--image", "stripes 0"),
    ),
    Row(
        "latency measured otherwise, and not shown: {}; kd latency {} measures all alike",
        lambda: timed(threads=(1, 2)),
        measures,
    ),
    Row(
        "left out: {}latency.json: {}; kd latency measures it again",
        lambda: ((run() / "latency.json").write_text("{}"), [note.text for note in gather([only()]).notes]),
        lambda text: succeeds("latency", only(), "--trust", "--runtimes", "torch", "--rounds", 1),
    ),
]

ROWS = [*PREDICT, *EVALUATE, *EXPORT, *COMPARE]
