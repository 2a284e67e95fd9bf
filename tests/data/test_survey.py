import pytest
from samples import Fixed, sample

from kd.data.survey import Survey, summarize, survey
from kd.errors import DataError
from kd.types import Sample


def test_survey_counts_the_files_own_pixels():
    data = Fixed(sample([[0, 0], [1, 255]]), sample([[0, 255, 255, 255]]), Sample(*sample([[0]])[:1], None, "c"))
    assert survey(data) == Survey(3, 3, 8, 0.5, (3, 1, 0))
    assert survey(data, at_most=1) == Survey(1, 3, 4, 0.25, (2, 1, 0))


def test_survey_of_nothing():
    with pytest.raises(DataError, match=r"^Fixed: the split is empty$"):
        survey(Fixed())


def test_what_a_user_reads_before_step_1():
    train, val = Survey(500, 2000, 1000, 0.123, (800, 77, 0)), Survey(20, 20, 100, 0.0, (50, 0, 50))
    assert summarize(train, val, ("sky", "road", "car")) == [
        "train: 12.3 % of the pixels are ignored; missing classes: car (500 of 2000 images)",
        "val: 0.0 % of the pixels are ignored; missing classes: road (20 images)",
    ]
    whole = Survey(2, 2, 10, 0.0, (5, 5))
    assert summarize(whole, whole, ("sky", "road"))[0] == (
        "train: 0.0 % of the pixels are ignored; every class occurs (2 images)"
    )


def test_what_a_user_is_warned_of_before_step_1():
    train, val = Survey(5, 5, 1000, 0.61, (300, 90)), Survey(2, 2, 100, 0.0, (100, 0))
    assert summarize(train, val, ("sky", "road"))[2:] == [
        "warning: train: more than half of the pixels are ignored (61.0 %)",
        "warning: val: the mean is over one class: only sky occurs",
    ]
