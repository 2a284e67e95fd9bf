"""Networks of other collections teach by a recipe alone; where one is not installed, a stand-in of its shape does."""

from pathlib import Path

import pytest
from steps import losses_of

from kd.components import Maker
from kd.parts.assemble import assemble
from kd.parts.checks.dry_run import dry_run
from kd.recipe import read_recipe
from kd.train.start import start
from kd.types import Tap

MINE = '''
import functools
from collections import OrderedDict

import torch
from torch import nn


def any_keyword(init):
    """As transformers' configurations: the signature shows the fields, the call takes more."""

    @functools.wraps(init)
    def wrapper(self, *args, **kwargs):
        self.num_labels = kwargs.pop("num_labels", 2)
        init(self, *args, **kwargs)

    return wrapper


class Config:
    @any_keyword
    def __init__(self, width: int = 4) -> None:
        self.width = width


class Output(OrderedDict):
    @property
    def logits(self):
        return self["logits"]


class Transformer(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.stem = nn.Conv2d(3, config.width, 3, 4, 1)
        self.head = nn.Conv2d(config.width, config.num_labels, 1)

    def forward(self, pixel_values, labels=None):
        return Output(loss=None, logits=self.head(self.stem(pixel_values)))


class Features(nn.Module):
    """The user's own class around features of timm."""

    def __init__(self, classes):
        super().__init__()
        import timm

        self.encoder = timm.create_model("resnet18", features_only=True, pretrained=False)
        self.head = nn.Conv2d(self.encoder.feature_info.channels()[-1], classes, 1)

    def forward(self, images):
        return self.head(self.encoder(images)[-1])
'''
RECIPE = """
student: {{use: students.MobileNetV3SmallASPPLite}}
teacher:
  use: teachers.Wrapped
  args: {{network: {network}, taps: {taps}}}
data: {{use: kd.data.Shapes, args: {{count: 2}}, size: [64, 64], workers: 0}}
supervised: {{use: kd.losses.CrossEntropy}}
distill:
  kl: {{loss: {{use: kd.losses.PixelKL}}, weight: 1.0}}
  hint:
    loss: {{use: kd.losses.MSE}}
    at: {{student: low, teacher: low}}
    adapter: {{use: kd.adapters.Conv1x1}}
optimizer: {{use: torch.optim.SGD, args: {{lr: 0.01}}}}
train: {{steps: 3, batch_size: 1, evaluate_every: 0}}
"""
STAGES = "out_features: [stage1, stage2, stage3, stage4]"
SMALL = "hidden_sizes: [8, 16, 24, 32], depths: [1, 1, 1, 1]"
NETWORKS = {
    "stand-in": (
        None,
        "{use: 'mine.py:Transformer', args: {config: {use: 'mine.py:Config', args: {width: 6, num_labels: 6}}}}",
        "{low: stem}",
        Tap(6, 4),
    ),
    "smp": (
        "segmentation_models_pytorch",
        "{use: segmentation_models_pytorch.Unet, args: {encoder_name: resnet18, encoder_weights: null, classes: 6}}",
        "{low: encoder.layer1}",
        Tap(64, 4),
    ),
    "timm": ("timm", "{use: 'mine.py:Features', args: {classes: 6}}", "{low: encoder.layer1}", Tap(64, 4)),
    "segformer": (
        "transformers",
        "{use: transformers.SegformerForSemanticSegmentation, args: {config: {use: transformers.SegformerConfig, "
        f"args: {{num_labels: 6, {SMALL}, num_attention_heads: [1, 1, 2, 2], decoder_hidden_size: 32}}}}}}}}",
        "{low: decode_head.batch_norm}",
        Tap(32, 4),
    ),
    "upernet": (
        "transformers",
        "{use: transformers.UperNetForSemanticSegmentation, args: {config: {use: transformers.UperNetConfig, "
        "args: {num_labels: 6, hidden_size: 16, auxiliary_in_channels: 24, backbone_config: "
        f"{{use: transformers.ConvNextConfig, args: {{{SMALL}, {STAGES}}}}}}}}}}}}}",
        "{low: backbone.encoder.stages.0}",
        Tap(8, 4),
    ),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_of_another_collection_teaches(tmp_path: Path, name: str) -> None:
    package, network, taps, low = NETWORKS[name]
    if package is not None:
        pytest.importorskip(package, reason="pip install 'kd-segmentation[zoo]'")
    (tmp_path / "mine.py").write_text(MINE)
    (tmp_path / "recipe.yaml").write_text(RECIPE.format(network=network, taps=taps))
    recipe = read_recipe(tmp_path / "recipe.yaml", trust=True)
    Maker(recipe).check()
    parts = assemble(recipe, runs=tmp_path / "runs", seed=0)
    assert parts.teacher is not None
    assert parts.teacher.network.taps == {"low": low}
    assert dry_run(parts) == []
    values = [losses["kl"] for losses in losses_of(start(parts, seed=0))]
    assert len(values) == 3
    assert min(values) > 0  # the teacher answers, and not as the student does
