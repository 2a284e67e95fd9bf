import pytest
import torch
from samples import Fixed, sample

from kd.data.splits.survey import Survey, begin_survey, summarize, survey
from kd.errors import DataError
from kd.types import Sample


def test_survey_counts_the_files_own_pixels():
    data = Fixed(sample([[0, 0], [1, 255]]), sample([[0, 255, 255, 255]]), Sample(*sample([[0]])[:1], None, "c"))
    assert survey(data) == Survey(3, 3, 8, 0.5, (3, 1, 0), 2, (3, 1, 0))


def test_a_survey_tells_how_far_it_is():
    done = []
    survey(Fixed(*(sample([[0]]) for _ in range(4))), advance=done.append)
    assert done == [1, 2, 3, 4]


def test_a_survey_that_runs_out_of_time_keeps_the_images_that_weigh_the_classes(monkeypatch):
    monkeypatch.setattr("kd.data.splits.survey.WEIGHED", 2)
    data = Fixed(*(sample([[index % 2, 2]]) for index in range(6)))
    assert survey(data) == Survey(6, 6, 12, 0.0, (3, 3, 6), 6, (1, 1, 2))  # images 0 and 3 weigh
    assert survey(data, seconds=-1) == Survey(2, 6, 4, 0.0, (1, 1, 2), 2, (1, 1, 2))


def test_workers_and_ranks_count_what_one_process_counts(monkeypatch):
    monkeypatch.setattr("kd.data.splits.survey.ALONE", 0.0)
    monkeypatch.setattr("kd.data.splits.survey.WORTHWHILE", -1.0)
    monkeypatch.setattr("kd.data.splits.survey.WEIGHED", 3)
    data = Fixed(*(sample([[index % 3, 255]]) for index in range(11)))
    alone, tallies = survey(data), []
    assert survey(data, workers=2) == alone
    for rank in range(2):
        survey(data, rank=rank, world=2, summed=lambda tally: tallies.append(tally) or tally)
    assert survey(data, rank=0, world=2, summed=lambda _: sum(tallies)) == alone


@pytest.mark.parametrize("rank", [0, 1, 2])
def test_a_survey_that_began_earlier_counts_the_same(rank, monkeypatch):
    monkeypatch.setattr("kd.data.splits.survey.WEIGHED", 5)
    monkeypatch.setattr("kd.data.splits.survey._CHUNK", 4)
    data, share = Fixed(*(sample([[index % 3, 255]]) for index in range(23))), {"rank": rank, "world": 3}
    assert survey(data, **share, begun=begin_survey(data, workers=2, **share)) == survey(data, **share)


def test_a_survey_that_began_earlier_names_what_it_cannot_read():
    data = Fixed(sample([[0]]), DataError("b.png: damaged"), sample([[1]]))
    with pytest.raises(DataError, match=r"^b.png: damaged$"):
        survey(data, begun=begin_survey(data, workers=1))


def test_a_dataset_that_can_reads_its_labels_alone():
    class Alone(Fixed):
        def labels(self, index):
            return torch.full((1, 4), index, dtype=torch.uint8)

        def __getitem__(self, key):
            raise AssertionError

    assert survey(Alone(*(sample([[0]]) for _ in range(3)))).counts == (4, 4, 4)
    with pytest.raises(DataError, match=r"^.*: label 3 \(4 pixels\) in no class"):
        survey(Alone(*(sample([[0]]) for _ in range(4))))


def test_survey_of_nothing():
    with pytest.raises(DataError, match=r"^Fixed: the split is empty$"):
        survey(Fixed())


def made(images, total, pixels, ignored, counts):
    return Survey(images, total, pixels, ignored, counts, images, counts)


def test_what_a_user_reads_before_step_1():
    train, val = made(500, 2000, 1000, 0.123, (800, 77, 0)), made(20, 20, 100, 0.0, (50, 0, 50))
    assert summarize(train, val, ("sky", "road", "car")) == [
        "train: 12.3 % of the pixels are ignored; missing classes: car (500 of 2000 images, as many as 30 s allow)",
        "val: 0.0 % of the pixels are ignored; missing classes: road (20 images)",
    ]
    whole = made(2, 2, 10, 0.0, (5, 5))
    assert summarize(whole, whole, ("sky", "road"))[0] == (
        "train: 0.0 % of the pixels are ignored; every class occurs (2 images)"
    )


def test_what_a_user_is_warned_of_before_step_1():
    train, val = made(5, 5, 1000, 0.61, (300, 90)), made(2, 2, 100, 0.0, (100, 0))
    assert summarize(train, val, ("sky", "road"))[2:] == [
        "warning: train: more than half of the pixels are ignored (61.0 %)",
        "warning: val: the mean is over one class: only sky occurs",
    ]
