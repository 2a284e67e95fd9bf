"""The log of a run."""

import re
import warnings

import pytest
from tiny import cut_at, read, run, write_recipes

from kd.recipe import baseline_of
from kd.train.sinks.log_file import logged


def test_a_log_has_every_line_of_every_session(tmp_path):
    recipe = baseline_of(read(write_recipes(tmp_path)))
    cut_at(4, recipe, tmp_path / "runs")
    (run_dir,), printed = run(recipe, tmp_path / "runs")
    lines = (run_dir / "log.txt").read_text().splitlines()
    assert all(re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \S", line) for line in lines)
    texts = [line[20:] for line in lines]
    assert texts[-len(printed) :] != texts[: len(printed)]
    assert "resumes at step 4 of 8" in texts
    assert texts[-1] == printed[-1]
    assert any(re.fullmatch(r"step 8: val/miou 0\.\d{4}, val/pixel_accuracy 0\.\d{4}", text) for text in texts)


def test_warnings_are_logged_and_still_shown(tmp_path):
    shown, lines = [], []
    with warnings.catch_warnings(), logged_in(tmp_path, lines, shown) as say:
        warnings.simplefilter("always")
        say("a line")
        warnings.warn("a warning", stacklevel=1)
    assert lines == ["a line"]
    assert shown == ["a warning"]
    assert [line[20:] for line in (tmp_path / "log.txt").read_text().splitlines()] == ["a line", "warning: a warning"]


def logged_in(folder, lines, shown):
    warnings.showwarning = lambda message, *_, **__: shown.append(str(message))
    return logged(folder, lines.append)


def test_a_log_that_cannot_be_written_is_one_warning(tmp_path):
    (tmp_path / "log.txt").mkdir()
    lines = []
    with logged(tmp_path, lines.append) as say:
        with pytest.warns(UserWarning, match=r"log.txt: not written \(Is a directory\); training continues"):
            say("one")
        say("two")  # without another warning, which would be an error
    assert lines == ["one", "two"]
