"""`kd list`, `kd diff` and `kd compare --no-page` read results and do not import torch."""

import subprocess
import sys

import pytest
from manifests import list_anew
from recipe_text import ALONE

CALLS = {
    "list": "from kd.compare import list_command; list_command(runs)",
    "diff": "from kd.compare.diff import diff_command; diff_command(student, baseline)",
    "compare": "from kd.compare import compare_command; compare_command([str(student)], page=False)",
    "json": "from kd.compare import compare_command; compare_command([str(student)], page=False, form='json')",
    "markdown": "from kd.compare import compare_command; compare_command([str(student)], form='markdown')",
    "schema": "from kd.cli import main; main(['schema', 'evaluate'])",
    "list by command": "from kd.cli import main; main(['list', '--runs', str(runs)])",
    "diff by command": "from kd.cli import main; main(['diff', str(student), str(baseline)])",
    "compare by command": "from kd.cli import main; main(['compare', '--no-page', str(student)])",
    "metrics": "import numpy, kd.metrics; print(kd.metrics.scores(numpy.eye(2)).miou)",
}


@pytest.mark.parametrize("name", CALLS)
def test_no_torch_is_imported(made, trio, name):
    student = trio()
    baseline = made.folder / "small_kl-bbbbbbbb" / "seed0"
    for run_dir in (student, baseline):
        (run_dir / "recipe.yaml").write_text(ALONE)
        list_anew(run_dir)
    lines = [
        "import sys",
        "from pathlib import Path",
        f"runs, student, baseline = Path({str(made.folder)!r}), Path({str(student)!r}), Path({str(baseline)!r})",
        CALLS[name],
        "assert 'torch' not in sys.modules",
    ]
    done = subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout
    assert not (student / "report.html").exists()
