import os
import pty
import signal
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest
from tiny import write_recipes

from kd import distributed
from kd.cli import main
from kd.errors import StoppedError
from kd.train.signals import SIGNALS, Stop, stopping


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2"])
def test_the_first_signal_is_recorded(name):
    number = signal.Signals[name]
    shell = signal.signal(number, signal.default_int_handler)  # these tests may run under nohup
    try:
        with stopping() as stop:
            os.kill(os.getpid(), number)
            assert stop.signal == number
            with pytest.raises(StoppedError, match=f"stopped by {name}; the same command resumes") as stopped:
                stop.check()
        assert stopped.value.exit_status == 128 + number
        assert signal.getsignal(number) == signal.default_int_handler
    finally:
        signal.signal(number, shell)


def test_nohup_keeps_a_run_alive_when_its_terminal_is_closed():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stopping() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert stop.agreed() is None
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_in_another_thread_nothing_is_caught_and_nothing_fails():
    before = list(map(signal.getsignal, SIGNALS))

    def signalled():
        with stopping() as stop:
            return stop.agreed(), list(map(signal.getsignal, SIGNALS))

    with ThreadPoolExecutor() as pool:
        assert pool.submit(signalled).result() == (None, before)


def test_a_signal_during_the_agreement_of_the_ranks_is_kept_for_the_next(monkeypatch):
    stop = Stop()

    def largest(value):
        stop.handle(signal.SIGTERM, None)
        return value  # of before the signal, as the other ranks see it

    with monkeypatch.context() as patched:
        patched.setattr(distributed, "largest", largest)
        assert stop.agreed() is None
    assert stop.agreed() == signal.SIGTERM


def test_the_second_signal_ends_the_process():
    child = os.fork()
    if child == 0:
        with stopping():
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGTERM)
            os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGTERM


def test_a_run_whose_terminal_is_closed_saves_and_exits_with_129(tmp_path):
    """The system sends SIGHUP, and from then on nothing can be written to the terminal."""
    path = write_recipes(tmp_path)
    child, terminal = pty.fork()
    if child == 0:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # these tests may run under nohup
        warnings.simplefilter("default")
        sys.stdout, sys.stderr = (os.fdopen(stream, "w", buffering=1) for stream in (1, 2))
        arguments = ["teacher=null", "distill=null", "train.steps=100000", "train.evaluate_every=0", "--trust"]
        os._exit(main(["run", str(path), *arguments, "--runs", str(tmp_path / "runs")]))
    shown = b""
    try:
        while b"/100000" not in shown:
            shown += os.read(terminal, 4096)
    finally:
        os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 129
    (log,) = tmp_path.glob("runs/*/seed0/log.txt")
    assert list(log.parent.glob("checkpoints/step-*.pt"))
    assert not (log.parent / "result.json").exists()
