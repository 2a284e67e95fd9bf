"""The positional arguments of a command: names, inputs and `path=value` in any order, before and after options."""

from importlib import import_module
from pathlib import Path

import pytest
from command import kd

program = import_module("kd.cli.main")  # `from kd.cli import main` is the function


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("run r.yaml --baseline train.steps=2", {"files": ["r.yaml"], "overrides": ["train.steps=2"]}),
        ("run train.steps=2 r.yaml", {"files": ["r.yaml"], "overrides": ["train.steps=2"]}),
        ("run r.yaml --budget 6h b.yaml", {"files": ["r.yaml"], "overrides": ["b.yaml"]}),  # which is refused as one
        ("run lr=0.1.yaml", {"files": ["lr=0.1.yaml"], "overrides": []}),
        ("evaluate lr=0.1-x/seed0 --split test b a=1", {"files": ["lr=0.1-x/seed0", "b"], "overrides": ["a=1"]}),
        ("compare a --no-page b", {"files": ["a", "b"]}),
        ("check a.yaml --imports b.yaml", {"files": ["a.yaml", "b.yaml"]}),
        ("predict R --overlay photos", {"files": ["R"], "inputs": ["photos"]}),
        ("predict a=1 R a --with S b", {"files": ["R"], "inputs": ["a", "b"], "overrides": ["a=1"]}),
        ("label lr=0.1-x/seed0 --out x lr=0.1.yaml", {"files": ["lr=0.1-x/seed0"], "inputs": ["lr=0.1.yaml"]}),
        ("bench --networks a b", {"files": [], "networks": ["a", "b"]}),
        ("tiles slides --out tiles masks", {"images": Path("slides"), "masks": Path("masks")}),
        ("init export --out x a.json", {"images": Path("export"), "annotations": Path("a.json")}),
    ],
)
def test_names_may_be_anywhere(folder, line, expected):
    (folder / "lr=0.1.yaml").touch()  # such names are of files where there are some
    (folder / "lr=0.1-x/seed0").mkdir(parents=True)
    arguments = vars(program._parse(line.split()))
    assert {name: arguments[name] for name in expected} == expected


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("run r.yaml --bud 6h", "kd run: error: unrecognized arguments: --bud 6h; did you mean '--budget'?"),
        ("run r.yaml --fres", "kd run: error: unrecognized arguments: --fres; did you mean '--fresh'?"),
        ("list a b=1", "kd list: error: unrecognized arguments: b=1"),
        ("--vers", "kd: error: the following arguments are required: COMMAND"),
    ],
)
def test_options_are_written_out(capsys, line, error):
    """The command that resumes a run is made from those that were given."""
    with pytest.raises(SystemExit) as caught:
        kd(*line.split())
    assert caught.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1] == error


@pytest.mark.parametrize(
    ("line", "idle", "why"),
    [
        ("run r.yaml --smoke --fresh --runs x", ["--fresh", "--runs"], "with --smoke"),
        ("run r.yaml --smoke --budget 6h --accept-inputs", ["--budget", "--accept-inputs"], "with --smoke"),
        ("run r.yaml --smoke --baseline --no-wait", ["--baseline", "--no-wait"], "with --smoke"),
        ("data r.yaml --check --out x.html --images 3", ["--out", "--images"], "with --check"),
        ("check r.yaml --imports --plan", ["--plan"], "with --imports"),
        ("evaluate r.yaml --overwrite", ["--overwrite"], "without --predictions"),
        ("export r.yaml --max-drop 0.5", ["--max-drop"], "without --int8"),
        ("tiles slides --out x --mask-suffix _m", ["--mask-suffix"], "without MASKS"),
        ("init export --network x", ["--network"], "without --teacher"),
        ("init export --network x --teacher runs", ["--network"], "with a run as --teacher"),
        ("init export --network x --teacher t.yaml", ["--network"], "with a recipe as --teacher"),
        ("study s.yaml --only kl/0 --jobs 4 --json", ["--jobs", "--json"], "with --only"),
        ("study s.yaml --list --on ray --threads 2", ["--threads", "--on"], "with --list"),
        ("study s.yaml --print slurm --json --on ray", ["--on", "--json"], "with --print"),
        ("study s.yaml --gpus 1", ["--gpus"], "without --on or --print"),
    ],
)
def test_options_without_an_effect_are_refused(folder, capsys, line, idle, why):
    (folder / "runs").mkdir()
    assert kd(*line.split()) == 2
    command = line.partition(" ")[0]
    assert capsys.readouterr().err.splitlines() == [
        f"kd {command}: {option} has no effect {why}; leave it out" for option in idle
    ]


@pytest.mark.parametrize(
    "line",
    [
        "run r.yaml --smoke --trust", "data r.yaml --out x.html", "export r.yaml --int8 --max-drop 0.5",
        "tiles slides masks --out x --mask-suffix _m", "study s.yaml --print slurm --gpus 1 --jobs 2",
        "study s.yaml --list --json", "evaluate r.yaml --predictions masks --overwrite",
    ],
)  # fmt: skip
def test_options_with_an_effect_are_taken(line):
    assert program._parse(line.split()).command == line.partition(" ")[0]


@pytest.mark.parametrize("command", ["list", "clean"])
@pytest.mark.parametrize("option", [(), ("--runs",)], ids=["argument", "option"])
def test_a_folder_of_runs_that_is_named_must_be_there(folder, capsys, command, option):
    assert kd(command) == 0  # the default need not
    capsys.readouterr()
    assert kd(command, *option, "nowhere") == 6
    assert capsys.readouterr().err == "nowhere: no such folder\n"
    (folder / "nowhere").mkdir()
    assert kd(command, *option, "nowhere") == 0
    assert capsys.readouterr().out.startswith("nowhere: ")


@pytest.mark.parametrize("command", ["list", "clean"])
def test_two_folders_of_runs_are_refused(folder, capsys, command):
    assert kd(command, "a", "--runs", "b") == 2
    assert capsys.readouterr().err == "'a' and --runs 'b': two folders of runs; remove one of them\n"
