"""The cost of losses: every loss has its rows, and the peak is correct."""

import time

import pytest
import torch
from clock import Clock
from torch.nn import functional as F

import kd.losses
from kd.bench.losses import ENOUGH, Sizes, _measured, _peak, costs, losses_command, teacher_seconds
from kd.errors import RecipeError
from kd.machine import choose

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


def test_the_peak_counts_tensors_that_are_held_at_once():
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


def test_rows_are_printed_as_they_are_measured(capsys, monkeypatch):
    monkeypatch.setattr("kd.bench.losses.teacher_seconds", lambda sizes, precision: 2.0)
    seen = []

    def one_by_one(*args):
        for cost in costs(*args):
            seen.append(capsys.readouterr().out)
            yield cost

    monkeypatch.setattr("kd.bench.losses.costs", one_by_one)
    losses_command(["CWD", "Dice"], TINY, 1)
    head, *rows = [*seen, capsys.readouterr().out]
    assert "logits 2×3×8×8, features 2×4×8×8, float32" in head
    assert "teachers.DeepLabV3ResNet50 forward on 2×3×64×64: 2.00 s" in head
    assert head.splitlines()[-1].split()[:4] == ["loss", "maps", "forward", "ms"]
    assert [row.split()[:2] for row in rows] == [["CWD", "logits"], ["CWD", "features"], ["Dice", "logits"]]
    assert all(row.count("\n") == 1 and "%" in row for row in rows)


def test_an_unknown_loss_is_one_line():
    with pytest.raises(RecipeError, match=r"^kd bench: --losses CDW, x: no such loss; known: AT, BPKD, CWD, DIST"):
        losses_command(["x", "CWD", "CDW"], TINY, 1)


def test_a_slow_loss_is_called_once(monkeypatch):
    Clock(monkeypatch)
    maps, calls = torch.zeros(1000, requires_grad=True), []

    def slow():
        calls.append(time.sleep(ENOUGH))
        return (maps * 2).sum()

    forward, both, peak = _measured(slow, [maps], 10, CPU)
    assert len(calls) == 1
    assert forward == both == ENOUGH
    assert peak >= 4000


def test_the_times_of_a_fast_loss_leave_out_the_round_that_counts_bytes(monkeypatch):
    Clock(monkeypatch)
    maps, calls = torch.zeros(10, requires_grad=True), []

    def slow_at_first():
        calls.append(time.sleep(0.01 if calls else 0.3))
        return (maps * 2).sum()

    forward, both, _ = _measured(slow_at_first, [maps], 4, CPU)
    assert len(calls) == 5
    assert forward == pytest.approx(0.01)
    assert both == pytest.approx(0.01)


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
