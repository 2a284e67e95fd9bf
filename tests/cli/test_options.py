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
        ("list a b=1", "kd list: error: unrecognized arguments: a b=1"),
        ("--vers", "kd: error: the following arguments are required: COMMAND"),
    ],
)
def test_options_are_written_out(capsys, line, error):
    """The command that resumes a run is made from those that were given."""
    with pytest.raises(SystemExit) as caught:
        kd(*line.split())
    assert caught.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1] == error
