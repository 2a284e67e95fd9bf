"""Networks that predict together: matched by the names of their classes, or refused."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from kd.deploy.prediction.ensemble import Ensemble, together
from kd.errors import RecipeError
from kd.evaluation.trained import Identity, Trained
from kd.runtimes.exported import FileNetwork
from kd.types import SegmentationOutput


class Fixed(nn.Module):
    """The same logits for every image."""

    def __init__(self, *logits, size=(1, 1)):
        super().__init__()
        self.logits, self.size = torch.tensor(logits, dtype=torch.float32), size

    def forward(self, images):
        return SegmentationOutput(self.logits[None, :, None, None].expand(len(images), -1, *self.size), {}, {})


def trained(name, network, classes=("a", "b"), channels=3, size=(32, 32)):
    recipe = SimpleNamespace(scored_size=size)
    identity = Identity(name, "0" * 8, 0, "student", "Net")
    return Trained(Path(name), recipe, network, identity, classes, ((0, 0, 0), (1, 1, 1)), channels)


def test_probabilities_are_averaged_at_the_finest_stride_in_the_first_ones_order():
    quarter, even = torch.tensor([0.25, 0.75]).log().tolist(), [0.0, 0.0]
    members = [trained("r", Fixed(*even)), trained("s", Fixed(*quarter, size=(2, 3)), classes=("b", "a"))]
    both = together(members)
    logits = both.network(torch.zeros(4, 3, 8, 8)).logits
    assert logits.shape == (4, 2, 2, 3)
    shares = torch.tensor([(0.5 + 0.75) / 2, (0.5 + 0.25) / 2])[None, :, None, None]
    assert torch.allclose(logits.softmax(1), shares.expand_as(logits), atol=1e-6)
    assert (both.path, both.classes) == (Path("r"), ("a", "b"))


def test_one_logit_is_two_classes():
    logits = Ensemble([Fixed(1.0), Fixed(1.0)], [(), ()])(torch.zeros(1, 3, 8, 8)).logits
    assert torch.allclose(logits.softmax(1)[0, 1], torch.tensor(1.0).sigmoid())


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"channels": 1}, "s: takes images of 1 channels, r of 3; leave it out of --with"),
        ({"classes": ("a", "c")}, r"s: the run's classes are .*; leave it out of --with"),
        ({"size": (64, 32)}, r"s: takes images of 32×64, r gets 32×32; add evaluate.size=\[64,32\]"),
    ],
)
def test_what_cannot_predict_together_is_one_line(other, message):
    file = FileNetwork(lambda images: images, 2, dtype="float32", output="logits", one_by_one=True)
    with pytest.raises(RecipeError, match=f"^{message}$"):
        together([trained("r", Fixed(0, 0)), trained("s", file, **other)])
