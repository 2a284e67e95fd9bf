import re

import pytest
import torch
from torch import Tensor, nn

from kd.types import SegmentationOutput, Tap
from teachers import ClassMapped

SOURCE = ["background", "bus", "car", "Person"]
TARGET = ["sky", "car", "person"]


class Teacher(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.taps, self.num_classes, self.in_channels = {"low": Tap(3, 1)}, 4, 3
        self.layer = nn.Conv2d(3, 4, 1)

    def forward(self, images: Tensor) -> SegmentationOutput:
        logits = self.layer(images)
        return SegmentationOutput(logits, {"low": images}, {"aux": logits + 1})


IMAGES = torch.rand(2, 3, 4, 4)


def test_names_meet_whatever_their_case() -> None:
    teacher = Teacher()
    mapped = ClassMapped(3, network=teacher, source=SOURCE, target=TARGET)
    output, theirs = mapped(IMAGES), teacher(IMAGES)
    assert mapped.known == (1, 2)
    assert torch.equal(output.logits[:, 1], theirs.logits[:, 2])
    assert torch.equal(output.logits[:, 2], theirs.logits[:, 3])
    assert output.features["low"] is IMAGES
    assert mapped.taps == teacher.taps
    torch.testing.assert_close(output.aux["aux"][:, 1:], output.logits[:, 1:] + 1)


def test_merged_classes_add_their_probabilities() -> None:
    teacher = Teacher()
    merge = {"car": ["bus", "car"], "sky": ["background"]}
    mapped = ClassMapped(3, network=teacher, source=SOURCE, target=TARGET, merge=merge)
    theirs, ours = teacher(IMAGES).logits.softmax(1), mapped(IMAGES).logits.softmax(1)
    assert mapped.known == (0, 1, 2)
    torch.testing.assert_close(ours, torch.stack([theirs[:, 0], theirs[:, 1] + theirs[:, 2], theirs[:, 3]], 1))


def test_a_matrix_says_the_same_as_names() -> None:
    teacher = Teacher()
    named = ClassMapped(3, network=teacher, source=SOURCE, target=TARGET, merge={"car": ["bus", "car"]})
    given = ClassMapped(3, network=teacher, matrix=[[0, 0, 0, 0], [0, 1, 1, 0], [0, 0, 0, 1]])
    assert torch.equal(named(IMAGES).logits, given(IMAGES).logits)


def test_unknown_classes_are_never_the_answer_and_finite() -> None:
    mapped = ClassMapped(3, network=Teacher(), source=SOURCE, target=TARGET)
    logits = mapped(IMAGES).logits
    assert torch.isfinite(logits).all()
    assert (logits.softmax(1)[:, 0] < 1e-8).all()
    assert (logits.argmax(1) != 0).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "give `source` and `target`, the names of both sides' classes, or `matrix`"),
        (
            {"source": SOURCE, "target": TARGET, "merge": {"auto": ["car"]}},
            "merge: the student has no class 'auto'; it has sky, car, person",
        ),
        (
            {"source": SOURCE, "target": TARGET, "merge": {"sky": ["cloud"]}},
            "merge: sky: the teacher has no class 'cloud'; it has background, bus, car, Person",
        ),
        (
            {"source": SOURCE[1:], "target": TARGET},
            "the classes given are 3 × 3, the data have 3 and the teacher 4; "
            "name each once, in the order of the channels",
        ),
        (
            {"source": SOURCE, "target": ["a", "b", "c"]},
            "teacher and student have no class in common; say with merge: which belong together",
        ),
        (
            {"source": ["background", "car", "Car", "person"], "target": TARGET},
            "source: car and Car are one name; name each class once",
        ),
        (
            {"source": SOURCE, "target": ["car", "sky", "car"]},
            "target: car and car are one name; name each class once",
        ),
        *(
            (
                {"matrix": [[1, 0, 0, wrong]] * 3},
                "matrix: a number is below 0 or not finite; give 0 where a class has no part",
            )
            for wrong in (-1, float("nan"), float("inf"))
        ),
    ],
)
def test_refusals(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        ClassMapped(3, network=Teacher(), **options)
