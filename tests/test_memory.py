"""Peak memory: of the work since the last restart, in bytes on every system."""

import gc
import mmap
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from command import process
from tiny import cut_at, read, run, write_recipes

from kd import memory
from kd.memory import lasting_objects, peak_memory, ran_out, restart_peak
from kd.recipe import baseline_of
from kd.runs import read_result, run_directory

CPU, MB = torch.device("cpu"), 2**20
linux = pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux can restart the peak")


@linux
def test_a_restart_forgets_the_peak_before_it():
    restart_peak(CPU)
    before = peak_memory(CPU)
    large = mmap.mmap(-1, 64 * MB)  # of the system, not memory that the process has kept from an earlier test
    for page in range(0, 64 * MB, mmap.PAGESIZE):
        large[page] = 1
    assert 48 * MB < peak_memory(CPU) - before < 96 * MB
    large.close()
    assert peak_memory(CPU) - before > 48 * MB
    restart_peak(CPU)
    assert peak_memory(CPU) - before < 24 * MB


@pytest.mark.parametrize(
    ("error", "out"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), True),
        (torch.AcceleratorError("CUDA error: out of memory"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), True),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), False),
        (ValueError("CUDA error: out of memory"), False),
    ],
)
def test_libraries_of_a_gpu_have_their_own_words_for_too_little_memory(error, out):
    assert ran_out(error) == out


@pytest.mark.parametrize("ooms", [0, 1])
def test_cudnn_finds_no_algorithm_where_memory_has_run_out(monkeypatch, ooms):
    """And where it has none at all: then, torch has not run out of memory before."""
    monkeypatch.setattr(torch.cuda, "memory_stats", lambda: {"num_ooms": ooms})
    assert ran_out(RuntimeError("GET was unable to find an engine to execute this computation")) == bool(ooms)


def test_lasting_objects_are_left_out_of_collections():
    frozen = gc.get_freeze_count()
    with lasting_objects():
        assert not gc.isenabled()
        kept = [[] for _ in range(1000)]
    assert gc.isenabled()
    assert gc.get_freeze_count() - frozen >= len(kept)
    gc.unfreeze()


def test_without_proc_the_unit_is_that_of_the_system(monkeypatch, tmp_path):
    """`ru_maxrss` is in KiB, but in bytes on macOS; Windows has none."""
    monkeypatch.setattr(memory, "_PROCESS", tmp_path)
    usage = SimpleNamespace(RUSAGE_SELF=0, getrusage=lambda who: SimpleNamespace(ru_maxrss=3000))
    monkeypatch.setitem(sys.modules, "resource", usage)
    restart_peak(CPU)
    monkeypatch.setattr(sys, "platform", "freebsd")
    assert peak_memory(CPU) == 3000 * 1024
    monkeypatch.setattr(sys, "platform", "darwin")
    assert peak_memory(CPU) == 3000
    monkeypatch.setitem(sys.modules, "resource", None)
    assert peak_memory(CPU) is None
    assert peak_memory(torch.device("mps")) is None


# 12 MB for each channel that the network has more than the student.
HUNGRY = "self.head(self.drop(low + 0 * torch.ones(self.taps['low'].channels - 4, 3 * 2**20).sum()))"


@linux
def test_each_run_of_a_command_has_its_own_peak(tmp_path):
    """Teacher, student and baseline in one process of their own, with no memory kept from earlier tests."""
    path = write_recipes(tmp_path)
    file = tmp_path / "nets.py"
    file.write_text(file.read_text().replace("self.head(self.drop(low))", HUNGRY))
    teacher = tmp_path / "teacher.yaml"
    teacher.write_text(teacher.read_text().replace("channels: 8", "channels: 20"))
    overrides = ("train.steps=2", "distill.hint=null")
    recipe = read(path, *overrides)
    started = process("run", path, *overrides, "--baseline", "--trust", "--runs", tmp_path / "runs")
    started.communicate()
    assert started.returncode == 0
    recipes = (recipe.teacher_recipe, recipe, baseline_of(recipe))
    large, distilled, plain = (read_result(run_directory(each, tmp_path / "runs", 0)).peak_memory for each in recipes)
    # 192 MB against none: what a process gains from run to run (imports, memory that is not returned) was up to 35 MB.
    assert large - plain > 96 * MB
    assert distilled - plain > 96 * MB  # the teacher runs in every step


def test_the_peak_of_a_resumed_run_is_the_highest_of_its_sessions(tmp_path, monkeypatch):
    recipe = baseline_of(read(write_recipes(tmp_path)))
    monkeypatch.setattr(memory, "peak_memory", lambda device: 3000)
    cut_at(4, recipe, tmp_path / "runs")
    monkeypatch.setattr(memory, "peak_memory", lambda device: 20)
    (run_dir,), _ = run(recipe, tmp_path / "runs")
    assert read_result(run_dir).peak_memory == 3000


def test_where_memory_is_not_measured_nothing_is_shown(tmp_path, monkeypatch, capsys):
    from kd.cli import main

    monkeypatch.setattr(memory, "peak_memory", lambda device: None)
    monkeypatch.setattr("kd.diagnose.plan.peak_memory", lambda device: None)
    path = write_recipes(tmp_path)
    runs = ["--runs", str(tmp_path / "runs")]
    assert main(["run", str(path), "--trust", "teacher=null", "distill=null", *runs]) == 0
    out = capsys.readouterr().out
    assert re.search(r"plan: .*, until about [\d: -]+; checkpoints and weights at most ", out)
    (run_dir,) = (tmp_path / "runs").glob("*/seed0")
    assert read_result(run_dir).peak_memory is None
    assert main(["compare", str(run_dir), "--no-page"]) == 0


@pytest.mark.gpu
def test_on_cuda_the_peak_is_what_torch_held_since_the_restart():
    device = torch.device("cuda", torch.cuda.current_device())
    restart_peak(device)
    before = peak_memory(device)
    large = torch.empty(64 * MB, dtype=torch.uint8, device=device)
    del large
    assert peak_memory(device) - before == 64 * MB
    restart_peak(device)
    assert peak_memory(device) == before


def test_freed_memory_is_given_back_where_the_c_library_can(monkeypatch):
    calls = []
    monkeypatch.setattr(memory, "_trim", lambda: calls.append)
    memory.give_back()
    assert calls == [0]
    monkeypatch.undo()
    for error in (AttributeError, OSError, TypeError):
        memory._trim.cache_clear()
        monkeypatch.setattr("ctypes.CDLL", _raises(error))
        memory.give_back()
    memory._trim.cache_clear()


def _raises(error):
    def call(*args):
        raise error

    return call


def test_a_container_may_hold_less_than_the_machine(tmp_path, monkeypatch):
    def group(folder, most, used, cache):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "memory.max").write_text(most)
        (folder / "memory.current").write_text(used)
        (folder / "memory.stat").write_text(f"anon 7\ninactive_file {cache}\n")

    (tmp_path / "self").mkdir()
    (tmp_path / "self/cgroup").write_text("0::/outer/inner\n")
    monkeypatch.setattr(memory, "_PROCESS", tmp_path / "self")
    monkeypatch.setattr(memory, "_GROUPS", tmp_path / "groups")
    monkeypatch.setattr(memory, "_free_of_machine", lambda: 5000)
    group(tmp_path / "groups/outer/inner", "max", "100", 0)
    assert memory.free_memory(CPU) == 5000
    group(tmp_path / "groups/outer", "1000", "400", 50)  # files in memory can be given up
    assert memory.free_memory(CPU) == 650
    assert memory.free_memory(torch.device("mps")) is None
    for free, expected in ((9000, 650), (600, 600)):  # what processes share counts as theirs
        monkeypatch.setattr(memory.shutil, "disk_usage", lambda folder, free=free: SimpleNamespace(free=free))
        assert memory.free_shared() == expected
