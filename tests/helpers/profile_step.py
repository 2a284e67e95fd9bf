"""Where a captured step spends the GPU's time: the kernels of a few replays, the slowest first.

    python tests/helpers/profile_step.py [HEIGHT WIDTH BATCH]

With `benchmark=0` or `1` before it in KD_PROFILE, cuDNN chooses by rules or by measuring.
"""

import itertools
import os
import sys
import tempfile
import time
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from kd.bench import gpu
from kd.parts.stream import stream
from kd.train.capture.graph import CudaRecorder, StepGraph
from kd.train.start import start
from kd.train.step import set_numbers


def main(height: int = 360, width: int = 480, batch: int = 16) -> None:
    torch.backends.cudnn.benchmark = os.environ.get("KD_PROFILE", "benchmark=1") == "benchmark=1"
    with tempfile.TemporaryDirectory() as folder:
        parts = gpu._parts(Path(folder), (height, width), batch)
        run, loaded = start(parts, seed=0), next(stream(parts, seed=0))
        run.student.train()
        set_numbers(run)
        graph = StepGraph(CudaRecorder(run.precision.device))
        for _ in itertools.repeat(None, 6):
            graph.step(run, [loaded])
        torch.cuda.synchronize()
        began = time.perf_counter()
        for _ in itertools.repeat(None, 20):
            graph.step(run, [loaded])
        torch.cuda.synchronize()
        print(f"benchmark {torch.backends.cudnn.benchmark}: {(time.perf_counter() - began) / 20 * 1e3:.2f} ms a step")
        with profile(activities=[ProfilerActivity.CUDA]) as profiled:
            for _ in itertools.repeat(None, 3):
                graph.step(run, [loaded])
            torch.cuda.synchronize()
        rows = sorted(profiled.key_averages(), key=lambda row: -row.self_device_time_total)
        total = sum(row.self_device_time_total for row in rows)
        print(f"{sum(row.count for row in rows) // 3} kernels, {total / 3e3:.2f} ms")
        for row in rows[:40]:
            print(f"{row.self_device_time_total / 3e3:8.3f} ms {row.count // 3:5d} × {row.key[:150]}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
