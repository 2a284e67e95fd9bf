import math

import numpy as np
import pytest
import torch

from kd.losses import Dice, Jaccard, Tversky


def test_overlap_by_hand() -> None:
    # Probabilities of class 1: 3/4, 3/4, 1/4; labels 1, 0, 1.
    z = math.log(3.0)
    logits = torch.tensor([[0.0, 0.0, 0.0], [z, z, -z]]).view(1, 2, 1, 3)
    labels = torch.tensor([1, 0, 1]).view(1, 1, 3)
    first, zeroth = 2 * (3 / 4 + 1 / 4) / (7 / 4 + 2), 2 * (1 / 4) / (5 / 4 + 1)
    assert Dice()(logits, labels).item() == pytest.approx(1 - (first + zeroth) / 2)
    assert Dice(background=False)(logits, labels).item() == pytest.approx(1 - first)
    assert Dice(log=True)(logits, labels).item() == pytest.approx(-(math.log(first) + math.log(zeroth)) / 2)
    smooth = (2 * 1 + 3) / (15 / 4 + 3)
    assert Dice(smooth=3, background=False)(logits, labels).item() == pytest.approx(1 - smooth)


def example() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Probabilities, labels with class 2 absent from one image and class 3 from both, logits."""
    random = np.random.default_rng(6)
    logits = random.normal(size=(2, 4, 3, 3))
    labels = random.integers(0, 3, size=(2, 3, 3))
    labels[0][labels[0] == 2] = 0
    labels[0, 0, 1] = labels[1, 2] = 255
    labels[1, 0] = [0, 1, 2]
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return probabilities, labels, logits


def score(probability: np.ndarray, labels: np.ndarray, c: int) -> float:
    seen = labels != 255
    p, y = probability[seen], (labels == c)[seen]
    return 2 * np.sum(p * y) / (p.sum() + y.sum())


def test_batch_and_images_by_formula() -> None:
    p, labels, logits = example()
    maps = torch.from_numpy(logits), torch.from_numpy(labels)
    batch = [1 - score(p[:, c], labels, c) for c in (0, 1, 2)]
    assert Dice()(*maps).item() == pytest.approx(np.mean(batch), rel=1e-12)
    images = [1 - score(p[n, c], labels[n], c) for n in (0, 1) for c in range(4) if (labels[n] == c).any()]
    assert len(images) == 5
    assert Dice(per_image=True)(*maps).item() == pytest.approx(np.mean(images), rel=1e-12)


def test_absent_classes_by_convention() -> None:
    p, labels, logits = example()
    maps = torch.from_numpy(logits), torch.from_numpy(labels)
    scores = [score(p[:, c], labels, c) for c in range(4)]
    assert scores[3] == 0
    present = sum(1 - s for s in scores[:3])
    assert Dice(convention="smp")(*maps).item() == pytest.approx(present / 4, rel=1e-12)
    assert Dice(convention="monai")(*maps).item() == pytest.approx((present + 1) / 4, rel=1e-12)


@pytest.mark.parametrize("kind", [Dice, Jaccard, Tversky])
def test_monai_penalises_false_pixels_of_a_batch_without_foreground(kind: type[torch.nn.Module]) -> None:
    logits = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(1)).requires_grad_()
    loss = kind(smooth=1e-5, per_image=True, background=False, convention="monai")
    value = loss(logits, torch.zeros(2, 4, 4, dtype=torch.int64))
    assert value.item() == pytest.approx(1, abs=1e-4)  # 1 - s / (a sum of probabilities + s)
    value.backward()
    assert logits.grad[:, 0].sum() < 0  # a step raises the background
    ignored = torch.full((2, 4, 4), 255)
    assert loss(logits, ignored).item() == 0


@pytest.mark.parametrize("convention", ["default", "smp", "monai"])
@pytest.mark.parametrize("kind", [Dice, Jaccard, Tversky])
def test_an_ignored_image_is_in_no_mean(kind: type[torch.nn.Module], convention: str) -> None:
    _, labels, logits = example()
    labels[0] = 255
    logits, labels = torch.from_numpy(logits), torch.from_numpy(labels)
    loss = kind(per_image=True, convention=convention)
    torch.testing.assert_close(loss(logits, labels), loss(logits[1:], labels[1:]))


def test_smp_uses_smooth_twice() -> None:
    _, labels, logits = example()
    maps = torch.from_numpy(logits[:, :3]), torch.from_numpy(labels)
    torch.testing.assert_close(Dice(smooth=1, convention="smp")(*maps), Dice(smooth=2)(*maps))


def test_bad_options() -> None:
    with pytest.raises(ValueError, match="smooth is -1; it must be at least 0"):
        Dice(smooth=-1)
    with pytest.raises(ValueError, match="convention 'torch' is unknown; known: default, smp, monai"):
        Dice(convention="torch")
