from types import SimpleNamespace

import pytest
import torch
from tiny import write_recipes
from torch import nn

from kd.errors import RecipeError
from kd.parts.assemble import assemble, with_trained_teacher
from kd.parts.loading import Notes
from kd.parts.networks import folded_copy
from kd.parts.roles import to_device
from kd.parts.stream import stream
from kd.parts.teacher.folding import folded
from kd.recipe import read_recipe
from kd.train.start import step_teacher
from kd.types import SegmentationOutput


class Net(nn.Module):
    """A convolution with BatchNorm, one whose output is read twice, and a BatchNorm without a convolution."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4)
        self.twice, self.other = nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4)
        self.alone = nn.BatchNorm2d(4)
        self.head = nn.Conv2d(4, 2, 1)
        self.shared = False
        generator = torch.Generator().manual_seed(0)
        for norm in (self.norm, self.other, self.alone):
            norm.running_mean.normal_(generator=generator)
            norm.running_var.uniform_(0.5, 2, generator=generator)
            nn.init.normal_(norm.weight, 1, 0.1, generator=generator)
            nn.init.normal_(norm.bias, generator=generator)

    def forward(self, images):
        maps = torch.relu(self.norm(self.conv(images)))
        between = self.twice(maps)
        maps = self.alone(torch.relu(self.other(between) + (between if self.shared else 0)))
        return SegmentationOutput(self.head(maps), {"maps": maps}, {})


IMAGES = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def network():
    return Net().eval()


def norms(network):
    return [name for name, module in network.named_modules() if isinstance(module, nn.BatchNorm2d)]


def test_the_copy_has_the_same_values_and_fewer_layers(network):
    copied, count = folded(network, [], IMAGES)
    assert count == 2
    assert norms(copied) == ["alone"]
    assert norms(network) == ["norm", "other", "alone"]
    images = torch.rand(3, 3, 20, 12, generator=torch.Generator().manual_seed(2))
    expected, output = network(images), copied(images)
    torch.testing.assert_close(output.logits, expected.logits, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(output.features["maps"], expected.features["maps"], atol=1e-5, rtol=1e-5)


def test_a_tapped_convolution_keeps_its_output_and_a_tapped_norm_too(network):
    copied, count = folded(network, ["conv", "other"], IMAGES)
    assert count == 1
    assert norms(copied) == ["norm", "alone"]
    for path in ("conv", "other"):
        torch.testing.assert_close(output_of(copied, path), output_of(network, path), atol=1e-5, rtol=1e-5)


def output_of(network, path):
    outputs = []
    handle = network.get_submodule(path).register_forward_hook(lambda module, inputs, output: outputs.append(output))
    network(IMAGES)
    handle.remove()
    return outputs[0]


def test_a_convolution_that_another_layer_reads_too_is_not_folded(network):
    network.shared = True
    assert folded(network, [], IMAGES) == (network, 0)


def test_the_copy_teaches_and_the_teacher_itself_is_scored(tmp_path):
    write_recipes(tmp_path)
    recipe = read_recipe(tmp_path / "student.yaml", ["train.fold_batchnorm=true"], trust=True)
    parts = assemble(recipe, runs=tmp_path, seed=0, trained=False)
    assert parts.notes == ["teacher: 1 BatchNorm layers folded into the convolutions before them"]
    assert isinstance(parts.teacher.network.norm, nn.BatchNorm2d)
    teacher = step_teacher(parts, 0)
    assert isinstance(teacher.network.norm, nn.Identity)
    batch = to_device(next(stream(parts, seed=0)), parts.precision)
    for term in ("kl", "hint"):
        torch.testing.assert_close(teacher(batch).at[term], parts.teacher(batch).at[term], atol=1e-5, rtol=1e-5)


class OnGpu(Net):
    """A network that convolves with few digits, as a GPU does in TF32, until it is on the CPU."""

    rough = True

    def cpu(self):
        self.rough = False
        return super().cpu()

    def forward(self, images):
        with torch.autocast("cpu", torch.bfloat16, enabled=self.rough):
            return super().forward(images)


def test_a_teacher_on_a_gpu_is_folded_with_all_digits():
    recipe = SimpleNamespace(train=SimpleNamespace(fold_batchnorm=True), distill={})
    on_gpu, notes = OnGpu().eval(), Notes()
    assert folded(on_gpu, [], IMAGES) == (on_gpu, 0)
    copied = folded_copy(recipe, on_gpu, 3, notes)
    assert notes == ["teacher: 2 BatchNorm layers folded into the convolutions before them"]
    assert norms(copied) == ["alone"]
    assert on_gpu.rough


def test_trained_weights_that_fold_otherwise_are_noted(tmp_path, monkeypatch):
    recipe = read_recipe(write_recipes(tmp_path), ["train.fold_batchnorm=true"], trust=True)
    parts = assemble(recipe, runs=tmp_path, seed=0, trained=False)
    line = "teacher: {} BatchNorm layers folded into the convolutions before them"
    monkeypatch.setattr("kd.parts.assemble.load_weights", lambda run_dir, network: None)
    assert with_trained_teacher(parts, tmp_path).notes == [line.format(1)]
    monkeypatch.setattr("kd.parts.networks.folded", lambda network, tapped, images: (network, 0))
    trained = with_trained_teacher(parts, tmp_path)
    assert trained.notes == [line.format(1), line.format(0)]
    assert trained.teaching is parts.teacher


def test_an_average_that_teaches_is_not_folded(tmp_path):
    path = write_recipes(tmp_path)
    path.write_text(path.read_text().replace("teacher: {recipe: teacher.yaml}", "teacher: {ema: 0.9}"))
    with pytest.raises(RecipeError, match="a teacher that is a moving average changes with every step; remove fold"):
        read_recipe(path, ["train.fold_batchnorm=true"], trust=True)
