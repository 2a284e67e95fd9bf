"""Random recipes, folders and edits: whether a run is the same is stated with each edit, and kd must agree."""

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml
from farms import CLASSES, add, correct, picture

from kd.components import Maker
from kd.recipe import read_recipe
from kd.train.provenance.inputs import compare, find
from kd.train.provenance.record import Record

SAME, OTHER_INPUTS, ANOTHER_RUN = range(3)


class World:
    """A recipe with all kinds of files that it can name, in the current folder."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.root = "farm"
        self.numbers = sorted(rng.sample(range(30), rng.randint(5, 8)))
        add(Path("farm"), *self.numbers)
        half = len(self.numbers) // 2
        for split, numbers in (("train", self.numbers[:half]), ("val", self.numbers[half:])):
            Path("farm", f"{split}.txt").write_text("".join(f"{number}\n" for number in numbers))
        Path("classes.yaml").write_text(yaml.safe_dump(list(CLASSES)))
        Path("w.pt").write_bytes(rng.randbytes(64))
        Path("mine.py").write_text("import beside\nfrom lib import part\n\nclass Loss:\n    pass\n")
        Path("lib").mkdir()
        for file in ("beside.py", "lib/__init__.py", "lib/part.py", "unused.py"):
            Path(file).write_text("value = 1\n")
        form = rng.choice(["list", "mapping", "file"])
        classes = {"list": [*CLASSES], "mapping": {name: i for i, name in enumerate(CLASSES)}, "file": "classes.yaml"}
        split = rng.choice([{"val": "40%"}, {"lists": "{split}.txt"}])
        self.recipe = {
            "student": {"use": "students.MobileNetV3SmallASPPLite", "weights": "w.pt"},
            "data": {"use": "kd.data.Folders", "args": {"root": "farm", "classes": classes[form], **split}},
            "supervised": {"use": rng.choice(["kd.losses.CrossEntropy", "mine.py:Loss"])},
            "optimizer": {"use": "torch.optim.SGD", "args": {"lr": 0.1, "momentum": 0.9}},
            "train": {"steps": rng.randint(2, 9), "batch_size": 2},
        }
        self.recipe["data"]["size"] = [32, 32]
        if rng.random() < 0.5:
            Path("t.yaml").write_text(yaml.safe_dump(self.recipe | {"train": {"steps": 3, "batch_size": 2}}))
            self.recipe["teacher"] = {"recipe": "t.yaml"}
            self.recipe["distill"] = {name: {"loss": {"use": "kd.losses.PixelKL"}} for name in ("a", "b")}
        self.overrides: list[str] = []

    @property
    def args(self) -> dict:
        return self.recipe["data"]["args"]

    def read(self):
        text = yaml.safe_dump(self.recipe, sort_keys=False, default_flow_style=self.rng.choice([True, False, None]))
        Path("r.yaml").write_text(text)
        return read_recipe("r.yaml", self.overrides, trust=True)

    def one(self, folder: str) -> Path:
        return self.rng.choice(sorted(Path(self.root, folder).iterdir()))


class Edit(NamedTuple):
    """A change, what it makes of the run, and whether it can be made to a world."""

    make: Callable[[World], object]
    effect: int
    applies: Callable[[World], bool] = lambda world: True


def shuffled(section: dict, rng: random.Random) -> None:
    items = [*section.items()]
    rng.shuffle(items)
    section.clear()
    section.update(items)


def turn_classes(world: World) -> None:
    classes = world.args["classes"]
    world.args["classes"] = classes[::-1] if isinstance(classes, list) else dict(reversed(classes.items()))


def add_image(world: World) -> None:
    add(Path(world.root), 40)
    if "lists" in world.args:
        with Path(world.root, "train.txt").open("a") as file:
            file.write("40\n")


def remove_image(world: World) -> None:
    number = world.numbers[0]
    for folder in ("images", "masks"):
        Path(world.root, folder, f"{number}.png").unlink()
    for split in ("train", "val"):
        file = Path(world.root, f"{split}.txt")
        file.write_text("".join(line for line in file.read_text().splitlines(True) if int(line) != number))


def reverse_list(world: World) -> None:
    file = Path(world.root, "train.txt")
    file.write_text("".join(file.read_text().splitlines(True)[::-1]))


def move_data(world: World) -> None:
    shutil.copytree(world.root, "moved")
    shutil.rmtree(world.root)
    world.root = "moved"
    world.overrides.append("data.args.root=moved")


def move_weights(world: World) -> None:
    Path("w.pt").rename("v.pt")
    world.recipe["student"]["weights"] = {"file": "v.pt"}


def move_classes(world: World) -> None:
    Path("classes.yaml").rename("names.yaml")
    world.args["classes"] = "names.yaml"


def longer_teacher(world: World) -> None:
    Path("t.yaml").write_text(Path("t.yaml").read_text().replace("steps: 3", "steps: 4"))


def has_own_loss(world: World) -> bool:
    return ":" in world.recipe["supervised"]["use"]


def touch(path: str) -> Callable[[World], None]:
    return lambda world: [os.utime(file, (9, 9)) for file in Path(world.root).rglob(path)] and None


def append(file: str, text: str = "# edited\n") -> Callable[[World], object]:
    return lambda world: Path(file).write_bytes(Path(file).read_bytes() + text.encode())


def is_file(world: World) -> bool:
    return isinstance(world.args["classes"], str)


EDITS = {
    "the order of sections": Edit(lambda w: shuffled(w.recipe, w.rng), SAME),
    "the order of arguments": Edit(lambda w: shuffled(w.args, w.rng), SAME),
    "the order of terms": Edit(lambda w: shuffled(w.recipe["distill"], w.rng), SAME, lambda w: "distill" in w.recipe),
    "a default": Edit(lambda w: w.recipe["train"].update(accumulate=1, select="last"), SAME),
    "machine settings": Edit(lambda w: w.recipe.update(device="cpu", log={"every": 3}), SAME),
    "seeds": Edit(lambda w: w.overrides.append("train.seeds=[3, 4]"), SAME),
    "workers": Edit(lambda w: w.recipe["data"].update(workers=7), SAME),
    "an override of what is there": Edit(lambda w: w.overrides.append("optimizer.args.lr=1e-1"), SAME),
    "a momentum": Edit(lambda w: w.recipe["optimizer"]["args"].update(momentum=0.8), ANOTHER_RUN),
    "a size": Edit(lambda w: w.overrides.append("data.size=[32, 64]"), ANOTHER_RUN),
    "the order of classes": Edit(turn_classes, ANOTHER_RUN, lambda w: not is_file(w)),
    "a class map": Edit(append("classes.yaml", "- sky\n"), ANOTHER_RUN, is_file),
    "the place of a class map": Edit(move_classes, SAME, lambda w: is_file(w) and "teacher" not in w.recipe),
    "weights": Edit(lambda w: Path(w.recipe["student"]["weights"]).write_bytes(b"x"), ANOTHER_RUN,
                    lambda w: isinstance(w.recipe["student"]["weights"], str)),
    "the place of weights": Edit(move_weights, SAME, lambda w: "teacher" not in w.recipe),
    "the code of a loss": Edit(append("mine.py"), ANOTHER_RUN, has_own_loss),
    "code beside it": Edit(append("lib/part.py"), ANOTHER_RUN, has_own_loss),
    "code that it does not import": Edit(append("unused.py"), SAME),
    "the teacher's recipe": Edit(longer_teacher, ANOTHER_RUN, lambda w: "teacher" in w.recipe),
    "a comment for the teacher": Edit(append("t.yaml"), SAME, lambda w: "teacher" in w.recipe),
    "the place of the data": Edit(move_data, SAME),
    "the times of masks": Edit(touch("masks/*"), SAME),
    "the times of images": Edit(touch("images/*"), SAME),
    "a file beside the data": Edit(lambda w: Path(w.root, "readme.md").write_text("hello"), SAME),
    "a label": Edit(lambda w: correct(w.one("masks")), OTHER_INPUTS),
    "an image": Edit(lambda w: picture(50)[0].save(w.one("images")), OTHER_INPUTS),
    "an added image": Edit(add_image, OTHER_INPUTS),
    "a removed image": Edit(remove_image, OTHER_INPUTS),
    "the order of a list": Edit(reverse_list, OTHER_INPUTS, lambda w: "lists" in w.args),
}  # fmt: skip


def inputs_of(recipe):
    maker = Maker(recipe)
    return find(recipe, maker.dataset("train"), maker.dataset("val"), None)


@pytest.mark.parametrize(
    "trials",
    [pytest.param(20, id="20"), pytest.param(1000, id="1000", marks=[pytest.mark.slow, pytest.mark.timeout(1800)])],
)
def test_kd_agrees_with_the_rules(tmp_path, monkeypatch, trials):
    for seed in range(trials):
        rng = random.Random(seed)
        folder = tmp_path / str(seed)
        folder.mkdir()
        monkeypatch.chdir(folder)
        world = World(rng)
        before = world.read()
        found = inputs_of(before)
        record = Record(Path("run"), found.recorded(None), found, seed=0)
        record.write()
        record.save(10**6)  # all images have been read
        names = rng.sample([name for name, edit in EDITS.items() if edit.applies(world)], rng.randint(1, 3))
        chosen = [name for name in EDITS if name in names]  # files are moved before they are edited
        for name in chosen:
            EDITS[name].make(world)
        expected = max(EDITS[name].effect for name in chosen)
        after = world.read()
        if after.id != before.id:
            got = ANOTHER_RUN
        else:
            got = OTHER_INPUTS if compare(Path("run"), inputs_of(after), lambda: None).what else SAME
        assert got == expected, (seed, chosen)
        monkeypatch.chdir(tmp_path)
        shutil.rmtree(folder)
