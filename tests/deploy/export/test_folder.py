"""An exported folder: `predict.py` alone, where neither kd nor torch is installed."""

import json
import subprocess
import sys
import venv
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny import trained_alone

import kd

NEEDS = ("numpy", "numpy.libs", "PIL", "pillow.libs", "onnxruntime", "flatbuffers", "google", "packaging")
EXTRA = "needs the extra onnx: pip install 'kd-segmentation[onnx]'"

for package in ("onnx", "onnxscript", "onnxruntime"):
    pytest.importorskip(package, reason=EXTRA)


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    return trained_alone(tmp_path_factory.mktemp("trained"))


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """An environment with numpy, Pillow and ONNX Runtime alone."""
    folder = tmp_path_factory.mktemp("bare")
    venv.create(folder)
    (packages,) = folder.glob("lib/python3*/site-packages")
    for name in NEEDS:
        for parent in sys.path:
            if (Path(parent) / name).exists() and not (packages / name).exists():
                (packages / name).symlink_to(Path(parent) / name)
    file = folder / "bin" / "python"
    assert subprocess.run([file, "-c", "import torch"], capture_output=True, check=False).returncode == 1
    return file


def call(python, *arguments):
    return subprocess.run([python, *map(str, arguments)], capture_output=True, text=True, check=False, cwd="/")


@pytest.mark.parametrize(
    "options",
    [{"size": (40, 48)}, pytest.param({"dynamic": True, "argmax": True, "uint8": True}, marks=pytest.mark.slow)],
)
def test_the_script_predicts_without_kd_and_torch(run_dir, python, folder, options):
    kd.export(run_dir, folder / "exported", trust=True, **options)
    script = folder / "exported" / "predict.py"
    assert len(script.read_text().splitlines()) <= 104
    checked = call(python, script, "--check", "--benchmark")
    lines = checked.stdout.splitlines()
    assert (checked.returncode, len(lines)) == (0, 4), checked.stderr
    assert lines[0].startswith("1.png: ")
    assert " ms an image, the median of 50 " in lines[3]

    random = np.random.default_rng(0).integers(0, 256, (60, 44, 3), dtype=np.uint8)
    photo = Image.fromarray(random).resize((90, 70))
    exif = Image.Exif()
    exif[0x0112] = 6  # stored a quarter turn to the left
    photo.save(folder / "photo.png", exif=exif)
    assert call(python, script, folder / "photo.png", "--out", folder / "out").returncode == 0
    mask = Image.open(folder / "out/photo.png")
    size = options.get("size", (32, 32))
    (ours,) = kd.predict(run_dir, folder / "photo.png", [f"evaluate.size={list(size)}"], trust=True)
    assert mask.size == (70, 90)
    assert (np.asarray(mask) == ours.classes).mean() > (0.9 if "argmax" in options else 0.99)  # nearest neighbours
    assert mask.getpalette()[:6] == [0, 0, 0, 255, 255, 0]

    assert call(python, script).stdout.startswith("usage: predict.py ")
    (folder / "empty.png").touch()
    photo.convert("RGBA").save(folder / "opaque.png")
    assert call(python, script, folder / "opaque.png", "--out", folder / "out").returncode == 0
    Image.new("RGBA", (90, 70), (9, 9, 9, 254)).save(folder / "glass.png")
    Image.fromarray(random[..., 0].astype(np.uint16) * 200).save(folder / "deep.png")  # would be cut off at 255
    for image, out, reason in (
        ("empty.png", "none", "cannot identify image file"),
        ("deep.png", "none", "pixels of 16 bits, not opaque 8-bit grey or RGB"),
        ("glass.png", "none", "pixels of mode RGBA, not opaque 8-bit grey or RGB"),
        ("photo.png", "empty.png", "[Errno 17] File exists"),
    ):
        refused = call(python, script, folder / image, "--out", folder / out)
        assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
        assert refused.stderr.startswith(f"{folder}/{image}: not predicted: {reason}")
    assert not (folder / "none").exists()

    other = Image.fromarray(1 - np.asarray(Image.open(folder / "exported/samples/masks/2.png")))
    other.save(folder / "exported/samples/masks/2.png")
    checked = call(python, script, "--check")
    assert (checked.returncode, checked.stderr) == (1, "samples: not as expected\n")
    assert "\n2.png: 0.00 %" in checked.stdout


@pytest.mark.slow
@pytest.mark.skipif(find_spec("openvino") is None, reason="needs the extra openvino")
def test_openvino(run_dir, folder):
    file = kd.export(run_dir, folder / "exported", to="openvino", dynamic=True, trust=True)
    assert file == folder / "exported/model.xml"
    assert file.with_suffix(".bin").exists()
    done = call(sys.executable, file.parent / "predict.py", "--check")
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"dynamic": True, "argmax": True, "uint8": True}])
def test_pt2(run_dir, folder, options):
    file = kd.export(run_dir, folder / "exported", to="pt2", trust=True, **options)
    assert file == folder / "exported/model.pt2"
    assert json.loads((folder / "exported/classes.json").read_text())["file"] == "model.pt2"
    done = call(sys.executable, file.parent / "predict.py", "--check")
    assert done.returncode == 0, done.stderr
