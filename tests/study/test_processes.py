"""A study in real processes: equal to serial runs to the bit, and finished by those that are left when one dies."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from small_study import check_equal

from kd.study.reader import read_study

RUNS = Path("runs")


def start(*options: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "kd", "study", "s.yaml", "--trust", "--threads", "1", *options]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_jobs_side_by_side_give_the_bits_of_serial_runs(twelve: Path) -> None:
    process = start("--jobs", "3")
    out, errors = process.communicate()
    assert (process.returncode, errors) == (0, "")
    assert len(re.findall(r": trains ", out)) == 12 + 1
    check_equal(RUNS)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_four_processes_share_a_study_and_survive_the_death_of_one(twelve: Path) -> None:
    processes = [start() for _ in range(4)]
    while not (owners := [words for file in RUNS.glob("*/*/.owner") if len(words := file.read_text().split()) > 1]):
        time.sleep(0.02)
    child = int(owners[0][1])  # `process <id> on <machine>`: it trains a run now
    parent = int(Path(f"/proc/{child}/stat").read_text().split()[3])
    (victim,) = [process for process in processes if process.pid == parent]
    for pid in (parent, child):
        os.kill(pid, signal.SIGKILL)
    outputs = [process.communicate() for process in processes]
    assert [process.returncode for process in processes if process is not victim] == [0, 0, 0], outputs
    finished = [label for out, _ in outputs for label in re.findall(r"^(.+): mIoU .* after", out, re.MULTILINE)]
    assert len(finished) == len(set(finished)), outputs  # each by one process, once
    for run in read_study("s.yaml", trust=True, runs=RUNS).runs():
        assert (run.run_dir(RUNS) / "log.txt").read_text().count(" after ") == 1, (run.label, outputs)
    check_equal(RUNS)
