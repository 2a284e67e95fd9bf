"""The command line, in this process and as a child process."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from command import kd, process
from manifests import unfinish

from kd import __version__

KEPT = next((Path(__file__).resolve().parents[2] / "docs/results/data/shapes").glob("mobilenetv3_kl_cwd-*/seed0"))


def test_version_and_help(capsys):
    for argument, expected in (("--version", f"kd {__version__}"), ("--help", "COMMAND")):
        with pytest.raises(SystemExit) as caught:
            kd(argument)
        assert caught.value.code == 0
        assert expected in capsys.readouterr().out


def test_run_compare_and_list(recipe, capsys):
    assert kd("run", recipe, "--trust", "--baseline", "train.steps=4") == 0
    out = capsys.readouterr().out
    assert "nets.py:Net, distilled, seed 0" in out
    assert "student 4/4 · " in out
    assert kd("compare", recipe, "--trust", "train.steps=4", "--json") == 0
    assert "baseline" in json.dumps(json.loads(capsys.readouterr().out))
    assert kd("list") == 0
    assert "student" in capsys.readouterr().out


def test_mistakes_in_a_recipe_are_lines_and_status_2(recipe, capsys):
    recipe.write_text(recipe.read_text().replace("momentum", "momentun").replace("batch_size", "batchsize"))
    assert kd("run", recipe, "--trust") == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [
        f"{recipe}:10:1: train: needs 'batch_size'",
        f"{recipe}:10:19: train.batchsize: unknown key; did you mean 'batch_size'?",
    ]
    assert not (recipe.parent / "runs").exists()


@pytest.mark.parametrize("line", ["check {}", "copy {}", "diff {} {}", "compare {}", "evaluate {}", "latency {}"])
def test_a_name_that_no_file_can_have_is_a_line(folder, capsys, line):
    assert kd(*line.replace("{}", "a" * 300).split()) == 2
    assert capsys.readouterr().err == f"{'a' * 255}…: cannot be read (File name too long)\n"


def test_code_beside_the_recipe_needs_trust(recipe, capsys):
    assert kd("run", recipe) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "nets.py:Net" in line
    assert line.endswith("--trust")


def test_trust_may_come_from_the_environment(recipe, monkeypatch, capsys):
    monkeypatch.setenv("KD_TRUST", "1")
    assert kd("check", recipe) == 0


def test_missing_data_is_status_3(recipe, capsys):
    assert (
        kd(
            "run",
            recipe,
            "--trust",
            "data.use=kd.data.CamVid",
            "data.args={root: nowhere}",
            "teacher=null",
            "distill=null",
        )
        == 3
    )
    (line,) = capsys.readouterr().err.splitlines()
    assert "nowhere" in line
    assert not (recipe.parent / "runs").exists()


def test_a_diverging_run_is_status_4(recipe, capsys):
    assert kd("run", recipe, "--trust", "optimizer.args.lr=1e30", "teacher=null", "distill=null") == 4
    assert "lower optimizer.args.lr" in capsys.readouterr().err


def test_damaged_checkpoints_are_status_5(recipe, capsys):
    assert kd("run", recipe, "--trust", "teacher=null", "distill=null") == 0
    (run_dir,) = (recipe.parent / "runs").glob("*/seed0")
    unfinish(run_dir)
    for path in (run_dir / "checkpoints").glob("*.pt"):
        path.write_bytes(path.read_bytes()[:-1])
    assert kd("run", recipe, "--trust", "teacher=null", "distill=null") == 5
    assert "no valid checkpoint among" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_is_status_6(recipe, capsys):
    (recipe.parent / "runs").write_text("")
    assert kd("run", recipe, "--trust", "teacher=null", "distill=null") == 6


def test_a_bug_is_status_1_with_traceback_and_how_to_report(recipe, monkeypatch, capsys):
    monkeypatch.setattr("kd.train.session.session", None)
    assert kd("run", recipe, "--trust") == 1
    err = capsys.readouterr().err
    assert "TypeError: 'NoneType' object is not callable" in err
    assert f"kd {__version__}: this is a bug. Please report it" in err


def test_code_of_the_users_that_fails_late_is_one_line_with_its_place(recipe, capsys):
    nets = recipe.parent / "nets.py"
    late = "        self.calls = getattr(self, 'calls', 0) + 1\n        assert self.calls < 25, 'worn out'\n"
    nets.write_text(nets.read_text().replace("        low = torch", f"{late}        low = torch"))
    line = nets.read_text().splitlines().index("        assert self.calls < 25, 'worn out'") + 1
    alone = ("teacher=null", "distill=null", "train.steps=40")
    assert kd("run", recipe, "--trust", *alone) == 2
    error = f"{nets}:{line}: AssertionError: worn out (nets.py:{line}); this code is not part of kd: correct it"
    assert capsys.readouterr().err.splitlines()[-1] == error


def test_schema_env_and_inspect(recipe, capsys):
    assert kd("schema") == 0
    assert json.loads(capsys.readouterr().out)["title"] == "kd recipe"
    assert kd("env") == 0
    assert "torch" in capsys.readouterr().out
    assert kd("inspect", recipe, "--trust") == 0
    out = capsys.readouterr().out
    assert "teacher: 258 parameters; taps: low (8 at stride 4)" in out
    assert "Conv1x1 (32)" in out


def test_a_signal_stops_a_real_run_after_a_checkpoint(recipe):
    endless = ("train.steps=100000000", "train.save_every=100000000")
    child = process("run", recipe, "--trust", "teacher=null", "distill=null", *endless, cwd=recipe.parent)
    try:
        while not list((recipe.parent / "runs").glob("*/seed0/metrics.jsonl")):
            assert child.poll() is None, child.communicate()
            time.sleep(0.1)
        child.send_signal(signal.SIGTERM)
        _, err = child.communicate()
    finally:
        child.kill()
    assert child.returncode == 143
    assert "stopped by SIGTERM; the same command resumes the run" in err
    (run_dir,) = (recipe.parent / "runs").glob("*/seed0")
    assert list((run_dir / "checkpoints").glob("step-*.pt"))
    assert not (run_dir / "result.json").exists()


def test_a_run_directory_in_use_is_status_7(recipe):
    from kd.recipe import baseline_of, read_recipe
    from kd.runs import locked, run_directory

    run_dir = run_directory(baseline_of(read_recipe(recipe, trust=True)), recipe.parent / "runs", 0)
    with locked(run_dir):
        child = process("run", recipe, "--trust", "teacher=null", "distill=null", cwd=recipe.parent)
        _, err = child.communicate()
    assert child.returncode == 7
    assert err.splitlines() == [
        f"runs/{run_dir.parent.name}/seed0: in use by process {os.getpid()} on {os.uname().nodename}; "
        "wait for it, or stop it first"
    ]


@pytest.mark.parametrize("command", [["schema"], ["compare", "--no-page", KEPT]], ids=["lines", "tables"])
def test_a_closed_pipe_is_not_a_bug(command):
    with process(*command) as child:
        child.stdout.close()
        assert child.stderr.read() == ""
    assert child.returncode == 141


@pytest.mark.parametrize(
    "command", ["list", "list --json", "schema", "env", "components", f"compare {KEPT} --no-page", "copy", "clean"]
)
def test_standard_output_on_a_full_disk_is_one_line_and_status_6(folder, command, monkeypatch, capsys):
    with open("/dev/full", "w") as full:
        monkeypatch.setattr("sys.stdout", full)
        assert kd(*command.split()) == 6
    assert capsys.readouterr().err == "standard output: No space left on device\n"


@pytest.mark.parametrize("unbuffered", [False, True])  # as PYTHONUNBUFFERED=1 has it in many containers
@pytest.mark.parametrize("command", ["--help", "--version", "run --help"])
def test_help_on_a_full_disk_is_one_line_and_status_6(command, unbuffered, monkeypatch, capsys):
    with open("/dev/full", "wb", buffering=0) as raw:
        full = io.TextIOWrapper(raw if unbuffered else io.BufferedWriter(raw), write_through=unbuffered)
        monkeypatch.setattr("sys.stdout", full)
        assert kd(*command.split()) == 6
    assert capsys.readouterr().err == "standard output: No space left on device\n"


def test_a_wrong_recipe_is_refused_before_torch_is_imported(recipe):
    (recipe.parent / "wrong.yaml").write_text(recipe.read_text().replace("batch_size", "batchsize"))
    (recipe.parent / "hostile.yaml").write_text(recipe.read_text().replace("nets.py:Net", "kd.cli.main"))
    code = "import sys; from kd.cli import main; status = main(sys.argv[1:]); print(status, 'torch' in sys.modules)"
    for command in ("run", "check", "compare", "inspect", "bench"):
        for file in ("wrong.yaml", "hostile.yaml"):
            child = subprocess.run(
                [sys.executable, "-c", code, command, file],
                cwd=recipe.parent,
                capture_output=True,
                text=True,
                check=False,
            )
            assert child.stdout == "2 False\n", (command, file, child.stderr)
