"""What a loss costs: every loss has its rows, and the peak is counted right."""

import time

import pytest
import torch
from torch.nn import functional as F

import kd.losses
from kd.bench.losses import Sizes, _peak, costs, losses_command, teacher_seconds
from kd.precision import choose

CPU = torch.device("cpu")
TINY = Sizes(images=2, classes=3, channels=4, height=8, width=8)


@pytest.fixture(scope="module")
def rows():
    return list(costs(TINY, 1, CPU))


def test_every_loss_has_a_row_on_the_maps_it_compares(rows):
    maps = {}
    for row in rows:
        maps.setdefault(row.loss.partition("(")[0], set()).add(row.maps)
    assert set(maps) == set(kd.losses.__all__)
    assert maps["CWD"] == {"logits", "features"}
    assert maps["DSD"] == {"features, logits"}
    assert maps["Sampled"] == maps["AT"] == {"features"}
    assert maps["Dice"] == maps["PixelKL"] == maps["Masked"] == {"logits"}


def test_a_row_has_times_and_memory(rows):
    for row in rows:
        assert row.forward > 0
        assert row.both > 0
        assert row.memory > 0


def test_the_arguments_of_a_row_are_shown(rows):
    names = [row.loss for row in rows]
    assert "CIRKDMiniBatch(pool=4)" in names
    assert "Sampled(loss=CIRKDMiniBatch, pixels=1024)" in names


def test_the_peak_counts_what_is_held_at_once():
    maps = torch.zeros(1000, requires_grad=True)  # 4000 bytes a tensor
    assert _peak(lambda: maps * 2, CPU) == 4000
    assert _peak(lambda: (maps * 2).view(10, 100).exp(), CPU) == 8000  # a view holds nothing of its own
    assert _peak(lambda: [maps * 2 for _ in range(5)], CPU) == 20000
    assert _peak(lambda: [(maps * 2).sum() for _ in range(5)], CPU) == 4000 + 5 * 4
    assert _peak(lambda: maps.detach().add_(1), CPU) == 0


@pytest.mark.parametrize(("loss", "pairs"), [("CIRKDMiniBatch", 512 * 512), ("CIRKDMemory", 512 * 5120)])
def test_pairs_are_never_held_all_at_once(loss, pairs, monkeypatch):
    """Two images of 16×16 pixels, in tiles a fraction of the matrix of all pairs."""
    monkeypatch.setattr("kd.losses.relation._pairs.TILE", pairs // 16)
    sizes = Sizes(images=2, classes=3, channels=4, height=16, width=16)
    most = max(row.memory for row in costs(sizes, 1, CPU, only=(loss,)))
    assert most < 2 * 4 * pairs  # a loss that held its similarities would hold the student's and the teacher's


def test_the_teacher_is_timed_at_the_images_of_these_maps():
    assert teacher_seconds(TINY, choose("cpu", "fp32")) > 0


def test_the_table(capsys, monkeypatch):
    monkeypatch.setattr("kd.bench.losses.teacher_seconds", lambda sizes, precision: 2.0)
    losses_command(TINY, 1)
    out = capsys.readouterr().out
    assert "teachers.DeepLabV3ResNet50 forward on 2×3×64×64: 2.00 s" in out
    assert "logits: 2×3×8×8" in out
    assert "features: 2×4×8×8" in out
    assert "of the teacher" in out
    assert "PixelKL" in out


def permuted(student, teacher):
    """KL over rows of pixels, as most code writes it: permute, make contiguous, then compare (P, K)."""
    student, teacher = (m.permute(0, 2, 3, 1).contiguous().view(-1, m.shape[1]) for m in (student, teacher))
    return F.kl_div(F.log_softmax(student, 1), F.softmax(teacher, 1), reduction="batchmean")


@pytest.mark.slow
def test_pixel_kl_is_twice_as_fast_as_permuting():
    student, teacher = torch.randn(8, 21, 512, 512, requires_grad=True), torch.randn(8, 21, 512, 512)
    jobs = {"ours": lambda: kd.losses.PixelKL()(student, teacher), "permuted": lambda: permuted(student, teacher)}
    seconds = {name: [] for name in jobs}
    for _ in range(4):
        for name, job in jobs.items():
            began = time.perf_counter()
            torch.autograd.grad(job(), student)
            seconds[name].append(time.perf_counter() - began)
    assert min(seconds["permuted"]) >= 2 * min(seconds["ours"])
