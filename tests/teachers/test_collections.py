"""Networks of transformers, segmentation_models.pytorch and timm: with the package where it is installed."""

import builtins
import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import read, write_recipes

import teachers
from kd.errors import RecipeError
from kd.parts.assemble import assemble
from kd.types import Network, traits


@pytest.mark.parametrize(
    ("component", "package", "extra", "arguments"),
    [
        ("HuggingFace", "transformers", "hf", {"folder": "."}),
        ("SMP", "segmentation_models_pytorch", "smp", {}),
        ("Timm", "timm", "timm", {"model": "resnet18"}),
    ],
)
def test_a_missing_package_is_one_line_with_the_command(
    monkeypatch: pytest.MonkeyPatch, component: str, package: str, extra: str, arguments: dict[str, Any]
) -> None:
    imported = builtins.__import__

    def without(name: str, *args: Any) -> Any:
        if name == package:
            raise ImportError(name)
        return imported(name, *args)

    monkeypatch.setattr(builtins, "__import__", without)
    message = f"{package} is not installed: pip install 'kd-segmentation[{extra}]'"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        getattr(teachers, component)(2, **arguments)


@pytest.fixture
def segformer(tmp_path: Path) -> Path:
    """A folder as `save_pretrained` writes it: a small SegFormer for two classes, not in the order of the data."""
    transformers = pytest.importorskip("transformers", reason="needs kd-segmentation[hf]")
    torch.manual_seed(0)
    config = transformers.SegformerConfig(
        depths=[1, 1, 1, 1],
        hidden_sizes=[8, 8, 8, 8],
        num_attention_heads=[1, 1, 1, 1],
        decoder_hidden_size=8,
        id2label={0: "bright", 1: "dark"},
        label2id={"bright": 0, "dark": 1},
    )
    transformers.SegformerForSemanticSegmentation(config).save_pretrained(tmp_path / "segformer")
    form = {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6], "do_normalize": True}
    (tmp_path / "segformer" / "preprocessor_config.json").write_text(json.dumps(form))
    return tmp_path / "segformer"


def test_a_folder_of_transformers_has_its_weights_classes_and_form(segformer: Path) -> None:
    teacher = teachers.HuggingFace(2, folder=str(segformer)).eval()
    assert isinstance(teacher, Network)
    assert traits(teacher).class_names == ("bright", "dark")
    assert teacher.normalize.preprocess.mean == pytest.approx((0.1, 0.2, 0.3))
    images = torch.rand(1, 3, 64, 64)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6)))
    with torch.no_grad():
        logits = teacher(images).logits
        torch.testing.assert_close(logits, teacher.network((images - mean) / std).logits)
    assert logits.shape == (1, 2, 16, 16)


def test_a_folder_teaches_without_trust_and_its_classes_are_mapped(segformer: Path, tmp_path: Path) -> None:
    recipe = read(write_recipes(tmp_path), f"teacher={{use: teachers.HuggingFace, args: {{folder: {segformer}}}}}")
    recipe = read(
        recipe.file, f"teacher={{use: teachers.HuggingFace, args: {{folder: {segformer}}}}}", "distill.hint=null"
    )
    notes = assemble(recipe, runs=tmp_path, seed=0).notes
    assert notes == ["teacher: its classes are in another order (bright, dark); they are mapped by name"]


def test_what_a_folder_lacks_is_refused(segformer: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"has 2 classes \(bright, dark\), but the data have 5; map them with "):
        teachers.HuggingFace(5, folder=str(segformer))
    with pytest.raises(ValueError, match=r"folder: no .*config\.json; name a folder that save_pretrained wrote"):
        teachers.HuggingFace(2, folder=str(tmp_path))
    from safetensors.torch import load_file, save_file

    state = load_file(segformer / "model.safetensors")
    encoder = {name: tensor for name, tensor in state.items() if "decode_head" not in name}
    save_file(encoder, segformer / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"tensors missing: \d+ \(decode_head\..*\); a teacher is loaded whole"):
        teachers.HuggingFace(2, folder=str(segformer))


def test_a_network_of_smp_loads_its_own_file(tmp_path: Path) -> None:
    smp = pytest.importorskip("segmentation_models_pytorch", reason="needs kd-segmentation[smp]")
    from kd.networks.weights import load_into

    torch.manual_seed(1)
    original = smp.FPN("resnet18", encoder_weights=None, classes=3).eval()
    torch.save({"state_dict": {f"model.{name}": t for name, t in original.state_dict().items()}}, tmp_path / "fpn.pth")
    teacher = teachers.SMP(3, architecture="fpn", encoder="resnet18").eval()
    load_into(teacher, str(tmp_path / "fpn.pth"), role="teacher")
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(teacher(images).logits, original(teacher.normalize(images)))
    with pytest.raises(ValueError, match="unnet with resnet18: "):
        teachers.SMP(3, architecture="unnet", encoder="resnet18")


@pytest.mark.parametrize(("model", "strides"), [("resnet18", (4, 8, 16)), ("convnext_atto", (4, 8, 16))])
def test_an_encoder_of_timm_with_its_head(model: str, strides: tuple[int, ...]) -> None:
    pytest.importorskip("timm", reason="needs kd-segmentation[timm]")
    network = teachers.Timm(3, model=model, width=16).eval()
    assert isinstance(network, Network)
    assert tuple(tap.stride for tap in network.taps.values()) == strides
    output = network(torch.rand(2, 3, 64, 96))
    assert output.logits.shape == (2, 3, 16, 24)
    for name, tap in network.taps.items():
        assert output.features[name].shape[1] == tap.channels
    network.train()(torch.rand(2, 3, 64, 64)).logits.sum().backward()
    assert all(parameter.grad is not None for name, parameter in network.named_parameters() if "backbone" not in name)
    with pytest.raises(ValueError, match="model: timm has no resnet19 with maps"):
        teachers.Timm(3, model="resnet19")


def test_an_unknown_folder_is_one_line_of_the_recipe(tmp_path: Path) -> None:
    pytest.importorskip("transformers", reason="needs kd-segmentation[hf]")
    recipe = write_recipes(tmp_path)
    with pytest.raises(RecipeError) as caught:
        assemble(read(recipe, "teacher={use: teachers.HuggingFace, args: {folder: no}}"), runs=tmp_path, seed=0)
    (mistake,) = caught.value.mistakes
    assert mistake.endswith("folder: no no/config.json; name a folder that save_pretrained wrote")
