"""Networks that were never trained, as torch and others draw them, and networks that were."""

import pytest
import torch
from torch import nn

import students
from kd.parts.teacher.untrained import sign_of_no_training


def network(head: nn.Module, norm: bool = True) -> nn.Sequential:
    layers = [nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), head]
    built = nn.Sequential(*layers if norm else [layers[0], *layers[2:]])
    if norm:
        built(torch.rand(4, 3, 8, 8))  # statistics move, weights do not
    return built


def drawn(initialize: object = None) -> nn.Conv2d:
    head = nn.Conv2d(16, 5, 1)
    if initialize is not None:
        initialize(head.weight)
        nn.init.zeros_(head.bias)
    return head


def test_batchnorm_at_its_initial_values():
    fresh = students.MobileNetV3SmallASPPLite(5)
    assert sign_of_no_training(fresh, 5) == "the statistics of its BatchNorm layers are at their initial values"


@pytest.mark.parametrize(
    "initialize",
    [
        None,
        nn.init.kaiming_normal_,
        nn.init.xavier_uniform_,
        lambda weight: nn.init.normal_(weight, std=0.01),
        lambda weight: nn.init.trunc_normal_(weight, std=0.02),
    ],
)
@pytest.mark.parametrize("norm", [True, False])
def test_a_classifier_as_it_was_drawn(initialize, norm):
    torch.manual_seed(0)
    built = network(drawn(initialize), norm)
    name = "3" if norm else "2"
    assert sign_of_no_training(built, 5) == f"its classifier ({name}) is as it was drawn at random"


def test_a_classifier_that_moved_is_trained():
    torch.manual_seed(0)
    built = network(drawn())
    images, labels = torch.rand(8, 3, 8, 8), torch.randint(0, 5, (8, 6, 6))
    optimizer = torch.optim.SGD(built.parameters(), lr=0.5, momentum=0.9)
    for _ in range(30):
        optimizer.zero_grad()
        nn.functional.cross_entropy(built(images), labels).backward()
        optimizer.step()
    assert sign_of_no_training(built, 5) == ""


def test_weights_made_by_hand_are_no_random_ones():
    head = nn.Conv2d(3, 3, 1)
    with torch.no_grad():
        head.weight[:, :, 0, 0] = torch.tensor([[8.0, -4, -4], [-4, 8, -4], [-6, -6, -6]])
        head.bias.zero_()
    assert sign_of_no_training(nn.Sequential(head), 3) == ""


def test_one_in_a_hundred_drawn_classifiers_looks_trained_at_most():
    torch.manual_seed(0)
    trained = sum(sign_of_no_training(nn.Sequential(nn.Conv2d(8, 3, 1)), 3) == "" for _ in range(1000))
    assert trained <= 15
