import numpy as np
import pytest
import torch

from kd.losses import DSD


def test_attention_change_by_hand() -> None:
    # Attention over two pixels. Teacher: (1, 0) then (0, 1), a change of (-1, 1)/√2. Student: reversed.
    first = torch.tensor([1.0, 0.0]).view(1, 1, 1, 2)
    second = torch.tensor([0.0, 1.0]).view(1, 1, 1, 2)
    default, cirkd = (DSD(1.0, 0.0, convention=name) for name in ("default", "cirkd"))
    assert default((second, first), (first, second), None).item() == pytest.approx(4.0)  # (√2)² + (√2)²
    assert cirkd((second, first), (first, second), None).item() == pytest.approx(2.0)


def test_class_overlap_by_hand() -> None:
    # Two classes over two windows. Teacher: uniform, every overlap is 1/2. Student: 3 : 1 and 1 : 3.
    teacher = torch.zeros(1, 2, 2, 4)
    place = torch.tensor([1.0, 1.0, 0.0, 0.0]).expand(2, 4) * np.log(3.0)
    student = torch.stack((place, place.flip(1)))[None]
    own, other = (0.75**2 + 0.25**2 - 0.5) ** 2, (2 * 0.75 * 0.25 - 0.5) ** 2
    result = DSD(0.0, 1.0, temperature=1.0)(student, teacher, None)
    assert result.item() == pytest.approx((own + other) / 2)


def attention(maps: np.ndarray, valid: np.ndarray) -> np.ndarray:
    strength = (maps**2).mean(0)[valid]
    return strength / np.linalg.norm(strength)


def overlaps(maps: np.ndarray, valid: np.ndarray) -> np.ndarray:
    cells = []
    for y in range(0, maps.shape[1], 2):
        for x in range(0, maps.shape[2], 2):
            seen = valid[y : y + 2, x : x + 2]
            if seen.any():
                cells.append(maps[:, y : y + 2, x : x + 2][:, seen].mean(1))
    shares = np.exp(np.array(cells) / 4)
    shares /= shares.sum(0)
    return shares.T @ shares


def test_formula_with_three_taps_and_ignored_pixels() -> None:
    random = np.random.default_rng(9)
    student = [random.normal(size=(2, c, 5, 6)) for c in (2, 3, 4)]
    teacher = [random.normal(size=(2, c, 5, 6)) for c in (5, 6, 4)]
    labels = np.zeros((2, 5, 6), dtype=np.int64)
    labels[0, :2, :3] = labels[1, 4, 4:] = 255
    changes, classes = [], []
    for n in (0, 1):
        valid = labels[n] != 255
        residuals = []
        for taps in (student, teacher):
            maps = [attention(tap[n], valid) for tap in taps]
            pairs = [maps[1] - maps[0], maps[2] - maps[0], maps[2] - maps[1]]
            residuals.append([pair / np.linalg.norm(pair) for pair in pairs])
        changes.append(np.mean([np.sum((s - t) ** 2) for s, t in zip(*residuals, strict=True)]))
        classes.append(np.mean((overlaps(student[2][n], valid) - overlaps(teacher[2][n], valid)) ** 2))
    maps, labels = ([tuple(map(torch.from_numpy, taps)) for taps in (student, teacher)], torch.from_numpy(labels))
    expected = 0.12 * np.mean(changes) + 10 * np.mean(classes)
    assert DSD()(*maps, labels).item() == pytest.approx(expected, rel=1e-12)
    assert DSD()(*maps, (labels, labels, labels)).item() == pytest.approx(expected, rel=1e-12)
    assert DSD()(student=maps[0][2], teacher=maps[1][2], labels=labels).item() == pytest.approx(10 * np.mean(classes))


def test_taps_of_different_sizes() -> None:
    large, small = torch.zeros(1, 2, 8, 8), torch.zeros(1, 2, 4, 4)
    with pytest.raises(ValueError, match=r"taps of sizes \[\(8, 8\), \(4, 4\)\]: DSD compares taps of one size"):
        DSD()((large, small), (large, small), None)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"convention": "skd"}, "convention 'skd' is unknown; known: default, cirkd"),
        ({"temperature": 0}, "temperature is 0; it must be above 0"),
        ({"psd": -1.0}, "psd is -1.0; it must be at least 0"),
        ({"csd": -1.0}, "csd is -1.0; it must be at least 0"),
    ],
)
def test_wrong_arguments(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DSD(**arguments)
