"""Each term's pull: compared with gradients by hand, without effect on the run, and the weights that follow."""

import json

import pytest
import torch
import yaml
from rich.console import Console
from tiny import read, write_recipes

from kd.diagnose.calibrate import calibrate_command, fragment, proposed
from kd.diagnose.inspect import inspect_command
from kd.errors import RecipeError
from kd.parts.assemble import assemble
from kd.parts.checks.gradients import Pull, pulls
from kd.parts.roles import to_device
from kd.recipe import read_recipe
from kd.train.auto import settling
from kd.train.session import run_recipe
from kd.train.start import stream


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A student's recipe whose teacher is trained."""
    folder = tmp_path_factory.mktemp("recipes")
    student = write_recipes(folder)
    run_recipe(
        read_recipe(folder / "teacher.yaml", trust=True), runs=folder / "runs", quiet=True, say=lambda line: None
    )
    return student


def parts_of(file, *overrides):
    recipe = read_recipe(file, overrides, trust=True)
    return assemble(recipe, runs=file.parent / "runs", seed=0)


def test_norms_and_cosine_are_those_of_the_whole_gradients(trained):
    parts = parts_of(trained, "student.args.channels=5")
    parts.student.network.drop.p = 0.0  # a dropout mask would differ between the two computations
    batch = next(stream(parts, seed=0))
    measured = pulls(parts, batch)
    batch = to_device(batch, parts.precision)
    parts.student.train()
    teacher, student = parts.teacher(batch), parts.student(batch.images)
    losses = {"supervised": parts.supervised(student, batch.labels)}
    losses |= {name: term(name, student, teacher, batch) for name, term in parts.terms.items()}

    def flat(loss, names):
        parameters = [dict(parts.student.network.named_parameters())[name] for name in names]
        return torch.cat([g.flatten() for g in torch.autograd.grad(losses[loss], parameters, retain_graph=True)])

    every = [name for name, _ in parts.student.network.named_parameters()]
    body = [name for name in every if not name.startswith("head")]  # `hint` reads the map before the head
    for term, shared in (("kl", every), ("hint", body)):
        gradient, supervised = flat(term, shared), flat("supervised", shared)
        assert measured[term].norm == pytest.approx(gradient.norm().item(), rel=1e-4)
        assert measured[term].supervised == pytest.approx(supervised.norm().item(), rel=1e-4)
        assert measured[term].cosine == pytest.approx(torch.cosine_similarity(gradient, supervised, 0).item(), abs=1e-4)


def test_the_supervised_loss_as_a_term_has_its_own_gradient(trained):
    """A term with the supervised gradient has ratio 1 and cosine 1; with the opposite gradient, cosine -1."""
    (trained.parent / "same.py").write_text(
        "from torch.nn import functional as F\n"
        "def plus():\n"
        "    return lambda student, teacher, labels: F.cross_entropy(student, labels, ignore_index=255)\n"
        "def minus():\n"
        "    return lambda student, teacher, labels: -2 * F.cross_entropy(student, labels, ignore_index=255)\n"
    )
    terms = "{plus: {loss: {use: 'same.py:plus'}}, minus: {loss: {use: 'same.py:minus'}}}"
    parts = parts_of(trained, f"distill={terms}")
    # the term's maps have the teacher's size; full-size logits make both losses one
    parts.student.network.conv.stride, parts.teacher.network.conv.stride = (1, 1), (1, 1)
    measured = pulls(parts, next(stream(parts, seed=0)))
    assert (measured["plus"].ratio, measured["plus"].cosine) == (pytest.approx(1), pytest.approx(1))
    assert (measured["minus"].ratio, measured["minus"].cosine) == (pytest.approx(2), pytest.approx(-1))


def test_measuring_changes_nothing(trained):
    memory = "{use: kd.losses.CIRKDMemory, args: {pixel_queue: 8, region_queue: 4}}"
    override = f"distill.hint.loss={memory}"
    parts = parts_of(trained, override)
    batch = next(stream(parts, seed=0))
    state = {name: value.clone() for name, value in parts.student.state_dict().items()}
    generator = torch.get_rng_state()
    first = pulls(parts, batch)
    assert torch.equal(torch.get_rng_state(), generator)
    for name, value in parts.student.state_dict().items():
        assert torch.equal(value, state[name]), name
    assert all(parameter.grad is None for parameter in parts.student.parameters())
    assert pulls(parts, batch) == first


def test_a_compiled_student_is_measured_as_it_is_written(trained):
    """Compiled code differentiates a pass once; a term's gradient is another one than the supervised loss's."""
    parts = parts_of(trained)
    batch = next(stream(parts, seed=0))
    expected = pulls(parts, batch)

    def compiled(images):
        raise RuntimeError("This backward function was compiled with non-empty donated buffers")

    parts.student.taps.run = compiled
    assert pulls(parts, batch) == expected
    assert parts.student.taps.run is compiled


def test_proposed_weights_bring_every_term_to_the_ratio(trained):
    assert proposed(Pull(4.0, 2.0, 0.1), 1.0) == 0.5
    assert proposed(Pull(3.0, 1.0, 0.1), 0.5) == 0.167
    with pytest.raises(RecipeError, match="the term has no gradient on these batches; take more with --batches"):
        proposed(Pull(0.0, 1.0, 0.0), 1.0)
    with pytest.raises(RecipeError, match="the supervised loss has no gradient on these batches"):
        proposed(Pull(1.0, 0.0, 0.0), 1.0)


def test_the_command_prints_a_fragment_that_reads_back(trained, tmp_path):
    console = Console(record=True, width=140)
    calibrate_command(read(trained), runs=trained.parent / "runs", batches=2, ratio=0.5, console=console)
    text = console.export_text()
    printed = "distill:" + text.partition("\ndistill:")[2]
    terms = yaml.safe_load(printed)["distill"]
    assert terms.keys() == {"kl", "hint"}
    assert terms["hint"]["at"] == {"student": "low", "teacher": "low"}
    assert terms["hint"]["adapter"]["use"] == "kd.adapters.Conv1x1"
    # with the proposed weights, every term pulls half as hard as the labels
    again = Console(record=True, width=140)
    weights = [f"distill.{name}.weight={term['weight']}" for name, term in terms.items()]
    calibrate_command(read(trained, *weights), runs=trained.parent / "runs", batches=2, ratio=0.5, console=again)
    rows = [line.split() for line in again.export_text().splitlines() if line.startswith(("kl ", "hint "))]
    assert [float(row[-1]) for row in rows] == pytest.approx([0.5, 0.5], rel=0.01)


def test_micro_batches_that_are_auto_are_those_of_the_run(trained, monkeypatch):
    """BatchNorm sees the images that it will see in training."""
    found = (1, "train.accumulate: auto: 1")
    monkeypatch.setattr(settling, "SEARCHES", {"accumulate": lambda parts: found})

    def printed(*overrides):
        console = Console(record=True, width=140)
        recipe = read(trained, *overrides)
        calibrate_command(recipe, runs=trained.parent / "runs", batches=1, console=console)
        return console.export_text().splitlines()

    stated, automatic = printed("train.accumulate=1"), printed("train.accumulate=auto")
    assert [line for line in automatic if line != found[1]] == stated
    assert found[1] in automatic
    title = "Gradients at the parameters that a term and the supervised loss share; batches: 1 × 4 images"
    assert title in stated  # whole, however narrow the table
    console = Console(record=True, width=140)
    inspect_command(read(trained, "train.accumulate=auto"), runs=trained.parent / "runs", console=console)
    shown = console.export_text()
    assert found[1] in shown.splitlines()
    assert "One batch of 4 images of (3, 32, 32)" in shown.splitlines()


def test_a_fragment_keeps_what_is_not_default(trained):
    recipe = read_recipe(trained, ["distill.kl.pixels=all", "distill.kl.loss.args={temperature: 4.0}"], trust=True)
    terms = yaml.safe_load(fragment(recipe, {"kl": 2.0, "hint": 3.0}))["distill"]
    loss = {"use": "kd.losses.PixelKL", "args": {"temperature": 4.0}}
    assert terms["kl"] == {"loss": loss, "pixels": "all", "weight": 2.0}


@pytest.mark.parametrize(
    ("overrides", "options", "expected"),
    [
        ([], {"batches": 0}, "kd calibrate: --batches is 0; it must be 1 or more"),
        ([], {"ratio": 0.0}, "kd calibrate: --ratio is 0; it must be above 0"),
        (["teacher=null", "distill=null"], {}, "has no term to calibrate; add `teacher` and `distill`"),
        (["teacher={recipe: teacher.yaml}"], {"runs": "elsewhere"}, "has no result.json; train it: kd run "),
    ],
)
def test_a_recipe_that_cannot_be_calibrated_is_one_line(trained, tmp_path, overrides, options, expected):
    options = {"runs": trained.parent / "runs"} | options
    options["runs"] = tmp_path / options["runs"]
    with pytest.raises(RecipeError) as caught:
        calibrate_command(read(trained, *overrides), **options)
    (mistake,) = caught.value.mistakes
    assert expected in mistake


def test_figures_in_training_do_not_change_it(trained, tmp_path):
    """The losses are the same with and without them; they come at every second step."""
    lines = {}
    for gradients in (0, 2):
        overrides = [f"log.gradients={gradients}", f"teacher={{run: {teacher_run_dir(trained)}}}"]
        recipe = read_recipe(trained, overrides, trust=True)
        (run_dir,) = run_recipe(recipe, runs=tmp_path / str(gradients), quiet=True, say=lambda line: None)
        lines[gradients] = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    figures = [line for line in lines[2] if "gradient/kl" in line]
    assert [line["step"] for line in figures] == [2, 4, 6, 8]
    names = {f"{kind}/{term}" for kind in ("gradient", "gradient_ratio", "cosine") for term in ("kl", "hint")}
    assert figures[0].keys() == {"step", *names}
    assert [line for line in lines[2] if line not in figures] == lines[0]


def teacher_run_dir(student):
    (result,) = (student.parent / "runs").rglob("result.json")
    return result.parent
