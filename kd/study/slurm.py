"""A study as arrays of Slurm jobs: a shell script that submits them."""

import os
import shlex
from collections.abc import Sequence
from pathlib import Path

from kd.runs import is_finished
from kd.study.local import itself
from kd.study.reader import Plan, Run

GRACE = 120  # seconds before the end of a job's time in which it saves its run
_JOB = """\
#!/bin/bash
runs=({labels})
{call} --only "${{runs[$SLURM_ARRAY_TASK_ID]}}" &
child=$!
trap 'kill -TERM $child' TERM  # its time is nearly over
wait $child
status=$?
if kill -0 $child 2> /dev/null
then  # the signal ended the wait, but the run saves its state
  wait $child
  status=$?
fi
[ $status = 143 ] && scontrol requeue "$SLURM_JOB_ID"
exit $status
"""


def script(
    plan: Plan,
    *,
    runs: Path,
    threads: int,
    jobs: int | None = None,
    gpus: int | None = None,
    memory: float | None = None,
) -> str:
    """The script that submits what a study misses: teachers, and after them the runs that they teach.

    Args:
        plan: the study.
        runs: the folder of run directories.
        threads: of each run.
        jobs: runs of an array at a time; None: no limit.
        gpus: of each run; None: not asked for.
        memory: of each run, in 10⁹ bytes; None: the partition's default.
    """
    missing = [run for run in plan.runs() if not is_finished(run.run_dir(runs))]
    arrays: dict[tuple[int, bool], list[Run]] = {}
    for run in missing:
        arrays.setdefault((_depth(run, runs), run.role == "teacher"), []).append(run)
    name = f"kd-{plan.file.stem}"
    options = [
        "--parsable",
        f"--job-name={name}",
        f"--cpus-per-task={threads}",
        "--requeue",
        f"--signal=B:TERM@{GRACE}",
    ]
    options += [f"--gres=gpu:{gpus}"] if gpus else []
    options += [f"--mem={1000 * memory:.0f}M"] if memory else []
    lines = [
        "#!/bin/bash",
        f"# Submits {len(missing)} runs of {plan.file.name}. Printed again later, it has those that are left.",
        "# SBATCH_PARTITION, SBATCH_TIMELIMIT and SBATCH_ACCOUNT choose where it runs, and for how long.",
        "set -eu",
        f"cd {shlex.quote(os.getcwd())}",
        f"export OMP_NUM_THREADS={threads}",
    ]
    call = shlex.join(itself(plan.words))
    for depth, teaches in sorted(arrays, key=lambda key: (key[0], not key[1])):
        members = arrays[depth, teaches]
        limit = f"%{jobs}" if jobs else ""
        after = f' --dependency="afterok:$teachers{depth - 1}" --kill-on-invalid-dep=yes' if depth else ""
        array = shlex.join(["sbatch", *options, f"--array=0-{len(members) - 1}{limit}"])
        job = _JOB.format(labels=shlex.join(run.label for run in members), call=call)
        lines += [f"{_variable(depth, teaches)}=$({array}{after} <<'END'", f"{job}END", ")"]
        lines.append(f'echo "job ${_variable(depth, teaches)}: {len(members)} of {len(missing)} runs"')
    return "\n".join(lines) + "\n"


def _variable(depth: int, teaches: bool) -> str:
    return f"{'teachers' if teaches else 'runs'}{depth}"


def _depth(run: Run, runs: Path) -> int:
    """How many arrays of teachers come before a run."""
    unfinished: Sequence[Run] = [teacher for teacher in run.needs if not is_finished(teacher.run_dir(runs))]
    return max((1 + _depth(teacher, runs) for teacher in unfinished), default=0)
