import numpy as np
import pytest
import torch

from kd.losses import RKD


def huber(z: np.ndarray) -> float:
    return np.where(np.abs(z) < 1, z**2 / 2, np.abs(z) - 0.5).mean()


def relations(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    count = len(points)
    distances = np.array([[np.linalg.norm(points[i] - points[j]) for j in range(count)] for i in range(count)])
    cosines = np.zeros((count, count, count))
    for i in range(count):
        for j in range(count):
            for k in range(count):
                if i not in (j, k):
                    a, b = points[j] - points[i], points[k] - points[i]
                    cosines[i, j, k] = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
    return distances / distances[distances > 0].mean(), cosines


def by_hand(student: np.ndarray, teacher: np.ndarray) -> float:
    (distances, cosines), (its_distances, its_cosines) = relations(student), relations(teacher)
    return 25 * huber(distances - its_distances) + 50 * huber(cosines - its_cosines)


def test_three_points_by_hand() -> None:
    # On a line at 0, 1, 2 (teacher) and 0, 1, 3 (student): mean distances 4/3 and 2, all angles 0° or 180° in both.
    teacher = torch.tensor([0.0, 1.0, 2.0]).view(1, 1, 1, 3)
    student = torch.tensor([0.0, 1.0, 3.0]).view(1, 1, 1, 3)
    differences = [1 / 2 - 3 / 4, 2 / 2 - 3 / 4, 3 / 2 - 6 / 4]  # of the pairs (0, 1), (1, 2), (0, 2)
    expected = 2 * sum(d**2 / 2 for d in differences) / 9
    assert RKD("pixels", distance=1.0, angle=0.0)(student, teacher, None).item() == pytest.approx(expected)
    assert RKD("pixels", distance=0.0, angle=1.0)(student, teacher, None).item() == pytest.approx(0, abs=1e-7)


def test_points_are_the_classes_of_each_image() -> None:
    random = np.random.default_rng(3)
    student, teacher = random.normal(size=(2, 3, 4, 5)), random.normal(size=(2, 6, 4, 5))
    labels = random.choice([0, 1, 9, 254, 255], size=(2, 4, 5))
    points = [
        np.array([maps[n][:, labels[n] == c].mean(1) for n in (0, 1) for c in (0, 1, 9, 254) if (labels[n] == c).any()])
        for maps in (student, teacher)
    ]
    ours = RKD()(*(torch.from_numpy(a) for a in (student, teacher, labels)))
    assert ours.item() == pytest.approx(by_hand(*points), rel=1e-9)


def test_points_are_valid_pixels() -> None:
    random = np.random.default_rng(4)
    student, teacher = random.normal(size=(2, 3, 2, 3)), random.normal(size=(2, 6, 2, 3))
    labels = np.zeros((2, 2, 3), dtype=np.int64)
    labels[0, 0] = labels[1, 1, 2] = 255
    points = [maps.transpose(0, 2, 3, 1)[labels != 255] for maps in (student, teacher)]
    maps = [torch.from_numpy(a) for a in (student, teacher, labels)]
    assert RKD("pixels")(*maps).item() == pytest.approx(by_hand(*points), rel=1e-9)
    lengths = [p / np.linalg.norm(p, axis=1, keepdims=True) for p in points]
    assert RKD("pixels", normalize=True)(*maps).item() == pytest.approx(by_hand(*lengths), rel=1e-9)


def test_a_sample_is_drawn_anew_and_resumed() -> None:
    student, teacher = torch.randn(2, 1, 4, 16, 16)
    loss = RKD(samples=8)
    values = [loss(student, teacher, None).item() for _ in range(3)]
    assert len(set(values)) == 3
    resumed = RKD(samples=8)
    resumed(student, teacher, None)
    other = RKD(samples=8)
    other.load_state_dict(resumed.state_dict())
    assert [other(student, teacher, None).item() for _ in range(2)] == values[1:]
    assert loss.eval()(student, teacher, None) == loss(student, teacher, None)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"nodes": "images"}, "nodes 'images' is unknown; known: classes, pixels"),
        ({"samples": 1}, "samples is 1; it must be at least 2"),
        ({"distance": -1.0}, "distance is -1.0; it must be at least 0"),
        ({"angle": -1.0}, "angle is -1.0; it must be at least 0"),
    ],
)
def test_wrong_arguments(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RKD(**arguments)
