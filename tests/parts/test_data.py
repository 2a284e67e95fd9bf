import gc

import pytest
import torch
from tiny import cut_at, read, run, write_recipes

from kd.compare import compare_command
from kd.data.splits.survey import begin_survey, survey
from kd.diagnose.check import check_recipe
from kd.errors import DataError
from kd.parts.data import Data
from kd.runs import read_metrics, read_result
from kd.train.session import session

UNLABELLED = """

class Photos(Stripes):  # the named splits have no labels: None, or ignored everywhere
    def __init__(self, split, without=("val",), ignored=False, count=12):
        super().__init__(split, count)
        self.without, self.ignored = split in without, ignored

    def __getitem__(self, key):
        sample = super().__getitem__(key)
        labels = torch.full_like(sample.labels, 255) if self.ignored else None
        return sample._replace(labels=labels) if self.without else sample
"""
TEACHER = ("teacher={use: 'nets.py:Net'}", "distill={kl: {loss: {use: kd.losses.PixelKL}, pixels: all}}")
ALONE = ("teacher=null", "distill=null")


@pytest.fixture
def path(folder):
    path = write_recipes(folder)
    (folder / "nets.py").write_text((folder / "nets.py").read_text() + UNLABELLED)
    return path


def refused(path, *overrides):
    recipe = read(path, "data.use=nets.py:Photos", *overrides)
    with pytest.raises(DataError) as caught:
        check_recipe(recipe, runs=path.parent / "runs")
    with pytest.raises(DataError) as again:
        run(recipe, path.parent / "runs")
    assert str(again.value) == str(caught.value)
    assert not (path.parent / "runs").exists()
    return str(caught.value)


@pytest.mark.parametrize("ignored", ["false", "true"])
def test_a_val_split_without_labels_is_refused_without_a_teacher(path, ignored):
    assert refused(path, *ALONE, f"data.args.ignored={ignored}") == (
        "val: no pixel is labelled, so nothing can be scored; label some of its images, or give a teacher: the score "
        "is then the agreement with it"
    )


def test_agreement_that_is_off_is_advised(path):
    assert refused(path, *TEACHER, "evaluate.agreement=false").endswith(
        "; set evaluate.agreement: true, and the score is the agreement with the teacher"
    )
    check_recipe(read(path, "data.use=nets.py:Photos", *TEACHER, "evaluate.agreement=true"), runs=path.parent)


def test_a_train_split_without_labels_needs_a_term_for_other_pixels(path):
    args = "data.args={without: [train, val]}"
    assert refused(path, *ALONE, args).startswith("train: no pixel is labelled, so there is nothing to learn from; ")
    assert refused(path, *TEACHER, args, "distill.kl.pixels=valid") == (
        "train: no pixel is labelled, and no term learns from other pixels; set distill.kl.pixels: all"
    )


def test_without_labels_the_score_is_the_agreement_with_the_teacher_everywhere(path, capsys):
    recipe = read(path, "data.use=nets.py:Photos", *TEACHER, "data.args={without: [train, val]}", "train.ema=0.5")
    (run_dir,), lines = run(recipe, path.parent / "runs")
    assert "  val has no labels: scores are the agreement with the teacher" in lines
    val = read_result(run_dir).splits["val"]
    assert val.against == "teacher"
    assert val.confusion.sum() == 12 * 32 * 32
    assert read_result(run_dir).teacher.splits["val"].confusion.trace() == 12 * 32 * 32
    named = {name for line in read_metrics(run_dir) for name in line}
    assert {"agreement/miou", "agreement_student/miou", "final/agreement"} <= named
    assert not [name for name in named if name.startswith("val") or name == "final/miou"]
    compare_command([run_dir], runs=path.parent / "runs", trust=True)
    out = capsys.readouterr().out
    assert "% agreement with its teacher: val has no labels" in out
    assert "mIoU %" not in out
    assert "baseline adds it" not in out
    (_, lines) = run(recipe, path.parent / "runs")
    assert lines[0].startswith(f"{run_dir}: finished (val agreement with the teacher (mIoU) ")


@pytest.fixture
def counted(monkeypatch):
    """The splits that are surveyed from now on: 0 for train, 100 for val."""
    offsets = []

    def counting(dataset, **options):
        offsets.append(dataset.offset)
        return survey(dataset, **options)

    monkeypatch.setattr("kd.parts.data.survey", counting)
    return offsets


def test_a_run_that_resumes_is_not_surveyed_again(path, counted):
    recipe = read(path, *ALONE)
    cut_at(4, recipe, path.parent / "runs")
    assert sorted(counted) == [0, 100]
    _, lines = run(recipe, path.parent / "runs")
    assert any("resumes at step 4 of 8" in line for line in lines)
    assert not [line for line in lines if "of the pixels are ignored" in line]
    assert sorted(counted) == [0, 100]


def test_the_runs_of_a_command_survey_their_data_once(path, counted):
    recipe = read(path, "train.seeds=[0, 1]", "train.steps=2")
    with session(recipe, runs=path.parent / "runs", quiet=True, say=lambda line: None) as opened:
        opened.train(recipe, baseline=True)
    assert sorted(counted) == [0, 100]


def test_many_images_are_read_beside_the_checks(path, monkeypatch):
    recipe = read(path, *ALONE, "data.workers=2")
    alone = check_recipe(recipe, runs=path.parent)
    monkeypatch.setattr("kd.parts.data.MANY", 12)
    begun = []

    def noted(*args, **options):
        begun.append(begin_survey(*args, **options))
        return begun[-1]

    monkeypatch.setattr("kd.parts.data.begin_survey", noted)
    assert [line for line in check_recipe(recipe, runs=path.parent) if "memory" not in line] == [
        line for line in alone if "memory" not in line
    ]
    assert begun
    assert not list(begun[0])  # all of it was taken


def test_datasets_are_left_out_of_searches_for_garbage(path):
    data = Data(read(path, *ALONE), quiet=True)
    assert not any(each is data.train for each in gc.get_objects())
    gc.unfreeze()
    assert any(each is data.train for each in gc.get_objects())


def test_torch_leaves_the_cores_to_workers_that_read_ahead(path, monkeypatch):
    monkeypatch.setattr("kd.parts.data.MANY", 12)
    recipe = read(path, *ALONE, "data.workers=2")
    data, before = Data(recipe, quiet=True), torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        with data.leaving_cores():
            assert torch.get_num_threads() == 3  # nobody reads
        data.begin(recipe)
        with data.leaving_cores():
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 3
        data.survey("train")
        with data.leaving_cores():
            assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
