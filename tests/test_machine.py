import contextlib

import pytest
import torch

from kd import machine
from kd.machine import Precision, choose, describe, hardware, random_state, set_random_state, slow_path


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


@pytest.fixture
def apple(monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def test_an_apple_gpu_is_used_on_request_in_float32(apple):
    chosen = choose("mps")
    assert str(chosen) == "mps, float32, contiguous"
    assert isinstance(chosen.autocast(), contextlib.nullcontext)
    assert choose("mps", "fp32", "channels_last").memory_format == torch.channels_last
    assert choose("auto", "fp32") == choose("cpu", "fp32")
    assert slow_path(chosen, "auto") is None
    with pytest.raises(ValueError, match="bf16, but kd computes in float32 on mps; set train"):
        choose("mps", "bf16")


def test_mps_without_an_apple_gpu_is_refused_in_one_line(monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(ValueError, match="device: mps, but torch sees no Apple GPU; set device: cpu, or install torch"):
        choose("mps")


def test_copies_are_asynchronous_on_cuda_alone():
    """Elsewhere, a copy that the host does not wait for may be read before it is whole."""

    class Sent:
        def to(self, device, non_blocking):
            return device.type, non_blocking

    devices = [torch.device(name) for name in ("cpu", "cuda", "mps")]
    moved = [Precision(device, torch.float32, torch.contiguous_format).moved(Sent()) for device in devices]
    assert moved == [("cpu", False), ("cuda", True), ("mps", False)]


def test_the_random_state_holds_the_generators_of_the_device_too(monkeypatch):
    kept = {"mps": torch.tensor([1])}
    monkeypatch.setattr(torch.mps, "get_rng_state", lambda: kept["mps"])
    monkeypatch.setattr(torch.mps, "set_rng_state", lambda state: kept.update(mps=state))
    mps = torch.device("mps")
    states = random_state(mps)
    drawn = torch.rand(3)
    kept["mps"] = torch.tensor([2])
    set_random_state(mps, states)
    assert torch.equal(torch.rand(3), drawn)
    assert kept["mps"] == 1
    set_random_state(torch.device("cpu"), states)  # saved on another device
    assert random_state(torch.device("cpu")).keys() == {"cpu"}


def test_the_cores_are_counted_where_no_process_can_be_bound_to_some(monkeypatch):
    monkeypatch.delattr("os.sched_getaffinity")
    monkeypatch.setattr("os.cpu_count", lambda: 6)
    assert hardware(torch.device("cpu"))["cores"] == 6


@pytest.mark.parametrize(
    ("cores", "processes", "on_gpu", "on_cpu", "alone"),
    [(1, 1, 0, 0, 0), (2, 1, 1, 1, 2), (4, 1, 3, 2, 4), (32, 1, 8, 2, 8), (16, 4, 3, 2, 4), (4, 4, 0, 0, 0)],
)
def test_workers_share_the_cores_but_one_while_a_device_trains(monkeypatch, cores, processes, on_gpu, on_cpu, alone):
    monkeypatch.setattr(machine, "cores", lambda: cores)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
    assert machine.loader_workers("auto", torch.device("cuda")) == on_gpu
    assert machine.loader_workers("auto", torch.device("cpu")) == on_cpu
    assert machine.loader_workers("auto") == alone
    assert machine.loader_workers(5, torch.device("cpu")) == 5


def test_torch_has_its_threads_back_after_the_block():
    before = torch.get_num_threads()
    with machine.torch_threads(2):
        with machine.torch_threads(0):
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 2
    assert torch.get_num_threads() == before
