"""A teacher's forward pass in float32, and in INT8 by ONNX Runtime and by torchao with inductor's x86 kernels.

kd does not need torchao; install it into an environment of its own, with kd:

    pip install torchao
    python docs/results/beside_torchao.py --rounds 5

FCN-ResNet50 on images of noise, which also calibrate; every kind in turn in one process. torchao quantises the exported
graph (PT2E) and lowers it by torch.compile. Both in seconds of the wall and of the processor.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from kd.components import Maker
from kd.recipe import Use
from kd.runtimes.exported import INPUT, onnx_program, onnx_session
from kd.runtimes.quantize import quantize

TEACHER, CLASSES = "teachers.FCNResNet50", 11


class Logits(nn.Module):
    """The network as a function from images to logits."""

    def __init__(self) -> None:
        super().__init__()
        self.network: nn.Module = Maker().build(Use(use=TEACHER), num_classes=CLASSES, in_channels=3)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network(images).logits
        return logits


def by_onnx_runtime(network: nn.Module, images: Tensor, folder: Path) -> Callable[[], Tensor]:
    """As kd computes it: static INT8 with scales per tensor."""
    onnx_program(network, images, ("logits",)).save(folder / "float.onnx", external_data=False)
    quantize(folder / "float.onnx", folder / "int8.onnx", iter([images.numpy()]), per_channel=False)
    session = onnx_session(folder / "int8.onnx", threads=torch.get_num_threads(), spinning=False)
    return lambda: torch.from_numpy(session.run(None, {INPUT: images.numpy()})[0])


def by_torchao(network: nn.Module, images: Tensor) -> Callable[[], Tensor]:
    """As torchao's tutorial for x86 computes it."""
    from torchao.quantization.pt2e import move_exported_model_to_eval
    from torchao.quantization.pt2e.lowering import lower_pt2e_quantized_to_x86
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
    from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86

    graph = torch.export.export(network, (images,), strict=True).module()  # else no fusion is found
    quantizer = x86.X86InductorQuantizer().set_global(x86.get_default_x86_inductor_quantization_config())
    prepared = prepare_pt2e(graph, quantizer)
    prepared(images)
    converted = convert_pt2e(prepared)
    move_exported_model_to_eval(converted)
    lowered = lower_pt2e_quantized_to_x86(converted, (images,))
    compiled = torch.compile(lowered)
    return lambda: compiled(images)


def _medians(pairs: list[tuple[float, float]]) -> list[float]:
    return [statistics.median(kind) for kind in zip(*pairs, strict=True)]


@torch.no_grad()
def main() -> None:
    """Print the median times, their ratios to float32, and how many classes are those of float32."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5, help="timed passes of each kind")
    parser.add_argument("--size", type=int, nargs=2, default=(180, 240), metavar=("H", "W"))
    parser.add_argument("--batch", type=int, default=8)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    images = torch.rand(arguments.batch, 3, *arguments.size)
    network = Logits().eval()
    like = network(images)
    fast = images.contiguous(memory_format=torch.channels_last)
    last = Logits().eval().to(memory_format=torch.channels_last)
    last.load_state_dict(network.state_dict())
    with tempfile.TemporaryDirectory() as folder:
        jobs: dict[str, Callable[[], Tensor]] = {"float32": lambda: last(fast)}
        jobs["ONNX Runtime"] = by_onnx_runtime(network, images, Path(folder))
        began = time.perf_counter()
        jobs["torchao"] = by_torchao(network, images)
        jobs["torchao"]()
        print(f"torchao: {time.perf_counter() - began:.0f} s to quantise and compile")
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in jobs}
        for _ in range(arguments.rounds + 2):
            for name, job in jobs.items():
                started = time.perf_counter(), time.process_time()
                job()
                times[name].append((time.perf_counter() - started[0], time.process_time() - started[1]))
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, median of {arguments.rounds}")
    medians = {name: _medians(pairs[2:]) for name, pairs in times.items()}
    for name, (wall, processor) in medians.items():
        ratios = f"{wall / medians['float32'][0]:.2f} and {processor / medians['float32'][1]:.2f} of float32"
        same = (jobs[name]().argmax(1) == like.argmax(1)).float().mean().item()
        print(f"{name}: {wall:.3f} s, {processor:.3f} s of the processor; {ratios}; {100 * same:.1f} % equal classes")


if __name__ == "__main__":
    main()
