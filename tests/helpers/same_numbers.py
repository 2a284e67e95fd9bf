"""Whether two checkouts train to the same numbers: three short runs in each, compared bit for bit.

    python tests/helpers/same_numbers.py record CHECKOUT FOLDER     # trains in FOLDER with the code of CHECKOUT
    python tests/helpers/same_numbers.py compare FOLDER FOLDER      # exit status 1 where a number differs

The runs: distilled, with an adapter, a moving average, phases and accumulation; two classes with one logit; and the
first again, killed (SIGKILL) after a checkpoint and resumed. Weights must be equal bit for bit; so must all numbers of
metrics.jsonl and result.json except times, memory, versions, paths and ids.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

TEACHER = """
student: {use: teachers.DeepLabV3Plus, args: {backbone: mobilenet_v2, decoder: 32}}
data: {use: kd.data.Shapes, args: {count: 48}, size: [64, 64], augment: [{use: kd.data.RandomFlip}], workers: 0}
supervised: {use: kd.losses.CrossEntropy}
optimizer: {use: torch.optim.AdamW, args: {lr: 2e-3}}
schedule: {use: kd.engine.schedule.cosine, args: {warmup: 2}}
train: {steps: 6, batch_size: 8, evaluate_every: 3}
"""

FIRST = """
student: {use: students.MobileNetV3SmallASPPLite, args: {width: 0.5}}
data: {use: kd.data.Shapes, args: {count: 48}, size: [64, 64], workers: 0}
supervised: {use: kd.losses.Focal}
optimizer: {use: torch.optim.AdamW, args: {lr: 2e-3}}
train: {steps: 4, batch_size: 8, seeds: [3]}
"""

DISTILLED = """
teacher: {recipe: teacher.yaml}
student: {use: students.MobileNetV3SmallASPPLite, args: {width: 0.5}, weights: first.safetensors}
data:
  use: kd.data.Shapes
  args: {count: 48}
  size: [64, 64]
  crop: [48, 48]
  augment: [{use: kd.data.RandomScale, args: {low: 0.8, high: 1.5}}, {use: kd.data.RandomFlip}]
  workers: 1
supervised: {use: kd.losses.CrossEntropy}
distill:
  kl: {loss: {use: kd.losses.PixelKL, args: {temperature: 4.0}}, weight: 0.5, pixels: all}
  hint:
    loss: {use: kd.losses.MSE}
    at: {student: decoder, teacher: decoder}
    adapter: {use: kd.adapters.Conv1x1}
    weight: {use: kd.engine.schedule.linear, args: {start: 0.0, end: 3.0, over: 50%}}
phases: [{until: 50%, freeze: encoder, lr: 0.02}, {}]
optimizer: {use: torch.optim.SGD, args: {lr: 0.01, momentum: 0.9, weight_decay: 1e-4}}
schedule: {use: kd.engine.schedule.poly, args: {power: 0.9, warmup: 5%}}
train: {steps: 12, batch_size: 8, accumulate: 2, clip_norm: 5.0, ema: 0.9, evaluate_every: 4, save_every: 2}
log: {every: 1, gradients: 4}
"""

BINARY = """
student: {use: students.MobileNetV2UNet, args: {num_classes: 1}}
data:
  use: kd.data.Folders
  args: {root: pairs, classes: [background, object], values: {0: background, 255: object}, val: 25%, channels: 1}
  size: [64, 64]
  augment: [{use: kd.data.RandomFlip}]
  workers: 0
supervised: {use: kd.losses.DiceCE}
optimizer: {use: torch.optim.AdamW, args: {lr: 1e-3}}
train: {steps: 8, batch_size: 4, evaluate_every: 4, reestimate_batchnorm: 2, select: best}
"""

FREE = {"seconds", "images_per_second", "peak_memory", "versions", "id", "baseline", "run", "format"}


def record(checkout: Path, folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "teacher.yaml").write_text(TEACHER)
    (folder / "distilled.yaml").write_text(DISTILLED)
    (folder / "resumed.yaml").write_text(DISTILLED.replace("steps: 12", "steps: 14"))
    (folder / "binary.yaml").write_text(BINARY)
    _draw(folder / "pairs")
    (folder / "first.yaml").write_text(FIRST)
    for name in ("first", "distilled", "binary", "resumed"):
        command = [sys.executable, "-m", "kd", "run", f"{name}.yaml", "device=cpu"]
        command += ["--baseline"] if name == "distilled" else []
        environment = os.environ | {"PYTHONPATH": str(checkout.resolve()), "OMP_NUM_THREADS": "1"}
        if name == "resumed":
            _killed(command, folder, environment)
        subprocess.run(command, cwd=folder, env=environment, check=True)
        if name == "first":  # weights to start from, so that a part of the network may be frozen
            (weights,) = folder.glob("runs/first-*/seed3/student.safetensors")
            shutil.copy(weights, folder / "first.safetensors")


def _draw(folder: Path) -> None:
    import numpy as np
    from PIL import Image

    generator = np.random.default_rng(0)
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True)
    for number in range(16):
        mask = np.zeros((70, 90), np.uint8)
        top, left = generator.integers(5, 40, 2)
        mask[top : top + 25, left : left + 30] = 255
        noise = generator.integers(0, 90, mask.shape)
        Image.fromarray((noise + mask // 2).astype(np.uint8)).save(folder / "images" / f"{number:02}.png")
        Image.fromarray(mask).save(folder / "masks" / f"{number:02}.png")


def _killed(command: list[str], folder: Path, environment: dict[str, str]) -> None:
    with subprocess.Popen(command, cwd=folder, env=environment, start_new_session=True) as process:
        while not list(folder.glob("runs/resumed-*/seed0/checkpoints/step-[68]-*.pt")):
            assert process.poll() is None, "it ended before it could be killed"
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGKILL)


def compare(before: Path, after: Path) -> list[str]:
    """The differences, one line each."""
    runs = _runs(before), _runs(after)
    differences = [] if runs[0].keys() == runs[1].keys() else [f"runs: {sorted(runs[0])} and {sorted(runs[1])}"]
    for key in sorted(runs[0].keys() & runs[1].keys()):
        run_dirs = [by_key[key] for by_key in runs]
        weights, others = (load_file(run_dir / "student.safetensors") for run_dir in run_dirs)
        lines, other_lines = ((run_dir / "metrics.jsonl").read_text() for run_dir in run_dirs)
        result, other = (_numbers(json.loads((run_dir / "result.json").read_text())) for run_dir in run_dirs)
        differ = [] if weights.keys() == others.keys() else ["student.safetensors: other names"]
        shared = weights.keys() & others.keys()
        differ += [f"{name} differs" for name in sorted(shared) if not torch.equal(weights[name], others[name])]
        differ += [] if lines == other_lines else ["metrics.jsonl differs"]
        differ += [f"result.json: {name} differs" for name in result if result[name] != other.get(name)]
        name = " ".join(key)
        differences += [f"{name}: {difference}" for difference in differ]
        print(f"{name}: {len(weights)} tensors, {len(lines.splitlines())} lines of metrics, {len(result)} results")
    return differences


def _runs(folder: Path) -> dict[tuple[str, str, str], Path]:
    """Run directories by name, role and seed: the id in a directory's name may differ between versions."""
    results = {path.parent: json.loads(path.read_text()) for path in folder.glob("runs/*/seed*/result.json")}
    return {(result["name"], result["role"], str(result["seed"])): run_dir for run_dir, result in results.items()}


def _numbers(tree: Any, path: str = "") -> dict[str, Any]:
    """The leaves by dotted path, without those that may differ."""
    if isinstance(tree, dict):
        items = [(key, value) for key, value in tree.items() if key not in FREE]
        return {k: v for key, value in items for k, v in _numbers(value, f"{path}.{key}").items()}
    return {path: tree}


if __name__ == "__main__":
    if sys.argv[1] == "record":
        record(Path(sys.argv[2]), Path(sys.argv[3]))
    else:
        differences = compare(Path(sys.argv[2]), Path(sys.argv[3]))
        print("\n".join(differences) or "the same numbers")
        sys.exit(bool(differences))
