import pytest
from tiny import NETWORKS, read, write_pictures, write_recipes

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


@pytest.mark.filterwarnings("ignore:with two classes DIST")
def test_a_term_of_other_pixels_is_given_some(tmp_path):
    """The made-up batch has a label everywhere, so that the term would be 0 of the batch and of its halves."""
    dist = "distill.kl.loss={use: kd.losses.DIST}"
    assert found(tmp_path, dist, "distill.kl.pixels=unlabelled") == found(tmp_path, dist) == ["distill.kl"]


def test_images_that_are_exchanged_within_a_micro_batch(tmp_path):
    write_pictures(tmp_path / "more", 4)
    mixed = f"data.unlabelled={{images: {tmp_path / 'more'}, cutmix: 0.5}}"
    assert found(tmp_path, mixed, "distill.kl.pixels=all") == ["data.unlabelled.cutmix"]
    assert found(tmp_path, mixed.replace("0.5", "0.0"), "distill.kl.pixels=all") == []


def test_the_supervised_loss_and_the_network(tmp_path):
    overlap = "supervised={use: kd.losses.Dice}"
    assert found(tmp_path, overlap, batch_norm=True) == ["student", "supervised"]


def test_batch_norm_that_is_frozen_does_not(tmp_path):
    assert found(tmp_path, "student.freeze=[norm]", batch_norm=True) == []
