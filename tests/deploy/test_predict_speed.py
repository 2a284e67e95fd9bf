"""How long many images take: reading, the network and writing overlap."""

import time
from pathlib import Path

import numpy as np
import pytest
import torch
from command import kd as command
from PIL import Image
from tiny import read, run, write_recipes
from torchvision.transforms.v2 import functional as TF

import kd
from kd.machine import cores
from kd.pictures import label_png
from kd.recipe import baseline_of, to_yaml

IMAGES, SIZE = 60, (1280, 960)  # JPEG files: where reading and writing take about as long as the network
STUDENT = "students.LRASPPMobileNetV3Large"


@pytest.mark.slow
@pytest.mark.skipif(cores() < 2, reason="needs two cores")
def test_many_images_are_predicted_faster_than_one_after_the_other(folder):
    """At least 1.3 times as fast as the plain loop, which reads, predicts and writes one image at a time."""
    write_recipes(folder)
    options = (f"student={{use: {STUDENT}}}", "data.size=[240, 320]", "train.steps=1", "evaluate.metrics=[]")
    Path("alone.yaml").write_text(to_yaml(baseline_of(read(folder / "student.yaml"))))
    ((run_dir,), _) = run(read(folder / "alone.yaml", *options), folder / "runs")
    random = np.random.default_rng(0)
    Path("photos").mkdir()
    for index in range(IMAGES):
        small = random.integers(0, 256, (60, 80, 3), dtype=np.uint8)
        Image.fromarray(small).resize(SIZE, Image.Resampling.BICUBIC).save(f"photos/{index:03d}.jpg", quality=92)
    network, colors = kd.load_student(run_dir, trust=True), [(0, 0, 0), (255, 255, 0)]
    Path("plain").mkdir()

    def plain():
        for file in sorted(Path("photos").iterdir()):
            image = TF.pil_to_tensor(Image.open(file).convert("RGB"))
            with torch.no_grad():
                logits = network(TF.resize(image, [240, 320], antialias=True)[None] / 255).logits
            full = torch.nn.functional.interpolate(logits, image.shape[1:], mode="bilinear")
            Path("plain", f"{file.stem}.png").write_bytes(label_png(full.argmax(1)[0].numpy(), colors))

    def ours():
        assert command("predict", run_dir, "photos", "--trust", "--overwrite") == 0

    def seconds(call):
        start = time.perf_counter()
        call()
        return time.perf_counter() - start

    plain_seconds, our_seconds = (min(seconds(call) for _ in range(2)) for call in (plain, ours))
    print(f"plain loop {plain_seconds:.2f} s, kd predict {our_seconds:.2f} s: {plain_seconds / our_seconds:.2f} times")
    assert plain_seconds >= 1.3 * our_seconds
