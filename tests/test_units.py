"""Amounts, and numbers in the environment."""

import pytest

from kd.units import as_steps, counted, from_environment, multiples_near


@pytest.mark.parametrize(
    ("amount", "total", "steps"),
    [(7, 100, 7), (0, 100, 0), ("5%", 100, 5), ("5%", 10, 1), ("0.1%", 10, 1), ("0%", 10, 0), ("100%", 3, 3),
     ("33.3%", 10, 3), ("66.6%", 10, 7), ("10%", 29, 3)],
)  # fmt: skip
def test_as_steps(amount: int | str, total: int, steps: int) -> None:
    assert as_steps(amount, total) == steps


@pytest.mark.parametrize("amount", ["5", "-5%", "x%", "%", "1e1%", "101%", -1, True, 0.5, None, "٣%"])
def test_what_is_not_an_amount(amount: object) -> None:
    with pytest.raises(ValueError, match="must be steps"):
        as_steps(amount, 10)  # type: ignore[arg-type]


def test_multiples_are_positive():
    assert multiples_near(15, 2) == "14 and 16"
    assert multiples_near(1, 2) == "2"


def test_one_is_singular():
    assert [counted(number, "image") for number in (0, 1, 2)] == ["0 images", "1 image", "2 images"]
    assert counted(1, "class", "classes") + " of " + counted(3, "class", "classes") == "1 class of 3 classes"


@pytest.mark.parametrize(("text", "number"), [("12", 12), ("", 1), ("all", 1), ("-1", 1), ("²", 1), (None, 1)])
def test_a_number_in_the_environment(monkeypatch: pytest.MonkeyPatch, text: str | None, number: int) -> None:
    monkeypatch.delenv("KD_JOBS", raising=False)
    if text is not None:
        monkeypatch.setenv("KD_JOBS", text)
    assert from_environment("KD_JOBS", 1) == number
