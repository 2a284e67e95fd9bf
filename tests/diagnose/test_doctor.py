"""A teacher is trained, then given each fault that the doctor looks for, which it must find."""

import itertools
import re
import shlex
from functools import partial

import numpy as np
import pytest
import torch
from rich.console import Console
from tiny import read, run, write_recipes
from torch import nn

from kd.cli import main
from kd.diagnose.doctor import doctor_command
from kd.errors import RecipeError
from kd.machine import Precision
from kd.networks.normalize import Normalize
from kd.parts.checks.class_orders import best_assignment
from kd.parts.checks.corrections import corrected
from kd.parts.checks.examine import Spread, declared_form, examine, twice_chance
from kd.parts.teacher.output import Channels, class_order
from kd.recipe import read_recipe
from kd.recipe.schema import TeacherConfig
from kd.types import Sample, SegmentationOutput
from teachers import ClassMapped, Wrapped

CPU = Precision(torch.device("cpu"), torch.float32, torch.contiguous_format)
NAMES = ("dusk", "brick", "sea", "coarse", "fine")
COLORS = torch.tensor([[70, 20, 20], [170, 60, 50], [50, 60, 170], [40, 100, 40], [40, 100, 40]]).float()
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALF, ZERO, ONE = (0.5,) * 3, (0.0,) * 3, (1.0,) * 3


class Patches:
    """Images of 32×32 whose quarters differ in brightness, hue, or width of stripes."""

    class_names = NAMES
    colors = ((0, 0, 0),) * 5
    in_channels = 3

    def __len__(self):
        return 12

    def __getitem__(self, key):
        generator = torch.Generator().manual_seed(key[0])
        labels = torch.randint(0, 5, (2, 2), generator=generator).repeat_interleave(16, 0).repeat_interleave(16, 1)
        rows = torch.arange(32)[:, None].expand(32, 32)
        stripes = torch.where(labels == 3, rows // 4 % 2, torch.where(labels == 4, rows // 2 % 2, 0))
        image = COLORS[labels].movedim(-1, 0) * (1 + 1.2 * stripes)
        noisy = image + 8 * torch.randn(image.shape, generator=generator)
        return Sample(noisy.clamp(0, 255).to(torch.uint8), labels.to(torch.uint8), f"patches {key[0]}")


@pytest.fixture(scope="module")
def learned():
    """A network trained on the patches, images in [0, 1]."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 16, 5, padding=2), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=2, dilation=2), nn.ReLU()]
    network = nn.Sequential(*layers, nn.Conv2d(16, 5, 1))
    samples = [Patches()[100 + index, 0] for index in range(24)]
    images = torch.stack([sample.image for sample in samples]).float() / 255
    labels = torch.stack([sample.labels for sample in samples]).long()
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    for step in range(200):
        part = slice(step % 3 * 8, step % 3 * 8 + 8)
        optimizer.param_groups[0]["lr"] = 0.01 * (1 - step / 200)
        loss = nn.functional.cross_entropy(network(images[part] - 0.3), labels[part])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network.eval().requires_grad_(False)


class Wants(nn.Module):
    """The trained network as if trained on images in another form, and with its channels in another order."""

    def __init__(self, learned, order="rgb", scale=1.0, mean=IMAGENET[0], std=IMAGENET[1], channels=range(5)):
        super().__init__()
        self.learned, self.order, self.scale, self.channels = learned, order, scale, list(channels)
        self.mean, self.std = (torch.tensor(values).view(1, 3, 1, 1) for values in (mean, std))

    def forward(self, images):
        images = (images * self.std + self.mean) / self.scale
        images = images[:, [2, 1, 0]] if self.order == "bgr" else images
        return self.learned(images - 0.3)[:, self.channels]


def stated(order):
    return f"teacher.classes={[NAMES[order.index(channel)] for channel in range(5)]}"


def diagnosed(network, size=(32, 32), **preprocess):
    teacher = Wrapped(5, network=network, preprocess=preprocess).eval()
    return examine(teacher, Patches(), size=size, training_size=(32, 32), precision=CPU, correct=stated), teacher


BGR = tuple(tuple(reversed(values)) for values in IMAGENET)
FORMS = {
    "rgb, 0-1, mean and std 0.5": {"mean": HALF, "std": HALF},
    "rgb, 0-1, plain": {"mean": ZERO, "std": ONE},
    "rgb, 0-255, plain": {"scale": 255.0, "mean": ZERO, "std": ONE},
    "bgr, 0-1, ImageNet's mean and std": {"order": "bgr", "mean": BGR[0], "std": BGR[1]},
    "bgr, 0-1, mean and std 0.5": {"order": "bgr", "mean": HALF, "std": HALF},
    "bgr, 0-1, plain": {"order": "bgr", "mean": ZERO, "std": ONE},
    "bgr, 0-255, plain": {"order": "bgr", "scale": 255.0, "mean": ZERO, "std": ONE},
    "bgr, 0-255, mean only": {"order": "bgr", "scale": 255.0, "mean": (104.0, 117.0, 123.0), "std": ONE},
}


def percents(advice):
    return [float(text) for text in re.findall(r"(\d+\.\d) %", advice)]


def test_a_good_teacher_is_reported_as_good(learned):
    diagnosis, _ = diagnosed(Wants(learned))
    assert diagnosis.rows[0].miou > 0.85
    assert re.fullmatch(
        r"as stated \d\d\.\d % · nothing scores better: form, size and order of classes are right, or the weights are "
        "bad",
        diagnosis.advice,
    )


@pytest.mark.parametrize("what", FORMS)
def test_a_form_that_was_not_stated_is_found_and_fixes_the_teacher(learned, what):
    diagnosis, _ = diagnosed(Wants(learned, **FORMS[what]))
    before, after = percents(diagnosis.advice)
    assert before + 5 < after
    fix = re.fullmatch(rf"as stated .* % · {what} .* % → preprocess: (\{{.*\}})", diagnosis.advice)[1]
    fixed, _ = diagnosed(Wants(learned, **FORMS[what]), **read_yaml(fix))
    assert fixed.rows[0].miou == pytest.approx(after / 100, abs=6e-4)
    assert "nothing scores better" in fixed.advice


def test_the_advice_for_a_wrapped_teacher_is_an_override(learned):
    teacher = Wrapped(5, network=Wants(learned, **FORMS["rgb, 0-255, plain"])).eval()
    diagnosis = examine(
        teacher, Patches(), size=(32, 32), training_size=(32, 32), precision=CPU, use="teachers.Wrapped", correct=stated
    )
    assert diagnosis.advice.endswith(
        " → 'teacher.args.preprocess={order: rgb, scale: 255, mean: [0, 0, 0], std: [1, 1, 1]}'"
    )


def test_a_form_that_was_stated_wrongly_is_found(learned):
    diagnosis, _ = diagnosed(Wants(learned), order="bgr", scale=255, mean=[104, 117, 123], std=[1, 1, 1])
    assert " · rgb, 0-1, ImageNet's mean and std " in diagnosis.advice


def rows(teacher, config, recorded=()):
    """The score as stated, and the advice on another order of classes."""
    correct = partial(corrected, TeacherConfig(**config), teacher, recorded, NAMES)
    diagnosis = examine(teacher, Patches(), size=(32, 32), training_size=(32, 32), precision=CPU, correct=correct)
    return diagnosis.rows[0].miou, diagnosis.advice


def setting(advice, key):
    """What a message advises for a key."""
    (text,) = shlex.split(advice.partition(" → ")[2])
    return read_yaml(re.fullmatch(rf"{re.escape(key)}=(.*)", text)[1])


TRUE = (3, 0, 4, 1, 2)  # the class of each channel
OWN = [NAMES[channel] for channel in TRUE]
WRONG = [NAMES[channel] for channel in (0, 4, 2, 3, 1)]  # a cycle of three away from both OWN and NAMES
WRAPPED = {"use": "teachers.Wrapped", "weights": "w.pth"}


def wrapped(learned, names=()):
    """A teacher whose channels are said to be of these classes."""
    teacher = Wrapped(5, network=Wants(learned, channels=TRUE)).eval()
    Channels(class_order(names, NAMES, "w.pth") if names else ()).give(teacher)
    return teacher


@pytest.mark.parametrize(("channels", "what"), [(TRUE, "reassigned"), ((1, 2, 3, 4, 0), "shifted by one")])
def test_another_order_of_classes_is_found(learned, channels, what):
    diagnosis, _ = diagnosed(Wants(learned, channels=channels))
    source = [NAMES[channel] for channel in channels]
    assert re.fullmatch(
        rf"as stated .* % · as stated, classes {what} .* % → teacher\.classes={re.escape(str(source))}",
        diagnosis.advice,
    )


@pytest.mark.parametrize("names", [(), WRONG])
def test_the_order_of_unnamed_weights_is_stated(learned, names):
    before, advice = rows(wrapped(learned, names), WRAPPED | {"classes": names or None})
    assert setting(advice, "teacher.classes") == OWN
    after, advice = rows(wrapped(learned, OWN), WRAPPED | {"classes": OWN})
    assert after > before + 0.05
    assert "nothing scores better" in advice


def test_a_wrong_record_is_mapped_as_what_it_names_cannot_be_stated(learned):
    before, advice = rows(wrapped(learned, WRONG), WRAPPED | {"outputs": "probabilities"}, WRONG)
    teacher = setting(advice, "teacher")
    network = teacher["args"].pop("network")
    assert network == {"use": "teachers.Wrapped", "args": {"num_classes": 5}}
    assert teacher["args"]["source"] == WRONG
    assert {key: teacher[key] for key in ("use", "weights", "outputs")} == {
        "use": "teachers.ClassMapped",
        "weights": "w.pth",
        "outputs": "probabilities",
    }
    mapped = ClassMapped(5, network=wrapped(learned), **teacher["args"])
    after, advice = rows(mapped, {"use": "teachers.ClassMapped", "args": teacher["args"]})
    assert after > before + 0.05
    assert "nothing scores better" in advice


@pytest.mark.parametrize(
    ("args", "key"),
    [
        ({"source": WRONG, "target": NAMES}, "merge"),
        ({"source": WRONG, "target": NAMES, "merge": {"sea": ["brick"], "brick": ["sea"]}}, "merge"),
        ({"matrix": [[float(i == j) for j in range(5)] for i in range(5)]}, "matrix"),
    ],
)
def test_a_wrong_mapping_is_corrected(learned, args, key):
    before, advice = rows(
        ClassMapped(5, network=wrapped(learned), **args), {"use": "teachers.ClassMapped", "args": args}
    )
    args = args | {key: setting(advice, f"teacher.args.{key}")}
    after, advice = rows(
        ClassMapped(5, network=wrapped(learned), **args), {"use": "teachers.ClassMapped", "args": args}
    )
    assert after > before + 0.05
    assert "nothing scores better" in advice


def test_the_names_of_a_run_are_corrected_where_it_was_trained(learned):
    _, advice = rows(wrapped(learned, WRONG), {"recipe": "t.yaml"}, WRONG)
    assert advice.endswith(
        " → t.yaml has learned its classes in another order than it names them: correct the names of its data"
    )


def test_another_form_and_another_order_together_are_found(learned):
    diagnosis, _ = diagnosed(Wants(learned, **FORMS["bgr, 0-255, mean only"], channels=(3, 0, 4, 1, 2)))
    assert " · bgr, 0-255, mean only, classes reassigned " in diagnosis.advice


def random_heads():
    """How heads are drawn that a file may hold: no two of them have learned anything."""

    def normalized():
        network = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 5, 1))
        network(torch.randn(8, 3, 32, 32))  # statistics of real images, as beside a trained encoder
        return network

    return {
        "one pixel": lambda: nn.Conv2d(3, 5, 1),
        "patches": lambda: nn.Conv2d(3, 5, 4, 4),
        "deep": lambda: nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 5, 1)),
        "normalized": normalized,
    }


def alarms(kind, seeds):
    """The advice that random heads get, where it is to change something."""
    found = []
    for seed in seeds:
        torch.manual_seed(seed)
        diagnosis, _ = diagnosed(random_heads()[kind]())
        found += [diagnosis.advice] if "→" in diagnosis.advice else []
        if len(diagnosis.rows) == 1 and "never trained" in diagnosis.advice:
            assert re.search(r"guessing scores \d+\.\d %", diagnosis.advice)
    return found


@pytest.mark.parametrize("kind", random_heads())
def test_a_random_head_gets_no_advice(kind):
    assert not alarms(kind, range(5))


@pytest.mark.slow
@pytest.mark.parametrize("kind", random_heads())
def test_at_most_one_random_head_of_a_hundred_gets_advice(kind):
    assert len(alarms(kind, range(200))) <= 2


@pytest.mark.slow
@pytest.mark.parametrize("kind", random_heads())
def test_random_heads_that_hide_how_they_were_drawn_get_no_order_of_classes(kind, monkeypatch):
    """Without the look at the weights, the evidence alone: orders at the stated form are not found by chance."""
    monkeypatch.setattr("kd.parts.checks.examine.sign_of_no_training", lambda network, classes: "")
    found = [advice for advice in alarms(kind, range(40)) if " · as stated, classes " in advice]
    assert not found


def test_weights_that_are_known_to_be_drawn_come_first(learned):
    teacher = Wrapped(5, network=Wants(learned)).eval()
    diagnosis = examine(
        teacher,
        Patches(),
        size=(32, 32),
        training_size=(32, 32),
        precision=CPU,
        drawn=["head.weight"],
        use="net.py:Net",
        correct=stated,
    )
    assert re.fullmatch(r"as stated \d\d\.\d % · head\.weight was drawn at random, so .*", diagnosis.advice)
    torch.manual_seed(0)
    teacher = Wrapped(5, network=nn.Conv2d(3, 5, 1)).eval()
    diagnosis = examine(
        teacher,
        Patches(),
        size=(32, 32),
        training_size=(32, 32),
        precision=CPU,
        drawn=["head.weight"],
        use="net.py:Net",
        correct=stated,
    )
    assert re.fullmatch(
        r"the teacher was never trained: head\.weight was drawn at random, and as stated it scores \d+\.\d % mIoU "
        r"\(guessing scores \d+\.\d %\); give it weights: teacher\.weights=FILE",
        diagnosis.advice,
    )
    assert len(diagnosis.rows) == 1


def test_another_size_is_found(learned):
    diagnosis, _ = diagnosed(Wants(learned), size=(64, 64))
    assert re.fullmatch(r"as stated .* % · at 32×32, the training size .* % → data.size: \[32, 32\]", diagnosis.advice)


def test_a_network_that_does_not_normalize_is_taken_as_it_is(learned):
    class Bare(nn.Module):
        def __init__(self):
            super().__init__()
            self.wants = Wants(learned, **FORMS["bgr, 0-255, plain"])

        def forward(self, images):
            return SegmentationOutput(self.wants(images), {}, {})

    diagnosis = examine(Bare(), Patches(), size=(32, 32), training_size=(32, 32), precision=CPU, correct=stated)
    assert re.search(
        r"· bgr, 0-255, plain .* → the network takes preprocess: \{.*\}; wrap its own code in teachers.Wrapped",
        diagnosis.advice,
    )


def test_members_that_agree_have_one_form():
    plain, half = Normalize(3), Normalize(3, [0.5] * 3, from_recipe=True)
    members = [nn.Sequential(normalize, nn.Conv2d(3, 5, 1)) for normalize in (plain, plain, half)]
    assert declared_form(nn.ModuleList(members[:2]), 3) == (plain.preprocess, False)
    assert declared_form(nn.ModuleList(members), 3) == (None, False)
    assert declared_form(nn.ModuleList(members[2:]), 3) == (half.preprocess, True)


def test_the_form_of_a_wrapped_network_is_the_outer_one():
    outer = Wrapped(5, network=nn.Sequential(Normalize(3), nn.Conv2d(3, 5, 1)), preprocess={"order": "bgr"})
    assert declared_form(outer, 3) == (outer.normalize.preprocess, True)
    assert outer.normalize.preprocess.order == "bgr"


@pytest.mark.parametrize("classes", [1, 2, 3, 5, 6])
def test_the_best_assignment_is_the_best_of_all(classes):
    random = np.random.default_rng(classes)
    for _ in range(5):
        gain = random.random((classes, classes)).round(1)  # rounded: ties
        rows = range(classes)
        best = max(gain[rows, list(order)].sum() for order in itertools.permutations(rows))
        columns = best_assignment(gain)
        assert sorted(columns) == list(rows)
        assert gain[rows, columns].sum() == pytest.approx(best)


def test_chance_is_the_score_of_guessing():
    even = np.full((4, 4), 10)  # every guess equally often: IoU 1 / (2K - 1)
    assert twice_chance(even) == pytest.approx(2 / 7)
    uneven = np.array([[30, 30], [10, 10]])
    assert twice_chance(uneven) == pytest.approx(30 / 70 + 10 / 50)


def test_at_most_40_images_evenly_spread():
    class Many(Patches):
        def __len__(self):
            return 100

        def __getitem__(self, key):
            return key

    assert [Spread(Many())[index, 3] for index in (0, 1, 39)] == [(0, 3), (2, 3), (97, 3)]
    assert (len(Spread(Many())), len(Spread(Patches()))) == (40, 12)


def test_the_command_prints_a_table_and_one_line(tmp_path, capsys, monkeypatch):
    recipe = write_recipes(tmp_path)
    monkeypatch.setattr("kd.diagnose.doctor.stdout", lambda: Console(width=200))
    with pytest.raises(RecipeError, match=r"has no result\.json"):
        doctor_command(read_recipe(recipe, trust=True), runs=tmp_path / "runs")
    run(read(tmp_path / "teacher.yaml"), tmp_path / "runs")
    doctor_command(read_recipe(recipe, ["data.size=[64, 64]"], trust=True), runs=tmp_path / "runs")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"the teacher of {recipe} on at most 40 validation images"
    assert any("at 32×32, the training size" in line for line in lines)
    assert lines[-1].startswith("as stated ")
    with pytest.raises(RecipeError, match="has no teacher; `kd doctor` examines a recipe's teacher"):
        doctor_command(read_recipe(tmp_path / "teacher.yaml", trust=True), runs=tmp_path / "runs")
    average = ["teacher={ema: 0.9}", "distill.hint=null"]
    with pytest.raises(RecipeError, match="its teacher is the student's moving average, which does not exist before "):
        doctor_command(read_recipe(recipe, average, trust=True), runs=tmp_path / "runs")
    assert main(["doctor", str(recipe), "--trust", "--runs", str(tmp_path / "runs")]) == 0


def read_yaml(text):
    from kd.recipe.yaml12 import compose, plain

    return plain(compose(f"args: {text}", "advice"))[0]["args"]


def test_a_run_looks_for_the_cause_by_itself_once(tmp_path):
    recipe = write_recipes(tmp_path)
    teacher = tmp_path / "teacher.yaml"
    teacher.write_text(teacher.read_text().replace("lr: 0.1", "lr: 0.0"))
    (_,), lines = run(read(recipe), tmp_path / "runs")
    scored = next(index for index, line in enumerate(lines) if line.startswith("  the teacher scores"))
    assert lines[scored + 1].startswith("  that is below twice chance; kd doctor: the teacher was never trained: ")
    assert lines[scored + 1].endswith("; train it again")
    good = write_recipes(tmp_path / "good")
    teacher = tmp_path / "good" / "teacher.yaml"
    teacher.write_text(teacher.read_text().replace("steps: 8", "steps: 60"))
    _, lines = run(read(good), tmp_path / "runs")
    assert not [line for line in lines if "kd doctor" in line]
