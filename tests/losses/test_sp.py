import numpy as np
import pytest
import torch

from kd.losses import SP, _checks


def test_two_images_by_hand() -> None:
    # Teacher: two different images, rows (1, 0) and (0, 1). Student: twice the same image, rows (1, 1)/√2.
    teacher = torch.tensor([[1.0, 0.0], [0.0, 1.0]]).view(2, 1, 1, 2)
    student = torch.tensor([[1.0, 0.0], [1.0, 0.0]]).view(2, 1, 1, 2)
    assert SP()(student, teacher, None).item() == pytest.approx(2 * ((1 - 0.5**0.5) ** 2 + 0.5) / 4)
    # Divided by their sum, the student's rows are (1, 1)/2.
    assert SP("torchdistill")(student, teacher, None).item() == pytest.approx(2 * (0.25 + 0.25) / 4)


def test_formula_with_ignored_pixels() -> None:
    random = np.random.default_rng(8)
    student, teacher = random.normal(size=(4, 3, 2, 5)), random.normal(size=(4, 2, 2, 5))
    labels = np.zeros((4, 2, 5), dtype=np.int64)
    labels[0, 1] = labels[1, :, :2] = labels[3] = 255  # three images are left
    grams = []
    for maps in (student, teacher):
        images = (maps * (labels != 255)[:, None])[:3].reshape(3, -1)
        gram = images @ images.T
        grams.append(gram / np.linalg.norm(gram, axis=1, keepdims=True))
    ours = SP()(*(torch.from_numpy(a) for a in (student, teacher, labels)))
    assert ours.item() == pytest.approx(np.mean((grams[0] - grams[1]) ** 2), rel=1e-12)


def test_one_image_is_zero_and_warns_once(recwarn: pytest.WarningsRecorder) -> None:
    _checks._warn.cache_clear()
    student = torch.randn(1, 3, 4, 4, requires_grad=True)
    for _ in range(2):
        loss = SP()(student, torch.randn(1, 3, 4, 4), None)
    loss.backward()
    assert loss == 0
    assert not student.grad.any()
    assert [str(w.message) for w in recwarn] == [
        "SP compares the images of a batch: with one image it is 0; use a larger batch, or SKD"
    ]
