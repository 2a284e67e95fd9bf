import math

import numpy as np
import pytest
import torch

from kd.losses import CrossEntropy, Focal
from kd.losses.supervised.class_weights import METHODS, class_weights

COUNTS = [800, 150, 50]


def test_median_frequency_by_hand() -> None:
    assert class_weights(COUNTS, "median_frequency") == pytest.approx([150 / 800, 1, 3])
    assert class_weights([4, 1, 2, 8], "median_frequency") == pytest.approx([3 / 4, 3, 3 / 2, 3 / 8])


def test_inverse_log_by_hand() -> None:
    by_hand = [1 / math.log(1.02 + share) for share in (0.8, 0.15, 0.05)]
    assert class_weights(COUNTS, "inverse_log") == pytest.approx(by_hand)


@pytest.mark.parametrize("beta", [0.9, 0.999, 0.9999])
def test_effective_number_by_formula(beta: float) -> None:
    raw = (1 - beta) / (1 - beta ** np.array(COUNTS))
    assert class_weights(COUNTS, "effective_number", beta=beta) == pytest.approx(3 * raw / raw.sum(), rel=1e-9)


def test_effective_number_computes_beta_from_the_pixels() -> None:
    assert class_weights(COUNTS, "effective_number") == pytest.approx(
        class_weights(COUNTS, "effective_number", beta=1 - 1 / 1000), rel=1e-9
    )
    # With the pixel counts of a real data set the weights still differ; with β = 0.9999 they would not.
    many = [count * 10**6 for count in COUNTS]
    shares = [-1 / math.expm1(-share) for share in (0.8, 0.15, 0.05)]
    expected = [3 * share / sum(shares) for share in shares]
    assert class_weights(many, "effective_number") == pytest.approx(expected, rel=1e-6)
    assert class_weights(many, "effective_number", beta=0.9999) == pytest.approx([1, 1, 1])


def test_effective_number_with_beta_zero_weights_all_classes_equally() -> None:
    assert class_weights(COUNTS, "effective_number", beta=0.0) == [1, 1, 1]


@pytest.mark.parametrize("method", METHODS)
def test_rarer_classes_have_larger_weights_and_absent_classes_zero(method: str) -> None:
    common, rare, absent, rarest = class_weights([800, 150, 0, 50], method)
    assert absent == 0
    assert rarest > rare > common > 0
    assert [common, rare, rarest] == pytest.approx(class_weights(COUNTS, method))


@pytest.mark.parametrize(
    ("counts", "method", "message"),
    [
        (
            COUNTS,
            "median",
            "weight 'median' is unknown; known: median_frequency, inverse_log, effective_number, "
            "or one factor per class",
        ),
        ([1, -2], "inverse_log", "label counts are [1.0, -2.0]; they must be >= 0, and at least one above 0"),
        ([0, 0], "inverse_log", "label counts are [0.0, 0.0]; they must be >= 0, and at least one above 0"),
        ([], "inverse_log", "label counts are []; they must be >= 0, and at least one above 0"),
    ],
)
def test_bad_arguments(counts: list, method: str, message: str) -> None:
    with pytest.raises(ValueError) as error:  # noqa: PT011  # the whole text is compared below
        class_weights(counts, method)
    assert str(error.value) == message


def test_bad_beta() -> None:
    with pytest.raises(ValueError, match=r"beta is 1\.0; it must be in \[0, 1\)"):
        class_weights(COUNTS, "effective_number", beta=1.0)


@pytest.mark.parametrize("loss", [CrossEntropy, Focal])
@pytest.mark.parametrize("method", METHODS)
def test_a_loss_takes_the_name_and_the_counts(loss: type, method: str) -> None:
    logits, labels = torch.randn(1, 3, 4, 4), torch.randint(0, 3, (1, 4, 4))
    by_name = loss(weight=method, label_counts=COUNTS)(logits, labels)
    torch.testing.assert_close(by_name, loss(weight=class_weights(COUNTS, method))(logits, labels))
    torch.testing.assert_close(loss(label_counts=COUNTS)(logits, labels), loss()(logits, labels))


def test_a_name_needs_counts() -> None:
    with pytest.raises(ValueError) as error:  # noqa: PT011  # the whole text is compared below
        CrossEntropy(weight="inverse_log")
    assert str(error.value) == ("weight 'inverse_log' needs label_counts: pixels of each class in the training labels")
    with pytest.raises(ValueError, match="weight 'auto' is unknown; known: median_frequency"):
        CrossEntropy(weight="auto")
