import numpy as np
import pytest
import torch

from kd.losses import BPKD

# Radius 1. Columns 1 and 2 of row 0 see both classes; the ignored column hides class 2 from class 1.
LABELS = np.array([[[0, 0, 1, 1, 255, 2]]])


def log_softmax(values: np.ndarray) -> np.ndarray:
    return values - np.log(np.exp(values).sum())


def kl(teacher: np.ndarray, student: np.ndarray) -> float:
    t, s = log_softmax(teacher / 2), log_softmax(student / 2)
    return 4 * np.sum(np.exp(t) * (t - s))


def test_formula_on_one_row() -> None:
    random = np.random.default_rng(11)
    student, teacher = random.normal(size=(2, 1, 3, 1, 6))
    edge = np.mean([kl(teacher[0, :, 0, i], student[0, :, 0, i]) for i in (1, 2)])  # E_0 = E_1 = {1, 2}, E_2 is empty
    bodies = {0: [0, 3, 5], 1: [0, 3, 5], 2: [0, 1, 2, 3, 5]}
    body = np.mean([kl(teacher[0, c, 0, seen], student[0, c, 0, seen]) for c, seen in bodies.items()])
    ours = BPKD(temperature=2.0, body=1.5, edge=0.5)(*(torch.from_numpy(a) for a in (student, teacher, LABELS)))
    assert ours.item() == pytest.approx(1.5 * body + 0.5 * edge, rel=1e-12)


def test_a_short_edge_has_the_weight_of_a_long_edge() -> None:
    # Classes 1 and 2 both touch class 0; only the pixels of the short edge (class 2, bottom row) differ.
    labels = torch.zeros(1, 9, 5, dtype=torch.long)
    labels[0, :4, 0], labels[0, 8, 4] = 1, 2
    teacher = torch.zeros(1, 3, 9, 5)
    student = teacher.clone()
    student[0, 2, 7:, 3:] = 1.0
    short = BPKD(body=0.0, edge=1.0)(student, teacher, labels)
    differing = BPKD(body=0.0, edge=1.0)(student[..., 7:, 3:], teacher[..., 7:, 3:], labels[..., 7:, 3:])
    assert 0 < short < differing  # differing: the mean over the differing pixels only
    assert short > differing / 3  # class 2 is a third of the mean, though only 4 of the 14 edge pixels are its edge


def test_without_edges_the_body_remains() -> None:
    student, teacher = torch.randn(2, 1, 3, 4, 4)
    labels = torch.ones(1, 4, 4, dtype=torch.long)
    assert BPKD(body=0.0)(student, teacher, labels) == 0
    assert BPKD(edge=0.0)(student, teacher, labels) > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": 0.0}, "temperature is 0.0; it must be above 0"),
        ({"radius": 0}, "radius is 0; it must be at least 1"),
        ({"edge": -2.0}, "edge is -2.0; it must be at least 0"),
    ],
)
def test_bad_options(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BPKD(**options)
