import re

import pytest
import torch
from tiny import write_recipes

from kd.diagnose.check import check_recipe
from kd.errors import DataError, RecipeError
from kd.parts.assemble import assemble
from kd.parts.checks.dry_run import dry_run
from kd.recipe import read_recipe

LOSSES = """
import torch
from torch import nn

from kd.types import SegmentationOutput


class Detached(nn.Module):
    compares = "either"
    def forward(self, student, teacher, labels):
        return (student.detach() - teacher).square().mean()


class Map(nn.Module):
    compares = "either"
    def forward(self, student, teacher, labels):
        return (student - teacher).square().mean(1)


class Infinite(nn.Module):
    compares = "either"
    def forward(self, student, teacher, labels):
        return student.sum() / 0.0


class Constant(nn.Module):
    compares = "either"
    def forward(self, student, teacher, labels):
        return (student * 0.0).sum() + 1.0


class Idle(nn.Module):
    compares = "either"
    def __init__(self):
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(3))
    def forward(self, student, teacher, labels):
        return (student - teacher).square().mean()


class Raises(nn.Module):
    compares = "either"
    def forward(self, student, teacher, labels):
        return student @ teacher.sum()


class InPlace(nn.Module):
    compares = "either"
    def forward(self, student, teacher, labels):
        return student.mul_(2).mean()


class InPlaceTeacher(nn.Module):
    compares = "either"
    def forward(self, student, teacher, labels):
        teacher -= student.detach()
        return (student - teacher).square().mean()


class InPlaceLabels(nn.Module):
    compares = "either"
    def forward(self, student, teacher, labels):
        labels[:] = 0
        return (student - teacher).square().mean()


class Foreground(nn.Module):
    def forward(self, logits, labels):
        labels[labels == 255] = 0
        return nn.functional.cross_entropy(logits, labels)


class Doubling(nn.Module):
    def forward(self, logits, labels):
        return nn.functional.cross_entropy(logits.mul_(2), labels, ignore_index=255)


class Two(nn.Module):
    compares = "either"
    def forward(self, student, teacher):
        return (student - teacher).square().mean()


class Unbuilt(nn.Module):
    def __init__(self):
        self.layer = nn.Linear(1, 1)


class Exits(nn.Module):
    compares = "either"
    def forward(self, student, teacher, labels):
        raise SystemExit(0)


class Errors(nn.Module):
    def forward(self, logits, labels):
        return (logits.argmax(1) != labels).float().mean()


class Hard(nn.Module):
    def __init__(self, num_classes, in_channels):
        super().__init__()
        self.head = nn.Conv2d(in_channels, num_classes, 1)
    def forward(self, images):
        return SegmentationOutput(self.head(images).detach(), {}, {})


class FullSize(nn.Module):
    def __init__(self, num_classes, in_channels):
        super().__init__()
        self.head = nn.Conv2d(in_channels, num_classes, 1)
    def forward(self, images):
        return SegmentationOutput(self.head(images), {}, {})


class Broken(nn.Module):
    def __init__(self, num_classes, in_channels):
        super().__init__()
        self.low = nn.Conv2d(in_channels, num_classes, 1)
    def forward(self, images):
        assert images.shape[0] > 99


class Nothing(nn.Module):
    compares = "either"
    def forward(self, student, teacher, labels):
        return None


class Spin:
    def __init__(self, low):
        if low > 1:
            raise ValueError(f"low {low} must be at most 1")

    def __call__(self, image, mask):
        return image, mask
"""


@pytest.fixture
def recipe(tmp_path):
    (tmp_path / "losses.py").write_text(LOSSES)
    return write_recipes(tmp_path)


def refused(recipe, *overrides):
    with pytest.raises(RecipeError) as caught:
        check_recipe(read_recipe(recipe, overrides, trust=True), runs=recipe.parent / "runs")
    return caught.value.mistakes


def test_a_good_recipe_reports_what_would_be_trained(recipe):
    line, *lines = check_recipe(read_recipe(recipe, trust=True), runs=recipe.parent / "runs")
    facts = [line for line in lines if not line.startswith("memory: ")]  # not every system measures it
    assert facts == [
        f"{split}: 0.0 % of the pixels are ignored; every class occurs (12 images)" for split in ("train", "val")
    ]
    assert line.startswith(f"{recipe}: ok: nets.py:Net (130 parameters), teacher with 258 parameters, 8 steps on ")
    assert not (recipe.parent / "runs").exists()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Detached", "the loss gives no gradient; compute it from the student's tensor, without detach() or item()"),
        ("Map", "Map (losses.py:14): a loss must return a scalar tensor, not (2, 16, 16); take its mean"),
        ("Infinite", "the loss is inf on a first batch; it must be finite"),
        ("Constant", "no gradient reaches a trainable parameter of the student's network"),
        ("Nothing", "): a loss must return a scalar tensor, not NoneType; take its mean"),
        ("Two", "losses.py:Two takes (student, teacher), but gets student, teacher, labels"),
        ("Raises", "the loss raised RuntimeError: both arguments to matmul need to be at least 1D"),
        (
            "InPlace",
            "the loss changes the student's map, which other losses read, in place; change a copy of it: x = x.clone()",
        ),
        ("Exits", "the loss raised SystemExit: 0 (losses.py:"),
        ("InPlaceTeacher", "the loss changes the teacher's map, which other losses read, in place"),
    ],
)
def test_a_loss_that_cannot_teach_is_named(recipe, name, message):
    (mistake,) = refused(recipe, f"distill.kl.loss.use=losses.py:{name}")
    assert ": distill.kl: " in mistake
    assert message in mistake


def test_a_supervised_loss_or_a_network_without_a_gradient_is_named(recipe):
    (mistake,) = refused(recipe, "supervised.use=losses.py:Errors")
    assert mistake.endswith(
        ": supervised: the loss gives no gradient; compute it from the logits, without argmax(), detach() or item()"
    )
    (mistake,) = refused(recipe, "student={use: 'losses.py:Hard'}", "distill.hint=null")
    assert mistake.endswith(
        "losses.py:Hard: its logits give no gradient, so that nothing would train; remove detach(), argmax() or "
        "no_grad() from its forward, or let its parameters require gradients"
    )


@pytest.mark.parametrize(
    ("override", "what"),
    [
        ("supervised.use=losses.py:Foreground", "labels"),
        ("supervised.use=losses.py:Doubling", "logits"),
        ("distill.kl.loss.use=losses.py:InPlaceLabels", "labels"),
    ],
)
def test_a_loss_that_changes_what_others_read_is_named(recipe, override, what):
    full_size = [f"{role}={{use: 'losses.py:FullSize'}}" for role in ("teacher", "student")]  # as large as the labels
    (mistake,) = refused(recipe, "distill.hint=null", *full_size, override)
    where = "distill.kl" if "distill" in override else "supervised"
    assert mistake.endswith(
        f": {where}: the loss changes the {what}, which other losses read, in place; change a copy of it: x = x.clone()"
    )


def test_a_loss_that_raises_is_shown_with_its_line(recipe):
    (mistake,) = refused(recipe, "distill.kl.loss.use=losses.py:Raises")
    line = LOSSES.splitlines().index("        return student @ teacher.sum()") + 1
    assert mistake.endswith(f" (losses.py:{line})")


def test_an_error_in_a_users_code_is_one_line_with_its_place(recipe):
    (mistake,) = refused(recipe, "distill.kl.loss={use: 'losses.py:Unbuilt'}")
    line = LOSSES.splitlines().index("        self.layer = nn.Linear(1, 1)") + 1
    assert mistake.endswith(
        "distill.kl.loss: losses.py:Unbuilt raised AttributeError: cannot assign module before Module.__init__() call "
        f"(losses.py:{line})"
    )
    line = LOSSES.splitlines().index("        assert images.shape[0] > 99") + 1
    for overrides in ([], ["teacher=null", "distill=null"]):
        (mistake,) = refused(recipe, "student={use: 'losses.py:Broken'}", *overrides)
        assert mistake.endswith(f": student: losses.py:Broken raised AssertionError (losses.py:{line})")
    (mistake,) = refused(recipe, "teacher={use: 'losses.py:Broken'}")
    assert mistake.endswith(f": teacher: losses.py:Broken raised AssertionError (losses.py:{line})")


def test_losses_in_the_wrong_place(recipe):
    (mistake,) = refused(recipe, "distill.kl.loss={use: kd.losses.CrossEntropy}")
    assert "distill.kl: kd.losses.CrossEntropy takes (logits, labels), but gets student, teacher, labels" in mistake
    (mistake,) = refused(recipe, "supervised={use: kd.losses.PixelKL}")
    assert mistake.endswith("kd.losses.PixelKL compares a student with a teacher; it belongs under distill")
    (mistake,) = refused(recipe, "supervised.args={weight: [1, 2, 3]}")
    assert mistake.endswith(": supervised: weight has 3 values, the logits 2 classes")


def test_a_loss_for_one_tap_gets_several(recipe):
    at = "distill.hint.at={student: [low, low], teacher: [low, low]}"
    (mistake,) = refused(recipe, at, "distill.hint.loss={use: kd.losses.CWD}")
    assert "distill.hint: the loss raised " in mistake
    assert mistake.endswith("; `at` lists several taps, so it got tuples: name one tap per term")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.augment=[{use: kd.data.RandomScale, args: {low: 2, high: 1}}]", "low and high must satisfy 0 < low"),
        ("data.augment=[{use: 'losses.py:Spin', args: {low: 3}}]", "data.augment.0: losses.py:Spin: low 3 must be at"),
        ("schedule={use: kd.schedules.poly, args: {warmup: 9}}", "warmup: 9 steps, but the run has 8; shorten"),
        ("optimizer.args.lr=-1", "optimizer: torch.optim.SGD: Invalid learning rate: -1"),
        ("optimizer.groups=[{match: 'nope.*', lr: 0.1}]", "optimizer.groups.0.match: "),
    ],
)
def test_components_that_only_training_builds_are_checked_before_it(recipe, override, message):
    (mistake,) = refused(recipe, override)
    assert message in mistake


def test_all_terms_that_cannot_teach_are_named_at_once(recipe):
    mistakes = refused(recipe, "distill.kl.loss.use=losses.py:Map", "distill.hint.loss.use=losses.py:Detached")
    assert [re.search(r"distill\.\w+", mistake)[0] for mistake in mistakes] == ["distill.kl", "distill.hint"]


def test_a_tap_before_a_frozen_part_teaches_only_its_adapter(recipe):
    (mistake,) = refused(recipe, "student.args.frozen=true")
    assert "distill.hint: no gradient reaches a trainable parameter of the student's network" in mistake
    assert mistake.endswith(("taps that would work: 'low'", "taps that would work: 'logits'"))


def test_a_tap_that_does_not_exist(recipe):
    (mistake,) = refused(recipe, "distill.hint.at.teacher=lo")
    assert mistake.endswith("the teacher: tap 'lo': no such tap or module; did you mean 'low'? (taps: logits, low)")
    (mistake,) = refused(recipe, "distill.hint.at.student=haed")
    assert "the student: tap 'haed': no such tap or module; did you mean 'head'?" in mistake
    assert mistake.startswith("<distill.hint.at.student=haed>: distill.hint.at: the student: ")
    (mistake,) = refused(recipe, "distill.hint.at.teacher=aux.main")
    assert mistake.endswith("the teacher: tap 'aux.main': the network has no such head; known: none")


def test_channels_that_differ_ask_for_an_adapter(recipe):
    (mistake,) = refused(recipe, "distill.hint.adapter=null")
    assert "distill.hint: " in mistake
    assert "(2, 4, 16, 16)" in mistake
    assert "(2, 8, 16, 16)" in mistake
    assert "adapter" in mistake


def test_a_features_loss_needs_its_taps(recipe):
    (mistake,) = refused(recipe, "distill.hint.at=null", "distill.hint.adapter=null")
    assert mistake.endswith("kd.losses.MSE compares features: distill.hint needs at: {student: …, teacher: …}")


def test_a_teacher_of_other_classes(recipe):
    nets = recipe.parent / "nets.py"
    nets.write_text(
        nets.read_text()
        + "\n\nclass Three(Stripes):\n    class_names = ('a', 'b', 'c')\n    colors = ((0, 0, 0),) * 3\n"
    )
    teacher = recipe.parent / "teacher.yaml"
    teacher.write_text(teacher.read_text().replace("nets.py:Stripes", "nets.py:Three"))
    (mistake,) = refused(recipe)
    assert mistake == (
        f"{recipe}: the teacher ({teacher}) has 3 classes and 3 image channels, but the data have 2 and 3; "
        "train a teacher on these data"
    )


def test_a_parameter_that_no_loss_reaches_is_frozen_and_named(recipe):
    lines = check_recipe(
        read_recipe(recipe, ["distill.kl.loss.use=losses.py:Idle"], trust=True), runs=recipe.parent / "runs"
    )
    assert lines[1] == "no loss reaches losses.kl.unused: frozen"


@pytest.mark.parametrize(
    ("overrides", "needed", "has"),
    [
        (("train.patience=2", "train.evaluate_every=0"), 4, "1; set train.evaluate_every=2"),
        (("train.patience=4",), 6, "4; set train.evaluate_every=1"),  # 20 % of 8 steps are 2
        (("train.patience=2",), 0, ""),
        (("train.patience=7",), 9, "4"),
    ],
)
def test_what_counts_evaluations_needs_enough_before_the_last(recipe, overrides, needed, has):
    plateau = f"schedule={{use: kd.schedules.plateau, args: {{patience: {overrides[0][-1]}}}}}"
    made = read_recipe(recipe, [plateau, "train.evaluate_every=20%", *overrides], trust=True)
    lines = dry_run(assemble(made, runs=recipe.parent, seed=0, trained=False))
    assert [line for line in lines if "has no effect" in line] == [
        f"warning: {key} has no effect: it needs {needed} evaluations or more, and the run of 8 steps has {has}"
        for key in ("train.patience", "schedule")
        if needed
    ]


def test_a_dry_run_leaves_no_trace(recipe):
    parts = assemble(read_recipe(recipe, trust=True), runs=recipe.parent / "runs", seed=0, trained=False)
    before = {key: value.clone() for key, value in parts.student.state_dict().items()}
    dry_run(parts)
    after = parts.student.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert all(parameter.grad is None for parameter in parts.student.parameters())


def test_missing_data_is_a_data_error(tmp_path):
    path = write_recipes(tmp_path)
    overrides = ["data.use=kd.data.CamVid", f"data.args.root={tmp_path}/nowhere"]
    with pytest.raises(DataError, match="nowhere"):
        check_recipe(read_recipe(path, overrides, trust=True), runs=tmp_path / "runs")


@pytest.mark.parametrize(
    "loss",
    [
        "{use: kd.losses.PseudoLabel, args: {threshold: 0.99}}",
        "{use: kd.losses.Masked, args: {loss: {use: kd.losses.PixelKL}, right: true, entropy: 0.01, classes: [1]}}",
    ],
)
def test_a_loss_for_a_certain_teacher_is_accepted_with_an_uncertain_one(recipe, loss):
    lines = check_recipe(
        read_recipe(recipe, [f"distill={{kl: {{loss: {loss}}}}}"], trust=True), runs=recipe.parent / "runs"
    )
    assert lines[0].startswith(f"{recipe}: ok: ")


ENSEMBLE = """{use: teachers.Ensemble, args: {members: [
    {use: "nets.py:Net", args: {num_classes: 2}}, {use: "nets.py:Net", args: {num_classes: 2, channels: 4}}]}}"""


@pytest.mark.parametrize("loss", ["MSE", "CWD", "Cosine"])
def test_a_loss_that_depends_on_a_shift_is_refused_with_an_ensemble(recipe, loss):
    at = "{student: logits, teacher: logits}"
    terms = (
        f"distill={{bad: {{loss: {{use: kd.losses.{loss}}}, at: {at}}}, good: {{loss: {{use: kd.losses.PixelKL}}}}}}"
    )
    (mistake,) = refused(recipe, f"teacher={ENSEMBLE}", terms)
    assert re.fullmatch(
        rf".*: distill\.bad: {loss} changes when a constant is added to all logits of a pixel \(\S+ to \S+\), and an "
        r"ensemble's logits are defined up to such a constant; compare probabilities "
        r"\(kd\.losses\.PixelKL, DKD, DIST\)",
        mistake,
    )


@pytest.mark.filterwarnings("ignore:with two classes")
@pytest.mark.parametrize("loss", ["PixelKL", "DKD", "DIST", "LogitStandardized"])
def test_a_loss_of_probabilities_is_accepted_with_an_ensemble(recipe, loss):
    inner = ", args: {loss: {use: kd.losses.PixelKL}}" if loss == "LogitStandardized" else ""
    terms = f"distill={{kl: {{loss: {{use: kd.losses.{loss}{inner}}}}}}}"
    lines = check_recipe(read_recipe(recipe, [f"teacher={ENSEMBLE}", terms], trust=True), runs=recipe.parent / "runs")
    assert lines[0].startswith(f"{recipe}: ok: ")


def test_the_logits_of_a_member_may_be_compared_directly(recipe):
    terms = "distill={m: {loss: {use: kd.losses.MSE}, at: {student: logits, teacher: aux.member2}}}"
    lines = check_recipe(read_recipe(recipe, [f"teacher={ENSEMBLE}", terms], trust=True), runs=recipe.parent / "runs")
    assert lines[0].startswith(f"{recipe}: ok: ")


SEES = """

class Three(Stripes):
    class_names = ("dark", "bright", "other")
    colors = ((0, 0, 0),) * 3


class Sees:
    compares = "either"
    def __init__(self, num_classes: int, channels: int, label_counts: tuple):
        self.facts = (num_classes, channels, label_counts)
    def __call__(self, student, teacher, labels):
        self.shapes = (student.shape[1], teacher.shape[1], sorted(labels.unique().tolist()))
        return (student - teacher).square().mean()
"""


def test_a_teacher_of_other_classes_is_compared_on_those_that_it_knows(recipe):
    nets = recipe.parent / "nets.py"
    nets.write_text(nets.read_text() + SEES)
    teacher = """{use: teachers.ClassMapped, args: {network: {use: "nets.py:Net", args: {num_classes: 4}},
        source: [sky, bright, sun, other], target: [dark, bright, other]}}"""
    overrides = ['data.use="nets.py:Three"', f"teacher={teacher}", 'distill.kl.loss={use: "nets.py:Sees"}']
    parts = assemble(read_recipe(recipe, overrides, trust=True), runs=recipe.parent / "runs", seed=0)
    dry_run(parts)
    assert (parts.terms["kl"].known, parts.terms["hint"].known) == ((1, 2), ())
    assert parts.terms["kl"].loss.facts[:2] == (2, 2)
    assert len(parts.terms["kl"].loss.facts[2]) == 2
    assert parts.terms["kl"].loss.shapes == (2, 2, [0, 1, 255])
    lists = "distill.kl.at={student: [logits, low], teacher: [logits, low]}"
    (mistake,) = refused(recipe, *overrides, lists)
    assert mistake.endswith(
        "distill.kl.at: this teacher knows 2 of the classes, so a term on its logits reads nothing else; "
        "give the logits their own term"
    )


def test_a_mask_names_the_classes_of_the_data_whatever_the_teacher_knows(recipe):
    nets = recipe.parent / "nets.py"
    nets.write_text(nets.read_text() + SEES)
    teacher = """{use: teachers.ClassMapped, args: {network: {use: "nets.py:Net", args: {num_classes: 4}},
        source: [sky, bright, sun, other], target: [dark, bright, other]}}"""
    masked = "{loss: {use: kd.losses.Masked, args: {loss: {use: kd.losses.PixelKL}, classes: %s}}}"
    loss = f"distill.kl.loss={{use: kd.losses.Sampled, args: {masked}}}"
    overrides = ['data.use="nets.py:Three"', f"teacher={teacher}"]
    changed = read_recipe(recipe, [*overrides, loss % [0, 2]], trust=True)
    parts = assemble(changed, runs=recipe.parent / "runs", seed=0)
    assert parts.terms["kl"].known == (1, 2)  # so that label 2 is the second channel of the term
    assert parts.terms["kl"].loss.loss.classes == (1,)
    (mistake,) = refused(recipe, *overrides, loss % [0])
    assert mistake.endswith("kd.losses.Sampled: classes: [0], but the loss compares [1, 2]; name one of these")


def test_the_classes_of_a_mapped_teacher_are_in_the_order_of_the_data(recipe):
    teacher = """{use: teachers.ClassMapped, args: {network: {use: "nets.py:Net", args: {num_classes: 2}},
        source: [night, day], target: [bright, dark], merge: {bright: [day], dark: [night]}}}"""
    (mistake,) = refused(recipe, f"teacher={teacher}")
    assert mistake.endswith(
        "teacher.args.target: class 0 is 'bright', but 'dark' in the data; set target: [dark, bright]"
    )


def test_the_size_of_a_memory_is_reported(recipe):
    memory = "{use: kd.losses.CIRKDMemory, args: {pixel_queue: 1000, region_queue: 250}}"
    lines = check_recipe(read_recipe(recipe, [f"distill.hint.loss={memory}"], trust=True), runs=recipe.parent / "runs")
    # 2 classes × (1000 + 250) vectors of the teacher's 8 channels, 4 bytes each: 80 kB
    assert "distill.hint: its memory takes 0.1 MB" in lines
    lines = check_recipe(read_recipe(recipe, trust=True), runs=recipe.parent / "runs")
    assert not [line for line in lines if "its memory takes" in line]  # the other losses remember nothing
