"""Runs in which images without labels join every batch."""

from pathlib import Path

import pytest
import torch
from ranks import kd, start, statuses, the_run, write_plain
from tiny import cut_at, equal, read, run, weights, write_pictures, write_recipes

from kd.errors import DataError, InputsError, RecipeError
from kd.inputs import read_inputs
from kd.parts.assemble import assemble
from kd.parts.stream import stream
from kd.recipe import baseline_of
from kd.train.fill_cache import fill_cache

JOINED = ("data.unlabelled={images: more, ratio: 0.5}", "distill.kl.pixels=all")
RUNS = Path("runs")


@pytest.fixture
def path(folder):
    """The tiny recipe, and a folder with seven pictures."""
    write_pictures(folder / "more", 7)
    return write_recipes(folder)


def test_two_of_them_follow_the_four_labelled_images_of_a_step_and_no_label_is_theirs(path):
    parts = assemble(read(path, *JOINED), runs=RUNS, seed=0, trained=False)
    batches = list(stream(parts, seed=0, steps=7))
    assert parts.steps == 8
    assert {tuple(batch.images.shape) for batch in batches} == {(6, 3, 32, 32)}
    assert all(bool((batch.labels[4:] == 255).all() and batch.inside[4:].all()) for batch in batches)
    assert sorted(batch.keys[index, 0].item() for batch in batches for index in (4, 5)) == sorted([*range(12, 19)] * 2)
    alone = stream(assemble(read(path), runs=RUNS, seed=0, trained=False), seed=0, steps=7)
    assert all(torch.equal(batch.images[:4], other.images) for batch, other in zip(batches, alone, strict=True))


def test_a_run_is_cut_and_resumed_with_the_same_bits_and_records_the_images(path):
    recipe = read(path, *JOINED)
    (run_dir,), lines = run(recipe, RUNS)
    assert "  unlabelled: 7 images in more" in lines
    cut_at(5, recipe, Path("cut"))
    (resumed,), _ = run(recipe, Path("cut"))
    assert equal(weights(run_dir), weights(resumed))
    images = read_inputs(run_dir).splits["unlabelled"].images
    assert [file.name for file in images] == [f"{index}.png" for index in range(7)]
    assert all(file.sha256 for file in images)  # 8 steps have read them all
    Path("more/7.png").write_bytes(Path("more/6.png").read_bytes())
    Path("more/2.png").unlink()
    with pytest.raises(InputsError) as refused:
        run(recipe, RUNS)
    what = "1 unlabelled image was added, first 7.png, 1 unlabelled image was removed, first 2.png"
    assert refused.value.mistakes[0].startswith(f"{run_dir}: {what}; ")


def test_filling_the_cache_leaves_nothing_to_compute(path):
    recipe = read(path, *JOINED, "cache={views: 2, dtype: float32}")
    fill_cache(recipe, runs=RUNS)
    (filled,), _ = run(recipe, RUNS)
    (computed,), _ = run(read(path, *JOINED, "cache={views: 2, dtype: float32, folder: other}"), Path("other-runs"))
    assert equal(weights(filled), weights(computed))
    parts = assemble(recipe, runs=RUNS, seed=0)
    seen = {tuple(key) for batch in stream(parts, seed=0, steps=7) for key in batch.keys[:, :2].tolist()}
    assert {key for key in seen if key[0] >= 12} == {(index, view) for index in range(12, 19) for view in range(2)}


def test_the_baseline_is_that_of_the_recipe_without_them_and_the_folders_place_is_no_part_of_the_id(path):
    recipe = read(path, *JOINED)
    assert baseline_of(recipe).id == baseline_of(read(path)).id
    assert read(path, "data.unlabelled={images: elsewhere, ratio: 0.5}", JOINED[1]).id == recipe.id
    assert read(path, "data.unlabelled={images: more, ratio: 1.0}", JOINED[1]).id != recipe.id


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["data.unlabelled={images: more, ratio: 0.3}"],
            "<data.unlabelled={images: more, ratio: 0.3}>: data.unlabelled.ratio: 0.3 × batch_size 4 is 1.2 images, "
            "which 1 processes × 1 micro-batches cannot share; the nearest ratios: 0.25 and 0.5",
        ),
        (
            ["data.unlabelled={images: more, ratio: 0.25}", "train.accumulate=2"],
            "<data.unlabelled={images: more, ratio: 0.25}>: data.unlabelled.ratio: 0.25 × batch_size 4 is 1 images, "
            "which 1 processes × 2 micro-batches cannot share; the nearest ratios: 0.5",
        ),
    ],
)
def test_a_ratio_that_cannot_be_shared_is_one_line(path, overrides, message):
    with pytest.raises(RecipeError) as refused:
        assemble(read(path, *overrides, "distill.kl.pixels=all"), runs=RUNS, seed=0, trained=False)
    assert refused.value.mistakes == (message,) or list(refused.value.mistakes) == [message]


def test_images_that_nothing_learns_from_are_refused(path):
    with pytest.raises(RecipeError, match=r"distill: no term learns from the images of data.unlabelled; set "):
        read(path, JOINED[0])
    with pytest.raises(RecipeError, match=r"add a teacher and `distill`, or remove data.unlabelled$"):
        read(path.with_name("teacher.yaml"), JOINED[0])
    with pytest.raises(DataError, match=r"^data.unlabelled.images: no folder mor; "):
        assemble(read(path, JOINED[1], "data.unlabelled={images: mor}"), runs=RUNS, seed=0, trained=False)


SHAPES = """
teacher: {use: "nets.py:Net"}
student: {use: "nets.py:Net", args: {channels: 4}}
data: {use: kd.data.Shapes, args: {count: 12, size: 32}, size: [32, 32], workers: 0,
  unlabelled: {args: {count: 20}, ratio: 0.5}}
supervised: {use: kd.losses.CrossEntropy}
distill: {kl: {loss: {use: kd.losses.PixelKL}, pixels: all}}
optimizer: {use: torch.optim.SGD, args: {lr: 0.1}}
train: {steps: 2, batch_size: 4}
"""


def test_the_other_training_images_of_a_dataset_join(path):
    Path("shapes.yaml").write_text(SHAPES)
    parts = assemble(read("shapes.yaml"), runs=RUNS, seed=0, trained=False)
    assert "unlabelled: 8 other training images (12 of train left out)" in parts.notes
    assert [parts.unlabelled[index, 0].name for index in (0, 7)] == ["shapes/train/12", "shapes/train/19"]
    (batch,) = stream(parts, seed=0, steps=1)
    assert batch.images.shape[0] == 6
    assert (batch.labels[4:] == 255).all()


def test_no_other_training_image_is_one_line(path):
    Path("shapes.yaml").write_text(SHAPES)
    with pytest.raises(DataError, match="no other training images: 10 of train left out"):
        assemble(read("shapes.yaml", "data.unlabelled.args.count=10"), runs=RUNS, seed=0, trained=False)


def test_a_dataset_that_does_not_tell_its_images_apart_is_one_line(path):
    recipe = read(path, "data.unlabelled={args: {count: 20}}", "distill.kl.pixels=all")
    with pytest.raises(DataError, match=r"Stripes has neither `names` nor `files\(index\)`, which tell"):
        assemble(recipe, runs=RUNS, seed=0, trained=False)


@pytest.mark.parametrize("given", ["{ratio: 2}", "{images: more, args: {count: 20}}"])
def test_either_a_folder_or_arguments(path, given):
    with pytest.raises(RecipeError, match="give images, a folder, or args, the dataset's arguments that differ, and"):
        read(path, f"data.unlabelled={given}", "distill.kl.pixels=all")


EMA = (
    "teacher={ema: 0.9}",
    "distill={self: {loss: {use: kd.losses.PseudoLabel, args: {threshold: [0.5, 0.6]}}, pixels: unlabelled}}",
    "data.unlabelled={images: more, ratio: 1.0, cutmix: 1.0}",
    "train.accumulate=2",
)


def test_self_training_with_mixed_images_of_several_sizes_resumes_at_the_same_bits(path):
    recipe = read(path, *EMA, "train.scales=[1.0, 1.5]")
    (run_dir,), _ = run(recipe, RUNS)
    cut_at(5, recipe, Path("cut"))
    (resumed,), _ = run(recipe, Path("cut"))
    assert equal(weights(run_dir), weights(resumed))
    for index, overrides in enumerate((EMA, (*EMA, "data.unlabelled.cutmix=0.0", "train.scales=[1.0, 1.5]"))):
        (other,), _ = run(read(path, *overrides), Path(f"other{index}"))
        assert not equal(weights(run_dir), weights(other))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["cache={views: 1}", "train.scales=[1.0, 1.5]"],
            "train: train.scales change the teacher's images in every step; remove `cache`",
        ),
        (
            ["cache={views: 1}", "data.unlabelled={images: more, cutmix: 0.5}", "distill.kl.pixels=all"],
            "train: data.unlabelled.cutmix changes images in every step; remove `cache`",
        ),
        (
            ["data.unlabelled={images: more, ratio: 0.25, cutmix: 0.5}", "distill.kl.pixels=all"],
            "data.unlabelled.cutmix: a micro-batch has one image without labels, and no other one to mix it with; "
            "set data.unlabelled.ratio=0.5",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(path, overrides, message):
    with pytest.raises(RecipeError) as refused:
        assemble(read(path, *overrides), runs=RUNS, seed=0, trained=False)
    assert str(refused.value).endswith(message)


@pytest.mark.slow
def test_two_processes_equal_one_and_mix_images_of_their_own(folder):
    write_pictures(folder / "more", 7)
    overrides = (f"data.unlabelled={{images: {folder / 'more'}, ratio: 0.5}}", "distill.kl.pixels=all")
    (alone,), _ = run(read(write_plain(folder / "one"), *overrides), folder / "one/runs")
    write_plain(folder / "two")
    assert statuses(start(2, kd(folder / "two", *overrides))) == [0, 0]
    state, other = weights(alone), weights(the_run(folder / "two"))
    assert max((state[key] - other[key]).abs().max().item() for key in state) < 1e-5
    write_plain(folder / "mixed")
    assert statuses(
        start(2, kd(folder / "mixed", *overrides, "data.unlabelled.ratio=1.0", "data.unlabelled.cutmix=1.0"))
    ) == [0, 0]
