"""A teacher in INT8: its maps, its agreement with the float teacher, and what is refused."""

from itertools import islice

import pytest
import torch
from tiny import cut_at, read, run, weights, write_recipes

from kd.errors import RecipeError
from kd.machine import Precision
from kd.parts.assemble import assemble
from kd.parts.loading import Notes
from kd.parts.roles import Sight, to_device
from kd.parts.stream import stream
from kd.parts.teacher import int8 as int8_teacher
from kd.parts.teacher.cache import CachedTeacher
from kd.parts.teacher.int8 import Fit, Int8Teacher, _fit, check_int8
from kd.train.start import step_teacher

INT8 = "teacher.precision=int8"
needs_onnx = pytest.mark.skipif(
    not all(map(int8_teacher.find_spec, ("onnx", "onnxscript", "onnxruntime"))),
    reason="needs the extra onnx: pip install 'kd-segmentation[onnx]'",
)


@pytest.fixture
def recipe_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return write_recipes(tmp_path)


def taught(recipe_file, *overrides):
    """Parts of the recipe, whose teacher is as it was built; and a batch."""
    parts = assemble(read(recipe_file, INT8, *overrides), runs=recipe_file.parent / "none", seed=0, trained=False)
    return parts, to_device(next(stream(parts, seed=0)), parts.precision)


@needs_onnx
def test_its_maps_are_those_of_the_float_teacher_but_for_rounding(recipe_file):
    parts, batch = taught(recipe_file)
    lines, before = [], torch.get_rng_state()
    teacher = step_teacher(parts, 0, lines.append)
    with torch.autocast("cpu", torch.bfloat16):  # as in a step; the graph stays in float32 and INT8
        found = teacher(batch)
    assert torch.equal(torch.get_rng_state(), before)  # a run that resumes quantises again, at another step
    expected = parts.teacher(batch)
    assert found.aux == {}
    for maps, exact in ((found.logits, expected.logits), *((found.at[term], expected.at[term]) for term in found.at)):
        assert (maps.shape, maps.dtype) == (exact.shape, torch.float32)
        rounding = (exact.max() - exact.min()) / 255
        assert 0 < (maps - exact).abs().max() < 8 * rounding
    (line,) = lines
    assert line.startswith("  in INT8 (per ")
    assert "64 images), the teacher predicts the float teacher's class at " in line


@needs_onnx
@pytest.mark.slow
def test_it_sees_the_images_as_the_float_teacher_does(recipe_file):
    parts, batch = taught(recipe_file, "teacher.scale=2", "teacher.flip=true")
    assert parts.teaching.sight == Sight(None, 2.0, True)
    found, expected = step_teacher(parts, 0)(batch), parts.teacher(batch)
    assert found.logits.shape == expected.logits.shape
    torch.testing.assert_close(found.logits, expected.logits, atol=0.1, rtol=0.1)


@needs_onnx
@pytest.mark.slow
def test_a_cache_keeps_its_maps_apart_from_those_in_float(recipe_file, monkeypatch):
    caches = []
    for overrides in ((), ("teacher.precision=auto",)):
        parts, batch = taught(recipe_file, "cache={views: 1, dtype: float32}", *overrides)
        teacher = step_teacher(parts, 0)
        assert isinstance(teacher, CachedTeacher)
        computed = teacher(batch)
        caches.append(teacher.folder)
        with monkeypatch.context() as patched:
            patched.setattr(CachedTeacher, "_computed", None)  # it reads what is kept
            assert torch.equal(teacher(batch).logits, computed.logits)
    assert len(set(caches)) == 2


@needs_onnx
@pytest.mark.slow
def test_a_run_that_was_killed_ends_with_the_same_bits(recipe_file, tmp_path):
    recipe = read(recipe_file, INT8)
    ((whole,), lines) = run(recipe, tmp_path / "whole")
    assert any("in INT8" in line for line in lines)
    cut_at(5, recipe, tmp_path / "cut")
    ((resumed,), _) = run(recipe, tmp_path / "cut")
    first, second = weights(whole), weights(resumed)
    assert all(torch.equal(first[name], second[name]) for name in first)


def judged(recipe_file, agreement, *, trained):
    parts, _ = taught(recipe_file)
    lines = []
    teacher = Int8Teacher(
        parts.teacher, parts.recipe, lambda count: islice(stream(parts, seed=0), count), parts.precision,
        trained=trained, say=lines.append,
    )  # fmt: skip
    teacher._judge(Fit("per tensor", agreement, 0.02), 64, 16)
    return lines


def test_a_teacher_that_agrees_too_little_is_refused(recipe_file, monkeypatch):
    monkeypatch.setattr(int8_teacher, "find_spec", lambda name: True)
    with pytest.raises(RecipeError) as caught:
        judged(recipe_file, 0.949, trained=True)
    assert str(caught.value) == (
        f"<{INT8}>: teacher.precision: in INT8 (per tensor, 64 images), the teacher predicts the float teacher's class "
        "at 94.9 % of the pixels of 16 others (at least 95 %); remove teacher.precision"
    )
    expected = (
        "  in INT8 (per tensor, 64 images), the teacher predicts the float teacher's class at {} % of the pixels of 16 "
        "others; its maps differ by at most 2.0 % (root mean square)"
    )
    assert judged(recipe_file, 0.95, trained=True) == [expected.format("95.0")]
    assert judged(recipe_file, 0.5, trained=False) == [expected.format("50.0")]  # ties everywhere: nothing to judge


def test_the_fit_counts_pixels_and_the_worst_map():
    logits = torch.tensor([[[1.0, 2.0, 3.0, 4.0]], [[0.0, 0.0, 0.0, 5.0]]])[None]  # classes 0, 0, 0, 1
    other = logits.clone()
    other[0, 1, 0, 0] = 9.0  # class 1
    maps = torch.tensor([3.0, 4.0])
    fit = _fit(
        "per tensor", [{"logits": other, "low": maps + torch.tensor([0.0, 1.0])}], [{"logits": logits, "low": maps}]
    )
    assert fit.agreement == 0.75
    assert fit.error == pytest.approx((81 / 55) ** 0.5)  # of the logits; that of `low` is 1/5


def test_what_it_needs_is_named_before_anything_trains(recipe_file, monkeypatch):
    recipe, cuda = read(recipe_file, INT8), Precision(torch.device("cuda"), torch.float32, torch.contiguous_format)
    cpu = cuda._replace(device=torch.device("cpu"))
    with pytest.raises(RecipeError) as caught:
        check_int8(recipe, cuda, Notes())
    assert str(caught.value) == (
        f"<{INT8}>: teacher.precision: int8 runs on the CPU, and this run is on cuda; remove teacher.precision"
    )
    monkeypatch.setattr(int8_teacher, "find_spec", lambda name: None if name == "onnxruntime" else True)
    with pytest.raises(RecipeError) as caught:
        check_int8(recipe, cpu, Notes())
    assert str(caught.value) == (
        f"<{INT8}>: teacher.precision: onnxruntime is not installed; pip install 'kd-segmentation[onnx]'"
    )
    monkeypatch.setattr(int8_teacher, "find_spec", lambda name: True)
    monkeypatch.setattr(torch.cpu, "_is_vnni_supported", lambda: False)
    notes = Notes()
    check_int8(recipe, cpu, notes)
    assert notes == ["teacher: int8, but this processor has no VNNI: perhaps no faster than float"]
    check_int8(read(recipe_file), cuda, Notes())


def test_an_average_that_teaches_is_not_quantised(recipe_file):
    recipe_file.write_text(recipe_file.read_text().replace("{recipe: teacher.yaml}", "{ema: 0.9}"))
    with pytest.raises(RecipeError, match="a teacher that is a moving average changes with every step; remove prec"):
        read(recipe_file, INT8)


def test_it_is_another_run_than_with_a_float_teacher(recipe_file):
    assert read(recipe_file, INT8).id != read(recipe_file).id
    assert read(recipe_file, "teacher.precision=auto").id == read(recipe_file).id
