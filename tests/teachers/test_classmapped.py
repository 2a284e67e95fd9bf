import re

import pytest
import torch
from torch import Tensor, nn

from kd.networks.weights import load_into
from kd.types import NetworkTraits, SegmentationOutput, Tap
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


IMAGES = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(1))


def test_names_match_in_any_case() -> None:
    teacher = Teacher()
    mapped = ClassMapped(3, network=teacher, source=SOURCE, target=TARGET)
    output, original = mapped(IMAGES), teacher(IMAGES)
    assert mapped.traits == NetworkTraits(known_classes=(1, 2), class_names=tuple(TARGET), source_names=tuple(SOURCE))
    assert torch.equal(output.logits[:, 1], original.logits[:, 2])
    assert torch.equal(output.logits[:, 2], original.logits[:, 3])
    assert output.features["low"] is IMAGES
    assert mapped.taps == teacher.taps
    torch.testing.assert_close(output.aux["aux"][:, 1:], output.logits[:, 1:] + 1)


def test_a_source_that_contradicts_the_names_of_the_network_or_its_weights_is_refused(tmp_path) -> None:
    own = [name.upper() for name in SOURCE]
    turned = [own[0], own[2], own[1], own[3]]
    torch.save({"state_dict": Teacher().state_dict(), "classes": turned}, tmp_path / "w.pth")
    mapped = ClassMapped(3, network=Teacher(), source=SOURCE, target=TARGET)
    message = (
        "w.pth has its classes in the order BACKGROUND, CAR, BUS, PERSON, but source is background, bus, car, Person; "
        "set source: [BACKGROUND, CAR, BUS, PERSON]"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        load_into(mapped, str(tmp_path / "w.pth"), role="teacher")
    load_into(ClassMapped(3, network=Teacher(), source=turned, target=TARGET), str(tmp_path / "w.pth"), role="teacher")
    other_words = ["sky", *turned[1:]]
    load_into(
        ClassMapped(3, network=Teacher(), source=other_words, target=TARGET), str(tmp_path / "w.pth"), role="teacher"
    )
    network = Teacher()
    network.traits = NetworkTraits(class_names=tuple(turned))
    message = (
        "source: is background, bus, car, Person, but the network has its classes in the order BACKGROUND, CAR, BUS, "
        "PERSON; set source: [BACKGROUND, CAR, BUS, PERSON]"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        ClassMapped(3, network=network, source=SOURCE, target=TARGET)
    ClassMapped(3, network=network, source=turned, target=TARGET)


def test_merged_classes_add_their_probabilities() -> None:
    teacher = Teacher()
    merge = {"car": ["bus", "car"], "sky": ["background"]}
    mapped = ClassMapped(3, network=teacher, source=SOURCE, target=TARGET, merge=merge)
    original, merged = teacher(IMAGES).logits.softmax(1), mapped(IMAGES).logits.softmax(1)
    assert mapped.traits.known_classes == ()  # all
    torch.testing.assert_close(
        merged, torch.stack([original[:, 0], original[:, 1] + original[:, 2], original[:, 3]], 1)
    )


def test_a_matrix_equals_names() -> None:
    teacher = Teacher()
    by_names = ClassMapped(3, network=teacher, source=SOURCE, target=TARGET, merge={"car": ["bus", "car"]})
    by_matrix = ClassMapped(3, network=teacher, matrix=[[0, 0, 0, 0], [0, 1, 1, 0], [0, 0, 0, 1]])
    assert torch.equal(by_names(IMAGES).logits, by_matrix(IMAGES).logits)


def test_unknown_classes_are_never_predicted_and_finite() -> None:
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
            "3 × 3 classes are given, but the data have 3 and the teacher has 4; "
            "name each class once, in the order of the channels",
        ),
        (
            {"source": SOURCE, "target": ["a", "b", "c"]},
            "teacher and student have no class in common; map them with merge:",
        ),
        (
            {"source": ["background", "car", "Car", "person"], "target": TARGET},
            "source: car and Car are the same name; name each class once",
        ),
        (
            {"source": SOURCE, "target": ["car", "sky", "car"]},
            "target: car and car are the same name; name each class once",
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


def test_the_traits_of_the_teacher_stay() -> None:
    teacher = Teacher()
    teacher.traits = NetworkTraits(shift_free=True)
    assert ClassMapped(2, network=teacher, matrix=[[1, 1, 0, 0], [0, 0, 1, 1]]).traits == NetworkTraits(shift_free=True)
