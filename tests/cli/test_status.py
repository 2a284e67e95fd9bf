import sys

from kd.cli.status import command_again


def test_the_command_that_resumes(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["kd", "run", "r.yaml", "--fresh", "--budget", "6h", "a=b c"])
    assert (
        command_again(["train.epochs=7", "train.steps=null"]) == "kd run r.yaml train.epochs=7 train.steps=null 'a=b c'"
    )
    monkeypatch.setattr(sys, "argv", ["kd", "run", "r.yaml", "--budget=6h"])
    assert command_again(["train.epochs=7"]) == "kd run r.yaml train.epochs=7"
    environment = {"TORCHELASTIC_RUN_ID": "x", "LOCAL_WORLD_SIZE": "4", "WORLD_SIZE": "4"}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "argv", ["kd", "run", "r.yaml"])
    assert command_again(None) == "torchrun --standalone --nproc-per-node 4 --no-python kd run r.yaml"
    monkeypatch.setenv("WORLD_SIZE", "8")
    assert command_again(None) == "torchrun --nnodes 2 --nproc-per-node 4 --no-python kd run r.yaml"
