"""Predict images with the network in this folder. Needs numpy, Pillow and the file's runtime, and no kd.

python predict.py photo.jpg --out predictions   index masks in the colours of the classes; replaces its own
python predict.py --check                       compare with the expected masks in samples/
python predict.py --benchmark                   milliseconds for an image
"""

import argparse
import json
import sys
import timeit
import warnings
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps
from PIL.PngImagePlugin import PngInfo

HERE, MODES = Path(__file__).resolve().parent, ("1", "L", "LA", "P", "RGB", "RGBA")
MARK = "Software", "predict.py of kd"  # in the masks
FACTS: dict[str, Any] = {}  # the content of classes.json


def load(file: Path) -> Any:
    """Return a function that computes the file's output for images (1, C, H, W)."""
    if file.suffix == ".onnx":
        session = import_module("onnxruntime").InferenceSession(file, providers=["CPUExecutionProvider"])
        return lambda images: session.run(None, {"images": images})[0]
    if file.suffix == ".xml":
        compiled = import_module("openvino").Core().compile_model(file, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        return lambda images: compiled(images)[0]
    torch = import_module("torch")
    program = torch.export.load(file).module()
    return lambda images: program(torch.from_numpy(images)).detach().numpy()


def prepared(picture: Any) -> Any:
    """Return the images (1, C, H, W) that the file takes: resized, not normalised."""
    mode, size = "L" if FACTS["channels"] == 1 else "RGB", tuple(FACTS["size"][::-1])
    pixels = np.atleast_3d(picture.convert(mode).resize(size, Image.Resampling.BILINEAR)).transpose(2, 0, 1)[None]
    return np.ascontiguousarray(pixels if FACTS["dtype"] == "uint8" else pixels.astype(np.float32) / np.float32(255))


def predict(compute: Any, file: Path) -> Any:
    """Return the classes (H, W) of an image file, turned upright, at its own size."""
    picture: Any = Image.open(file)
    frames, deep = getattr(picture, "n_frames", 1), ";16" in str(picture.tile).replace("BGR;16", "")  # of 5 or 6 bits
    deep |= picture.format == "TIFF" and max(picture.tag_v2.get(258, (1,))) > 8  # its tiles may not show it
    if frames > 1 and picture.format != "MPO":  # a JPEG followed by previews
        raise OSError(f"{frames} images in one file")
    picture.load()
    with suppress(Exception):  # viewers show a file with damaged metadata as it is stored
        ImageOps.exif_transpose(picture, in_place=True)
    if deep or picture.mode not in MODES or (pixels := np.asarray(picture.convert("RGBA")))[..., 3].min() < 255:
        raise OSError(f"pixels of {'16 bits' if deep else 'mode ' + picture.mode}, not opaque 8-bit grey or RGB")
    if FACTS["channels"] == 1 and (pixels[..., :1] != pixels[..., 1:3]).any():
        raise OSError("in colour, but the network takes grey images")
    output = compute(prepared(picture))[0]
    if FACTS["output"] == "classes":
        return np.asarray(Image.fromarray(output.astype(np.uint8)).resize(picture.size, Image.Resampling.NEAREST))
    full = [np.asarray(Image.fromarray(x).resize(picture.size, Image.Resampling.BILINEAR)) for x in output]
    return np.stack(full).argmax(0).astype(np.uint8)


def save(mask: Any, target: Path, taken: set[Path]) -> None:
    """Write a mask, but not over an image, a mask of this call, or a file that this script has not written."""
    if target.resolve() in taken or (target.exists() and Image.open(target).info.get(MARK[0]) != MARK[1]):
        raise OSError(f"it would replace {target}; choose another --out")
    taken.add(target.resolve())
    mask.putpalette([level for color in FACTS["colors"] for level in color])
    info = PngInfo()
    info.add_text(*MARK)
    target.parent.mkdir(parents=True, exist_ok=True)
    mask.save(target, pnginfo=info)


parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("images", nargs="*", type=Path)
parser.add_argument("--out", type=Path, default=Path("predictions"))
parser.add_argument("--check", action="store_true")
parser.add_argument("--benchmark", action="store_true")
if __name__ == "__main__":
    FACTS |= json.loads((HERE / "classes.json").read_text(encoding="utf-8"))
    options, compute, wrong, shares = parser.parse_args(sys.argv[1:] or ["-h"]), load(HERE / FACTS["file"]), [], []
    warnings.simplefilter("ignore")  # Pillow's, of large images and damaged metadata
    taken = {file.resolve() for file in options.images}
    for file in options.images:
        try:
            save(Image.fromarray(predict(compute, file)), options.out / f"{file.stem}.png", taken)
        except Exception as error:  # noqa: BLE001  # damaged files raise nearly anything
            wrong.append(f"{file}: not predicted: {error}")
    for file in sorted(HERE.glob("samples/images/*.png")) if options.check else ():
        shares.append((predict(compute, file) == np.asarray(Image.open(HERE / "samples/masks" / file.name))).mean())
        print(f"{file.name}: {100 * shares[-1]:.2f} % of the pixels as expected")
    if options.check and min(shares, default=0) < 0.995:
        wrong.append("samples: not as expected")
    if options.benchmark:  # without the first ten calls, which warm up
        images = prepared(Image.new("RGB", (64, 64), "gray"))
        seconds = timeit.repeat(lambda: compute(images), number=1, repeat=60)[10:]
        print("{:.2f} ms an image, the median of 50 (95 %: {:.2f})".format(*1000 * np.percentile(seconds, [50, 95])))
    sys.exit("\n".join(wrong) or 0)
