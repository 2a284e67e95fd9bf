"""The contract of all exported networks: `docs/add-a-network.md` states it, these tests check it."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torchvision
from torch import nn

import students
import teachers
from kd.networks.backbones import Stages
from kd.parts.checks.examine import declared_form
from kd.types import Network, NetworkTraits, SegmentationOutput, Tap, parameter_count

# need further packages, see tests/teachers/test_collections.py and tests/students/test_pruned.py
COLLECTIONS = {"HuggingFace", "Pruned", "SMP", "Timm"}
NAMES = [
    f"{package.__name__}.{name}"
    for package in (students, teachers)
    for name in package.__all__
    if name not in COLLECTIONS
]
HEAVY = {  # too slow for each run of the tests: at 256×256, in bf16 on a CPU without it, or to export
    "students.MobileNetV2ASPPResidualSEUNet",
    *(name for name in NAMES if name.startswith("teachers.")),
} - {"teachers.ClassMapped", "teachers.Ensemble", "teachers.Wrapped"}
SLOW_IN_BF16 = {"students.DeepLabV3ResNet18", "students.MobileNetV3SmallASPP", "students.PSPNetResNet18"}
EXPORTED = {"students.MobileNetV2UNet", "students.MobileNetV3SmallASPPLite", "students.PSPNetResNet18"}


def foreign(num_classes: int, in_channels: int, stride: int = 4) -> dict[str, Any]:
    """A network of another code base."""
    stem = nn.Conv2d(in_channels, 8, 3, stride, 1)
    return {"network": nn.Sequential(stem, nn.ReLU(), nn.Conv2d(8, num_classes, 1))}


def parts(name: str, num_classes: int, in_channels: int) -> dict[str, Any]:
    """The further arguments of a composed network."""
    if name == "teachers.Ensemble":  # of two small members at different strides
        networks = [foreign(num_classes, in_channels, stride) for stride in (4, 2)]
        return {"members": [teachers.Wrapped(num_classes, in_channels, **options) for options in networks]}
    if name == "teachers.ClassMapped":
        return {"network": students.LRASPPMobileNetV3Large(4, in_channels), "matrix": [[1, 1, 0, 1]] * num_classes}
    if name == "teachers.Wrapped":
        return foreign(num_classes, in_channels) | {"taps": {"low": "1"}}
    return {}


def build(name: str, num_classes: int = 2, in_channels: int = 3, **options: Any) -> nn.Module:
    package, _, component = name.partition(".")
    options |= parts(name, num_classes, in_channels)
    return getattr({"students": students, "teachers": teachers}[package], component)(
        num_classes, in_channels, **options
    )


def all_networks(slow: set[str]) -> list[Any]:
    return [pytest.param(name, marks=pytest.mark.slow if name in slow else ()) for name in NAMES]


@pytest.fixture(scope="module", params=NAMES)
def network(request: pytest.FixtureRequest) -> Iterator[nn.Module]:
    """One instance for all tests of a network, since building a large one takes a second."""
    torch.manual_seed(0)
    return build(request.param)


@pytest.mark.parametrize(
    ("name", "options", "num_classes", "in_channels", "count"),
    [
        # torchvision's count of its network, or the specified one
        ("teachers.FCNResNet50", {}, 21, 3, 32_957_013),
        ("teachers.FCNResNet50", {"aux": True}, 21, 3, 35_322_218),
        ("teachers.DeepLabV3ResNet50", {}, 21, 3, 39_638_869),
        ("teachers.DeepLabV3ResNet50", {"aux": True}, 21, 3, 42_004_074),
        ("teachers.DeepLabV3ResNet101", {"aux": True}, 21, 3, 60_996_202),
        ("teachers.DeepLabV3Plus", {}, 7, 3, 40_348_583),
        ("teachers.DeepLabV3PlusResNet50", {}, 7, 3, 40_348_583),
        ("teachers.DeepLabV3PlusResNet50", {"heads": 3, "output_stride": 8}, 7, 3, 40_352_181),
        ("teachers.ResNet50AttentionUNet", {}, 8, 3, 74_490_068),
        ("students.MobileNetV3SmallASPP", {}, 21, 3, 6_831_509),
        ("students.MobileNetV3SmallASPP", {"activation": "relu6"}, 21, 3, 6_831_509),
        ("students.MobileNetV3SmallASPPLite", {}, 21, 3, 2_516_853),
        ("students.MobileNetV2UNet", {"heads": 3}, 7, 3, 3_506_845),
        ("students.MobileNetV2ASPPResidualSEUNet", {}, 1, 1, 25_253_893),
        ("students.LRASPPMobileNetV3Large", {}, 21, 3, 3_221_538),
        # ResNet-18 without its classifier, and the head added up by hand
        ("students.DeepLabV3ResNet18", {}, 21, 3, 11_176_512 + 4_722_176 + 256 * 21 + 21),
        (
            "students.PSPNetResNet18",
            {},
            21,
            3,
            11_176_512 + 4 * (512 * 128 + 256) + (1024 * 128 * 9 + 256) + 128 * 21 + 21,
        ),
    ],
)
def test_parameters_are_exact(
    name: str, options: dict[str, Any], num_classes: int, in_channels: int, count: int
) -> None:
    with torch.device("meta"):
        assert parameter_count(build(name, num_classes, in_channels, **options)) == count


def test_the_accuracy_model_has_30_to_40_million_parameters() -> None:
    with torch.device("meta"):
        assert 30e6 < parameter_count(build("teachers.ASPPResidualSEUNet", 1, 1)) < 40e6


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("num_classes", "in_channels"), [(1, 1), (7, 1), (21, 3)])  # the other tests build (2, 3)
def test_any_number_of_classes_and_channels(name: str, num_classes: int, in_channels: int) -> None:
    with torch.device("meta"):
        network = build(name, num_classes, in_channels)
        output = network.eval()(torch.empty(2, in_channels, 64, 64))
    assert (network.num_classes, network.in_channels) == (num_classes, in_channels)
    assert output.logits.shape[:2] == (2, num_classes)
    assert all(head.shape[:2] == (2, num_classes) for head in output.aux.values())


def test_it_declares_what_the_engine_reads(network: nn.Module) -> None:
    assert isinstance(network, Network)
    assert all(type(tap) is Tap for tap in network.taps.values())
    traits = getattr(network, "traits", NetworkTraits())
    assert type(traits) is NetworkTraits
    assert set(traits.known_classes) <= set(range(network.num_classes))
    assert len(traits.class_names or range(network.num_classes)) == network.num_classes


def test_it_normalizes_its_images_in_one_known_form(network: nn.Module) -> None:
    form, _ = declared_form(network, 3)
    assert form is not None
    assert form.std != (1, 1, 1)  # the form of a network without `Normalize`


def test_a_backbone_names_its_imagenet_weights(network: nn.Module) -> None:
    backbone = dict(network.named_children()).get("backbone")
    if backbone is not None:
        assert isinstance(backbone, Stages)
        assert torchvision.models.get_weight(backbone.imagenet) is not None


def check_output(network: nn.Module, size: tuple[int, int]) -> SegmentationOutput:
    images, versions = torch.rand(1, 3, *size), {}
    alive = []  # otherwise a later tensor could get the id of an earlier one

    def record(module: nn.Module, args: object, result: object) -> None:
        if isinstance(result, torch.Tensor):
            alive.append(result)
            versions[id(result)] = result._version

    hooks = [module.register_forward_hook(record) for module in network.modules()]
    before = images.clone()
    with torch.no_grad():
        output = network.eval()(images)
    for hook in hooks:
        hook.remove()
    assert isinstance(output, SegmentationOutput)
    assert torch.equal(images, before)
    assert torch.isfinite(output.logits).all()
    assert output.features.keys() == network.taps.keys()
    for name, maps in output.features.items():
        tap = network.taps[name]
        expected = tuple(-(-length // tap.stride) for length in size)
        assert tuple(maps.shape) == (1, tap.channels, *expected), name
        assert maps._version == versions.get(id(maps), maps._version), f"{name} was changed in place after it was made"
    return output


@pytest.mark.parametrize("size", [(64, 64), (97, 131)])
def test_taps_are_as_declared_at_any_size(network: nn.Module, size: tuple[int, int]) -> None:
    check_output(network, size)


@pytest.mark.parametrize("name", all_networks(HEAVY))
def test_256(name: str) -> None:
    check_output(build(name), (256, 256))


def test_low_mid_and_high_go_deeper(network: nn.Module) -> None:
    if isinstance(network, teachers.Wrapped | teachers.Ensemble):
        pytest.skip("the user chooses its taps")
    low, mid, high = (network.taps[name].stride for name in ("low", "mid", "high"))
    assert low == 4
    assert mid == 8
    assert high in (8, 16)  # 8 where the network dilates after stride 8


def test_one_image_trains_every_trainable_parameter(network: nn.Module) -> None:
    network.train().zero_grad()
    output = network(torch.rand(1, 3, 64, 64))
    sum(maps.square().mean() for maps in (output.logits, *output.aux.values())).backward()
    trainable = {name: p.grad for name, p in network.named_parameters() if p.requires_grad}
    assert [name for name, gradient in trainable.items() if gradient is None] == []
    assert all(torch.isfinite(gradient).all() for gradient in trainable.values())


def test_state_dict_round_trip(network: nn.Module, request: pytest.FixtureRequest) -> None:
    images = torch.rand(1, 3, 64, 64)
    with torch.device("meta"):
        other = build(request.node.callspec.params["network"])
    other.load_state_dict(network.state_dict(), assign=True)
    with torch.no_grad():
        assert torch.equal(network.eval()(images).logits, other.eval()(images).logits)


def test_mean_and_std_are_persistent_float32_buffers(network: nn.Module) -> None:
    constants = [t for name, t in network.state_dict().items() if name.endswith(("normalize.mean", "normalize.std"))]
    assert len(constants) in (2, 4)
    assert all(constant.dtype == torch.float32 for constant in constants)


@pytest.mark.parametrize("name", all_networks(HEAVY | SLOW_IN_BF16))
def test_finite_under_bf16_autocast(name: str) -> None:
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        output = build(name).eval()(torch.rand(1, 3, 64, 64))
    assert torch.isfinite(output.logits).all()


@pytest.mark.parametrize("name", all_networks(set(NAMES) - EXPORTED))
def test_exports_with_free_batch_and_size(name: str) -> None:
    network, dim = build(name).eval(), torch.export.Dim
    free = {0: dim("batch", min=1, max=64), 2: dim("height", min=64, max=4096), 3: dim("width", min=64, max=4096)}
    program = torch.export.export(network, (torch.rand(2, 3, 97, 131),), dynamic_shapes=(free,))
    with torch.no_grad():
        for size in ((64, 75), (99, 64)):
            images = torch.rand(1, 3, *size)
            torch.testing.assert_close(program.module()(images).logits, network(images).logits)
