import numpy as np
import pytest
import torch

from kd.losses import DIST


def test_formula_with_temperature_and_ignored_pixels() -> None:
    random = np.random.default_rng(9)
    student, teacher = random.normal(size=(2, 2, 4, 2, 3))
    labels = np.zeros((2, 2, 3), dtype=np.int64)
    labels[0, 0, :2] = labels[1, 1, 2] = 255
    rows = []  # the valid pixels' probabilities, (pixels, classes)
    for maps in (student, teacher):
        powers = np.exp(maps / 2).transpose(0, 2, 3, 1)[labels != 255]
        rows.append(powers / powers.sum(1, keepdims=True))
    s, t = rows
    assert len(s) == 9
    inter = np.mean([1 - np.corrcoef(a, b)[0, 1] for a, b in zip(s, t, strict=True)])
    intra = np.mean([1 - np.corrcoef(a, b)[0, 1] for a, b in zip(s.T, t.T, strict=True)])
    ours = DIST(2.0, inter=1.5, intra=0.5)(*(torch.from_numpy(a) for a in (student, teacher, labels)))
    assert ours.item() == pytest.approx(4 * (1.5 * inter + 0.5 * intra), rel=1e-12)


def test_identical_maps_of_one_image_give_zero() -> None:
    maps = torch.randn(1, 5, 4, 4).double()
    assert DIST()(maps, maps, None).item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("offset", [14, 60, 1e4])  # nats below the other classes
def test_the_loss_does_not_reward_probability_of_a_class_that_is_absent(offset: float) -> None:
    teacher = torch.randn(2, 5, 9, 9, generator=torch.Generator().manual_seed(1))
    teacher[:, 4] -= offset
    student = teacher.clone()
    student[:, 4] += 5
    least = DIST()(teacher, teacher, None).item()
    assert least == pytest.approx(0, abs=1e-5)
    assert DIST()(student, teacher, None).item() > least - 1e-5
    assert DIST(convention="authors")(teacher, teacher, None).item() > 0.1  # of 1/K = 0.2


def test_a_class_that_does_not_vary_in_the_teacher_adds_nothing() -> None:
    random = torch.Generator().manual_seed(1)
    student = torch.randn(1, 3, 4, 4, generator=random).double()
    share = 0.75 * torch.rand(1, 1, 4, 4, generator=random).double()
    teacher = torch.cat((torch.full_like(share, 0.25), share, 0.75 - share), 1)
    probabilities = student.softmax(1)[0].flatten(1).numpy()
    correlations = [np.corrcoef(probabilities[c], teacher[0, c].flatten().numpy())[0, 1] for c in (1, 2)]
    ours = DIST(inter=0.0)(student, teacher.log(), None).item()
    assert ours == pytest.approx(sum(1 - correlation for correlation in correlations) / 3)


def test_an_affine_change_of_the_probabilities_changes_nothing() -> None:
    teacher = torch.tensor([0.5, 0.3, 0.2]).view(1, 3, 1, 1)
    student = 1 / 3 + 0.4 * (teacher - 1 / 3)  # probabilities in the same order, closer to uniform
    assert DIST(intra=0.0)(student.log(), teacher.log(), None).item() == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": -1.0}, "temperature is -1.0; it must be above 0"),
        ({"intra": -1.0}, "intra is -1.0; it must be at least 0"),
        ({"convention": "paper"}, "convention 'paper' is unknown; known: default, authors, torchdistill"),
    ],
)
def test_bad_options(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DIST(**options)
