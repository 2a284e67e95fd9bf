"""Every factor in docs/methods/weights.md, computed at its shape."""

from pathlib import Path

import pytest
import torch

import kd.losses

PAGE = Path(__file__).resolve().parents[2] / "docs" / "methods" / "weights.md"
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in PAGE.read_text(encoding="utf-8").splitlines()
    if line.startswith("| ") and not line.startswith(("| ---", "| published"))
]


def test_the_page_has_rows() -> None:
    assert len(ROWS) >= 8


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row[1]}-{row[2]}-{row[4]}")
def test_weight(row: list[str]) -> None:
    _, name, convention, weight, shape, default_weight = row
    size = [int(length) for length in shape.split(",")]
    student, teacher = torch.randn(2, 1, *size)
    loss = getattr(kd.losses, name)
    published = float(weight) * loss(convention=convention)(student, teacher, None)
    default = float(default_weight) * loss()(student, teacher, None)
    assert default.item() == pytest.approx(published.item(), rel=2e-3)  # the page has three digits


TEXT = PAGE.read_text(encoding="utf-8")


def maps(images: int, channels: int, height: int, width: int) -> torch.Tensor:
    return torch.randn(2, images, channels, height, width)


def test_skd_s_pixel_wise_weight_includes_images_and_entropy() -> None:
    assert "weight of 10 at 8 images is 80 · (PixelKL + the teacher's entropy)" in TEXT
    student, teacher = maps(8, 5, 6, 7)
    entropy = torch.distributions.Categorical(logits=teacher.movedim(1, -1)).entropy().mean()
    published = 10 * kd.losses.PixelKL(convention="skd")(student, teacher)
    torch.testing.assert_close(80 * (kd.losses.PixelKL()(student, teacher) + entropy), published)


def test_cirkd_s_cwd_weight_includes_the_student_s_channels() -> None:
    assert "weight of 50 after a student of 128 channels and a teacher of 512 is 50 · 512 / 128 = 200 here" in TEXT
    student, teacher = maps(2, 512, 4, 5).flatten(3)
    shares = [torch.distributions.Categorical(logits=logits) for logits in (teacher, student)]
    published = 50 * torch.distributions.kl_divergence(*shares).sum() / (2 * 128)
    default = kd.losses.CWD()(student.unflatten(2, (4, 5)), teacher.unflatten(2, (4, 5)))
    torch.testing.assert_close(200 * default, published)


@pytest.mark.parametrize("convention", ["ifvd", "cirkd"])
def test_ifvd_s_weights_include_the_share_of_valid_pixels(convention: str) -> None:
    assert "IFVD's weights must be multiplied by the share of valid pixels" in TEXT
    student, teacher = maps(2, 4, 6, 7)
    labels = torch.randint(0, 3, (2, 6, 7))
    labels[:, :2] = 255
    published = kd.losses.IFVD(convention)(student, teacher, labels)
    torch.testing.assert_close(4 / 6 * kd.losses.IFVD()(student, teacher, labels), published)


def test_cirkd_s_dsd_weights_are_the_defaults() -> None:
    assert "`psd: 1000, csd: 10, convention: cirkd` on maps of 64×128 is `psd: 0.12, csd: 10`: the defaults" in TEXT
    student, teacher = (tuple(taps) for taps in torch.randn(2, 3, 1, 4, 64, 128))
    published = kd.losses.DSD(psd=1000, csd=10, convention="cirkd")(student, teacher)
    default = kd.losses.DSD(psd=0.12, csd=10)(student, teacher)
    assert default.item() == pytest.approx(published.item(), rel=2e-2)  # the page has two digits
    torch.testing.assert_close(kd.losses.DSD()(student, teacher), default)
