"""kd where Python lacks what Linux has: modules, functions and signals are hidden, and nothing forks."""

import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from tiny import write_recipes
from torch.utils._python_dispatch import TorchDispatchMode
from toy import Toy

import kd.types
from kd import distributed, memory
from kd.components import Maker
from kd.errors import RecipeError
from kd.losses import AT, CWD, MSE, CrossEntropy, PixelKL
from kd.machine import hardware
from kd.parts.objective import Supervised, Term
from kd.parts.roles import Student, Teacher
from kd.recipe import Use, read_recipe
from kd.recipe.reader import imports
from kd.recipe.trust import is_component
from kd.types import Batch

ROOT = Path(__file__).parents[1]

ELSEWHERE = '''
"""`kd` on a system that has none of these; the first argument is the start method of processes."""
import builtins, importlib.abc, io, os, signal, sys
import filelock, multiprocessing  # they choose by platform
import torch.utils.data, torch.distributed, torchvision


class Missing(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name in ("resource", "fcntl", "pwd", "grp", "termios", "syslog"):
            raise ModuleNotFoundError(f"No module named '{name}'", name=name)


def hide():
    sys.meta_path.insert(0, Missing())
    sys.modules.pop("resource", None)
    for name in ("SIGUSR1", "SIGUSR2", "SIGHUP", "SIGQUIT", "SIGCHLD", "SIGKILL", "SIGPIPE", "SIGALRM"):
        delattr(signal, name)
    for name in ("fork", "uname", "pread", "pwrite", "sched_getaffinity", "posix_fallocate", "statvfs", "getuid",
                 "mkfifo", "setsid", "killpg", "getloadavg", "geteuid", "nice", "getpgid"):
        delattr(os, name)
    torch.utils.data._utils.signal_handling._set_SIGCHLD_handler = lambda: None  # as torch does on Windows
    ordinary = io.open

    def opened(file, *arguments, **options):
        if str(file).startswith("/proc"):
            raise FileNotFoundError(2, "No such file or directory", str(file))
        return ordinary(file, *arguments, **options)

    io.open = builtins.open = opened


if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    hide()
    from kd.cli import main

    for command in " ".join(sys.argv[2:]).split(" , "):
        status = main(command.split())
        print(f"[{status}]", flush=True)
'''


def elsewhere(folder, start, *commands):
    """Run commands in one process on such a system; its output, which reports every exit status."""
    (folder / "elsewhere.py").write_text(ELSEWHERE)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PYTHONIOENCODING": "cp1252"}
    arguments = [sys.executable, "elsewhere.py", start, " , ".join(commands)]
    done = subprocess.run(arguments, cwd=folder, env=environment, capture_output=True, text=True, encoding="cp1252")
    assert done.stderr == ""
    return done.stdout


def test_commands_run_without_what_linux_alone_has(tmp_path):
    write_recipes(tmp_path)
    out = elsewhere(
        tmp_path,
        "spawn",
        "run student.yaml --trust cache.views=2 train.steps=2 train.save_every=1",
        "list",
        "compare student.yaml --trust --no-page cache.views=2 train.steps=2 train.save_every=1",
        "env",
        "components",
    )
    assert [line for line in out.splitlines() if line.startswith("[")] == ["[0]"] * 5
    results = list(tmp_path.glob("runs/*/seed0/result.json"))
    assert len(results) == 2
    assert all('"peak_memory": null' in result.read_text() for result in results)
    assert not list(tmp_path.rglob(".tmp-*"))


@pytest.mark.slow
@pytest.mark.parametrize("start", ["spawn", "forkserver"])
def test_workers_that_are_not_forked_train_and_score(tmp_path, start):
    write_recipes(tmp_path)
    options = "student.yaml --trust teacher=null distill=null data.workers"
    out = elsewhere(tmp_path, start, f"run {options}=2 --runs two", f"run {options}=0 --runs none")
    assert [line for line in out.splitlines() if line.startswith("[")] == ["[0]", "[0]"]
    two, none = (next((tmp_path / runs).glob("student-*/seed0/student.safetensors")) for runs in ("two", "none"))
    assert two.read_bytes() == none.read_bytes()


@pytest.mark.parametrize("text", [r"C:\kd\my.py:Net", r"nets\my.py:Net", "D:/kd/my.py:Net", r"\\host\kd\my.py:Net"])
def test_a_file_with_a_drive_or_backslashes_is_a_component(tmp_path, text):
    """The name of the class is after the last colon."""
    assert is_component(text)
    with pytest.raises(RecipeError) as caught:
        Maker(read_recipe(write_recipes(tmp_path), trust=True)).build(Use(use=text))
    assert text.rpartition(":")[0] in str(caught.value)


def test_a_drive_without_a_name_of_a_class_is_no_component():
    assert not is_component(r"C:\kd\my.py")
    assert not is_component(r"C:\kd\my.py:")


def test_paths_with_backslashes_are_taken_as_they_are(tmp_path):
    path = write_recipes(tmp_path)
    text = path.read_text().replace('"nets.py:Stripes"', r"kd.data.Folders, args: {root: C:\data\new}")
    path.write_text(text.replace("  use: kd.data.Folders, args", "  use: kd.data.Folders\n  args"))
    assert read_recipe(path, trust=True).data.args["root"] == r"C:\data\new"
    over = read_recipe(path, [r"data.args.root=D:\data", r"cache.folder='E:\cache'", "cache.views=1"], trust=True)
    assert (over.data.args["root"], over.cache.folder) == (r"D:\data", r"E:\cache")
    with pytest.raises(RecipeError) as caught:
        read_recipe(path, [r'data.args.root="C:\data"'], trust=True)
    assert str(caught.value).endswith(
        "found unknown escape character 'd'; a backslash in double quotes begins an escape: "
        "use single quotes, or / in paths"
    )


def test_a_teacher_on_another_drive_is_listed_with_its_whole_path(tmp_path, monkeypatch):
    path = write_recipes(tmp_path)
    listed = imports(path)

    def another_drive(path, start):
        raise ValueError("path is on mount 'C:', start on mount 'D:'")

    monkeypatch.setattr("os.path.relpath", another_drive)
    assert [name.replace(f"{tmp_path}{os.sep}", "") for name in imports(path)] == listed


def test_mps_trains_in_one_process(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(RecipeError, match="device: mps trains in one process"), distributed.joined("mps"):
        pass


class NoFloat64(TorchDispatchMode):
    """A device without float64, as an Apple GPU is: here, `meta`."""

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        made = function(*arguments, **(options or {}))
        for value in made if isinstance(made, tuple | list) else (made,):
            if isinstance(value, torch.Tensor) and value.is_meta and value.dtype == torch.float64:
                raise TypeError(f"{function}: Cannot convert a MPS Tensor to float64 dtype")
        return made


def test_a_step_needs_no_float64_on_the_device(monkeypatch):
    """Both networks, sizes, labels, losses and the gradient; values are those of the CPU elsewhere."""
    monkeypatch.setattr(kd.types, "WITHOUT_FLOAT64", ("meta",))
    autocast = partial(torch.autocast, "cpu")  # `meta` has none
    monkeypatch.setattr(torch, "autocast", lambda device, enabled: autocast(enabled=enabled))
    terms = {"kl": (PixelKL(4.0), "logits"), "cwd": (CWD(), "logits"), "hint": (MSE(), "low"), "at": (AT(), "low")}
    with NoFloat64(), torch.device("meta"):
        student = Student(Toy(8), {name: at for name, (_, at) in terms.items()}, {}, {})
        teacher = Teacher(Toy(8), {name: at for name, (_, at) in terms.items()})
        images, labels = torch.rand(2, 3, 33, 47), torch.zeros(2, 33, 47, dtype=torch.int64)
        batch = Batch(images, labels, labels == 0, torch.zeros(2, 2, dtype=torch.int64))
        taught, learned = teacher(batch), student(images)
        assert learned.logits.shape[2:] != labels.shape[1:]
        total = Supervised(CrossEntropy(), 0.4)(learned, labels)
        for name, (loss, _) in terms.items():
            total = total + Term(loss, lambda step: 1.0)(name, learned, taught, batch)
        total.backward()
        assert all(parameter.grad is not None for parameter in student.parameters())
    with pytest.raises(TypeError, match="float64"), NoFloat64():
        torch.zeros(2, dtype=torch.float64, device="meta")


def test_a_device_without_float64_gets_the_values_of_the_others(monkeypatch):
    maps, labels = torch.rand(1, 1, 5, 7), torch.arange(35).view(1, 5, 7)
    before = kd.types.resize(maps, (9, 4)), kd.types.resize_labels(labels, (9, 4))
    monkeypatch.setattr(kd.types, "WITHOUT_FLOAT64", ("cpu",))
    assert torch.equal(kd.types.resize(maps, (9, 4)), before[0])
    assert torch.equal(kd.types.resize_labels(labels, (9, 4)), before[1])
    assert kd.types.in_float64(maps).dtype == torch.float64


def test_hardware_and_memory_need_no_proc(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "_PROCESS", tmp_path)
    monkeypatch.delattr("os.sched_getaffinity")
    assert memory.peak_memory(torch.device("cpu")) > 10**6
    assert hardware(torch.device("cpu"))["cores"] >= 1
