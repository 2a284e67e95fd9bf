"""The example in docs/add-a-loss.md is a loss: it keeps what that page says every loss keeps."""

from pathlib import Path

import torch

PAGE = Path(__file__).resolve().parents[2] / "docs" / "add-a-loss.md"


def example() -> type:
    block = PAGE.read_text(encoding="utf-8").split("```python\n")[1].split("```")[0]
    names: dict = {}
    exec(block, names)
    return names["L1"]


def test_the_example_is_a_loss() -> None:
    student, teacher = torch.randn(2, 2, 3, 4, 4)
    student.requires_grad_()
    teacher.requires_grad_()
    labels = torch.zeros(2, 4, 4, dtype=torch.long)
    labels[0, :, :2] = 255
    loss = example()()
    assert loss.compares == "features"
    result = loss(student, teacher, labels)
    valid = (labels != 255)[:, None].expand_as(student)
    torch.testing.assert_close(result, (student - teacher).abs()[valid].mean())
    result.backward()
    assert teacher.grad is None
    assert not student.grad[~valid].any()
    torch.testing.assert_close(loss(student, teacher, None), (student - teacher).abs().mean())
    assert loss(student, teacher, torch.full_like(labels, 255)) == 0
