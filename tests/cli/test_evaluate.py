"""`kd evaluate`: any split, other data, other ways to score; nothing is added to a run."""

import csv
import hashlib
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from command import kd
from farms import RECIPE, add, write_farm
from PIL import Image

import kd as face
from kd.errors import DataError, RecipeError, StorageError

TEST = ["--split", "test", "--trust", "--json"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A farm with three splits, and a run of its recipe."""
    folder = tmp_path_factory.mktemp("farm")
    write_farm(folder, 10)
    (folder / "r.yaml").write_text(RECIPE.replace("val: 40%", "val: 30%, test: 30%"))
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(folder)
        assert kd("run", "r.yaml", "--trust") == 0
    return folder


@pytest.fixture
def farm(trained, folder):
    """A copy of it as the current folder."""
    shutil.copytree(trained, folder, dirs_exist_ok=True)
    return folder


@pytest.fixture
def run_dir(farm):
    (found,) = Path("runs").glob("r-*/seed0")
    return found


def scores(capsys, *arguments):
    """The runs that `--json` prints."""
    capsys.readouterr()
    assert kd("evaluate", *arguments) == 0
    return json.loads(capsys.readouterr().out)["runs"]


def digests(folder):
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path: (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns) for path in files}


def mistakes(capsys, status, *arguments):
    """The lines of a call that fails with this status."""
    capsys.readouterr()
    assert kd("evaluate", *arguments, "--trust") == status
    return capsys.readouterr().err.splitlines()


def confusion_of(masks, labels):
    """Counted pixel by pixel; rows are labels."""
    matrix = np.zeros((3, 3), int)
    for mask, label in zip(masks, labels, strict=True):
        np.add.at(matrix, (label.ravel(), mask.ravel()), 1)
    return matrix


def test_val_has_the_score_of_the_run(run_dir, capsys):
    (run,) = scores(capsys, "r.yaml", "--trust", "--json")
    stored = json.loads((run_dir / "result.json").read_text())["splits"]["val"]
    assert (run["confusion"], run["images"]) == (stored["confusion"], stored["images"])
    assert (run["run"], run["seed"], run["trained_on"]) == (str(run_dir), 0, 0)


def test_the_test_split_its_masks_and_its_images(run_dir, capsys):
    """The masks, counted by hand against the files of the labels, give every number."""
    before = digests(run_dir)
    (run,) = scores(capsys, run_dir, *TEST, "--csv", "out/images.csv", "--predictions", "out/masks")
    assert digests(run_dir) == before
    with open("out/images.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    images = [Path(row["image"]) for row in rows]
    assert len(images) == run["images"] == 3
    masks = [Image.open(Path("out/masks", image.name)) for image in images]
    labels = [np.array(Image.open(Path("farm/masks", image.name))) for image in images]
    assert {mask.mode for mask in masks} == {"P"}
    colors = face.data.Folders("farm", "test", classes=["soil", "leaf", "stem"], val=0.3, test=0.3).colors
    assert masks[0].getpalette()[:9] == [value for color in colors for value in color]
    predicted = [np.array(mask) for mask in masks]
    matrix = confusion_of(predicted, labels)
    assert run["confusion"] == matrix.tolist()
    for row, mask, label in zip(rows, predicted, labels, strict=True):
        unions = {k: ((mask == k) | (label == k)).sum() for k in range(3)}
        iou = [((mask == k) & (label == k)).sum() / union for k, union in unions.items() if union]
        assert float(row["miou"]) == pytest.approx(np.mean(iou), abs=1e-6)
        assert float(row["pixel_accuracy"]) == pytest.approx((mask == label).mean(), abs=1e-6)


def test_the_tables(run_dir, capsys):
    assert kd("evaluate", "r.yaml", "--trust", "--split", "test", "--csv", "a.csv") == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0] == "Scores of the run on test, at the labels' own size"
    assert out[2].split() == ["run", "mIoU", "%", "pixel", "acc.", "%", "images"]
    assert out[3].split()[0] == f"{run_dir.parent.name}/seed0"
    assert [line.split()[0] for line in out[5:9]] == ["class", "soil", "leaf", "stem"]
    assert out[-1] == "images: a.csv"


def test_classes_are_matched_by_name(run_dir, capsys):
    """The same masks, whose numbers the data name in another order."""
    (run,) = scores(capsys, run_dir, *TEST)
    (mapped,) = scores(capsys, run_dir, *TEST, "data.args.classes={stem: 2, soil: 0, leaf: 1}")
    order = [2, 0, 1]
    assert mapped["confusion"] == np.array(run["confusion"])[np.ix_(order, order)].tolist()
    assert [each["name"] for each in mapped["classes"]] == ["stem", "soil", "leaf"]
    assert mapped["miou"] == pytest.approx(run["miou"])


@pytest.mark.parametrize(
    ("classes", "lacking"),
    [
        ("[soil, leaf, moss]", "the data do not have stem; the run does not have moss"),
        ("[soil, leaf, stem, moss]", "the run does not have moss"),
    ],
)
def test_other_classes_are_refused(run_dir, capsys, classes, lacking):
    (line,) = mistakes(capsys, 2, run_dir, f"data.args.classes={classes}")
    assert line == (
        f"{run_dir}: the run's classes are [soil, leaf, stem], those of the data {classes}: {lacking}; score it on "
        "data with its classes, under the same names (data.args.classes=…)"
    )


def test_images_of_other_channels_are_refused(run_dir, capsys):
    for file in Path("farm/images").iterdir():
        Image.open(file).convert("L").save(file)
    (line,) = mistakes(capsys, 2, run_dir, "data.args.channels=1")
    assert line == (
        f"{run_dir}: its network takes images of 3 channels, but the data have 1; score it on images of 3 channels"
    )


def test_other_data_at_the_sizes_of_their_files(run_dir, capsys):
    """Images of several sizes, which are also read in another way."""
    for number, size in ((70, (48, 40)), (71, (21, 64))):
        add(Path("new"), number)
        for folder in ("images", "masks"):
            file = Path("new", folder, f"{number}.png")
            Image.open(file).resize(size, Image.Resampling.NEAREST).save(file)
    other = ("data.args={root: new, classes: [soil, leaf, stem], lists: '{split}.txt'}",)
    Path("new/test.txt").write_text("70\n71\n")
    metric = "evaluate.metrics=[{use: kd.metrics.BoundaryIoU}]"
    (run,) = scores(capsys, run_dir, *TEST, *other, metric, "evaluate.flip=true", "--predictions", "masks")
    assert [np.array(Image.open(f"masks/{number}.png")).shape for number in (70, 71)] == [(40, 48), (64, 21)]
    assert np.sum(run["confusion"]) == 48 * 40 + 21 * 64
    assert list(run["metrics"]) == ["BoundaryIoU"]


def test_a_split_that_does_not_exist(run_dir, capsys):
    (line,) = mistakes(capsys, 3, run_dir, "--split", "test", "data.args.test=0%")
    assert line == (
        f"{run_dir}: the split test cannot be read: Folders: the split test is empty: its share of the 10 images in "
        "farm/images is 0; add images or raise the share"
    )
    listed = "data.args={root: farm, classes: [soil, leaf, stem], lists: '{split}.txt'}"
    (line,) = mistakes(capsys, 3, run_dir, "--split", "test", listed)
    assert line.startswith(f"{run_dir}: the split test cannot be read: ")
    assert "farm/test.txt" in line


@pytest.mark.filterwarnings("always")
def test_images_that_the_run_was_trained_on_are_a_warning(run_dir, capsys):
    """Of the 10 images, 4 trained the run, and another division puts 3 of them into the split."""
    divided = ("data.args.val=10%", "data.args.test=80%")
    (run,) = scores(capsys, run_dir, *TEST, *divided)
    assert (run["images"], run["trained_on"]) == (8, 3)
    (line,) = mistakes(capsys, 0, run_dir, "--split", "test", *divided)
    assert line.startswith(f"warning: {run_dir} was trained on 3 of the 8 test images (first ")
    assert line.endswith(".png), so this score is too high; score it on images that it has not seen")
    (run,) = scores(capsys, run_dir, "--trust", "--json", "--split", "train")
    assert (run["images"], run["trained_on"]) == (4, 0)


def test_no_labelled_pixel_is_no_score(run_dir, capsys):
    for file in Path("farm/masks").iterdir():
        Image.fromarray(np.full((32, 32), 255, np.uint8)).save(file)
    (line,) = mistakes(capsys, 3, run_dir, "--split", "test", "--predictions", "masks")
    assert line == f"{run_dir}: no pixel of the 3 test images is labelled, so there is no score; label some of them"
    assert len(list(Path("masks").iterdir())) == 3  # they need no label


def test_a_damaged_run_does_not_hide_the_others(run_dir, capsys):
    assert kd("run", "r.yaml", "--trust", "train.seeds=[1, 2]") == 0
    weights = run_dir.with_name("seed1") / "student.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    seeds = "train.seeds=[0, 1, 2, 3]"
    capsys.readouterr()
    assert kd("evaluate", "r.yaml", run_dir, seeds, *TEST, "--predictions", "masks") == 5
    out, err = capsys.readouterr()
    assert [run["seed"] for run in json.loads(out)["runs"]] == [0, 2]
    note, damaged = err.splitlines()
    folder = run_dir.parent.name
    assert note == f"{folder}: unfinished seeds: 3; kd run r.yaml '{seeds}' --trust finishes them"
    assert damaged.startswith(f"{weights}: changed after the run wrote it (SHA-256 ")
    assert sorted(path.name for path in Path("masks", folder).iterdir()) == ["seed0", "seed2"]
    assert kd("evaluate", run_dir.parent, "--trust") == 5
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()[3:5]] == ["1", "2"]
    (run_dir / "recipe.yaml").write_text("student: {use: other.py:Net}")
    assert kd("evaluate", run_dir.parent, "--trust") == 6
    out, err = capsys.readouterr()
    assert out.splitlines()[3].split()[0] == f"{folder}/seed2"
    assert err.startswith(f"{run_dir}/recipe.yaml: changed after the run wrote it")
    with pytest.raises(StorageError, match=r"recipe\.yaml: changed"):
        face.evaluate(run_dir, trust=True)


def test_an_override_names_the_run_that_was_trained_with_it(run_dir, capsys):
    """Else it changes how the recipe's own run is scored."""
    (scored,) = scores(capsys, "r.yaml", "--trust", "--json", "data.size=[64, 64]")
    assert scored["run"] == str(run_dir)
    assert kd("run", "r.yaml", "--trust", "data.size=[64, 64]") == 0
    (other,) = scores(capsys, "r.yaml", "--trust", "--json", "data.size=[64, 64]")
    assert other["run"] != str(run_dir)
    (line,) = mistakes(capsys, 2, "r.yaml", "train.steps=9", "evaluate.flip=true")
    assert line.endswith("; kd run r.yaml train.steps=9 --trust trains it")


def test_what_a_run_directory_does_not_take(run_dir, capsys):
    (line,) = mistakes(capsys, 2, run_dir, "optimizer.args.lr=9", "evaluate.flip=true")
    assert line == (
        f"<optimizer.args.lr=9>: {run_dir} is trained already; only data, evaluate, device, train.batch_size, "
        "train.precision, train.memory_format change how a run is scored"
    )
    (line,) = mistakes(capsys, 2, run_dir, "evaluate.flop=true")
    assert "did you mean 'flip'?" in line
    assert mistakes(capsys, 2, "runs") == ["runs: holds no finished run; kd list shows all runs"]


def test_a_device_that_this_machine_does_not_have(run_dir, capsys, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    (line,) = mistakes(capsys, 2, run_dir, "device=cuda")
    assert line == (
        f"{run_dir}/recipe.yaml: device: cuda, but torch sees no CUDA device; set device: cpu, or install a CUDA build "
        "of torch"
    )


def test_a_file_that_cannot_be_written_does_not_take_the_scores(run_dir, capsys):
    Path("a.csv").mkdir()
    capsys.readouterr()
    assert kd("evaluate", run_dir, "--trust", "--csv", "a.csv") == 6
    out, err = capsys.readouterr()
    assert f"{run_dir.parent.name}/seed0" in out
    assert err == "a.csv: cannot be written (Is a directory); choose another file with --csv FILE\n"


@pytest.mark.filterwarnings("always")
def test_a_run_of_an_old_version_is_marked(run_dir, capsys):
    (run_dir / "manifest.json").unlink()
    result = json.loads((run_dir / "result.json").read_text())
    (run_dir / "result.json").write_text(json.dumps(result | {"format": 1}))
    (line,) = mistakes(capsys, 0, run_dir)
    assert line == f"warning: {run_dir}: not verified, because kd 0.2 or older wrote no manifest.json"


def test_what_ends_the_command_does_not_take_the_scores_that_are_there(run_dir, capsys, monkeypatch):
    assert kd("run", "r.yaml", "--trust", "train.seeds=[1]") == 0
    capsys.readouterr()
    from kd.evaluation import command

    calls = iter((command.score_run, None))
    monkeypatch.setattr(command, "score_run", lambda *args, **options: (next(calls) or _interrupt)(*args, **options))
    assert kd("evaluate", run_dir.parent, "--trust", "--csv", "a.csv") == 130
    assert f"{run_dir.parent.name}/seed0" in capsys.readouterr().out
    assert len(Path("a.csv").read_text().splitlines()) == 4


def test_rows_are_written_though_nobody_reads_what_is_printed(run_dir, monkeypatch):
    def closed(*args):
        raise BrokenPipeError

    monkeypatch.setattr("kd.evaluation.command._print", closed)
    kd("evaluate", run_dir, "--trust", "--csv", "a.csv")
    assert len(Path("a.csv").read_text().splitlines()) == 4


def _interrupt(*args, **options):
    raise KeyboardInterrupt


@pytest.mark.parametrize("label", [0, 255])
def test_one_image(run_dir, capsys, label):
    """Of the first class alone; or without a label."""
    Path("farm/one.txt").write_text("3\n")
    Image.fromarray(np.full((32, 32), label, np.uint8)).save("farm/masks/3.png")
    one = ("data.args={root: farm, classes: [soil, leaf, stem], lists: one.txt}", "train.batch_size=64")
    if label == 255:
        assert "no pixel of the 1 val images" in mistakes(capsys, 3, run_dir, *one)[0]
    else:
        (run,) = scores(capsys, run_dir, "--trust", "--json", *one)
        assert (run["images"], np.sum(run["confusion"])) == (1, 32 * 32)


def test_code_of_a_stranger_is_not_imported(run_dir, capsys):
    assert kd("evaluate", run_dir) == 2
    assert "if you trust it, add --trust" in capsys.readouterr().err
    assert kd("evaluate", run_dir, "data.use=other.py:Data") == 2
    assert "other.py:Data" in capsys.readouterr().err


def test_nothing_is_written_into_a_run_directory(run_dir, capsys):
    path = run_dir / "new" / "x"
    for command, option, *others in (
        ("evaluate", "--csv"),
        ("evaluate", "--predictions"),
        ("predict", "--out", "farm/images"),
        ("label", "--out", "--min-confidence", "0.5", "farm/images"),
        ("export", "--out", "--to", "pt2"),
    ):
        capsys.readouterr()
        assert kd(command, "r.yaml", option, path, "--trust", *others) == 2
        assert capsys.readouterr().err == (
            f"{option} {path}: is in the run directory {run_dir.resolve()}, to which nothing is added; "
            "choose another place\n"
        )
        assert not path.parent.exists()
    before = digests(Path("farm"))
    (line,) = mistakes(capsys, 2, "r.yaml", "--predictions", "farm/masks")
    advice = "already there; choose another --predictions DIR, or replace them with --overwrite"
    assert re.fullmatch(rf"farm/masks/\d\.png and 2 more: {advice}", line)
    assert digests(Path("farm")) == before
    for _ in range(2):
        assert mistakes(capsys, 0, "r.yaml", "--predictions", "masks", "--overwrite") == []


def test_a_size_that_the_network_does_not_take(farm, capsys):
    text = Path("nets.py").read_text()
    refusal = "        if images.shape[2] % 32:\n            raise RuntimeError('odd size')\n"
    Path("nets.py").write_text(text.replace("        low = torch", f"{refusal}        low = torch"))
    assert kd("run", "r.yaml", "--trust") == 0
    (line,) = mistakes(capsys, 2, "r.yaml", "evaluate.size=[40, 64]")
    assert "the student nets.py:Net fails on 1 image of size [40, 64] in evaluation: RuntimeError: odd size" in line
    assert line.endswith("; set evaluate.size: [32, 64], which it takes")
    assert mistakes(capsys, 0, "r.yaml", "evaluate.size=[32, 64]") == []


def test_from_python(run_dir, capsys):
    (run,) = scores(capsys, run_dir, *TEST, "evaluate.flip=true")
    split = face.evaluate(run_dir, "test", ["evaluate.flip=true"], trust=True)
    assert split.confusion.tolist() == run["confusion"]
    assert face.evaluate(run_dir.parent, trust=True).images == 3
    with pytest.raises(RecipeError, match="is trained already"):
        face.evaluate(run_dir, overrides=["train.steps=2"], trust=True)
    with pytest.raises(DataError, match="the split test cannot be read"):
        face.evaluate(run_dir, "test", ["data.args.test=0%"], trust=True)
    assert kd("run", "r.yaml", "--trust", "train.seeds=[1]") == 0
    with pytest.raises(RecipeError, match=r"holds 2 runs; name one, such as runs/r-.*/seed0"):
        face.evaluate(run_dir.parent, trust=True)
