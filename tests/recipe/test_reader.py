"""A whole recipe: its fields, resolved form, id, teacher and baseline, and 10,000 mutants."""

import gc
import hashlib
import json
import os
import random
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from recipe_text import ALONE, TEXT, WITH_TEACHER, mistakes, read

from kd.errors import RecipeError
from kd.recipe import baseline_of, imports, read_recipe, to_yaml
from kd.recipe.schema import TrainConfig, Use


def test_every_key_reaches_its_field(folder: Path) -> None:
    recipe = read(TEXT)
    assert recipe.teacher is not None
    assert recipe.teacher.network == Use(use="teachers.FCNResNet50", args={"backbone": "resnet18"})
    assert (recipe.teacher.weights, recipe.teacher.recipe, recipe.teacher.run) == ("w.pt", None, None)
    assert recipe.student.network == Use(use="students.MobileNetV3SmallASPP")
    assert recipe.data.dataset.args == {"root": "data/camvid", "values": {0: "sky", 255: "void"}}
    assert (recipe.data.size, recipe.data.crop, recipe.data.workers) == ((360, 480), (360, 360), 1)
    assert [use.use for use in recipe.data.augment] == ["kd.data.RandomScale", "kd.data.RandomFlip"]
    assert recipe.supervised.loss.use == "kd.losses.CrossEntropy"
    assert recipe.supervised.aux_weight == 0.3
    assert list(recipe.distill) == ["kl", "cwd"]
    assert recipe.distill["kl"].weight == 1.0
    assert recipe.distill["kl"].at is None
    cwd = recipe.distill["cwd"]
    assert cwd.loss.args == {"loss": Use(use="kd.losses.CWD"), "more": [1, Use(use="kd.losses.AT")]}
    assert cwd.at is not None
    assert (cwd.at.student, cwd.at.teacher) == (("low", "high"), ("layer1", "layer4"))
    assert cwd.adapter == Use(use="kd.adapters.Conv1x1")
    assert isinstance(cwd.weight, Use)
    assert cwd.weight.args == {"start": 0.0, "end": 3.0, "over": "10%"}
    assert (cwd.resize, cwd.pixels) == ("teacher", "all")
    assert recipe.optimizer.factory.args == {"lr": 0.01, "momentum": 0.9, "weight_decay": 0.0001}
    assert recipe.schedule.args == {"power": 0.8, "warmup": "5%"}
    assert recipe.train == TrainConfig(
        epochs=100,
        batch_size=16,
        accumulate=2,
        seeds=(0, 1),
        clip_norm=1.0,
        precision="bf16",
        memory_format="channels_last",
        evaluate_every="5%",
        save_every=200,
        select="best",
        reestimate_batchnorm=10,
    )
    assert (recipe.log.every, recipe.log.panels, recipe.log.tensorboard, recipe.device) == (5, 0, False, "cpu")
    assert (recipe.file, recipe.folder, recipe.stem, recipe.trust) == (Path("r.yaml"), Path(), "r", False)


def test_imports_lists_without_importing(folder: Path) -> None:
    Path("sub").mkdir()
    Path("sub/t.yaml").write_text(ALONE.replace("students.MobileNetV3SmallASPP", "bad.py:Net"))
    Path("sub/bad.py").write_text("raise SystemExit('imported')")
    Path("r.yaml").write_text(
        ALONE + "teacher: {recipe: sub/t.yaml}\ndistill: {a: {loss: {use: nowhere.Loss}}, b: {loss: {use: l.py:B}}}\n"
    )
    assert imports("r.yaml") == [
        "students.MobileNetV3SmallASPP",
        "kd.data.Shapes",
        "kd.losses.CrossEntropy",
        "nowhere.Loss",
        "l.py:B",
        "torch.optim.SGD",
        "kd.schedules.poly",
        "sub/bad.py:Net",
    ]


def _mutate(text: str, rng: random.Random) -> str:
    """The text with one to three edits of the kinds that hands and editors make, and some that only malice makes."""
    for _ in range(rng.randint(1, 3)):
        if not re.search(r"\w", text):
            return text  # an earlier edit left nothing to edit
        lines = text.split("\n")
        at, row = rng.randrange(len(text) + 1), rng.randrange(len(lines))
        kind = rng.randrange(9)
        if kind == 0:
            text = text[:at] + text[at + rng.randint(1, 4) :]
        elif kind == 1:
            text = text[:at] + rng.choice("{}[]:,&*!|>%@`'\"#-? \t\n~é\u2028\0\x1b0aZ.=") + text[at:]
        elif kind == 2:
            del lines[row]
            text = "\n".join(lines)
        elif kind == 3:
            lines.insert(rng.randrange(len(lines)), lines[row])
            text = "\n".join(lines)
        elif kind == 4:
            lines[row] = " " * rng.randrange(6) + lines[row].lstrip()
            text = "\n".join(lines)
        elif kind == 5:
            words = list(re.finditer(r"[\w.%]+", text))
            word = rng.choice(words)
            new = rng.choice(["null", "true", "-1", "0", "1e400", ".nan", "x", "[]", "{}", "''", "9" * 20,
                              "{use: os.system}", "[1, 2]", "3.5", "50%", "<<", "{a: {b: 1}}", "0x10"])  # fmt: skip
            text = text[: word.start()] + new + text[word.end() :]
        elif kind == 6:
            words = [w.group() for w in re.finditer(r"\w+", text)]
            text = text.replace(rng.choice(words), rng.choice(words), 1)
        elif kind == 7:
            half = rng.randrange(len(text))
            text = text[:half] if rng.random() < 0.2 else text[:half] + text[half : half + 40] * 3 + text[half:]
        else:
            text = text.replace(rng.choice(":,{}[]"), rng.choice(":,{}[] "), rng.randint(1, 3))
    return text


def _check_mutants(count: int, seed: int) -> None:
    rng = random.Random(seed)
    file = Path("m.yaml")
    valid, worst = 0, 0.0
    read(TEXT)  # whatever is only slow once
    gc.freeze()  # the garbage collector ignores the objects of other tests while a recipe is timed
    for number in range(count):
        text = _mutate(rng.choice((TEXT, TEXT, ALONE)), rng)
        file.write_bytes(text.encode(errors="surrogatepass"))
        start = time.process_time()
        try:
            recipe = read_recipe(file)
        except RecipeError as error:
            lines = error.mistakes
        else:
            valid, lines = valid + 1, [f"m.yaml: {recipe.id}"]
        worst = max(worst, time.process_time() - start)
        assert lines, number
        for line in lines:
            assert line.isprintable(), (number, line)
            assert re.match(r"m\.yaml(:\d+:\d+)?: |…", line), (number, line)
    gc.unfreeze()
    assert 0 < valid < count / 2  # the mutations are neither harmless nor all fatal
    assert worst < 0.3, f"{worst:.3f} s"  # 0.1 s is the goal; three times that for a loaded machine


def test_1000_mutants(folder: Path) -> None:
    _check_mutants(1_000, seed=1)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_10000_mutants(folder: Path) -> None:
    _check_mutants(10_000, seed=2)


def test_the_resolved_recipe_reads_back_equal_from_another_folder(folder: Path) -> None:
    Path("mine.py").write_text("class Loss: pass")
    Path("t.yaml").write_text(ALONE)
    text = TEXT.replace("{use: kd.losses.CWD}", "{use: mine.py:Loss}")
    text = text.replace("{use: teachers.FCNResNet50, args: {backbone: resnet18}, weights: w.pt}", "{recipe: t.yaml}")
    recipe = read(text, "device=cuda", trust=True)
    other = Path("runs/x/seed0")
    other.mkdir(parents=True)
    (other / "recipe.yaml").write_text(to_yaml(recipe))
    again = read_recipe(other / "recipe.yaml", trust=True)
    assert again == recipe
    assert again.id == recipe.id
    assert (
        again.resolved()
        == recipe.resolved()
        == yaml.safe_load(json.dumps(recipe.resolved()))
        | {
            "data": recipe.resolved()["data"]  # JSON has no integer keys
        }
    )
    assert again.resolved()["teacher"]["recipe"] == str(folder / "t.yaml")
    assert again.resolved()["log"] == {"every": 5, "panels": 0, "tensorboard": False, "gradients": 0}
    assert read(ALONE).resolved()["schedule"] == {"use": "kd.schedules.poly", "args": {"power": 0.9}}
    assert recipe != read(text, trust=True)


def test_what_changes_a_recipes_id_and_what_does_not(folder: Path) -> None:
    first = read(ALONE).id
    assert re.fullmatch("[0-9a-f]{8}", first)
    same = (
        ("train.seeds=[3, 4]",),
        ("data.workers=7",),
        ("data.args.root=elsewhere",),
        ("log.every=1",),
        ("device=cpu",),
        ("train.precision=auto", "train.accumulate=1", "supervised.args={}"),
        ("schedule={use: kd.schedules.poly, args: {power: 0.9}}",),
    )
    for overrides in same:
        assert read(ALONE, *overrides).id == first, overrides
    assert read("\n".join(reversed(ALONE.strip().split("\n"))), name="other.yaml").id == first
    different = ("train.steps=11", "optimizer.args.lr=0.02", "data.size=[64, 96]", "student.args.a=1",
             "train.select=best", "supervised.aux_weight=0.5", "data.args.n=3", "schedule.args.power=1.0",
             "student.weights=w.pt")  # fmt: skip
    ids = {first, *(read(ALONE, override).id for override in different)}
    assert len(ids) == len(different) + 1


def test_a_teacher_that_sees_more_pixels_has_other_runs_than_in_kd_0_4(folder: Path) -> None:
    text = WITH_TEACHER.replace("{recipe: sub/t.yaml}", "{use: teachers.FCNResNet50}")
    assert read(text).id == "e0f5a347"
    assert read(text, "teacher.scale=2.0").id != "06c167aa"
    assert read(text, "teacher.size=[128, 128]").id != "2414071e"
    assert read(text, "teacher.scale=2.0").id != read(text).id


ORDERED = ALONE.replace("Shapes, ", "Shapes, args: {classes: {sky: 0, road: 1}, n: 3}, ")


def test_the_order_of_a_mapping_in_args_is_meaning_and_that_of_keys_is_not(folder: Path) -> None:
    first = read(ORDERED).id
    assert read(ORDERED, "data.args.classes={sky: 0, road: 1}").id == first
    assert read(ORDERED.replace("{sky: 0, road: 1}", "{'sky': 0x0, \"road\": 1}")).id == first
    assert read(ORDERED.replace("classes: {sky: 0, road: 1}, n: 3", "n: 3, classes: {sky: 0, road: 1}")).id == first
    assert read(ORDERED, "data.args.classes={road: 1, sky: 0}").id != first
    assert (
        read(ORDERED, "data.args.classes={0: sky, 1: road}").id
        != read(ORDERED, "data.args.classes={'0': sky, '1': road}").id
    )
    terms = ["kl: {loss: {use: kd.losses.PixelKL}}", "cwd: {loss: {use: kd.losses.CWD}}"]
    taught = [
        f"{ALONE}teacher: {{use: teachers.FCNResNet50}}\ndistill: {{{', '.join(t)}}}\n" for t in (terms, terms[::-1])
    ]
    assert read(taught[0]).id == read(taught[1]).id
    weights = ["'a.': 'b.', 'b.': 'c.'", "'b.': 'c.', 'a.': 'b.'"]  # replaced one after the other
    ids = {read(ALONE, f"student.weights={{file: w.pt, rename: {{{rename}}}}}").id for rename in weights}
    assert len(ids) == 2


def test_files_count_by_their_content_wherever_they_are(folder: Path) -> None:
    Path("a").mkdir()
    Path("a/w.pt").write_bytes(b"weights")
    Path("a/classes.csv").write_text("sky\nroad\n")
    overrides = ("student.weights=a/w.pt", "data.args.classes=a/classes.csv")
    first = read(ALONE, *overrides).id
    Path("a").rename("b")
    moved = read(ALONE, "student.weights={file: b/w.pt}", "data.args.classes=b/classes.csv")
    assert read(ALONE, "student.weights=b/w.pt", "data.args.classes=b/classes.csv").id == first
    assert moved.sources.files.keys() == {"b/w.pt", "b/classes.csv"}
    assert read(ALONE, *overrides).id != first  # they are gone
    for file in ("b/w.pt", "b/classes.csv"):
        before = Path(file).read_bytes()
        Path(file).write_bytes(before + b"\n")
        assert read(ALONE, "student.weights=b/w.pt", "data.args.classes=b/classes.csv").id != first
        Path(file).write_bytes(before)
    Path("run").mkdir()
    Path("run/student.safetensors").write_bytes(b"weights")
    assert read(ALONE, "student.weights=run", "data.args.classes=b/classes.csv").id == first


def test_what_is_no_regular_file_is_a_plain_text(folder: Path) -> None:
    os.mkfifo("pipe.csv")
    Path("folder.csv").mkdir()
    Path("plain").write_text("a file without a suffix")
    for text in ("pipe.csv", "folder.csv", "none.csv", "/dev/zero", "a\\0.csv"):
        assert read(ALONE, f"data.args.classes='{text}'").sources.files == {}
    assert read(ALONE, "data.args.other=plain").sources.files == {}


def test_a_class_map_counts_without_a_suffix_too(folder: Path) -> None:
    Path("labelmap").write_text("sky 0 0 0\nroad 1 1 1\n")
    recipe = read(ALONE, "data.args.classes=labelmap")
    assert recipe.sources.files.keys() == {"labelmap"}
    recipe.sources.check("labelmap")
    Path("labelmap").write_text("sky 1 1 1\nroad 0 0 0\n")
    assert read(ALONE, "data.args.classes=labelmap").id != recipe.id
    with pytest.raises(RecipeError, match=r"^labelmap: has changed"):
        recipe.sources.check("labelmap")


def test_an_edit_beside_a_file_is_another_recipe(folder: Path) -> None:
    text = ALONE.replace("kd.losses.CrossEntropy", "mine.py:Loss")
    Path("mine.py").write_text("def late():\n    from lib import part\n")
    Path("lib").mkdir()
    for file in ("lib/__init__.py", "lib/part.py", "unused.py"):
        Path(file).write_text("")
    first = read(text, trust=True)
    assert [*first.sources.code["mine.py"].modules] == ["mine.py", "lib/part.py", "lib/__init__.py"]
    Path("unused.py").write_text("edited = True")
    assert read(text, trust=True).id == first.id
    Path("lib/part.py").write_text("edited = True")
    assert read(text, trust=True).id != first.id


def test_the_id_is_the_hash_of_the_recipe_without_defaults(folder: Path) -> None:
    chosen = {
        "student": {"use": "students.MobileNetV3SmallASPP"},
        "data": {"use": "kd.data.Shapes", "size": [64, 64]},
        "supervised": {"use": "kd.losses.CrossEntropy"},
        "optimizer": {"use": "torch.optim.SGD", "args": {"lr": 0.01}},
        "train": {"steps": 10, "batch_size": 4},
    }
    assert read(ALONE).id == hashlib.sha256(json.dumps(chosen, sort_keys=True).encode()).hexdigest()[:8]


def test_an_edited_file_is_another_recipe(folder: Path) -> None:
    text = ALONE.replace("kd.losses.CrossEntropy", "mine.py:Loss")
    Path("mine.py").write_text("Loss = 1")
    recipe = read(text, trust=True)
    first = recipe.id
    Path("mine.py").write_text("Loss = 2")
    assert read(text, trust=True).id != first
    assert recipe.id == first  # a recipe that has been read stays what it was
    Path("mine.py").write_text("Loss = 1")
    assert read(text, trust=True).id == first


def test_a_teachers_recipe_gets_the_machine_settings_and_nothing_else(folder: Path) -> None:
    Path("sub").mkdir()
    teacher = ALONE.replace("Shapes, ", "Shapes, args: {root: there, n: 5}, ").replace(
        "steps: 10", "steps: 20, seeds: [3]"
    )
    Path("sub/t.yaml").write_text(teacher)
    recipe = read(
        WITH_TEACHER, "data.args.root=here", "data.workers=0", "device=cpu", "log.every=3", "train.steps=5", trust=True
    )
    taught_by = recipe.teacher_recipe
    assert taught_by is not None
    assert (taught_by.file, taught_by.trust) == (Path("sub/t.yaml"), True)
    assert taught_by.data.args == {"root": "here", "n": 5}
    assert (taught_by.data.workers, taught_by.device, taught_by.log.every) == (0, "cpu", 3)
    assert (taught_by.train.steps, taught_by.train.seeds) == (20, (3,))
    assert taught_by.id == read_recipe("sub/t.yaml").id
    other = read(WITH_TEACHER.replace("kd.data.Shapes", "kd.data.CamVid"), "data.args.root=here").teacher_recipe
    assert other is not None
    assert other.data.args["root"] == "there"  # the root belongs to another dataset
    assert read(ALONE).teacher_recipe is None


def test_the_teachers_recipe_is_part_of_the_id(folder: Path) -> None:
    Path("sub").mkdir()
    Path("sub/t.yaml").write_text(ALONE)
    recipe = read(WITH_TEACHER)
    first = recipe.id
    Path("sub/t.yaml").write_text(ALONE.replace("steps: 10", "steps: 11"))
    assert read(WITH_TEACHER).id != first
    assert recipe.id == first  # a recipe that has been read stays what it was
    Path("sub/t.yaml").write_text(f"# the same\n{ALONE}device: cpu\n")
    assert read(WITH_TEACHER).id == first


def test_the_baseline_is_the_student_alone(folder: Path) -> None:
    Path("sub").mkdir()
    Path("sub/t.yaml").write_text(ALONE)
    recipe = read(WITH_TEACHER)
    baseline = baseline_of(recipe)
    assert (baseline.teacher, baseline.distill, baseline.stem, baseline.file) == (None, {}, "r", recipe.file)
    assert baseline.id == read(ALONE).id != recipe.id
    assert recipe.teacher is not None


def test_a_wrong_teachers_recipe(folder: Path) -> None:
    Path("sub").mkdir()
    assert mistakes(WITH_TEACHER) == ["r.yaml:6:11: teacher.recipe: no file sub/t.yaml"]
    long = f"{'a' * 300}.yaml"  # longer than any name
    assert mistakes(WITH_TEACHER.replace("sub/t.yaml", long)) == [f"r.yaml:6:11: teacher.recipe: no file {long}"]
    Path("sub/t.yaml").write_text(ALONE.replace("kd.losses.CrossEntropy", "mine.py:Loss"))
    assert mistakes(WITH_TEACHER) == [
        "sub/t.yaml:3:14: supervised.use: 'mine.py:Loss' would be imported, but is not part of kd; "
        "if you trust this recipe: kd run r.yaml --trust"
    ]
    Path("sub/t.yaml").write_text(WITH_TEACHER.replace("sub/t.yaml", "../r.yaml"))
    assert mistakes(WITH_TEACHER) == [
        "sub/t.yaml:6:11: teacher.recipe: sub/../r.yaml refers back to itself; "
        "a teacher cannot depend on its own student"
    ]


def test_reading_a_recipe_does_not_import_torch(folder: Path) -> None:
    Path("r.yaml").write_text(TEXT)
    code = "import sys, kd, kd.recipe; kd.recipe.read_recipe('r.yaml').id; print('torch' in sys.modules)"
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(root)!r}); {code}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "False"
