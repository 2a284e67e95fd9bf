"""A study on a Ray cluster of two nodes on this machine, one of which dies in the middle."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import types
from collections.abc import Iterator
from pathlib import Path

import pytest
from small_study import check_equal

from kd.errors import RecipeError
from kd.runs import is_finished, is_locked
from kd.study import on_ray
from kd.study.reader import read_study

RUNS = Path("runs")
PORT = 6412
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"}


def test_ray_that_is_not_installed_is_a_line(trainable: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from command import kd

    try:
        import ray  # noqa: F401
    except ImportError:
        assert kd("study", trainable, "--trust", "--on", "ray") == 2
        line = "--on: ray is not installed; pip install 'kd-segmentation[ray]'\n"
        assert capsys.readouterr().err == line
        assert not RUNS.exists()
    else:
        pytest.skip("ray is installed")


def processes(folder: Path) -> set[int]:
    """The processes of the cluster whose files are in a folder."""
    found = set()
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            command = (entry / "cmdline").read_bytes()
        except OSError:  # it has ended
            continue
        if str(folder).encode() in command:
            found.add(int(entry.name))
    return found


def end(pids: set[int]) -> None:
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


@pytest.fixture
def nodes(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[set[int]]:
    """A head and a second node with one CPU each; the processes of the second one."""
    pytest.importorskip("ray", reason="ray is not installed")
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    folder = Path(f"/tmp/ray-{os.getpid()}")  # short: the paths of its sockets have at most 107 characters
    call = [sys.executable, "-m", "ray.scripts.scripts", "start", "--num-cpus=1"]
    head = ["--head", "--node-ip-address=127.0.0.1", f"--port={PORT}", "--include-dashboard=false"]
    try:
        subprocess.run([*call, *head, f"--temp-dir={folder}"], check=True, capture_output=True)
        before = processes(folder)
        subprocess.run([*call, f"--address=127.0.0.1:{PORT}"], check=True, capture_output=True)
        yield processes(folder) - before
    finally:
        end(processes(folder))
        shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_runs_of_a_node_that_dies_are_finished_by_the_other(twelve: Path, nodes: set[int]) -> None:
    call = [sys.executable, "-m", "kd", "study", "s.yaml", "--trust", "--on", f"ray://127.0.0.1:{PORT}"]
    process = subprocess.Popen(call, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    runs = [run.run_dir(RUNS) for run in read_study("s.yaml", trust=True, runs=RUNS).runs()]
    while process.poll() is None and not (any(map(is_finished, runs)) and any(map(is_locked, runs))):
        time.sleep(0.1)
    end(nodes)
    out, errors = process.communicate()
    assert process.returncode == 0, out + errors
    assert len(re.findall(r": trains ", out)) >= len(runs) == 12 + 1
    check_equal(RUNS)


def test_a_port_of_something_else_is_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as that of Ray Client, which accepts the connection and says nothing that Ray understands."""
    monkeypatch.setitem(sys.modules, "ray", types.ModuleType("ray"))
    monkeypatch.setattr(on_ray, "PROBE", "import time\ntime.sleep(60)")
    monkeypatch.setattr(on_ray, "PATIENCE", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(RecipeError) as caught:
            on_ray.RayWorkers([], address=address, slots=1, needs=on_ray.Needs(1))
    assert str(caught.value) == (
        f"--on: what listens at {address} is no head of a Ray cluster; give the address that ray start --head prints "
        "(its port is 6379, not the 10001 of Ray Client)"
    )


def test_a_cluster_that_asks_for_a_token_is_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray 2.60 starts its head with one wherever a token exists, and sends it to no address that is given."""

    class AuthenticationError(Exception):
        pass

    def init(**settings: object) -> None:
        try:
            raise AuthenticationError
        except AuthenticationError as error:
            raise ConnectionError("Failed to connect to Ray cluster") from error

    fake = types.ModuleType("ray")
    monkeypatch.setattr(fake, "init", init, raising=False)
    monkeypatch.setitem(sys.modules, "ray", fake)
    monkeypatch.setattr(on_ray, "_probe", lambda address: None)
    with pytest.raises(RecipeError) as caught:
        on_ray.RayWorkers([], address="127.0.0.1:6379", slots=1, needs=on_ray.Needs(1))
    assert str(caught.value) == (
        "--on: the cluster at 127.0.0.1:6379 asks for a token; put RAY_AUTH_MODE=token before the command (Ray reads "
        "the token from ~/.ray/auth_token)"
    )


@pytest.mark.slow
def test_an_address_that_does_not_answer_is_a_line(trainable: Path) -> None:
    pytest.importorskip("ray", reason="ray is not installed")
    call = [sys.executable, "-m", "kd", "study", "s.yaml", "--trust", "--on", "ray://127.0.0.1:1"]
    done = subprocess.run(call, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert re.fullmatch(
        r"--on: no Ray cluster answers at 127\.0\.0\.1:1 \(.*\); start one: ray start --head\n", done.stderr
    )
    assert not list(Path("runs").glob("*/*/recipe.yaml"))
