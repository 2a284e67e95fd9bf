import errno
import os
import re
import shutil
import warnings

import pytest
import torch
from disk import fill, small_disk
from tiny import equal, in_child, weights, write_recipes

from kd.data.splits.split import pixel_sum
from kd.errors import RecipeError, StorageError
from kd.files.storage import write_json
from kd.parts.assemble import assemble
from kd.parts.roles import Teacher, to_device
from kd.parts.stream import stream
from kd.parts.teacher import cache as teacher_cache
from kd.recipe import Recipe, baseline_of, read_recipe
from kd.train import start as starting
from kd.train.fill_cache import fill_cache
from kd.train.session import run_recipe
from kd.train.start import step_teacher


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    """A recipe with a cache in the current folder, in float32; its teacher is trained."""
    monkeypatch.chdir(tmp_path)
    path = write_recipes(tmp_path)
    path.write_text(path.read_text() + "cache: {views: 2, dtype: float32}\n")
    run_recipe(read(tmp_path, teacher=True), runs=tmp_path / "runs", quiet=True, say=lambda line: None)
    return read(tmp_path)


def read(folder, *overrides, teacher=False) -> Recipe:
    return read_recipe(folder / ("teacher.yaml" if teacher else "student.yaml"), overrides, trust=True)


@pytest.fixture
def calls(monkeypatch):
    """The number of images that the teacher has computed."""
    count = [0]
    ordinary = Teacher.forward

    def counted(self, batch):
        count[0] += len(batch.images)
        return ordinary(self, batch)

    monkeypatch.setattr(Teacher, "forward", counted)
    return count


def batches(parts, steps):
    return [to_device(batch, parts.precision) for batch in stream(parts, seed=0, steps=steps)]


def cached(recipe, folder):
    parts = assemble(recipe, runs=folder / "runs", seed=0)
    return parts, step_teacher(parts, 0)


def same(output, other):
    logits_equal = torch.equal(output.logits, other.logits)
    return logits_equal and all(torch.equal(output.at[term], other.at[term]) for term in other.at)


def test_images_move_to_the_device_only_to_be_computed(recipe, tmp_path, monkeypatch, calls):
    parts, teacher = cached(recipe, tmp_path)
    loaded = next(stream(parts, seed=0))
    moves = []
    monkeypatch.setattr(teacher_cache, "to_device", lambda *given: moves.append(1) or to_device(*given))
    calls[0] = 0
    outputs = [teacher.of_loaded(loaded), teacher.of_loaded(loaded), teacher(to_device(loaded, parts.precision))]
    assert (len(moves), calls[0]) == (1, len(loaded.images))
    assert all(same(output, outputs[0]) for output in outputs)


def test_with_float32_the_loss_curve_is_that_of_the_same_views_uncached(recipe, tmp_path, monkeypatch, calls):
    def train(name):
        (run_dir,) = run_recipe(recipe, runs=tmp_path / name, quiet=True, say=lambda line: None)
        return run_dir

    for name in ("cold", "warm", "bare"):
        shutil.copytree(tmp_path / "runs", tmp_path / name)  # the trained teacher
    calls[0] = 0
    cold = train("cold")
    cold_calls, calls[0] = calls[0], 0
    warm = train("warm")
    assert calls[0] == cold_calls - 24  # the images of the check and the evaluation, and no training image
    monkeypatch.setattr(starting, "step_teacher", lambda parts, seed, say: parts.teacher)
    bare = train("bare")
    for other in (warm, bare):
        assert (other / "metrics.jsonl").read_bytes() == (cold / "metrics.jsonl").read_bytes()
        assert equal(weights(other), weights(cold))


def test_every_view_is_computed_once_and_kept_for_later_runs(recipe, tmp_path, calls):
    parts, teacher = cached(recipe, tmp_path)
    whole = batches(parts, 12)  # 12 images in batches of 4: two views are 6 steps
    calls[0] = 0
    first = [teacher(batch) for batch in whole]
    assert calls[0] == 24
    _, later = cached(recipe, tmp_path)
    calls[0] = 0
    assert all(same(later(batch), kept) for batch, kept in zip(whole, first, strict=True))
    assert calls[0] == 0
    assert all(same(kept, parts.teacher(batch)) for batch, kept in zip(whole, first, strict=True))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_types_round_the_first_and_later_outputs_alike(tmp_path, recipe, dtype):
    parts, teacher = cached(read(tmp_path, f"cache.dtype={dtype}"), tmp_path)
    (batch,) = batches(parts, 1)
    first, again = teacher(batch), teacher(batch)
    exact = parts.teacher(batch).logits
    assert same(first, again)
    assert first.logits.dtype == torch.float32
    assert torch.equal(first.logits, exact.to(getattr(torch, dtype)).float())


def test_values_beyond_float16_are_an_error(tmp_path, recipe):
    parts, teacher = cached(read(tmp_path, "cache.dtype=float16"), tmp_path)
    parts.teacher.network.head.bias.data += 1e5
    (batch,) = batches(parts, 1)
    with pytest.raises(
        RecipeError, match=r"cache.dtype: float16 holds at most 65504, but the teacher's 'logits' reaches 1e\+05"
    ):
        teacher(batch)


def test_another_teacher_augmentation_or_seed_is_another_cache(recipe, tmp_path):
    parts, teacher = cached(recipe, tmp_path)
    folders = {teacher.folder}
    folders.add(step_teacher(parts, 1).folder)
    parts.teacher.network.head.bias.data += 1
    folders.add(step_teacher(parts, 0).folder)
    for change in ("data.augment=[]", "data.size=[64, 64]", "cache.views=3"):
        folders.add(cached(read(tmp_path, change), tmp_path)[1].folder)
    assert len(folders) == 6
    others = ("cache.dtype=bfloat16", "train.batch_size=2", "data.workers=1", "distill.hint=null")
    assert {cached(read(tmp_path, change), tmp_path)[1].folder for change in others} == {teacher.folder}


TWO, THREE = (f"{{use: 'nets.py:Net', args: {{num_classes: {count}}}}}" for count in (2, 3))
NAMED = f"network: {THREE}, source: [a, b, c], target: [dark, bright]"


@pytest.mark.parametrize(
    ("use", "before", "after"),
    [
        (
            "teachers.ClassMapped",
            f"args: {{{NAMED}, merge: {{dark: [a], bright: [b, c]}}}}",
            f"args: {{{NAMED}, merge: {{dark: [a, b], bright: [c]}}}}",
        ),
        ("teachers.Wrapped", f"args: {{network: {TWO}}}", f"args: {{network: {TWO}, preprocess: {{order: bgr}}}}"),
        ("teachers.Wrapped", f"args: {{network: {TWO}}}", f"args: {{network: {TWO}, preprocess: {{scale: 255}}}}"),
        (
            "teachers.Ensemble",
            f"args: {{members: [{TWO}, {TWO}]}}",
            f"args: {{members: [{TWO}, {TWO}], temperature: 2.0}}",
        ),
        ("nets.py:Net", "classes: [dark, bright]", "classes: [bright, dark]"),
        ("nets.py:Net", "outputs: logits", "outputs: probabilities"),
    ],
    ids=["merge", "order", "scale", "temperature", "classes", "outputs"],
)
def test_what_the_weights_and_layers_of_a_teacher_do_not_show_is_another_cache(tmp_path, use, before, after):
    """A teacher that is corrected must not teach from its old maps."""
    path = write_recipes(tmp_path)
    path.write_text(path.read_text() + "cache: {views: 2}\n")
    (parts, teacher), (corrected_parts, corrected) = (
        cached(read(tmp_path, f"teacher={{use: '{use}', {given}}}", "distill.hint=null"), tmp_path)
        for given in (before, after)
    )
    (batch,) = batches(parts, 1)
    assert equal(parts.teacher.network.state_dict(), corrected_parts.teacher.network.state_dict())
    assert not torch.equal(parts.teacher(batch).logits, corrected_parts.teacher(batch).logits)
    assert teacher.folder != corrected.folder


def test_a_cache_stays_valid_where_the_teacher_is_a_run_or_has_no_arguments(recipe, tmp_path):
    """These keys are those of kd 0.6."""
    of_run = cached(recipe, tmp_path)[1]
    plain = cached(read(tmp_path, "teacher={use: nets.py:Net}"), tmp_path)[1]
    named = cached(read(tmp_path, "teacher={use: nets.py:Net, classes: [dark, bright]}"), tmp_path)[1]
    assert plain.folder == named.folder
    for teacher in (of_run, plain):
        assert {"args", "meaning"}.isdisjoint(teacher._key)


def test_an_image_that_has_changed_is_detected(recipe, tmp_path, calls, monkeypatch):
    parts, teacher = cached(recipe, tmp_path)
    (batch,) = batches(parts, 1)
    teacher(batch)
    ordinary = type(parts.train).__getitem__

    def altered(self, key):
        sample = ordinary(self, key)
        if key[0] == batch.keys[1, 0]:
            sample.image[0, 0, 0] += 1  # one pixel of one image by 1, modulo 256
        return sample

    monkeypatch.setattr(type(parts.train), "__getitem__", altered)
    (changed,) = batches(parts, 1)
    assert (changed.images != batch.images).sum() == 1
    with pytest.warns(UserWarning, match="belong to other images") as warned:
        maps = teacher(changed)
    assert {str(warning.message) for warning in warned} == {
        f"cache: maps in {store}-float32 belong to other images; they are computed again"
        for store in ("logits-2x8x8", "low-8x8x8")
    }
    assert same(maps, parts.teacher(changed))
    calls[0] = 0
    assert same(teacher(changed), maps)
    assert calls[0] == 0


@pytest.mark.parametrize("damage", ["flip", "cut", "zero"])
@pytest.mark.parametrize("suffix", ["maps", "sums"])
def test_a_damaged_file_is_detected_and_rebuilt(recipe, tmp_path, calls, damage, suffix):
    parts, teacher = cached(recipe, tmp_path)
    (batch,) = batches(parts, 1)
    whole = teacher(batch)
    file = next(teacher.folder.glob(f"logits-*.{suffix}"))
    data = bytearray(file.read_bytes())
    used = next(i for i in range(len(data)) if data[i])
    if damage == "flip":
        data[used] ^= 1
    else:
        data = data[:used] if damage == "cut" else bytes(len(data))
    file.write_bytes(data)
    _, again = cached(recipe, tmp_path)
    calls[0] = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert same(again(batch), whole)
        assert calls[0] == 4
        assert same(again(batch), whole)
    assert calls[0] == 4


def test_other_code_and_another_revision_have_another_cache(recipe, tmp_path, monkeypatch):
    """Code may compute other maps with the same weights and the same layers."""
    _, first = cached(recipe, tmp_path)
    (tmp_path / "nets.py").write_text((tmp_path / "nets.py").read_text() + "# edited\n")
    run_recipe(read(tmp_path, teacher=True), runs=tmp_path / "runs", quiet=True, say=lambda line: None)
    _, edited = cached(read(tmp_path), tmp_path)
    monkeypatch.setattr(teacher_cache, "RESULTS_REVISION", teacher_cache.RESULTS_REVISION + 1)
    _, raised = cached(read(tmp_path), tmp_path)
    assert len({first.folder, edited.folder, raised.folder}) == 3


def test_a_full_disk_stops_the_cache_and_not_the_training(recipe, tmp_path, monkeypatch):
    parts, teacher = cached(recipe, tmp_path)

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(teacher_cache, "_write", full)
    batch, other = batches(parts, 2)
    with pytest.warns(UserWarning, match=r"is not written \(No space left on device\); training continues without"):
        output = teacher(batch)
    assert same(output, parts.teacher(batch))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # no second warning
        assert same(teacher(other), parts.teacher(other))


def test_a_full_file_system_neither_kills_nor_stops_the_training(recipe, tmp_path):
    """A file has its whole length and no page: what is not there can be read, but not through a memory map."""
    with small_disk(tmp_path / "small", kilobytes=64) as disk:
        _, teacher = cached(read(tmp_path, f"cache.folder={disk}"), tmp_path)
        write_json(teacher.folder / "key.json", {})
        for name in ("logits-2x8x8", "low-8x8x8"):
            for suffix, size in (("maps", 4 * 64 * int(name.split("-")[1][0])), ("sums", 16)):
                file = teacher.folder / f"{name}-float32.{suffix}"
                file.touch()
                os.truncate(file, 24 * size)
        fill(disk)

        def train():
            with warnings.catch_warnings(record=True) as warned:
                warnings.simplefilter("always")
                run_recipe(
                    read(tmp_path, f"cache.folder={disk}"), runs=tmp_path / "runs", quiet=True, say=lambda line: None
                )
            assert [str(warning.message) for warning in warned] == [
                f"cache: {teacher.folder} is not written (No space left on device); training continues without it"
            ]

        assert in_child(train) == 0
    assert list((tmp_path / "runs").glob("student-*/seed0/result.json"))


def test_a_disk_that_cannot_be_read_is_one_line_and_the_teacher_computes(recipe, tmp_path, monkeypatch):
    parts, teacher = cached(recipe, tmp_path)
    (batch,) = batches(parts, 1)
    first = teacher(batch)

    def broken(*_):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patched:
        patched.setattr(teacher_cache, "_read", broken)
        with pytest.warns(UserWarning, match=r"is not read \(Input/output error\); training continues without it"):
            output = teacher(batch)
    assert same(output, parts.teacher(batch))
    assert same(teacher(batch), first)


def test_filling_a_disk_that_becomes_full_is_an_error_and_continues_later(recipe, tmp_path, calls, monkeypatch):
    ordinary, written = teacher_cache._write, []

    def full(*arguments):
        written.append(arguments)
        if len(written) > 20:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        ordinary(*arguments)

    monkeypatch.setattr(teacher_cache, "_write", full)
    with pytest.warns(UserWarning, match="is not written"), pytest.raises(StorageError) as caught:
        fill_cache(recipe, runs=tmp_path / "runs")
    assert str(caught.value).endswith(
        " is not written (No space left on device); free space, and the same command continues"
    )
    calls[0] = 0
    monkeypatch.setattr(teacher_cache, "_write", ordinary)
    fill_cache(recipe, runs=tmp_path / "runs")
    assert calls[0] == 20  # of 24 images, the 4 of the first batch were kept


def test_filling_before_training_reports_the_size_and_leaves_nothing_to_compute(recipe, tmp_path, calls, capsys):
    (folder,) = fill_cache(recipe, runs=tmp_path / "runs")
    lines = capsys.readouterr().out.splitlines()
    record = 4 * (2 + 8) * 8 * 8 + 2 * 16  # logits and low in float32, two sums each
    assert re.match(
        re.escape(f"{folder}: 12 images × 2 views, {record / 1000:.3g} kB each: {24 * record / 1000:.3g} kB on disk ("),
        lines[-2],
    )
    assert lines[-1] == f"{folder}: complete"
    parts, teacher = cached(recipe, tmp_path)
    calls[0] = 0
    for batch in batches(parts, 8):
        teacher(batch)
    assert calls[0] == 0
    assert sum(file.stat().st_size for file in folder.glob("*.[ms]*s")) == 24 * record


def test_the_baseline_sees_the_same_views_and_the_folder_does_not_change_the_id(recipe, tmp_path):
    baseline = baseline_of(recipe)
    assert (baseline.cache.views, baseline.cache.dtype) == (2, "float16")
    assert read(tmp_path, "cache.folder=elsewhere").id == recipe.id
    assert read(tmp_path, "cache.views=3").id != recipe.id
    assert read(tmp_path, "cache=null").id != recipe.id
    streams = [list(stream(assemble(r, runs=tmp_path / "runs", seed=0), seed=0)) for r in (recipe, baseline)]
    assert all(torch.equal(batch.images, other.images) for batch, other in zip(*streams, strict=True))
    assert {view for batch in streams[0] for view in batch.keys[:, 1].tolist()} == {0, 1}


def test_an_average_that_teaches_is_not_cached(tmp_path, recipe):
    text = (tmp_path / "student.yaml").read_text().replace("teacher: {recipe: teacher.yaml}", "teacher: {ema: 0.9}")
    (tmp_path / "student.yaml").write_text(text)
    reason = "a teacher that is a moving average changes with every step"
    with pytest.raises(RecipeError, match=f"train: {reason}; remove `cache`"):
        read(tmp_path)
    assert read(tmp_path, "cache=null").not_cached == reason  # `kd bench RECIPE --all` prints it


def test_the_sums_are_those_of_the_formula_and_in_the_keys_of_a_cached_teachers_batches_alone(recipe, tmp_path):
    image = torch.randint(0, 256, (3, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    factors = torch.randint(-(2**63), 2**63 - 1, (3 * 8 * 8,), generator=torch.Generator().manual_seed(0)).tolist()
    exact = sum(pixel * factor for pixel, factor in zip(image.flatten().tolist(), factors, strict=True))
    assert pixel_sum(image) == (exact + 2**63) % 2**64 - 2**63
    assert pixel_sum(image) == (image.long().flatten() * torch.tensor(factors)).sum()
    assert pixel_sum(image.movedim(0, 2).contiguous().movedim(2, 0)) == pixel_sum(image)
    assert len({pixel_sum(image), pixel_sum(image.flip(2)), pixel_sum(image.flip(1)), pixel_sum(image + 1)}) == 4
    batch = next(stream(assemble(recipe, runs=tmp_path / "runs", seed=0), seed=0))
    assert batch.keys[:, 2].tolist() == [pixel_sum(image) for image in batch.images]
    for other in (baseline_of(recipe), read(tmp_path, "cache=null")):
        assert next(stream(assemble(other, runs=tmp_path / "runs", seed=0), seed=0)).keys.shape == (4, 2)


def test_a_link_in_a_cache_folder_is_not_written_through(tmp_path):
    (tmp_path / "private").write_text("mine")
    (tmp_path / "a.maps").symlink_to(tmp_path / "private")
    with pytest.raises(OSError, match="symbolic link"):
        teacher_cache._sized(tmp_path / "a.maps", 64)
    assert (tmp_path / "private").read_text() == "mine"
