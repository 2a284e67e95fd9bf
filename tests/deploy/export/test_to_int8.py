"""Which INT8 file is kept, and when none is: with files whose error and score are known."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from samples import Fixed

from kd.deploy.export import to_int8
from kd.deploy.export.formats import Format
from kd.deploy.export.graph import Form
from kd.deploy.export.to_int8 import write_int8
from kd.deploy.timing import Timing
from kd.errors import RecipeError
from kd.types import Sample

FORM = Form(3, (8, 10))
LABELS = torch.arange(80).reshape(8, 10).remainder(2).to(torch.uint8)  # 40 pixels of each of two classes


def dataset(labels=LABELS):
    return Fixed(Sample(torch.zeros(3, 8, 10, dtype=torch.uint8), labels, "a"))


def computing(file):
    """What a file computes: the labels, but the first pixels, as many as it says, are of class 0."""
    wrong = int(Path(file).read_text())
    classes = LABELS.clone()
    classes.view(-1)[:wrong] = 0
    logits = np.stack([(classes == 0).numpy(), (classes == 1).numpy(), np.zeros((8, 10))]).astype(np.float32)
    return lambda images: logits[None]


@pytest.fixture
def export(monkeypatch, tmp_path):
    """Export with so many wrong pixels per tensor and per channel; the float file has none."""

    def call(per_tensor, per_channel, *, max_drop=1.0, of=None):
        monkeypatch.setattr(to_int8, "write_onnx", lambda file, network, form, metadata: file.write_text("0"))
        monkeypatch.setattr(
            to_int8, "quantize",
            lambda file, out, images, *, per_channel: out.write_text(str(wrong[per_channel])),
        )  # fmt: skip
        monkeypatch.setattr(
            to_int8, "measured", lambda load, **options: Timing(None, (0.001, 0.002, 0.003) * 7, None, 1)
        )
        wrong = {False: per_tensor, True: per_channel}

        def convert(onnx_file, file, metadata):
            file.write_text(onnx_file.read_text())
            stated.append(metadata)

        stated: list[dict] = []
        chosen = Format("m", "", (), ("r",), None, computing, convert, lambda *arguments: None)
        trained = SimpleNamespace(network=None, classes=("a", "b", "c"))
        quantized = write_int8(
            tmp_path / "out", trained, chosen, FORM, dataset() if of is None else of, dataset(), max_drop=max_drop,
            metadata=lambda tried: {"kept": tried.kept.name},
        )  # fmt: skip
        assert stated[-1] == {"kept": quantized.kept.name}
        return quantized, int((tmp_path / "out").read_text())

    return call


def miou(wrong):
    """Of `wrong` pixels, every second one was of class 1, of which 40 are labelled."""
    taken = wrong // 2
    return (40 / (40 + taken) + (40 - taken) / 40) / 2


@pytest.mark.parametrize(("wrong", "kept"), [((2, 4), "per tensor"), ((4, 2), "per channel")])
def test_the_file_that_scores_better_is_kept(export, wrong, kept):
    quantized, written = export(*wrong, max_drop=5)
    assert (quantized.kept.name, written) == (kept, 2)
    assert [row.miou for row in quantized.rows] == pytest.approx([1, miou(wrong[0]), miou(wrong[1])])
    assert quantized.drop == pytest.approx(100 * (1 - miou(2)))
    assert quantized.facts()["int8"] == {
        "scales": kept, "miou": quantized.kept.miou, "miou_of_float32": 1.0, "images": 1,
    }  # fmt: skip


def test_the_table_has_score_size_and_time_before_and_after(export):
    quantized, _ = export(2, 4, max_drop=5)
    assert quantized.lines() == [
        "                    mIoU %       MB       ms",
        "float32             100.00     0.00      2.0",
        f"INT8 per tensor   {100 * miou(2):8.2f}     0.00      2.0  (this file)",
        f"INT8 per channel  {100 * miou(4):8.2f}     0.00      2.0",
    ]
    assert quantized.markdown().splitlines()[2:4] == [
        "| float32 | 100.00 | 0.00 | 2.0 |",
        f"| INT8 per tensor  (this file) | {100 * miou(2):.2f} | 0.00 | 2.0 |",
    ]


def test_a_file_that_loses_more_is_refused_and_not_written(export, tmp_path):
    drop = 100 * (1 - miou(2))
    with pytest.raises(RecipeError) as caught:
        export(2, 4, max_drop=1)
    assert str(caught.value) == (
        f"--int8: the file in INT8 scores {100 * miou(2):.2f} % mIoU, {drop:.2f} points less than in float32 (at most "
        "1); nothing is written; leave --int8 out, or allow it: --max-drop 2.5"
    )
    assert list(tmp_path.iterdir()) == []
    assert export(2, 4, max_drop=2.5)[1] == 2  # as the message asks


def test_the_images_that_calibrate_are_counted(export):
    assert export(2, 4, max_drop=99)[0].calibrated == len(dataset())


def test_without_labels_the_loss_is_unknown(export):
    with pytest.raises(
        RecipeError, match=r"^--int8: none of the 1 val images has labels to score files with; add some$"
    ):
        export(0, 0, of=dataset(torch.full((8, 10), 255, dtype=torch.uint8)))
