import copy
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from kd.types import SegmentationOutput
from teachers import Ensemble


class Fixed(nn.Module):
    """A member whose logits are constant."""

    def __init__(self, logits: Tensor, in_channels: int = 3) -> None:
        super().__init__()
        self.taps, self.num_classes, self.in_channels = {}, logits.shape[1], in_channels
        self.logits = nn.Parameter(logits)

    def forward(self, images: Tensor) -> SegmentationOutput:
        return SegmentationOutput(self.logits.expand(len(images), -1, -1, -1), {}, {})


IMAGES = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def members(classes: int = 3) -> list[nn.Module]:
    torch.manual_seed(3)
    return [Fixed(torch.randn(1, classes, 4, 4)), Fixed(torch.randn(1, classes, 4, 4))]


def test_softmax_of_the_result_is_the_mean_of_probabilities() -> None:
    both = members()
    logits = Ensemble(3, members=both)(IMAGES).logits
    expected = (both[0].logits.softmax(1) + both[1].logits.softmax(1)) / 2
    torch.testing.assert_close(logits.softmax(1)[:1], expected)
    torch.testing.assert_close(logits.mean(1), torch.zeros(2, 4, 4), rtol=0, atol=1e-6)


def test_weights_per_member_and_per_class() -> None:
    both = members()
    first, second = (member.logits.softmax(1) for member in both)
    torch.testing.assert_close(
        Ensemble(3, members=both, weights=[3, 1])(IMAGES).logits.softmax(1)[:1], (3 * first + second) / 4
    )
    shares = torch.tensor([1.0, 0.5, 0.0])[:, None, None]
    mixed = shares * first + (1 - shares) * second
    result = Ensemble(3, members=both, weights=[[1, 0.5, 0], [0, 0.5, 1]])(IMAGES).logits.softmax(1)[:1]
    torch.testing.assert_close(result, mixed / mixed.sum(1, keepdim=True))


def test_temperature_tempers_the_mean() -> None:
    both = members()
    plain, warm = Ensemble(3, members=both)(IMAGES).logits, Ensemble(3, members=both, temperature=2)(IMAGES).logits
    torch.testing.assert_close(warm, plain / 2)


def test_the_finest_member_sets_the_size() -> None:
    coarse, fine = Fixed(torch.zeros(1, 2, 2, 2)), Fixed(torch.zeros(1, 2, 8, 8))
    output = Ensemble(2, members=[coarse, fine])(IMAGES)
    assert output.logits.shape == (2, 2, 8, 8)
    assert output.aux["member1"].shape == (2, 2, 2, 2)


def test_one_class_is_a_sigmoid() -> None:
    both = members(classes=1)
    logits = Ensemble(1, members=both)(IMAGES).logits
    assert logits.shape == (2, 1, 4, 4)
    torch.testing.assert_close(logits.sigmoid()[:1], (both[0].logits.sigmoid() + both[1].logits.sigmoid()) / 2)


def test_a_certain_ensemble_stays_finite() -> None:
    certain = Fixed(torch.tensor([1000.0, -1000.0]).reshape(1, 2, 1, 1))
    assert torch.isfinite(Ensemble(2, members=[certain, copy.deepcopy(certain)])(IMAGES).logits).all()


def test_files_fill_the_members(tmp_path: Path) -> None:
    both = members()
    for i, member in enumerate(both):
        save_file(member.state_dict(), tmp_path / f"{i}.safetensors")
    fresh = [Fixed(torch.zeros(1, 3, 4, 4)), Fixed(torch.zeros(1, 3, 4, 4))]
    loaded = Ensemble(3, members=fresh, files=[str(tmp_path / "0.safetensors"), str(tmp_path / "1.safetensors")])
    torch.testing.assert_close(loaded(IMAGES).logits, Ensemble(3, members=both)(IMAGES).logits)


def named_files(folder: Path, heads: list[nn.Module], *names: list[str] | None) -> list[str]:
    files = [str(folder / f"{i}.pth") for i in range(len(heads))]
    for file, head, own in zip(files, heads, names, strict=True):
        torch.save({"state_dict": head.state_dict(), "classes": own}, file)
    return files


def test_members_whose_files_name_another_order_are_brought_into_the_first_ones(tmp_path: Path) -> None:
    both = members()
    turned = Fixed(both[1].logits[:, [2, 0, 1]].detach())
    files = named_files(tmp_path, [both[0], turned], ["sky", "road", "car"], ["Car", "sky", "road"])
    ensemble = Ensemble(3, members=members(), files=files)
    expected = Ensemble(3, members=both)(IMAGES)
    assert torch.equal(ensemble(IMAGES).logits, expected.logits)
    assert torch.equal(ensemble(IMAGES).aux["member2"], expected.aux["member2"])
    assert ensemble.traits.class_names == ("sky", "road", "car")
    assert ensemble.traits.loaded == (
        "members.0: 0.pth: loaded 1 of 1 tensors",
        "members.1: 1.pth: loaded 1 of 1 tensors",
    )
    assert "orders" in ensemble.state_dict()
    assert "orders" not in Ensemble(3, members=members(), files=[files[0]] * 2).state_dict()  # as older caches have it


def test_a_single_logit_of_another_order_is_turned_round(tmp_path: Path) -> None:
    both = members(classes=1)
    turned = Fixed(-both[1].logits.detach())
    files = named_files(tmp_path, [both[0], turned], ["no", "yes"], ["yes", "no"])
    ensemble = Ensemble(1, members=members(1), files=files)
    assert torch.equal(ensemble(IMAGES).logits, Ensemble(1, members=both)(IMAGES).logits)


def test_members_with_other_names_are_refused_and_those_without_reported(tmp_path: Path) -> None:
    files = named_files(tmp_path, members(), None, ["car", "sky", "road"])
    ensemble = Ensemble(3, members=members(), files=files)
    assert ensemble.traits.class_names == ("car", "sky", "road")
    assert ensemble.traits.loaded[2:] == (
        "members.0: the order of its classes is not recorded; taken to be car, sky, road",
    )
    files = named_files(tmp_path, members(), ["sky", "road", "bus"], ["car", "sky", "road"])
    message = (
        "members.1: its classes are car, sky, road, those before it sky, road, bus; map them: put teachers.ClassMapped "
        "around the member"
    )
    with pytest.raises(ValueError, match=f"^{message}$"):
        Ensemble(3, members=members(), files=files)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"members": members()[:1]}, "members: an ensemble needs two or more, got 1"),
        (
            {"members": [*members(), nn.Conv2d(3, 3, 1)]},
            "members.2: Conv2d does not declare taps, num_classes and in_channels; wrap it in teachers.Wrapped",
        ),
        (
            {"members": [*members(), Fixed(torch.zeros(1, 4, 2, 2))]},
            "members.2: Fixed has 4 classes and 3 channels, the ensemble has 3 and 3; both must agree",
        ),
        *(
            (
                {"members": members(), "temperature": wrong},
                f"temperature: must be above 0 and finite, got {wrong}; 1.0 keeps the mean",
            )
            for wrong in (0, float("nan"), float("inf"))
        ),
        ({"members": members(), "files": ["a"]}, "files: 1 for 2 members; give one per member"),
        (
            {"members": members(), "weights": [[1, 2], [1, 2]]},
            "weights: give each of the 2 members one number, or 3 (one per class)",
        ),
        (
            {"members": members(), "weights": [1, 1, 1]},
            "weights: give each of the 2 members one number, or 3 (one per class)",
        ),
        *(
            (
                {"members": members(), "weights": wrong},
                "weights: must be finite and at least 0, and above 0 for at least one member",
            )
            for wrong in ([-1, 2], [[1, 0, 1], [1, 0, 1]], [float("nan"), 1], [float("inf"), 1])
        ),
    ],
)
def test_refusals(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        Ensemble(3, **options)


def test_it_moves_to_channels_last_like_any_network() -> None:
    ensemble = Ensemble(3, members=members())
    before = ensemble(IMAGES).logits
    assert torch.equal(ensemble.to(memory_format=torch.channels_last)(IMAGES).logits, before)


def test_logits_of_one_class_have_no_open_constant() -> None:
    assert Ensemble(3, members=members()).traits.shift_free
    assert not Ensemble(1, members=members(1)).traits.shift_free
