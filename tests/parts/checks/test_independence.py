from tiny import NETWORKS, read, write_recipes

from kd.parts.assemble import assemble
from kd.parts.checks.independence import across_images


def found(folder, *overrides, batch_norm=False):
    path = write_recipes(folder)
    if not batch_norm:
        (folder / "nets.py").write_text(NETWORKS.replace("nn.BatchNorm2d(", "nn.GroupNorm(1, "))
    return across_images(assemble(read(path, *overrides), runs=folder, seed=0, trained=False))


def test_means_over_pixels_do_not_look_across_images(tmp_path):
    assert found(tmp_path) == []


def test_terms(tmp_path):
    assert found(tmp_path, "distill.kl.loss={use: kd.losses.CWD}", "distill.hint.loss={use: kd.losses.AT}") == []
    assert found(tmp_path, "distill.hint.loss={use: kd.losses.CIRKDMiniBatch}") == ["distill.hint"]  # compares images


def test_the_supervised_loss_and_the_network(tmp_path):
    overlap = "supervised={use: kd.losses.Dice}"
    assert found(tmp_path, overlap, batch_norm=True) == ["student", "supervised"]


def test_batch_norm_that_is_frozen_does_not(tmp_path):
    assert found(tmp_path, "student.freeze=[norm]", batch_norm=True) == []
