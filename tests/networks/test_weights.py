import argparse
import collections
import datetime
import pathlib
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor, nn

import students
import teachers
from kd.data.datasets.pascal_voc import NAMES
from kd.networks.weight_files import MisfitError, read_weights
from kd.networks.weights import ClassCountError, PartialError, load_into


def network(num_classes: int = 5, in_channels: int = 3) -> nn.Module:
    return students.LRASPPMobileNetV3Large(num_classes, in_channels)


@pytest.fixture(scope="module")
def trained() -> dict[str, Tensor]:
    """A state in which no tensor has the value that a new network has."""
    torch.manual_seed(1)
    state = network().state_dict()
    return {name: t + 1 if t.dtype == torch.int64 else torch.rand_like(t) for name, t in state.items()}


def loaded(network: nn.Module, state: dict[str, Tensor], under: str = "") -> bool:
    """Whether all tensors of the network under a prefix are those of the file."""
    own = network.state_dict()
    return all(torch.equal(own[name], state[name]) for name in own if name.startswith(under))


def refuses(spec: object, message: str, target: nn.Module | None = None) -> None:
    target = target or network()
    before = {name: t.clone() for name, t in target.state_dict().items()}
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        load_into(target, spec)
    assert all(torch.equal(before[name], t) for name, t in target.state_dict().items()), (
        "a refused load changed the network"
    )


@pytest.mark.parametrize("spec", [None, "none"])
def test_no_weights(spec: str | None) -> None:
    assert load_into(network(), spec).line == "no weights loaded: all layers start from scratch"


def test_a_safetensors_file(tmp_path: Path, trained: dict[str, Tensor]) -> None:
    save_file(trained, tmp_path / "mine.safetensors")
    target = network()
    assert load_into(target, str(tmp_path / "mine.safetensors")).line == "mine.safetensors: loaded 272 of 272 tensors"
    assert loaded(target, trained)


def test_a_run_directory_stands_for_its_student(tmp_path: Path, trained: dict[str, Tensor]) -> None:
    save_file(trained, tmp_path / "student.safetensors")
    target = network()
    assert load_into(target, str(tmp_path)).line == "student.safetensors: loaded 272 of 272 tensors"
    assert loaded(target, trained)


def inert() -> dict[str, Any]:
    """Bookkeeping that training scripts save with the weights."""
    return {
        "args": argparse.Namespace(lr=0.1, output=pathlib.PurePosixPath("runs/1")),
        "best_score": np.float64(0.71),
        "per_class": np.arange(3.0),
        "dtype": np.dtype("float32"),
        "history": collections.defaultdict(list, {"loss": [1.0, 0.5]}),
        "date": datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC),
        "epoch": 3,
    }


@pytest.mark.parametrize(
    ("wrapper", "prefix"),
    [
        (None, ""),
        ("model", ""),  # torchvision's references
        ("model_state", ""),  # DeepLabV3Plus-Pytorch
        ("state_dict", "module."),  # pytorch-deeplab-xception, saved from DataParallel
        ("state_dict", ""),  # mmsegmentation
        ("state_dict", "model."),  # Lightning
        ("model_state_dict", "_orig_mod.module."),
        ("net", "network."),
        ("ema", "architecture."),
    ],
)
def test_wrapped_states(tmp_path: Path, trained: dict[str, Tensor], wrapper: str | None, prefix: str) -> None:
    state = collections.OrderedDict((prefix + name, tensor) for name, tensor in trained.items())
    torch.save(
        state if wrapper is None else {wrapper: state, "optimizer": {"state": {}}, **inert()}, tmp_path / "a.pth"
    )
    target = network()
    note = load_into(target, str(tmp_path / "a.pth")).line
    stripped = ", ".join(f"{word}." for word in prefix.split(".") if word)
    expected = "a.pth: loaded 272 of 272 tensors" + (f"; without the prefix {stripped}" if stripped else "")
    passed = "; not read: argparse.Namespace, pathlib.PurePosixPath, numpy.dtype …" if wrapper else ""
    assert note == expected + passed
    assert loaded(target, trained)


@pytest.mark.parametrize(
    ("wrap", "stripped"),
    [
        (lambda name: name.replace("backbone.", "backbone._orig_mod."), "_orig_mod."),  # one part compiled
        (lambda name: name.replace("backbone.", "student.backbone.module."), "module., student."),
        (lambda name: f"model.module.{name}", "model., module."),
        (lambda name: f"ema_model.{name}", "ema_model."),
    ],
)  # fmt: skip
def test_what_wrapping_adds_anywhere_in_a_name_is_left_out(
    tmp_path: Path, trained: dict[str, Tensor], wrap: Any, stripped: str
) -> None:
    torch.save({wrap(name): tensor for name, tensor in trained.items()}, tmp_path / "a.pth")
    target = network()
    note = load_into(target, str(tmp_path / "a.pth")).line
    parts, _, listed = note.partition("; without the prefix ")
    assert parts == "a.pth: loaded 272 of 272 tensors"
    assert sorted(listed.split(", ")) == sorted(stripped.split(", "))
    assert loaded(target, trained)


def test_a_wrapped_network_keeps_the_names_of_its_own_code(tmp_path: Path, trained: dict[str, Tensor]) -> None:
    torch.save({f"model.{name}": tensor for name, tensor in trained.items()}, tmp_path / "a.pth")
    target = teachers.Wrapped(5, network=network())
    assert load_into(target, str(tmp_path / "a.pth")).line.startswith("a.pth: loaded 272 of 272 tensors")
    assert loaded(target.network, trained, under="backbone.")
    assert loaded(target.network, trained, under="classifier.")


@pytest.mark.parametrize("wrapper", [None, "state_dict"])
def test_two_networks_in_one_state_need_a_key(tmp_path: Path, trained: dict[str, Tensor], wrapper: str | None) -> None:
    file = str(tmp_path / "a.pth")
    both = {f"student.{name}": t for name, t in trained.items()} | {
        f"teacher.{name}": t * 2 for name, t in trained.items()
    }
    torch.save(both if wrapper is None else {wrapper: both, "epoch": 3}, file)
    refuses(file, "a.pth holds two networks, under 'student' and 'teacher'")
    with pytest.raises(MisfitError) as caught:
        load_into(network(), file)
    target = network()
    load_into(target, {"file": file} | caught.value.fix)
    assert loaded(target, trained)


def test_two_candidates_need_a_key(tmp_path: Path, trained: dict[str, Tensor]) -> None:
    file = str(tmp_path / "a.pth")
    torch.save({"model": trained, "ema": {name: t * 2 for name, t in trained.items()}}, file)
    refuses(file, "the file holds weights under 'model' and 'ema'")
    target = network()
    load_into(target, {"file": file, "key": "model"})
    assert loaded(target, trained)
    refuses({"file": file, "key": "state"}, "the file has no key 'state'; it has 'model', 'ema'")


def test_settings_under_the_key_of_weights_are_ignored(tmp_path: Path, trained: dict[str, Tensor]) -> None:
    torch.save({"model": {"name": "lraspp", "width": 1.0}, "ema": {}, "state_dict": trained}, tmp_path / "a.pt")
    assert load_into(network(), str(tmp_path / "a.pt")).line == "a.pt: loaded 272 of 272 tensors"


def test_a_key_goes_deeper_by_dots(tmp_path: Path, trained: dict[str, Tensor]) -> None:
    file = str(tmp_path / "a.pt")
    torch.save({"model": trained, "ema": {"average": trained}}, file)
    assert load_into(network(), {"file": file, "key": "ema.average"}).line == "a.pt: loaded 272 of 272 tensors"
    refuses({"file": file, "key": "ema.mean"}, "the file has no key 'ema.mean'; it has 'average'")


@pytest.mark.parametrize("source", ["imagenet", "ResNet18_Weights.IMAGENET1K_V1"])
def test_only_a_file_has_keys(source: str) -> None:
    refuses({"file": source, "key": "ema"}, f"key: {source} is one set of weights; only files have keys")


def test_rename(tmp_path: Path, trained: dict[str, Tensor]) -> None:
    file = str(tmp_path / "a.pth")
    torch.save({"state_dict": {re.sub(r"^classifier\.", "decode_head.", name): t for name, t in trained.items()}}, file)
    with pytest.raises(PartialError) as caught:
        load_into(network(), file)
    assert str(caught.value) == (
        "a.pth: loaded 262 of 272 tensors; from scratch: classifier (10); not used: decode_head (10)"
    )
    assert caught.value.fix == {"rename": {"decode_head.": "classifier."}}
    target = network()
    assert load_into(target, {"file": file} | caught.value.fix).line == "a.pth: loaded 272 of 272 tensors"
    assert loaded(target, trained)


def test_weights_fit_in_part_only_where_that_is_stated(tmp_path: Path, trained: dict[str, Tensor]) -> None:
    file, line = str(tmp_path / "a.pth"), "a.pth: loaded 262 of 272 tensors; from scratch: classifier (10)"
    torch.save({name: t for name, t in trained.items() if name.startswith("backbone.")}, file)
    refuses(file, line)
    refuses({"file": file, "head": "new"}, line)  # a head that is missing is not one for other classes
    target = network()
    assert load_into(target, file, partial=True).missing == line
    assert loaded(target, trained, under="backbone.")
    with pytest.raises(PartialError):
        load_into(network(), file, role="teacher", partial=True)


def test_renaming_an_absent_prefix_is_refused(tmp_path: Path) -> None:
    save_file({"module.backbone.0.0.weight": torch.rand(16, 3, 3, 3)}, tmp_path / "a.safetensors")
    refuses(
        {"file": str(tmp_path / "a.safetensors"), "rename": {"backbone.": "encoder."}},
        "rename: no name in a.safetensors starts with 'backbone.'; a.safetensors has 'module.backbone.0.0.weight'",
    )


@pytest.mark.parametrize(
    "place",
    [
        pytest.param(lambda i, name: f"features.{i}.{name}", id="torchvision's classifier"),
        pytest.param(lambda i, name: f"encoder.features.{i}.{name}", id="segmentation_models.pytorch"),
        pytest.param(
            lambda i, name: f"backbone.{'low' if i < 4 else 'high'}_level_features.{i}.{name}",
            id="DeepLabV3Plus-Pytorch",
        ),
        pytest.param(lambda i, name: f"backbone.{i}.{name}", id="torchvision's segmentation"),
    ],
)
def test_encoder_alone(tmp_path: Path, place: Any) -> None:
    features = torchvision.models.mobilenet_v2(weights=None).features
    state = {}
    for name, tensor in features.state_dict().items():
        index, _, rest = name.partition(".")
        state[place(int(index), rest)] = torch.rand_like(tensor) if tensor.is_floating_point() else tensor
    torch.save({"state_dict": state}, tmp_path / "a.pth")
    target = students.MobileNetV2UNet(5)
    note = load_into(target, str(tmp_path / "a.pth"), partial=True).line
    assert note.startswith("a.pth: loaded 255 of ")
    assert "from scratch: bridge (5), decoder (40), classifier (2); not used: " in note
    assert torch.equal(target.state_dict()["backbone.0.0.weight"], state[place(0, "0.weight")])


def test_resnet_layouts(tmp_path: Path) -> None:
    """mmsegmentation and pytorch-deeplab-xception keep a ResNet under `backbone.`, torchvision's classifier bare."""
    reference = torchvision.models.resnet18(weights=None).state_dict()
    for prefix in ("", "backbone.", "module.backbone.", "model.encoder."):
        torch.save({"state_dict": {prefix + name: tensor for name, tensor in reference.items()}}, tmp_path / "a.pth")
        target = teachers.FCNResNet50(5, backbone="resnet18")
        note = load_into(target, str(tmp_path / "a.pth"), partial=True).line
        assert note.startswith("a.pth: loaded 100 of 107 tensors"), note
        assert note.endswith("fc (2)"), note
        assert torch.equal(target.state_dict()["backbone.layer4.1.bn2.weight"], reference["layer4.1.bn2.weight"])


@pytest.mark.parametrize("channels", [1, 2, 5])
def test_rgb_becomes_any_number_of_channels(tmp_path: Path, trained: dict[str, Tensor], channels: int) -> None:
    torch.save(trained, tmp_path / "a.pt")
    target = network(in_channels=channels)
    load_into(target, str(tmp_path / "a.pt"))
    first = target.state_dict()["backbone.0.0.weight"]
    gray = torch.rand(2, 1, 9, 9)
    torch.testing.assert_close(
        nn.functional.conv2d(gray.expand(-1, channels, -1, -1), first),
        nn.functional.conv2d(gray.expand(-1, 3, -1, -1), trained["backbone.0.0.weight"]),
    )


def test_another_number_of_classes(tmp_path: Path, trained: dict[str, Tensor]) -> None:
    file = str(tmp_path / "a.pt")
    torch.save({"state_dict": trained, "meta": {"CLASSES": tuple("abcde")}}, file)
    target = network(7)
    refuses(file, "classifier.low_classifier.weight is for 5 classes, the network for 7", target)
    with pytest.raises(ClassCountError) as caught:
        load_into(target, file)
    assert (caught.value.found, caught.value.classes) == (5, tuple("abcde"))
    assert load_into(target, {"file": file} | caught.value.fix) == (
        line := "a.pt: loaded 268 of 272 tensors; "
        "from scratch: classifier.low_classifier (2), classifier.high_classifier (2); "
        "not used: classifier.low_classifier (2), classifier.high_classifier (2)",
        line,
        tuple("abcde"),
    )


def test_another_shape(tmp_path: Path, trained: dict[str, Tensor]) -> None:
    torch.save(trained | {"classifier.cbr.0.weight": torch.rand(64, 960, 1, 1)}, tmp_path / "a.pt")
    refuses(
        str(tmp_path / "a.pt"),
        "classifier.cbr.0.weight is (64, 960, 1, 1) in the file and (128, 960, 1, 1) in the network; "
        "these are the weights of another network",
    )


def test_nothing_fits(tmp_path: Path) -> None:
    torch.save({"stem.weight": torch.rand(3)}, tmp_path / "a.pt")
    refuses(
        str(tmp_path / "a.pt"),
        "no tensor of a.pt fits: a.pt has 'stem.weight', the network has 'normalize.mean', 'normalize.std', "
        "'backbone.0.0.weight' …; map names with rename: {'old.': 'new.'}",
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"epoch": 3}, "no weights found: the file has 'epoch'"),
        ([1, 2], "no weights found: the file has a list"),
    ],
)
def test_no_weights_in_the_file(tmp_path: Path, content: object, message: str) -> None:
    torch.save(content, tmp_path / "a.pt")
    refuses(str(tmp_path / "a.pt"), message)


def test_unreadable_files(tmp_path: Path) -> None:
    refuses(
        str(tmp_path / "no.pt"),
        f"no file {tmp_path / 'no.pt'}; give imagenet, a torchvision name, a run directory or a file",
    )
    (tmp_path / "a.onnx").touch()
    refuses(
        str(tmp_path / "a.onnx"),
        f"{tmp_path / 'a.onnx'}: '.onnx' files cannot be read; use .safetensors, .pt, .pth, .ckpt, .tar, .bin",
    )
    for name in ("a.pt", "a.safetensors"):
        (tmp_path / name).write_bytes(b"not weights")
        with pytest.raises(ValueError, match="is not a readable"):
            load_into(network(), str(tmp_path / name))


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty download cache; downloads fail at once."""

    def refuse(*args: object, **options: object) -> None:
        raise OSError("no network in tests")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    (tmp_path / "checkpoints").mkdir()
    return tmp_path / "checkpoints"


def test_imagenet_from_the_cache(hub: Path) -> None:
    reference = torchvision.models.mobilenet_v3_large(weights=None)
    torch.save(reference.state_dict(), hub / "mobilenet_v3_large-5c1a4163.pth")
    target = network()
    assert load_into(target, "imagenet").line == (
        "MobileNet_V3_Large_Weights.IMAGENET1K_V2: loaded 262 of 272 tensors; from scratch: classifier (10)"
    )
    expected = {f"backbone.{name}": tensor for name, tensor in reference.features.state_dict().items()}
    assert loaded(target, expected, under="backbone.")
    momenta = {m.momentum for m in target.backbone.modules() if isinstance(m, nn.BatchNorm2d)}
    assert momenta == {0.1}


@pytest.mark.parametrize(
    ("build", "name", "file", "reference"),
    [
        (
            lambda: students.LRASPPMobileNetV3Large(21),
            "LRASPP_MobileNet_V3_Large_Weights.COCO_WITH_VOC_LABELS_V1",
            "lraspp_mobilenet_v3_large-d234d4ea.pth",
            torchvision.models.segmentation.lraspp_mobilenet_v3_large,
        ),
        (
            lambda: teachers.DeepLabV3ResNet50(21, aux=True),
            "DeepLabV3_ResNet50_Weights.COCO_WITH_VOC_LABELS_V1",
            "deeplabv3_resnet50_coco-cd0a2569.pth",
            torchvision.models.segmentation.deeplabv3_resnet50,
        ),
        pytest.param(
            lambda: teachers.FCNResNet50(21, aux=True),
            "FCN_ResNet50_Weights.COCO_WITH_VOC_LABELS_V1",
            "fcn_resnet50_coco-1167a1af.pth",
            torchvision.models.segmentation.fcn_resnet50,
            marks=pytest.mark.slow,
        ),
    ],
)
def test_our_network_equals_torchvisions(hub: Path, build: Any, name: str, file: str, reference: Any) -> None:
    options = {} if "LRASPP" in name else {"aux_loss": True}
    original = reference(weights=None, weights_backbone=None, num_classes=21, **options)
    torch.save(original.state_dict(), hub / file)
    ours = build()
    count = sum(not key.endswith("num_batches_tracked") for key in original.state_dict())
    weights = load_into(ours, name)
    assert weights.line == f"{name}: loaded {count} of {count} tensors"
    assert weights.classes == NAMES  # torchvision calls the background __background__
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        logits = ours.eval()(images).logits
        full = nn.functional.interpolate(logits, (64, 64), mode="bilinear", align_corners=False)
        normalized = (images - ours.normalize.mean) / ours.normalize.std
        torch.testing.assert_close(full, original.eval()(normalized)["out"])


def test_a_failed_download_reports_the_fix(hub: Path) -> None:
    name, url = "ResNet18_Weights.IMAGENET1K_V1", "https://download.pytorch.org/models/resnet18-f37072fd.pth"
    refuses(
        name,
        f"{name} could not be downloaded (no network in tests); download {url} and save it as "
        f"{hub / 'resnet18-f37072fd.pth'}",
    )


def test_a_damaged_download_is_named(hub: Path) -> None:
    file = hub / "resnet18-f37072fd.pth"
    file.write_bytes(b"\x80\x02not a pickle")
    name = "ResNet18_Weights.IMAGENET1K_V1"
    refuses(name, f"{name}: {file} is damaged; delete it, and it is downloaded again")


def test_unknown_names() -> None:
    refuses(
        "FCN_ResNet50_Weights.COCO_V1",
        "torchvision has no weights FCN_ResNet50_Weights.COCO_V1; "
        "did you mean FCN_ResNet50_Weights.COCO_WITH_VOC_LABELS_V1?",
    )
    refuses("imagenet", "Linear has no backbone with ImageNet weights; name a file", nn.Linear(2, 2))
    refuses({"file": "a.pt", "keys": "model"}, "unknown key 'keys'; known: file, head, key, rename")
    refuses({"file": "a.pt", "head": "old"}, "head: must be `new` or left out, got 'old'")


@pytest.mark.parametrize(
    ("build", "count"),
    [
        (lambda: teachers.DeepLabV3Plus(11, backbone="mobilenet_v2"), 255),
        (lambda: students.MobileNetV2UNet(11), 255),
        (lambda: students.MobileNetV2ASPPResidualSEUNet(1, 1), 260),
    ],
)
def test_real_mobilenet_v2_weights(shared_data: Path, build: Any, count: int) -> None:
    target = build()
    note = load_into(target, str(shared_data / "weights" / "mobilenet_v2_imagenet.safetensors"), partial=True).line
    assert note.startswith(f"mobilenet_v2_imagenet.safetensors: loaded {count} of ")
    backbone = [name for name in target.state_dict() if name.startswith("backbone.") and "num_batches" not in name]
    assert len(backbone) == count  # the whole backbone


def test_a_mapping_that_holds_itself_ends(tmp_path):
    state = {"w": torch.zeros(2)}
    state["model"] = state
    torch.save(state, tmp_path / "a.pt")
    with pytest.raises(ValueError, match="no weights found: the file has 'w', 'model'"):
        read_weights(str(tmp_path / "a.pt"), None)


def test_class_names_that_are_nested_without_end_are_no_names(tmp_path):
    save_file({"w": torch.zeros(2)}, tmp_path / "a.safetensors", metadata={"classes": "[" * 100_000})
    assert read_weights(str(tmp_path / "a.safetensors"), None).classes is None


@pytest.mark.skipif(not pathlib.Path("/proc/self/environ").exists(), reason="no /proc")
def test_a_link_to_a_file_of_the_system_is_empty(tmp_path):
    (tmp_path / "a.pt").symlink_to("/proc/self/environ")
    with pytest.raises(ValueError, match=r"a\.pt is empty"):
        read_weights(str(tmp_path / "a.pt"), None)
