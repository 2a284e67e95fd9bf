import math

import pytest
import torch
from torch import Tensor, nn

from kd.losses import CWD, DKD, MSE, Masked, PixelKL, Sampled


class Recorder(nn.Module):
    """A loss on logits that records the labels it receives."""

    compares = "logits"

    def forward(self, student: Tensor, teacher: Tensor, labels: Tensor | None) -> Tensor:
        self.labels = labels
        return student.sum()


def kept(teacher: Tensor, labels: Tensor | None, **conditions: object) -> list[int]:
    """The labels that the inner loss receives, 255 where a pixel was removed."""
    recorder = Recorder()
    Masked(recorder, **conditions)(torch.zeros_like(teacher), teacher, labels)
    return recorder.labels[0, 0].tolist()


# Four pixels of one row: the teacher gives class 0 with 0.9, 0.6, 0.5 and class 1 with 0.8.
TEACHER = torch.tensor([[0.9, 0.6, 0.5, 0.2], [0.1, 0.4, 0.5, 0.8]]).log().view(1, 2, 1, 4)
LABELS = torch.tensor([0, 1, 0, 1]).view(1, 1, 4)


def test_right_keeps_pixels_where_the_teacher_is_right() -> None:
    assert kept(TEACHER, LABELS, right=True) == [0, 255, 0, 1]


def test_entropy_is_a_share_of_the_maximum() -> None:
    share = [-(p * math.log(p) + (1 - p) * math.log(1 - p)) / math.log(2) for p in (0.9, 0.6, 0.5, 0.8)]
    limit = (share[1] + share[3]) / 2
    assert kept(TEACHER, LABELS, entropy=limit) == [0, 255, 255, 1]


def test_boundary_bands() -> None:
    labels = torch.tensor([0, 0, 0, 1]).view(1, 1, 4)
    assert kept(TEACHER, labels, near=1) == [255, 255, 0, 1]
    assert kept(TEACHER, labels, away=1) == [0, 0, 255, 255]


def test_classes_and_conditions_together() -> None:
    assert kept(TEACHER, LABELS, classes=[1]) == [255, 1, 255, 1]
    assert kept(TEACHER, LABELS, classes=[1], right=True) == [255, 255, 255, 1]


def test_without_labels_the_teachers_class_replaces_them() -> None:
    assert kept(TEACHER, None, classes=[1]) == [255, 255, 255, 1]


def test_ignored_stays_ignored() -> None:
    assert kept(TEACHER, torch.full_like(LABELS, 255), entropy=1.0) == [255] * 4


def test_masked_is_the_loss_of_the_kept_pixels() -> None:
    student = torch.randn(1, 2, 1, 4)
    by_hand = PixelKL()(student[..., [0, 2, 3]], TEACHER[..., [0, 2, 3]], None)
    torch.testing.assert_close(Masked(PixelKL(), right=True)(student, TEACHER, LABELS), by_hand)


def test_features_are_masked_by_labels() -> None:
    student, teacher = torch.randn(2, 1, 3, 1, 4)
    by_hand = MSE()(student[..., [1, 3]], teacher[..., [1, 3]], None)
    torch.testing.assert_close(Masked(MSE(), classes=[1])(student, teacher, LABELS), by_hand)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "Masked: no condition is set; give right, entropy, near, away or classes"),
        ({"entropy": 1.2}, r"entropy is 1.2; it is a share of log K, so it must be in \[0, 1\]"),
        ({"near": 0}, "near is 0; it must be at least 1"),
        ({"away": -1}, "away is -1; it must be at least 1"),
    ],
)
def test_bad_conditions(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Masked(PixelKL(), **options)


def test_features_have_no_prediction() -> None:
    with pytest.raises(ValueError, match="Masked: MSE compares features, but right and entropy read the teacher's"):
        Masked(MSE(), right=True)
    with pytest.raises(ValueError, match="Masked: features have no classes to mask by; give labels"):
        Masked(MSE(), near=1)(torch.zeros(1, 2, 3, 3), torch.zeros(1, 2, 3, 3), None)


def test_modifiers_compare_what_their_loss_does() -> None:
    assert Masked(MSE(), near=1).compares == Sampled(MSE()).compares == "features"
    assert Sampled(CWD()).compares == "either"
    assert Sampled(Masked(DKD(), right=True)).compares == "logits"


def test_a_sample_of_all_pixels_is_the_loss() -> None:
    student, teacher = torch.randn(2, 2, 4, 5, 6)
    labels = torch.randint(0, 4, (2, 5, 6))
    labels[0, :2] = 255
    for loss in (PixelKL(), CWD(4.0), DKD()):
        torch.testing.assert_close(Sampled(loss, pixels=1000)(student, teacher, labels), loss(student, teacher, labels))


def test_the_samples_mean_is_the_loss() -> None:
    student, teacher = torch.randn(2, 2, 4, 5, 6)
    sampled = Sampled(PixelKL(), pixels=6)
    draws = torch.stack([sampled(student, teacher, None) for _ in range(400)])
    assert draws.std() > 0
    assert abs(draws.mean() - PixelKL()(student, teacher, None)) < 4 * draws.std() / 400**0.5


def test_valid_pixels_come_first() -> None:
    student, teacher = torch.randn(2, 1, 4, 5, 6)
    labels = torch.full((1, 5, 6), 255)
    labels[0, 2, 1:4] = 1
    torch.testing.assert_close(
        Sampled(PixelKL(), pixels=3)(student, teacher, labels), PixelKL()(student, teacher, labels)
    )


def test_sample_size() -> None:
    with pytest.raises(ValueError, match="pixels is 0; it must be at least 1"):
        Sampled(PixelKL(), pixels=0)
