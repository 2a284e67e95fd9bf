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
    _, name, convention, weight, shape, house_weight = row
    size = [int(length) for length in shape.split(",")]
    student, teacher = torch.randn(2, 1, *size)
    loss = getattr(kd.losses, name)
    published = float(weight) * loss(convention=convention)(student, teacher, None)
    house = float(house_weight) * loss()(student, teacher, None)
    assert house.item() == pytest.approx(published.item(), rel=2e-3)  # the page has three digits
