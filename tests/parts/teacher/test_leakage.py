import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image
from tiny import NETWORKS, run

from kd.components import Maker
from kd.diagnose.check import check_recipe
from kd.errors import RecipeError
from kd.recipe import read_recipe
from kd.runs import resumable

TEXT = """
student: {{use: "nets.py:Net"}}
data: {{use: kd.data.Folders, args: {{root: mine, classes: [dark, bright], {split}}}, size: [32, 32], workers: 0}}
supervised: {{use: kd.losses.CrossEntropy}}
optimizer: {{use: torch.optim.SGD, args: {{lr: 0.1}}}}
train: {{steps: 4, batch_size: 4, precision: fp32}}
log: {{panels: 0, tensorboard: false}}
"""
TAUGHT = "teacher: {teacher}\ndistill: {{kl: {{loss: {{use: kd.losses.PixelKL}}}}}}\n"


@pytest.fixture
def write(folder):
    """Twelve images; recipes of a teacher and of its student."""
    (folder / "nets.py").write_text(NETWORKS)
    for kind in ("images", "masks"):
        (folder / "mine" / kind).mkdir(parents=True)
    for number in range(12):
        noise = torch.randint(0, 256, (32, 32, 3), generator=torch.Generator().manual_seed(number)).byte()
        Image.fromarray(noise.numpy()).save(folder / f"mine/images/{number:02}.png")
        Image.fromarray((noise[..., 0] > 127).byte().numpy()).save(folder / f"mine/masks/{number:02}.png")

    def write(student, teacher, taught="{recipe: t.yaml}"):
        (folder / "t.yaml").write_text(TEXT.format(split=teacher))
        (folder / "r.yaml").write_text(TEXT.format(split=student) + TAUGHT.format(teacher=taught))
        return read_recipe("r.yaml", trust=True)

    return write


def lists(folder, split, first, end):
    (folder / "mine" / f"{split}.txt").write_text("".join(f"{number:02}\n" for number in range(first, end)))


def refused(recipe, folder):
    with pytest.raises(RecipeError) as caught:
        check_recipe(recipe, runs=folder / "runs")
    with pytest.raises(RecipeError) as again:
        run(recipe, folder / "runs")
    assert str(again.value) == str(caught.value)
    return str(caught.value)


def test_a_teacher_on_lists_that_hold_the_val_images_is_refused_before_it_trains(write, folder):
    lists(folder, "train", 0, 8)
    lists(folder, "val", 8, 12)
    lists(folder, "all-train", 0, 10)
    lists(folder, "all-val", 10, 12)
    recipe = write('lists: "{split}.txt"', 'lists: "all-{split}.txt"')
    message = refused(recipe, folder)
    assert message.startswith(
        "r.yaml:8:1: teacher: t.yaml was trained on 2 of the 4 val images (first 08.png), so neither its score nor the "
    )
    assert not (folder / "runs").exists()
    check_recipe(write('lists: "{split}.txt"', 'lists: "{split}.txt"'), runs=folder / "runs")


def test_a_fold_trains_a_teacher_of_its_own_and_the_run_of_another_fold_is_refused(write, folder):
    recipe = write("folds: 3, fold: 0", "val: 25%")
    run(recipe, folder / "runs")
    (run_dir,) = folder.glob("runs/t-*/seed0")
    message = refused(write("folds: 3, fold: 1", "val: 25%", f"{{run: {run_dir}}}"), folder)
    assert f"teacher: {run_dir} was trained on all of the 4 val images (first " in message
    file = f"{{use: 'nets.py:Net', weights: {run_dir}/student.safetensors}}"
    assert "was trained on all of the 4 val images" in refused(write("folds: 3, fold: 2", "val: 25%", file), folder)
    (folder / "copy.safetensors").write_bytes((run_dir / "student.safetensors").read_bytes())
    member = "{use: 'nets.py:Net', args: {num_classes: 2}}"
    ensemble = "{use: teachers.Ensemble, args: {members: [%s, %s], files: [%s, copy.safetensors]}}"
    ensemble %= (member, member, run_dir)
    assert "was trained on all of the 4 val images" in refused(write("folds: 3, fold: 2", "val: 25%", ensemble), folder)
    lines = check_recipe(write("folds: 3, fold: 0", "val: 25%", ensemble), runs=folder / "runs")
    assert {
        "teacher: members.0: student.safetensors: loaded 8 of 8 tensors",
        "teacher: members.1: copy.safetensors: loaded 8 of 8 tensors",
        "teacher: copy.safetensors has no record of the images that it was trained on; if they are among those of val, "
        "its score and the student's are too high",
    } <= set(lines)
    check_recipe(write("folds: 3, fold: 0", "val: 25%", f"{{run: {run_dir}}}"), runs=folder / "runs")
    run(write("folds: 3, fold: 1", "val: 25%"), folder / "runs")  # what the message advises
    assert len(list(folder.glob("runs/t-*/seed0"))) == 2


def test_a_student_that_starts_from_the_run_of_another_fold_is_refused(write, folder):
    write("folds: 3, fold: 0", "folds: 3, fold: 0")
    ((run_dir,), _) = run(read_recipe("t.yaml", trust=True), folder / "runs")
    started = f"weights: {run_dir}, args: {{channels: 8}}}}"
    for fold, start in (
        (1, started),
        (2, started.replace("weights: ", "weights: {file: ").replace(", args", "}, args")),
    ):
        (folder / "s.yaml").write_text(
            TEXT.format(split=f"folds: 3, fold: {fold}").replace('"nets.py:Net"}', f'"nets.py:Net", {start}')
        )
        message = refused(read_recipe("s.yaml", trust=True), folder)
        assert message.startswith(f"s.yaml:2:1: student: {run_dir} was trained on all of the 4 val images (first ")
        assert message.endswith(
            ", so the score of a student that starts from it would be no measure; start from a run with the same "
            "split, or hold out other images"
        )
    (folder / "s.yaml").write_text((folder / "s.yaml").read_text().replace("fold: 2", "fold: 0"))  # as advised
    check_recipe(read_recipe("s.yaml", trust=True), runs=folder / "runs")


def test_a_run_that_starts_over_on_other_images_is_compared_with_its_teacher(write, folder):
    lists(folder, "train", 0, 8)
    lists(folder, "val", 8, 12)
    run_dir = run(write('lists: "{split}.txt"', 'lists: "{split}.txt"'), folder / "runs")[0][0]
    (teacher,) = folder.glob("runs/t-*/seed0")
    check_recipe(resumable(run_dir, trust=True), runs=folder / "runs")
    lists(folder, "train", 4, 12)
    lists(folder, "val", 0, 4)
    with pytest.raises(RecipeError) as caught:
        run(resumable(run_dir, trust=True), folder / "runs", fresh=True)
    assert f"teacher: {teacher} was trained on all of the 4 val images (first 00.png), " in str(caught.value)


def test_copies_under_other_names_are_the_same_images_and_test_is_held_out_too(write, folder):
    recipe = write("val: 25%, test: 25%", "val: 25%, test: 25%")
    for kind in ("images", "masks"):
        (folder / "theirs" / kind).mkdir(parents=True)
    from kd.components import Maker

    for number, (image, mask, _) in enumerate(Maker(recipe).dataset("test").pairs):
        (folder / f"theirs/images/copy{number}.png").write_bytes(image.read_bytes())
        (folder / f"theirs/masks/copy{number}.png").write_bytes(mask.read_bytes())
    write("val: 25%, test: 25%", "val: 34%, images: images")
    text = (folder / "t.yaml").read_text().replace("root: mine", "root: theirs, follow_links: true")
    (folder / "t.yaml").write_text(text)
    (run_dir,), _ = run(read_recipe("t.yaml", trust=True), folder / "runs")
    message = refused(write("val: 25%, test: 25%", "val: 25%", f"{{run: {run_dir}}}"), folder)
    assert f"teacher: {run_dir} was trained on 2 of the 3 test images (first " in message


def test_weights_without_a_record_are_noted(write, folder):
    recipe = write("val: 25%", "val: 25%")
    run(recipe, folder / "runs")
    (file,) = folder.glob("runs/t-*/seed0/student.safetensors")
    (folder / "best.safetensors").write_bytes(file.read_bytes())
    recipe = write("val: 25%", "val: 25%", "{use: 'nets.py:Net', weights: best.safetensors}")
    lines = check_recipe(recipe, runs=folder / "runs")
    assert (
        "teacher: best.safetensors has no record of the images that it was trained on; if they are among those of val, "
        "its score and the student's are too high"
    ) in lines
    recipe = read_recipe("t.yaml", ["student.weights=best.safetensors"], trust=True)
    assert (
        "student: best.safetensors has no record of the images that it was trained on; if they are among those of val, "
        "its score is too high"
    ) in check_recipe(recipe, runs=folder / "runs")
    recipe = write("val: 25%", "val: 25%", "{use: 'nets.py:Net'}")
    assert not [line for line in check_recipe(recipe, runs=folder / "runs") if "no record" in line]


def test_a_teacher_that_saw_the_val_images_without_their_labels_is_refused(write, folder):
    write("val: 25%", "val: 25%")
    more = ("data.unlabelled={images: more}", "distill.kl.pixels=all", "train.steps=8")
    val = read_recipe("r.yaml", trust=True)
    names = [path.name for path in map(Path, Maker(val).dataset("val").names)]
    (folder / "more").mkdir()
    for name in names:
        shutil.copy(folder / "mine/images" / name, folder / "more" / f"copy-{name}")
    (teacher,), lines = run(read_recipe("r.yaml", more, trust=True), folder / "runs")
    assert [
        line for line in lines if line.startswith(f"warning: {len(names)} of the {len(names)} val images are training")
    ]
    message = refused(write("val: 25%", "val: 25%", f"{{run: {teacher}}}"), folder)
    assert f"teacher: {teacher} was trained on all of the {len(names)} val images (first {names[0]})" in message
