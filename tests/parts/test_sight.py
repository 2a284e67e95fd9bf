"""Recipes whose teacher sees other images than the student: what is printed, refused, cached and part of the id."""

import pytest
import torch
from tiny import NETWORKS, equal, read, run, weights, write_recipes

from kd.cli import main
from kd.errors import RecipeError
from kd.parts.assemble import assemble
from kd.parts.mixing import scaled
from kd.parts.roles import to_device
from kd.parts.stream import stream
from kd.train.start import step_teacher
from kd.types import resize

PICKY = """

class Picky(Net):
    def forward(self, images):
        assert not (images.shape[2] % 32), "a multiple of 32"
        return super().forward(images)
"""


@pytest.fixture
def path(folder):
    return write_recipes(folder)


def parts_of(path, *overrides):
    return assemble(read(path, *overrides), runs=path.parent / "runs", seed=0, trained=False)


def test_a_line_states_what_the_teacher_sees_and_nothing_without_it(path):
    assert not [note for note in parts_of(path).notes if "sees" in note]
    notes = parts_of(path, "teacher.scale=1.5", "teacher.flip=true").notes
    assert "teacher: sees images of 48×48 and their mirror images, and the student 32×32" in notes
    notes = parts_of(path, "teacher.size=[64, 128]", "data.size=[64, 64]", "data.crop=[32, 64]").notes
    assert "teacher: sees images of 128×64, and the student 64×32" in notes


def test_it_is_part_of_the_id_however_the_teacher_is_given(path):
    ids = {read(path, *overrides).id for overrides in ((), ("teacher.scale=1.5",), ("teacher.flip=true",))}
    assert len(ids) == 3
    assert read(path, "teacher.flip=false", "teacher.scale=null").id == read(path).id


FINE = """

class Fine(Stripes):
    def __getitem__(self, key):
        image, labels, name = super().__getitem__(key)
        fine = 60 * (torch.arange(64)[:, None] + torch.arange(64)).remainder(2)  # as small as a pixel of the file
        image = (image.repeat_interleave(2, 1).repeat_interleave(2, 2) // 2 + fine).to(torch.uint8)
        return Sample(image, labels.repeat_interleave(2, 0).repeat_interleave(2, 1), name)
"""


def test_a_larger_teacher_sees_more_of_the_files_own_pixels(path):
    path.with_name("nets.py").write_text(NETWORKS + FINE)
    parts = parts_of(path, "data.use=nets.py:Fine", "teacher.scale=2", "train.scales=[1.0, 0.5]")
    loaded = next(stream(parts, seed=0))
    first = to_device(loaded, parts.precision)
    sharpness = [images.diff(dim=3).abs().mean() for images in (first.teacher_images, parts.teaching.sight.of(first))]
    assert sharpness[0] == sharpness[1] > 3 * first.images.diff(dim=3).abs().mean()
    assert torch.equal(parts.teaching(first).logits, parts.teaching.seeing(first.teacher_images).logits)
    half = to_device(scaled(loaded, 0.5, parts.precision), parts.precision)
    torch.testing.assert_close(parts.teaching.sight.of(half), resize(first.teacher_images, (32, 32)))


def test_a_transform_of_the_users_leaves_a_line_and_the_students_image(path):
    nothing = "\n\ndef nothing(image, mask):\n    return image, mask\n\n\ndef make():\n    return nothing\n"
    path.with_name("nets.py").write_text(NETWORKS + nothing)
    parts = parts_of(path, "teacher.scale=2", "data.augment=[{use: 'nets.py:make'}]")
    assert parts.notes[-1].endswith(
        ": data.augment.0: nets.py:make has neither place nor draw_change: the teacher sees the student's images, "
        "resized (docs/augmentation.md)"
    )
    assert next(stream(parts, seed=0)).teacher_images is None


def test_the_cache_holds_what_the_teacher_sees_in_folders_of_their_own(path):
    larger = ("teacher.scale=1.5", "teacher.flip=true")
    (plain,), _ = run(read(path, *larger, "cache={views: 2, dtype: float32}"), path.parent / "runs")
    (again,), _ = run(read(path, *larger, "cache={views: 2, dtype: float32}"), path.parent / "others")
    assert equal(weights(plain), weights(again))
    folders = set()
    for overrides in ((), ("teacher.scale=1.5",), larger):
        parts = parts_of(path, *overrides, "cache={views: 2, dtype: float32}")
        teacher = step_teacher(parts, 0)
        folders.add(teacher.folder)
        first = to_device(next(stream(parts, seed=0)), parts.precision)
        torch.testing.assert_close(teacher(first).logits, parts.teaching(first).logits)
    assert len(folders) == 3


def test_a_size_that_distorts_is_one_line(path):
    with pytest.raises(RecipeError) as refused:
        parts_of(path, "teacher.size=[64, 96]")
    assert str(refused.value).endswith(
        "teacher.size: [64, 96] has other proportions than the images of training, [32, 32]; "
        "set teacher.size=null teacher.scale=2"
    )


def test_the_advice_for_a_size_that_the_network_does_not_take_works(path, capsys):
    path.with_name("nets.py").write_text(NETWORKS + PICKY)
    teacher = "teacher={{use: 'nets.py:Picky', args: {{channels: 8}}, {}}}"
    assert main(["check", str(path), "--trust", teacher.format("scale: 2.25")]) == 2
    error = capsys.readouterr().err
    assert "fails on 4 images of size [72, 72] in training: " in error
    assert error.endswith("; set teacher.scale: null, teacher.size: [64, 64], which it takes\n")
    assert main(["check", str(path), "--trust", teacher.format("scale: null, size: [64, 64]")]) == 0
