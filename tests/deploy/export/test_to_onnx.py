"""ONNX files, written and computed by the packages of the extra `onnx`."""

import copy
import json
from inspect import signature

import numpy as np
import pytest
import torch
from samples import Fixed
from torch import nn

import students
import teachers
from kd.deploy.export.gate import check_file
from kd.deploy.export.graph import Form, Graph
from kd.deploy.export.to_onnx import write_onnx
from kd.errors import RecipeError, WeightsError
from kd.networks.normalize import Normalize
from kd.runtimes.exported import open_onnx
from kd.types import Sample, SegmentationOutput

onnx = pytest.importorskip("onnx", reason="needs the extra onnx: pip install 'kd-segmentation[onnx]'")
pytest.importorskip("onnxscript", reason="needs the extra onnx: pip install 'kd-segmentation[onnx]'")
pytest.importorskip("onnxruntime", reason="needs the extra onnx: pip install 'kd-segmentation[onnx]'")

OTHERS = {"HuggingFace", "SMP", "Timm", "Wrapped", "Pruned"}  # made of networks that are not kd's, or of a run's


def lite():
    return students.MobileNetV3SmallASPPLite(num_classes=3, in_channels=3)


OF_OTHERS = {
    "ClassMapped": lambda: teachers.ClassMapped(3, network=lite(), matrix=[[0, 1, 0], [1, 0, 0], [0, 0, 1]]),
    "Ensemble": lambda: teachers.Ensemble(3, members=[lite(), lite()]),
}


class Net(nn.Module):
    """Logits of three classes at stride 4; of a fixed height if it must be."""

    def __init__(self, height=None):
        super().__init__()
        self.conv, self.height = nn.Conv2d(3, 3, 3, 4, 1), height

    def forward(self, images):
        if self.height not in (None, images.shape[2]):
            raise ValueError(f"images must be {self.height} pixels high")
        return SegmentationOutput(self.conv(images - 0.5), {}, {})


def photos(count=3):
    random = np.random.default_rng(0)
    images = torch.from_numpy(random.integers(0, 256, (count, 3, 80, 96), dtype=np.uint8))
    return Fixed(*(Sample(image, None, f"photo {index}") for index, image in enumerate(images)))


def write(file, network, *form, metadata={}):  # noqa: B006  # read only
    write_onnx(file, network, Form(3, *form or ((64, 96),)), metadata)


def check(file, network, *form):
    return check_file(open_onnx(file).compute, network, photos(), ("a", "b", "c"), Form(3, *form or ((64, 96),)))


def test_a_file_of_one_size(tmp_path):
    network, file = Net().eval(), tmp_path / "model.onnx"
    write(file, network, metadata={"classes": json.dumps(["a", "b", "c"])})
    assert check(file, network).difference < 1e-5
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]  # no weights beside it
    model = onnx.load(file)
    assert {entry.key: entry.value for entry in model.metadata_props} == {"classes": '["a", "b", "c"]'}
    assert [value.name for value in model.graph.input] == ["images"]
    assert [value.name for value in model.graph.output] == ["logits"]
    with pytest.raises(RecipeError, match="at 64×65, batch 1: the runtime cannot compute it: "):
        check(file, network, (65, 64))


def test_class_indices_of_any_size_and_batch(tmp_path):
    network, file = Net().eval(), tmp_path / "model.onnx"
    write(file, network, (64, 96), True, True)
    assert check(file, network, (64, 96), True, True).agreement > 0.999
    (images,) = onnx.load(file).graph.input
    assert [d.dim_param or d.dim_value for d in images.type.tensor_type.shape.dim] == ["batch", 3, "height", "width"]


def test_what_cannot_be_exported_is_one_line(tmp_path):
    file = tmp_path / "model.onnx"
    with pytest.raises(RecipeError) as caught:
        write(file, Net(32).eval())
    assert str(caught.value) == "--size 64 96: the network does not take it: images must be 32 pixels high"
    with pytest.raises(RecipeError, match=r"^Net: cannot be exported to ONNX: .*; leave --dynamic out$"):
        write(file, Net(64).eval(), (64, 96), True)
    assert not file.exists()
    with pytest.raises(OSError, match="nowhere"):
        write(tmp_path / "nowhere/model.onnx", Net().eval())


def test_truncated_and_foreign_files_are_refused(tmp_path):
    network, file = Net().eval(), tmp_path / "model.onnx"
    write(file, network)
    whole = file.read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"PK\x03\x04 a zip file"):
        file.write_bytes(content)
        with pytest.raises(WeightsError, match=r"model\.onnx: ONNX Runtime [\d.]+ does not take the file: "):
            check(file, network)


@pytest.mark.parametrize(
    ("field", "reason"),
    [
        ("opset", r"its opset is 999, above \d+, the highest"),
        ("ir_version", r"Unsupported model IR version: 999, max supported IR version: \d+"),
        ("old opset", r"no operator \w+ in its opset 1"),
    ],
)
def test_a_version_that_the_runtime_does_not_take_is_named(tmp_path, field, reason):
    file = tmp_path / "model.onnx"
    write(file, Net().eval())
    model = onnx.load(file)
    if field == "ir_version":
        model.ir_version = 999
    else:
        model.opset_import[0].version = 999 if field == "opset" else 1
    onnx.save(model, file)
    with pytest.raises(WeightsError, match=rf"^{file}: ONNX Runtime [\d.]+ does not take the file: .*{reason}; export"):
        open_onnx(file)


@pytest.mark.slow
@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize(
    ("package", "name"), [(package, name) for package in (students, teachers) for name in package.__all__]
)
def test_every_network_passes_the_gate(tmp_path, package, name, dynamic):
    if name in OTHERS:
        pytest.skip("made of networks that are not kd's, or of a run's")
    if name in OF_OTHERS:
        network = OF_OTHERS[name]()
    else:
        build = getattr(package, name)
        options = {"pretrained": False} if "pretrained" in signature(build).parameters else {}
        network = build(num_classes=3, in_channels=3, **options)
    with torch.no_grad():  # BatchNorm's statistics, so that the logits have a range
        for _ in range(3):
            network(torch.rand(2, 3, 64, 96))
    network.eval()
    file = tmp_path / "model.onnx"
    write(file, network, (64, 96), dynamic)
    assert check(file, network, (64, 96), dynamic).difference < 1e-4


@pytest.mark.slow
def test_pyramid_pooling_takes_any_size(tmp_path):
    class Pyramid(nn.Module):
        def __init__(self):
            super().__init__()
            self.pool = nn.ModuleList(nn.AdaptiveAvgPool2d(size) for size in (1, 2, (3, 6), (None, 5)))
            self.conv = nn.Conv2d(3, 3, 3, 8, 1)

        def forward(self, images):
            maps = self.conv(images)
            size = maps.shape[-2:]
            pooled = [nn.functional.interpolate(pool(maps), size=size, mode="bilinear") for pool in self.pool]
            return SegmentationOutput(sum(pooled, maps), {}, {})

    network, file = Pyramid().eval(), tmp_path / "model.onnx"
    write(file, network, (64, 96), True)
    assert check(file, network, (64, 96), True).difference < 1e-5
    assert isinstance(network.pool[1], nn.AdaptiveAvgPool2d)  # the network itself is as before


class Small(nn.Module):
    """Logits at stride 4, normalised."""

    def __init__(self, classes=3):
        super().__init__()
        self.normalize, self.conv = Normalize(3), nn.Conv2d(3, classes, 3, 4, 1)

    def forward(self, images):
        return SegmentationOutput(self.conv(self.normalize(images)), {}, {})


class Wrong(Graph):
    """A graph with one thing wrong."""

    def __init__(self, network, *, argmax, fault):
        super().__init__(network, argmax=argmax)
        self.fault = fault
        if fault == "no normalisation":
            network.normalize = nn.Identity()

    def forward(self, images):
        if self.fault == "BGR":
            images = images.flip(1)
        if self.fault == "scale of uint8":
            images = images.float()
        logits = self.network(images).logits
        corners = self.fault == "aligned corners"
        how = {"mode": "bilinear", "align_corners": corners}
        logits = nn.functional.interpolate(logits, size=images.shape[2:], **how)
        if self.fault == "half a pixel":
            logits = (logits + logits.roll(1, -1)) / 2
        if self.fault == "swapped classes":
            logits = logits[:, [1, 0, 2]]
        if self.fault == "no sigmoid":
            return (logits[:, 0] > 0.5).long()
        return logits.argmax(1) if self.argmax else logits


FAULTS = {  # with the form that is promised
    "aligned corners": (),
    "BGR": (True,),
    "no normalisation": (),
    "swapped classes": (False, True),
    "no sigmoid": (False, True),
    "half a pixel": (),
    "scale of uint8": (False, False, True),
    "fixed batch": (True,),
    "truncated": (),
    "other weights": (True, True),
}


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_planted_faults_are_refused(tmp_path, monkeypatch, fault):
    torch.manual_seed(0)
    classes = ("a", "b") if fault == "no sigmoid" else ("a", "b", "c")
    network, other = (Small(1 if len(classes) == 2 else 3).eval() for _ in range(2))
    form, file, data = Form(3, (64, 96), *FAULTS[fault]), tmp_path / "model.onnx", photos()
    data.class_names = classes

    def judge():
        return check_file(open_onnx(file).compute, network, data, classes, form)

    write_onnx(file, network, form, {})
    judge()  # before the fault, the file passes

    def wrong(network, form):
        return Wrong(copy.deepcopy(network), argmax=form.argmax, fault=fault), form.example()

    if fault == "truncated":
        file.write_bytes(file.read_bytes()[:-100])
    elif fault == "fixed batch":
        write_onnx(file, network, form._replace(dynamic=False), {})
    elif fault == "other weights":
        write_onnx(file, other, form, {})
    else:
        monkeypatch.setattr("kd.deploy.export.to_onnx.make_graph", wrong)
        write_onnx(file, network, form, {})
    with pytest.raises((RecipeError, WeightsError)) as caught:
        judge()
    assert len(caught.value.mistakes) == 1
