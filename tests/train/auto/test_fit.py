"""`train.accumulate: auto` on a memory of a few bytes."""

from dataclasses import replace

import pytest
import torch
from bounded import BoundedMemory
from tiny import NETWORKS, cut_at, read, run, write_recipes
from toy import CPU

from kd.diagnose.check import check_recipe
from kd.errors import RecipeError
from kd.parts.assemble import assemble, in_micro_batches
from kd.runs import read_environment, read_result
from kd.train.auto import fit, settling
from kd.train.auto.fit import DeviceMemory, foreseen, found_accumulate, step_peak

AUTO = ("train.accumulate=auto", "train.batch_size=8")
ENDLESS = 2**60


def parts_of(folder, *overrides, images_alone=True):
    """The parts of a distilled student, whose network normalises each image for itself or with its batch."""
    path = write_recipes(folder)
    if images_alone:
        (folder / "nets.py").write_text(NETWORKS.replace("nn.BatchNorm2d(", "nn.GroupNorm(1, "))
    return assemble(read(path, *AUTO, *overrides), runs=folder, seed=0, trained=False)


def needs(parts):
    """The peak of a step by the number of micro-batches."""
    return {number: step_peak(parts, number, BoundedMemory(ENDLESS)) for number in parts.recipe.divisors}


def test_fewer_micro_batches_take_more_memory_and_nothing_is_changed(tmp_path):
    parts = parts_of(tmp_path)
    before, random = {name: value.clone() for name, value in parts.student.state_dict().items()}, torch.get_rng_state()
    peaks = needs(parts)
    assert list(peaks) == [1, 2, 4, 8]
    assert peaks[1] > 1.5 * peaks[2] > 2 * peaks[4]
    after = parts.student.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert torch.equal(random, torch.get_rng_state())
    assert all(parameter.grad is None for parameter in parts.student.parameters())


@pytest.mark.parametrize("fewest", [1, 2, 4, 8])
def test_a_gpu_tries_the_step_until_it_fits(tmp_path, fewest):
    parts = parts_of(tmp_path)
    peak = needs(parts)[fewest]
    memory = BoundedMemory(int(peak / 0.9) + 1)
    number, line = found_accumulate(parts, memory)
    assert number == fewest
    assert memory.jobs == parts.recipe.divisors.index(fewest) + 1
    megabytes = f"{peak / 1e6:.0f} of {memory.size / 1e6:.0f}"
    assert line == f"train.accumulate: auto: {fewest} (a step takes {megabytes} MB)"


def test_libraries_that_run_out_of_memory_raise_errors_of_their_own(tmp_path):
    parts = parts_of(tmp_path)
    size = int(needs(parts)[2] / 0.9) + 1

    def of_cublas(text):
        return RuntimeError(f"CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)` ({text})")

    assert found_accumulate(parts, BoundedMemory(size, error=of_cublas))[0] == 2
    with pytest.raises(RuntimeError, match="of another kind"):
        found_accumulate(parts, BoundedMemory(size, error=lambda text: RuntimeError("of another kind")))


def test_a_step_that_leaves_no_memory_for_an_evaluation_does_not_fit(tmp_path):
    parts = parts_of(tmp_path)
    assert found_accumulate(parts, BoundedMemory(int(1.05 * needs(parts)[1])))[0] == 2


def test_a_processor_never_runs_a_step_that_might_not_fit(tmp_path):
    parts = parts_of(tmp_path, "train.batch_size=32")
    peaks = needs(parts)
    memory = BoundedMemory(int(peaks[2] / 0.85), tries=False)
    assert found_accumulate(parts, memory)[0] == 2
    assert memory.most < 0.9 * peaks[2]
    for expected in foreseen(parts, memory):
        assert 0.95 < expected.peak / peaks[expected.micro_batches] < 1.3


def test_tight_memory_is_foreseen_as_if_all_of_it_grew_with_the_images(tmp_path):
    parts = parts_of(tmp_path)
    smallest = needs(parts)[8]
    memory = BoundedMemory(int(1.2 * smallest), tries=False)
    assert [expected.peak for expected in foreseen(parts, memory)] == [n * smallest for n in (8, 4, 2, 1)]
    assert memory.jobs == 1


@pytest.mark.parametrize("tries", [True, False])
def test_a_number_that_changes_what_is_computed_belongs_to_the_recipe(tmp_path, tries):
    parts = parts_of(tmp_path, images_alone=False)
    memory = BoundedMemory(int(needs(parts)[4] / 0.85), tries=tries)
    with pytest.raises(RecipeError) as caught:
        found_accumulate(parts, memory)
    message = str(caught.value)
    assert message.startswith("<train.accumulate=auto>: train.accumulate: auto: the fewest micro-batches of 8 images ")
    assert message.endswith(
        "and what student computes depends on all images of a micro-batch, so the number belongs to the recipe; set "
        "train.accumulate=4"
    )
    assert step_peak(parts_of(tmp_path, "train.accumulate=4", images_alone=False), 4, memory) <= memory.size


def test_nothing_is_asked_where_one_micro_batch_fits(tmp_path):
    assert found_accumulate(parts_of(tmp_path, images_alone=False), BoundedMemory(ENDLESS))[0] == 1


@pytest.mark.parametrize("tries", [True, False])
def test_even_one_image_is_too_much(tmp_path, tries):
    parts = parts_of(tmp_path)
    smallest = needs(parts)[8]
    memory = BoundedMemory(smallest - 1 if tries else int(1.05 * smallest), tries=tries)
    with pytest.raises(RecipeError) as caught:
        found_accumulate(parts, memory)
    assert str(caught.value) == (
        "<train.accumulate=auto>: train.accumulate: auto: even the smallest micro-batch does not fit into the "
        f"{memory.size / 1e6:.0f} MB that are free; use a smaller data.size or data.crop"
    )
    assert all(parameter.grad is None for parameter in parts.student.parameters())


def test_a_network_that_does_not_train_on_one_image_gets_two(tmp_path):
    path = write_recipes(tmp_path)
    (tmp_path / "nets.py").write_text(NETWORKS.replace("nn.BatchNorm2d", "Strict") + STRICT)
    parts = assemble(read(path, *AUTO, "teacher=null", "distill={}"), runs=tmp_path, seed=0)
    fits = foreseen(parts, BoundedMemory(ENDLESS, tries=False))
    assert [fit.micro_batches for fit in fits] == [1, 2, 4]


STRICT = """
class Strict(nn.BatchNorm2d):
    def forward(self, maps):
        if len(maps) == 1 and self.training:
            raise ValueError("Expected more than 1 value per channel when training")
        return super().forward(maps)
"""


def test_a_system_that_does_not_measure_takes_one_micro_batch(tmp_path, monkeypatch):
    monkeypatch.setattr(DeviceMemory, "free", lambda self: None)
    assert found_accumulate(parts_of(tmp_path)) == (
        1,
        "train.accumulate: auto: 1, as this system does not state how much memory is free",
    )


def test_the_largest_images_and_the_state_of_the_optimizer_count(tmp_path):
    plain, larger = (needs(parts_of(tmp_path, *scales))[1] for scales in ((), ("train.scales=[0.5, 1.5, 1.0]",)))
    assert larger > 1.8 * plain
    wide = ("student.args.channels=400", "train.batch_size=2")
    adam = "optimizer={use: torch.optim.Adam, args: {lr: 0.1}}"  # holds two numbers a parameter, not one
    one, two = (needs(parts_of(tmp_path, *wide, *extra))[2] for extra in ((), (adam,)))
    trained = sum(p.numel() for p in parts_of(tmp_path, *wide).student.parameters() if p.requires_grad)
    assert two - one >= 4 * trained


def test_every_phase_counts(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(fit, "phase_ends", lambda recipe, steps: [3, steps - 1])
    monkeypatch.setattr(fit, "train", lambda run: seen.append((run.step, run.steps)))
    step_peak(parts_of(tmp_path), 1, BoundedMemory(ENDLESS))
    assert seen == [(0, 2), (3, 5), (7, 8)]


def test_images_without_labels_divide_too(tmp_path):
    path = write_recipes(tmp_path)

    def divisors(unlabelled):
        return read(path, *AUTO, "distill.kl.pixels=all", f"data.unlabelled={{images: more, {unlabelled}}}").divisors

    assert divisors("ratio: 0.5") == [1, 2, 4]
    assert divisors("ratio: 0.5, cutmix: 1.0") == [1, 2]  # two of them in each


def test_a_run_keeps_its_id_and_does_not_search_twice(tmp_path, monkeypatch):
    path = write_recipes(tmp_path)
    (tmp_path / "nets.py").write_text(NETWORKS.replace("nn.BatchNorm2d(", "nn.GroupNorm(1, "))
    alone = ("teacher=null", "distill={}", "train.batch_size=4")
    recipe = read(path, *alone, "train.accumulate=auto")
    assert recipe.id == read(path, *alone).id != read(path, *alone, "train.accumulate=2").id
    parts = assemble(recipe, runs=tmp_path, seed=0)
    memory = BoundedMemory(int(needs(parts)[2] / 0.85))
    monkeypatch.setattr(fit, "DeviceMemory", lambda device: memory)
    runs = tmp_path / "runs"
    cut_at(3, recipe, runs)
    (run_dir,) = runs.glob("*/seed0")
    assert read_environment(run_dir).found == {"accumulate": 2}
    tried = memory.jobs
    (again,), lines = run(recipe, runs)
    assert again == run_dir
    assert "  resumes at step 2 of 8" in lines
    assert memory.jobs == tried
    assert read_environment(run_dir).found == {"accumulate": 2}
    assert read_result(run_dir).id == recipe.id


def test_another_machine_searches_again(tmp_path, monkeypatch):
    parts = parts_of(tmp_path)
    (run_dir,), _ = run(read(tmp_path / "student.yaml", *AUTO, "teacher=null", "distill={}"), tmp_path / "runs")
    assert settling.recorded(run_dir, CPU.device) == {"accumulate": 1}
    monkeypatch.setattr(settling, "hardware", lambda device: {"cores": 99})
    assert settling.recorded(run_dir, CPU.device) == {}
    assert settling.recorded(tmp_path, CPU.device) == {}
    assert settling.settled(replace(parts), run_dir, {parts.recipe.id: {"accumulate": 4}}).recipe.accumulate == 4


def test_a_micro_batch_has_its_share_of_the_labelled_images(tmp_path):
    parts = parts_of(tmp_path)
    recipe = parts.recipe.with_found(accumulate=4)
    assert (parts.recipe.accumulate, recipe.accumulate, recipe.id) == (4, 4, parts.recipe.id)
    assert parts.recipe.with_found(accumulate=2).accumulate == 2
    assert in_micro_batches(parts, recipe).supervised.labelled is None


def test_check_states_the_memory_of_a_step(tmp_path, monkeypatch):
    path = write_recipes(tmp_path)
    memory = BoundedMemory(ENDLESS, tries=False)
    monkeypatch.setattr(fit, "DeviceMemory", lambda device: memory)
    alone = ("teacher=null", "distill={}", "train.batch_size=4")
    parts = assemble(read(path, *alone), runs=tmp_path, seed=0)
    peaks = needs(parts)

    def line(*overrides):
        lines = check_recipe(read(path, *alone, *overrides), runs=tmp_path)
        return next(line for line in lines if "a step takes" in line)

    assert line() == f"memory: a step takes about {peaks[1] / 1e6:.0f} of {ENDLESS / 1e6:.0f} MB"
    assert line("train.accumulate=auto").startswith("train.accumulate: auto: 1 (a step takes ")
    memory.size = int(1.2 * peaks[4])
    assert line().startswith("warning: memory: a step takes about ")
    assert line().endswith(" MB; set train.accumulate=4, or auto")
    assert not line("train.accumulate=4").startswith("warning")


def test_the_memory_of_this_machine():
    memory = DeviceMemory(CPU.device)
    if memory.free() is None:
        pytest.skip("not Linux")
    assert 2**20 < memory.free() < 2**50
    peak = memory.peak_of(lambda: torch.ones(2**26).sum())  # 256 MiB
    assert 0.7 * 2**28 < peak < 1.4 * 2**28
