"""`kd predict` and `kd.predict`: new images in, index masks out."""

import shutil
import threading

import numpy as np
import pytest
import torch
from command import kd as command
from disk import fill, small_disk
from manifests import list_anew
from PIL import Image
from tiny import read, run, write_recipes
from torchvision.transforms.v2 import functional as TF

import kd
from kd.deploy.prediction import pipeline
from kd.deploy.prediction import predict as predicting
from kd.recipe import baseline_of, to_yaml

COLORS = [[0, 0, 0], [255, 255, 0]]  # of tiny's classes
TURNED = 6  # EXIF: stored a quarter turn to the left


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a recipe with a finished run."""
    folder = tmp_path_factory.mktemp("trained")
    write_recipes(folder)
    (folder / "alone.yaml").write_text(to_yaml(baseline_of(read(folder / "student.yaml"))))
    run(read(folder / "alone.yaml"), folder / "runs")
    return folder


@pytest.fixture
def run_dir(trained):
    return trained / "runs" / f"alone-{read(trained / 'alone.yaml').id}" / "seed0"


@pytest.fixture
def photos(folder):
    """An image of the recipe's size, a larger one, a turned one and the same one upright."""
    random = np.random.default_rng(0)
    (folder / "photos").mkdir()
    for name, shape in (("same", (32, 32)), ("large", (48, 40)), ("upright", (40, 24))):
        image = random.integers(0, 256, (*shape, 1), dtype=np.uint8).repeat(3, 2)
        Image.fromarray(image).save(folder / f"photos/{name}.png")
    exif = Image.Exif()
    exif[0x0112] = TURNED
    stored = Image.open(folder / "photos/upright.png").transpose(Image.Transpose.ROTATE_90)
    stored.save(folder / "photos/turned.png", exif=exif)
    return folder / "photos"


def mask(file):
    return np.asarray(Image.open(file))


def test_the_thread_of_the_network_neither_resizes_images_nor_waits_for_files(run_dir, folder, monkeypatch):
    """Nothing is written before the network has seen all images: with fewer that may wait, this would never end."""
    count = pipeline.BATCH + 1  # two batches at least
    (folder / "photos").mkdir()
    for index in range(count):
        Image.new("RGB", (40, 48), (index, 0, 0)).save(folder / f"photos/{index}.png")
    seen, all_seen, threads, late = [], threading.Event(), set(), []
    network, resize, write = pipeline.predict, pipeline.resize_image, predicting.write

    def predict(module, images, *args, **options):
        seen.extend(images)
        if len(seen) == count:
            all_seen.set()
        return network(module, images, *args, **options)

    def resize_image(image, size):
        threads.add(threading.current_thread())
        return resize(image, size)

    def write_late(*args):
        late.append(all_seen.wait(600))
        write(*args)

    monkeypatch.setattr(pipeline, "predict", predict)
    monkeypatch.setattr(pipeline, "resize_image", resize_image)
    monkeypatch.setattr(predicting, "write", write_late)
    assert command("predict", run_dir, "photos", "--trust") == 0
    assert late == [True] * count
    assert threads
    assert threading.main_thread() not in threads


def test_masks_hold_the_classes_of_the_network_at_the_images_own_size(run_dir, photos, capsys):
    assert command("predict", run_dir, photos, "--trust") == 0
    network = kd.load_student(run_dir, trust=True)
    for name in ("same", "large"):
        image = TF.pil_to_tensor(Image.open(photos / f"{name}.png"))
        resized = TF.resize(image, [32, 32], antialias=True)[None] / 255
        with torch.no_grad():
            logits = network(resized).logits
        size = tuple(image.shape[1:])
        expected = torch.nn.functional.interpolate(logits, size, mode="bilinear", antialias=True).argmax(1)[0]
        found = Image.open(f"predictions/masks/{name}.png")
        assert (np.asarray(found) == expected.numpy()).all()
        assert np.reshape(found.getpalette(), (-1, 3))[:2].tolist() == COLORS
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        f"{run_dir}: {run_dir.parents[2] / 'nets.py'}:Net, 2 classes, images scored at 32×32",
        "4 of 4 images predicted: predictions/masks",
    ]


def test_a_turned_image_is_predicted_upright(run_dir, photos):
    assert command("predict", run_dir, photos, "--trust") == 0
    turned = mask("predictions/masks/turned.png")
    assert turned.shape == (40, 24)
    assert (turned == mask("predictions/masks/upright.png")).all()


def test_overrides_change_how_images_are_predicted(run_dir, photos):
    mirrored = TF.horizontal_flip(Image.open(photos / "large.png"))
    mirrored.save(photos / "mirrored=1.png")  # no override
    options = ("--probabilities", "--trust", "evaluate.flip=true", "device=cpu", photos / "mirrored=1.png")
    assert command("predict", run_dir, photos / "large.png", *options) == 0
    both = [np.load(f"predictions/probabilities/{name}.npz")["probabilities"] for name in ("large", "mirrored=1")]
    assert np.abs(both[0].astype(float) - both[1][..., ::-1]).max() < 2e-3


def test_colours_overlays_and_probabilities(run_dir, photos):
    options = ("--color", "--overlay", "--probabilities", "--out", "out")
    assert command("predict", run_dir, photos / "large.png", "--trust", *options) == 0
    classes = mask("out/masks/large.png")
    assert (mask("out/color/large.png") == np.array(COLORS, np.uint8)[classes]).all()
    assert Image.open("out/overlay/large.jpg").size == (40, 48)
    with np.load("out/probabilities/large.npz") as stored:
        probabilities, names = stored["probabilities"], stored["classes"].tolist()
    assert names == ["dark", "bright"]
    assert (probabilities.dtype, probabilities.shape) == (np.float16, (2, 48, 40))
    assert np.abs(probabilities.astype(np.float32).sum(0) - 1).max() < 2e-3
    clear = np.abs(probabilities[0].astype(np.float32) - 0.5) > 1e-3
    assert (probabilities.argmax(0) == classes)[clear].all()


def test_bad_images_are_skipped_and_listed_at_the_end(run_dir, photos, capsys):
    (photos / "empty.jpg").touch()
    (photos / "cut.png").write_bytes((photos / "large.png").read_bytes()[:200])
    Image.fromarray(np.zeros((4, 4, 4), np.uint8)).save(photos / "clear.png")
    assert command("predict", run_dir, photos, "--trust") == 3
    out, err = capsys.readouterr()
    assert out.endswith("4 of 7 images predicted: predictions/masks\n")
    lines = sorted(err.splitlines())
    assert [line.partition(":")[0] for line in lines] == [
        f"{photos / n}" for n in ("clear.png", "cut.png", "empty.jpg")
    ]
    assert sorted(path.name for path in photos.parent.glob("predictions/masks/*")) == [
        "large.png", "same.png", "turned.png", "upright.png",
    ]  # fmt: skip


def test_a_recipe_stands_for_its_finished_run(trained, run_dir, photos, capsys):
    (photos / "a=b.png").write_bytes((photos / "same.png").read_bytes())
    call = ("predict", trained / "alone.yaml", photos / "a=b.png", "--runs", trained / "runs")
    assert command(*call) == 2  # not trusted
    capsys.readouterr()
    assert command(*call, "--trust") == 0
    assert capsys.readouterr().out.startswith(f"{run_dir}: ")
    assert command("predict", trained / "alone.yaml", photos, "--trust", "--out", "other") == 2
    folder = f"runs/{run_dir.parent.name}"
    assert capsys.readouterr().err == (
        f"{trained / 'alone.yaml'}: no finished run in {folder}; kd run {trained / 'alone.yaml'} --trust trains it\n"
    )


def test_a_run_without_images_is_one_line(run_dir, photos, capsys):
    assert command("predict", run_dir, "--trust", "device=cpu") == 2
    assert capsys.readouterr().err == "no images: name files, folders or patterns after the run\n"


def test_nothing_is_replaced_unless_asked_for(run_dir, photos, capsys):
    (photos.parent / "masks").mkdir()
    shutil.copy(photos / "same.png", "masks/same.png")  # a dataset's labels
    before = (photos.parent / "masks/same.png").read_bytes()
    assert command("predict", run_dir, photos, "--trust", "--out", ".") == 2
    assert capsys.readouterr().err == (
        "masks/same.png: already there; choose another --out, or replace them with --overwrite\n"
    )
    assert (photos.parent / "masks/same.png").read_bytes() == before
    assert len(list(photos.parent.glob("masks/*"))) == 1
    assert command("predict", run_dir, photos, "--trust", "--out", ".", "--overwrite") == 0
    assert (photos.parent / "masks/same.png").read_bytes() != before


def test_damaged_weights_are_refused_before_anything_is_written(run_dir, photos, capsys):
    copy = photos.parent / "runs" / run_dir.parent.name / "seed0"
    shutil.copytree(run_dir, copy)
    data = bytearray((copy / "student.safetensors").read_bytes())
    data[-3] ^= 1
    (copy / "student.safetensors").write_bytes(data)
    assert command("predict", copy, photos, "--trust") == 5
    assert capsys.readouterr().err.startswith(f"{copy / 'student.safetensors'}: changed after the run wrote it")
    assert not (photos.parent / "predictions").exists()


def test_a_full_disk_is_one_line(run_dir, photos, capsys):
    with small_disk(photos.parent / "small", 64) as disk:
        fill(disk)
        assert command("predict", run_dir, photos, "--trust", "--out", "small/out") == 6
    assert "free space, or choose another --out" in capsys.readouterr().err


def test_standard_output_on_a_full_disk_leaves_no_image_out(run_dir, photos, monkeypatch):
    with open("/dev/full", "w") as full:
        monkeypatch.setattr("sys.stdout", full)
        assert command("predict", run_dir, photos, "--out", "out", "--trust") == 0
    assert list((photos.parent / "out/masks").iterdir())


def test_from_python_predictions_come_one_by_one(run_dir, photos):
    predictions = kd.predict(run_dir, [photos / "large.png", photos / "turned.png"], trust=True, probabilities=True)
    large = next(predictions)
    assert (large.name, large.image.shape, large.classes.shape) == ("large", (48, 40, 3), (48, 40))
    assert large.probabilities.shape == (2, 48, 40)
    assert [prediction.name for prediction in predictions] == ["turned"]
    (photos / "empty.png").touch()
    with pytest.raises(kd.errors.DataError, match=r"empty\.png"):
        list(kd.predict(run_dir, photos, trust=True))
    with pytest.raises(kd.errors.DataError, match="nowhere: no such file or folder"):
        kd.predict(run_dir, "nowhere", trust=True)  # at once, not at the first prediction


def test_a_run_of_an_old_version_gets_colours_of_its_own(run_dir, photos):
    copy = photos.parent / "old" / run_dir.parent.name / "seed0"
    shutil.copytree(run_dir, copy)
    text = (copy / "environment.json").read_text()
    (copy / "environment.json").write_text(text.replace('"colors"', '"not_recorded"'))
    list_anew(copy)
    assert command("predict", copy, photos, "--trust") == 0
    palette = Image.open("predictions/masks/same.png").getpalette()
    assert palette[:3] != palette[3:6]


def test_a_network_of_five_channels_predicts_arrays_as_it_was_trained(folder, capsys):
    write_recipes(folder)
    for name in ("images", "masks", "new"):
        (folder / name).mkdir()
    random = np.random.default_rng(0)
    for index in range(6):
        labels = random.integers(0, 2, (4, 4)).repeat(8, 0).repeat(8, 1)
        np.save(
            f"images/{index}.npy", (3000 * labels[..., None] + random.integers(0, 900, (32, 32, 5))).astype(np.uint16)
        )
        Image.fromarray(labels.astype(np.uint8)).save(f"masks/{index}.png")
    shutil.copy("images/0.npy", "new/a.npy")
    args = "{root: ., classes: [dark, bright], val: 34%, channels: 5, ranges: [0, 3900]}"
    (run_dir,), _ = run(
        read(folder / "teacher.yaml", f"data={{use: kd.data.Folders, args: {args}, size: [32, 32], workers: 0}}"),
        folder / "runs",
    )
    assert command("predict", run_dir, "new", "--trust") == 0
    assert mask("predictions/masks/a.png").shape == (32, 32)
    assert command("label", run_dir, "new", "--trust", "--out", "labelled") == 0
    assert sorted(path.name for path in (folder / "labelled/images").iterdir()) == ["a.npy"]
    assert "channels: 5, ranges: [[0.0, 3900.0]," in capsys.readouterr().out.splitlines()[-1]


def test_tiles_predict_an_image_at_its_own_size(run_dir, photos, capsys):
    random = np.random.default_rng(1).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    Image.fromarray(random).resize((128, 96), Image.Resampling.BICUBIC).save(photos / "scene.png")
    call = ("predict", run_dir, photos / "scene.png", photos / "same.png", "--trust", "--tiles", 60, 64)
    assert command(*call, "--color", "--overlay", "--probabilities") == 0
    whole = TF.pil_to_tensor(Image.open(photos / "scene.png"))[None] / 255
    with torch.no_grad():
        logits = kd.load_student(run_dir, trust=True)(whole).logits
    expected = torch.nn.functional.interpolate(logits, (96, 128), mode="bilinear").argmax(1)[0].numpy()
    found = mask("predictions/masks/scene.png")
    assert (found != expected).mean() < 0.005
    assert (mask("predictions/color/scene.png") == np.array(COLORS, np.uint8)[found]).all()
    with np.load("predictions/probabilities/scene.npz") as stored:
        assert stored["probabilities"].shape == (2, 96, 128)
    lines = capsys.readouterr().out.splitlines()
    share = 100 * (found != expected).mean()
    assert lines[1] == (
        f"tiles of 64×64: {share:.2f} % of the pixels differ from those of one pass, on 128×96 pixels of scene"
    )
    (same,) = kd.predict(run_dir, photos / "scene.png", trust=True, tiles=(64, 64))
    assert (same.classes == found).all()


def test_tiles_that_are_too_small_are_refused(run_dir, photos, capsys):
    assert command("predict", run_dir, photos, "--trust", "--tiles", 16, 64) == 2
    assert capsys.readouterr().err == "--tiles 16 64: at least 32 pixels each\n"
    assert not (photos.parent / "predictions").exists()


def test_tiles_take_images_of_more_pixels(run_dir, photos, capsys, monkeypatch):
    monkeypatch.setattr("kd.data.images.decode.MAX_PIXELS", 1500)
    monkeypatch.setattr("kd.deploy.prediction.predict.LARGEST", 3000)
    assert command("predict", run_dir, photos / "large.png", "--trust") == 3
    assert "40×48 pixels; the limit is 1500 in total" in capsys.readouterr().err
    assert command("predict", run_dir, photos / "large.png", "--trust", "--tiles", 32, 32) == 0
    monkeypatch.setattr("kd.deploy.prediction.predict.LARGEST", 1600)
    assert command("predict", run_dir, photos / "large.png", "--trust", "--tiles", 32, 32, "--out", "other") == 3
    line = "40×48 pixels; the limit is 1600 in total; cut it with kd tiles, and predict the tiles"
    assert line in capsys.readouterr().err


def test_several_runs_predict_by_the_mean_of_their_probabilities(trained, run_dir, photos, capsys):
    others = [run(read(trained / "alone.yaml", f"train.seeds=[{seed}]"), trained / "runs")[0][0] for seed in (1, 2)]
    call = ("predict", run_dir, photos / "same.png", "--trust", "--with", others[0], "--with", others[1])
    assert command(*call, "--probabilities") == 0
    with np.load("predictions/probabilities/same.npz") as stored:
        together = stored["probabilities"].astype(np.float32)
    image = TF.pil_to_tensor(Image.open(photos / "same.png"))[None] / 255
    with torch.no_grad():
        each = [kd.load_student(path, trust=True)(image).logits.softmax(1) for path in (run_dir, *others)]
    logits = torch.stack(each).mean(0).log()  # at stride 4, and resized before the softmax
    expected = torch.nn.functional.interpolate(logits, (32, 32), mode="bilinear").softmax(1)[0].numpy()
    assert np.abs(together - expected).max() < 2e-3
    assert len(capsys.readouterr().out.splitlines()) == 4  # a line for each run, and the last one
    (prediction,) = kd.predict([run_dir, *others], photos / "same.png", trust=True)
    assert (prediction.classes == mask("predictions/masks/same.png")).all()
