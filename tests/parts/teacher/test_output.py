"""What a teacher's output is taken for: the order of its channels, probabilities, and outputs that cannot teach."""

import copy

import pytest
import torch
from tiny import read, write_recipes
from torch import nn

from kd.diagnose.check import check_recipe
from kd.errors import RecipeError
from kd.parts.checks.dry_run import open_parts
from kd.parts.teacher.output import Channels, class_order, flaw
from kd.types import SegmentationOutput


class Fixed(nn.Module):
    """Returns the same maps for all images."""

    def __init__(self, maps):
        super().__init__()
        self.maps = maps

    def forward(self, images):
        return SegmentationOutput(self.maps, {}, {"more": self.maps})


def test_probabilities_become_their_logarithm_in_the_order_of_the_data():
    shares = torch.tensor([0.5, 0.2, 0.3]).view(1, 3, 1, 1)
    network = Fixed(shares)
    Channels(order=(1, 2, 0), probabilities=True).give(network)
    for given in (network, copy.deepcopy(network)):  # BatchNorm is folded in a copy
        output = given(torch.zeros(1))
        assert output.logits.softmax(1).flatten().tolist() == pytest.approx([0.2, 0.3, 0.5])
        assert output.aux["more"].softmax(1).flatten().tolist() == pytest.approx([0.2, 0.3, 0.5])


def test_a_share_of_0_stays_finite():
    network = Fixed(torch.tensor([1.0, 0.0]).view(1, 2, 1, 1))
    Channels(probabilities=True).give(network)
    assert network(torch.zeros(1)).logits.isfinite().all()


def test_one_share_is_that_of_the_second_class_and_turning_two_classes_turns_its_sign():
    network = Fixed(torch.tensor([[[[0.8]]]]))
    Channels(probabilities=True).give(network)
    assert network(torch.zeros(1)).logits.sigmoid().item() == pytest.approx(0.8)
    Channels(order=(1, 0)).give(network)
    assert network(torch.zeros(1)).logits.sigmoid().item() == pytest.approx(0.2)


def test_orders_by_name():
    assert class_order(["Road", " sky"], ["road", "sky"], "w") == ()
    assert class_order(["c", "a", "b"], ["a", "b", "c"], "w") == (1, 2, 0)
    for names in (["a", "b"], ["a", "b", "d"], ["a", "a", "b"]):
        with pytest.raises(RecipeError, match=r"^w: the teacher's classes are "):
            class_order(names, ["a", "b", "c"], "w")


NOISE = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
ONE = torch.cat((torch.zeros(2, 1, 4, 4), NOISE[:, :1]), 1)  # (0, z), of a one-channel head
CLASSES = nn.functional.one_hot(NOISE.argmax(1), 3).movedim(3, 1).float()
STATED = "state it: teacher.outputs=probabilities"
SOFTMAX = "returns probabilities (none below 0, sum 1), but logits are wanted: "
SIGMOID = "returns values from 0 to 1, as of a sigmoid for each class, but logits are wanted: leave the sigmoid out"
SUM = NOISE.relu().sum(1).max()


@pytest.mark.parametrize(
    ("logits", "stated", "what"),
    [
        (NOISE, "logits", ""),
        (NOISE.log_softmax(1), "logits", ""),  # logits up to a constant
        (NOISE.relu(), "logits", ""),
        (ONE, "logits", ""),
        (NOISE.softmax(1), "logits", SOFTMAX + STATED),
        (NOISE.softmax(1).bfloat16(), "logits", SOFTMAX + STATED),
        (NOISE.softmax(1), None, SOFTMAX + "leave the softmax or sigmoid out of it"),
        ((4 * NOISE).sigmoid(), "logits", SIGMOID),
        ((4 * NOISE).sigmoid(), None, SIGMOID),
        (ONE, "probabilities", ""),
        ((4 * NOISE).sigmoid().log(), "probabilities", SIGMOID),
        (NOISE.sigmoid() / 2, "logits", ""),  # may be uncertain logits
        ((4 * ONE).sigmoid() * (ONE != 0), "logits", SOFTMAX + STATED),
        (ONE.sigmoid() * (ONE != 0), "logits", ""),  # may be an uncertain logit
        (
            CLASSES,
            "logits",
            "returns ones and zeros (the likeliest class), but logits are wanted: leave the argmax out",
        ),
        (NOISE.log_softmax(1), "probabilities", ""),
        (
            NOISE.relu().clamp(min=1e-9).log(),
            "probabilities",
            f"returns no probabilities (a pixel's sum is {SUM:.3g}); remove teacher.outputs",
        ),
        (
            NOISE * torch.nan,
            "logits",
            "returns values that are not finite; its weights or the form of its images (preprocess) are wrong",
        ),
        (
            torch.ones(2, 3, 4, 4) * 0.2,
            "logits",
            "returns the same logits at every pixel of every image, which teaches nothing",
        ),
    ],
)
def test_outputs_that_cannot_be_logits(logits, stated, what):
    assert flaw(logits, stated) == what


SOFT = """

class Soft(Net):
    def forward(self, images):
        output = super().forward(images)
        return output._replace(logits=output.logits.softmax(1))
"""


def test_a_teacher_that_returns_nan_is_named_and_not_the_loss(tmp_path):
    recipe = write_recipes(tmp_path)
    with (tmp_path / "nets.py").open("a") as file:
        file.write(SOFT.replace(".softmax(1)", " * torch.nan"))
    with pytest.raises(RecipeError) as caught:
        check_recipe(
            read(recipe, "teacher={use: 'nets.py:Soft', args: {channels: 8}}", "distill.hint=null"), runs=tmp_path
        )
    (mistake,) = caught.value.mistakes
    assert mistake.endswith(
        ": the teacher nets.py:Soft returns values that are not finite; its weights or the form of its images "
        "(preprocess) are wrong"
    )


def test_a_teacher_with_a_softmax_is_refused_and_the_advice_makes_it_the_same_teacher(tmp_path):
    recipe = write_recipes(tmp_path)
    with (tmp_path / "nets.py").open("a") as file:
        file.write(SOFT)
    soft = ["teacher={use: 'nets.py:Soft', args: {channels: 8}}", "distill.hint=null"]
    with pytest.raises(RecipeError) as caught:
        open_parts(read(recipe, *soft), runs=tmp_path / "runs")
    (mistake,) = caught.value.mistakes
    assert mistake.endswith("returns probabilities (none below 0, sum 1), but logits are wanted: " + STATED)
    images, plain = torch.rand(2, 3, 32, 32), [soft[0].replace("Soft", "Net"), soft[1]]
    logits = []
    for overrides in ([*soft, STATED.partition(": ")[2]], plain):
        network = open_parts(read(recipe, *overrides), runs=tmp_path / "runs").teacher.network.cpu()
        with torch.no_grad():
            logits.append(network(images).logits)
    torch.testing.assert_close(logits[0], logits[1].log_softmax(1))
