import numpy as np
import pytest
import torch

from kd.losses import Lovasz


def extension(errors: np.ndarray, member: np.ndarray) -> float:
    """The Lovász extension of 1 - IoU at a vector of errors, one set at a time."""

    def loss_of(wrong: set[int]) -> float:
        missed = sum(member[i] for i in wrong)
        false = len(wrong) - missed
        return 1 - (member.sum() - missed) / (member.sum() + false)

    total, wrong = 0.0, set()
    for i in np.argsort(-errors):
        total += errors[i] * (loss_of({*wrong, i}) - loss_of(wrong))
        wrong.add(int(i))
    return float(total)


def example() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(11)
    logits, labels = random.normal(size=(2, 4, 3, 3)), random.integers(0, 3, size=(2, 3, 3))
    labels[0][labels[0] == 2] = 0  # class 2 is absent from one image, class 3 from both
    labels[1, 0] = [0, 1, 2]
    labels[0, 0, 1] = labels[1, 2, 2] = 255
    return logits, labels


@pytest.mark.parametrize("per_image", [False, True])
def test_extension_by_definition(per_image: bool) -> None:
    logits, labels = example()
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    groups = [[0], [1]] if per_image else [[0, 1]]
    values = []
    for group in groups:
        seen = labels[group] != 255
        classes = []
        for c in range(4):
            member = (labels[group] == c)[seen]
            if member.any():
                classes.append(extension(np.abs(member - p[group, c][seen]), member))
        values.append(np.mean(classes))
    ours = Lovasz(per_image)(torch.from_numpy(logits), torch.from_numpy(labels))
    assert ours.item() == pytest.approx(np.mean(values), rel=1e-12)


def test_decisions_give_one_minus_iou() -> None:
    _, labels = example()
    decided = np.random.default_rng(1).integers(0, 3, size=labels.shape)
    logits = torch.nn.functional.one_hot(torch.from_numpy(decided), 3).movedim(-1, 1).double() * 1e3
    seen = labels != 255
    ious = [np.sum((labels == c) & (decided == c)) / np.sum(((labels == c) | (decided == c)) & seen) for c in range(3)]
    assert Lovasz()(logits, torch.from_numpy(labels)).item() == pytest.approx(1 - np.mean(ious), rel=1e-12)
