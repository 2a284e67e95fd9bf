"""`kd components`."""

import pytest
from command import kd

from kd.cli import components
from kd.recipe.shipped import catalogue


def test_one_family_or_all(capsys):
    assert kd("components", "losses") == 0
    header, *lines = capsys.readouterr().out.splitlines()
    assert header.split() == ["losses", "reads", "what"]
    assert [line.split()[:3] for line in lines if ".CWD " in line] == [["kd.losses.CWD", "either", "Channel-wise"]]
    assert len(lines) == len(catalogue.entries("losses"))
    assert kd("components") == 0
    tables = capsys.readouterr().out.split("\n\n")
    assert tuple(table.split()[0] for table in tables) == components.FAMILIES
    assert "kd.data.RandomFlip" in tables[-1]


def test_the_families_of_the_command_are_the_catalogues(capsys):
    assert tuple(catalogue.FAMILIES) == components.FAMILIES
    with pytest.raises(SystemExit) as caught:
        kd("components", "nets")
    assert caught.value.code == 2
    assert "invalid choice: 'nets'" in capsys.readouterr().err
