import pytest
from rich.console import Console

from kd.bench import networks
from kd.bench.networks import all_networks, bench_networks_command, measure
from kd.cli import main
from kd.errors import RecipeError


def test_all_networks_but_the_composed_ones_are_measured():
    names = all_networks()
    assert {"students.MobileNetV3SmallASPP", "students.MobileNetV2UNet", "teachers.FCNResNet50"} <= set(names)
    assert not {"teachers.Wrapped", "teachers.Ensemble", "teachers.ClassMapped"} & set(names)


def test_a_cost_has_every_figure():
    cost = measure("students.MobileNetV3SmallASPPLite", (64, 96), rounds=1)
    assert cost.parameters == 2_516_853
    assert 0 < cost.forward < cost.step
    assert cost.macs > 1e6
    assert cost.memory >= 0


def test_the_command_prints_a_row_a_network(capsys, monkeypatch):
    monkeypatch.setattr(networks, "stdout", lambda: Console(width=200))
    bench_networks_command(["students.MobileNetV3SmallASPPLite"], size=(64, 64), threads=1, rounds=1)
    out = capsys.readouterr().out
    assert out.splitlines()[0].endswith(
        ", 1 thread, 21 classes, median of 1; forward: one image; step: 2 images, forward, backward and update"
    )
    (row,) = [line.split() for line in out.splitlines() if "students." in line]
    assert row[:4] == ["students.MobileNetV3SmallASPPLite", "2,516,853", "9.6", "64×64"]
    assert len(row) == 9
    assert all(float(figure) >= 0 for figure in row[4:])
    assert float(row[8]) > 30  # parameters, gradients and momentum alone


def test_an_unknown_network_is_refused():
    with pytest.raises(RecipeError, match=r"students has no 'MobileNet'"):
        bench_networks_command(["students.MobileNet"])
    with pytest.raises(RecipeError) as caught:
        bench_networks_command(["torch.nn.ReLU"])
    assert str(caught.value) == "torch.nn.ReLU: 'torch.nn.ReLU' is not part of kd; kd components lists what is"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--size", "32", "64"], "kd bench: --size 32 64: networks need at least 64 pixels"),
        (["--threads", "0"], "kd bench: --threads 0, --rounds 10: both must be at least 1"),
    ],
)
def test_wrong_numbers_are_one_line(options, message, capsys):
    assert main(["bench", "--networks", "students.MobileNetV2UNet", *options]) == 2
    assert capsys.readouterr().err.splitlines() == [message]
