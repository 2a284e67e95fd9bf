import pytest
import torch

from kd import machine
from kd.machine import choose, describe, slow_path


@pytest.mark.parametrize(("native", "dtype"), [(True, torch.bfloat16), (False, torch.float32)])
def test_auto_is_bf16_only_where_the_hardware_multiplies_it(monkeypatch, native, dtype):
    monkeypatch.setattr(machine, "has_native_bfloat16", lambda device: native)
    assert choose("cpu").dtype == dtype
    assert choose("cpu", "bf16").dtype == torch.bfloat16
    assert choose("cpu", "fp32").dtype == torch.float32


def test_channels_last_is_the_default():
    assert choose("cpu").memory_format == torch.channels_last
    assert choose("cpu", "fp32", "contiguous").memory_format == torch.contiguous_format


def test_images_become_floats_from_zero_to_one():
    images = torch.tensor([0, 51, 255], dtype=torch.uint8).view(1, 3, 1, 1)
    assert choose("cpu").images(images).flatten().tolist() == pytest.approx([0.0, 0.2, 1.0])


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_cuda_without_a_gpu_is_refused_in_one_line():
    with pytest.raises(ValueError, match="device: cuda, but torch sees no CUDA device; set device: cpu"):
        choose("cuda")


@pytest.mark.parametrize(
    ("native", "precision", "message"),
    [
        (True, "auto", None),
        (False, "auto", None),
        (False, "bf16", "precision: bf16 is emulated on this cpu and far slower than fp32; set precision: auto"),
        (True, "fp32", "precision: fp32 is set, but this cpu computes bf16 natively, which is usually faster"),
    ],
)
def test_a_slow_precision_is_reported(monkeypatch, native, precision, message):
    monkeypatch.setattr(machine, "has_native_bfloat16", lambda device: native)
    assert slow_path(choose("cpu", precision), precision) == message


def test_a_bug_report_has_versions_and_hardware():
    text = describe()
    assert f"torch {torch.__version__}".split("+")[0] in text
    assert "precision: auto is cpu" in text or "precision: auto is cuda" in text
