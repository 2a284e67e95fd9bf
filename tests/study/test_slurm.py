"""The script for Slurm: its text, and what it does on a real Slurm of one machine."""

import os
import re
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from command import kd
from small_study import check_equal

from kd.runs import is_finished, is_locked
from kd.study.reader import read_study
from kd.study.slurm import script

RUNS = Path("runs")
TEXT = "base: r.yaml\nseeds: [0, 1]\nvariants: {a: {}, b b: {distill.kl.weight: 2}}\n"
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scontrol", "squeue")


def written(**needs: object) -> str:
    Path("s.yaml").write_text(TEXT)
    return script(read_study("s.yaml", runs=RUNS), runs=RUNS, **({"threads": 2} | needs))


def test_students_wait_for_their_teacher_and_baselines_do_not(readable: Path) -> None:
    text = written()
    assert re.findall(r"^(\w+)=\$\(sbatch.* --array=(\S+)(.*) <<'END'$", text, re.MULTILINE) == [
        ("teachers0", "0-0", ""),
        ("runs0", "0-1", ""),
        ("runs1", "0-3", ' --dependency="afterok:$teachers0" --kill-on-invalid-dep=yes'),
    ]
    assert re.findall(r"^runs=\((.*)\)$", text, re.MULTILINE) == [
        "teacher/0",
        "baseline/0 baseline/1",
        "a/0 a/1 'b b/0' 'b b/1'",
    ]
    assert text.count(' -P -m kd study s.yaml --only "${runs[$SLURM_ARRAY_TASK_ID]}"') == 3
    assert "# Submits 7 runs of s.yaml." in text


def test_what_is_finished_is_left_out_and_nothing_waits_for_it(readable: Path) -> None:
    written()
    teacher, first, *_ = read_study("s.yaml", runs=RUNS).runs()
    for run in (teacher, first):
        run.run_dir(RUNS).mkdir(parents=True)
        (run.run_dir(RUNS) / "manifest.json").write_text("{}")
    text = written()
    assert "teachers0" not in text
    assert "afterok" not in text
    assert re.findall(r"^runs=\((.*)\)$", text, re.MULTILINE) == ["baseline/1 a/0 a/1 'b b/0' 'b b/1'"]


def test_what_a_run_needs_is_asked_for(readable: Path) -> None:
    text = written(threads=4, jobs=3, gpus=1, memory=7.5)
    for option in ("--cpus-per-task=4 ", "--gres=gpu:1 ", "--mem=7500M ", "--array=0-1%3", "--signal=B:TERM@120 "):
        assert option in text
    assert "export OMP_NUM_THREADS=4\n" in text


def test_the_command_prints_it_and_it_is_a_script_that_bash_reads(recipe_study: Path) -> None:
    done = subprocess.run(["bash", "-n", recipe_study], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.fixture
def recipe_study(twelve: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """The script of the small study in a file."""
    assert kd("study", twelve.name, "--trust", "--print", "slurm") == 0
    file = Path("study.sh")
    file.write_text(capsys.readouterr().out)
    return file


CONFIGURATION = """\
ClusterName=kd
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort=7827
SlurmdPort=7828
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
ReturnToService=2
MpiDefault=none
JobRequeue=1
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory=1000 State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Slurm on this machine, started by hand."""
    if missing := [name for name in PROGRAMS if shutil.which(name) is None]:
        pytest.skip(f"Slurm is not installed: no {', '.join(missing)} (Debian: slurm-wlm, munge)")
    if os.geteuid() != 0:
        pytest.skip("Slurm's daemons are started as root")
    folder = Path(f"/tmp/slurm-{os.getpid()}")
    for name in ("state", "spool"):
        (folder / name).mkdir(parents=True)
    configuration = CONFIGURATION.format(host=socket.gethostname(), folder=folder, cpus=min(2, os.cpu_count() or 1))
    (folder / "slurm.conf").write_text(configuration)
    (folder / "munge.key").write_bytes(secrets.token_bytes(1024))
    (folder / "munge.key").chmod(0o400)
    monkeypatch.setenv("SLURM_CONF", str(folder / "slurm.conf"))
    files = {"key-file": "key", "socket": "socket", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
    options = [f"--{name}={folder}/munge.{ending}" for name, ending in files.items()]
    try:
        subprocess.run(["munged", "--force", *options], check=True, capture_output=True)
        for daemon in ("slurmctld", "slurmd"):
            subprocess.run([daemon], check=True, capture_output=True)
        yield folder
    finally:
        subprocess.run(["scancel", "--user=root"], check=False, capture_output=True)
        time.sleep(2)
        for name in ("slurmd.pid", "slurmctld.pid", "munge.pid"):
            if (folder / name).is_file():
                os.kill(int((folder / name).read_text()), 15)
        time.sleep(2)  # they write their last state
        shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_slurm_trains_every_run_once_although_one_is_requeued(recipe_study: Path, cluster: Path) -> None:
    done = subprocess.run(["bash", recipe_study], capture_output=True, text=True, check=True)
    jobs = re.findall(r"^job (\d+): ", done.stdout, re.MULTILINE)
    assert len(jobs) == 3
    teacher, *others = read_study("s.yaml", trust=True, runs=RUNS).runs()
    while not (is_locked(teacher.run_dir(RUNS)) or is_finished(teacher.run_dir(RUNS))):
        time.sleep(0.1)
    subprocess.run(["scontrol", "requeue", f"{jobs[0]}_0"], check=False, capture_output=True)
    while subprocess.run(["squeue", "--noheader"], capture_output=True, text=True, check=True).stdout:
        time.sleep(1)
    assert all(is_finished(run.run_dir(RUNS)) for run in (teacher, *others)), list(Path().glob("slurm-*.out"))
    for run in others:
        log = (run.run_dir(RUNS) / "log.txt").read_text()
        assert log.count(" after ") == 1  # its end
    check_equal(RUNS)
