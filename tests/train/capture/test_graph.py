"""Captured steps against steps as they are. On the CPU a recorder of calls stands in for CUDA's graphs."""

import contextlib
import copy
import itertools
import re
from types import SimpleNamespace

import numpy
import pytest
import torch
from fake_graph import FakeRecorder
from launches import Calls, Launches
from torch import nn
from toy import batch, toy_run, white_is_infinite
from waits import Waits

from kd.losses import PixelKL
from kd.parts.objective import Term
from kd.parts.roles import to_device
from kd.train.between_steps.guard import Guard
from kd.train.between_steps.watch import Watch
from kd.train.capture.graph import WARM_UP, CudaRecorder, StepGraph
from kd.train.loop import train
from kd.train.scalars import Scalars
from kd.train.step import distill_step
from kd.train.update import Update

CPU = torch.device("cpu")


def on_device(run, *, skip=False):
    """A run whose update is decided on the device, with an optimizer that a graph can capture there."""
    groups = [{**group, "fused": True, "foreach": None} for group in run.optimizer.param_groups]
    run.optimizer.param_groups[:] = groups
    run.phases._optimizer, run.phases.scalars = run.optimizer, Scalars(CPU)
    run.update = Update(run.optimizer, run.ema, on_device=True, undo_buffers=skip)
    return run


def images(count=40):
    """Different images at every step."""
    generator = torch.Generator().manual_seed(5)
    whole = batch()
    for _ in range(count):
        yield whole._replace(images=torch.randint(0, 256, whole.images.shape, generator=generator, dtype=torch.uint8))


def live(run):
    return lambda: [*run.student.parameters(), *run.student.buffers(), *_state(run)]


def _state(run):
    return [value for state in run.optimizer.state.values() for value in state.values()]


def trained(run, recorder=None, **watch):
    losses, watch = [], Watch(graph=StepGraph(recorder), **watch)
    watch.reports.add = lambda numbers: losses.append(numbers.means())
    torch.manual_seed(3)
    train(run, watch)
    return losses, watch


def scheduled(**options):
    """A run in which learning rate and weights change at every step."""
    run = on_device(toy_run(images(), steps=9, dropout=0.3, **options))
    run.phases.factor = lambda step: 1 / (1 + step)
    run.terms = {
        name: Term(term.loss, lambda step, at=at: 0.5 + at + 0.1 * step)
        for at, (name, term) in enumerate(run.terms.items())
    }
    run.clip_norm = 0.5
    return run


@pytest.mark.parametrize("accumulate", [1, 2])
def test_replayed_steps_give_the_same_bits(accumulate):
    plain, replayed = (scheduled(accumulate=accumulate) for _ in range(2))
    recorder = FakeRecorder(live(replayed))
    losses, _ = trained(plain)
    of_replays, watch = trained(replayed, recorder)
    assert (recorder.captures, recorder.replays) == (1, 9 - WARM_UP)
    assert watch.graph.captured
    assert of_replays == losses
    assert len({of["total"] for of in losses}) == 9
    for name, value in plain.student.state_dict().items():
        assert torch.equal(replayed.student.state_dict()[name], value), name
    for value, other in zip(_state(plain), _state(replayed), strict=True):
        assert torch.equal(value, other)


def test_compiled_networks_are_captured_too():
    """Compiled before the capture, as a run does it; on the CPU the compiler only traces."""
    calls = []

    def traced(graph, inputs):
        calls.append(graph)
        return graph.forward

    plain, replayed = (scheduled() for _ in range(2))
    for run in (plain, replayed):
        run.student.taps.run = torch.compile(run.student.network, backend=traced)
        run.teacher.taps.run = torch.compile(run.teacher.network, backend=traced)
    losses, _ = trained(plain)
    assert calls
    recorder = FakeRecorder(live(replayed))
    of_replays, watch = trained(replayed, recorder)
    assert watch.graph.captured
    assert recorder.replays == 9 - WARM_UP
    assert of_replays == losses


def test_a_replayed_step_reads_the_teachers_own_images():
    """The same images, at the teacher's size: other values at every step, as those of the student."""

    def run():
        made = on_device(toy_run(steps=7))
        made.batches = (each._replace(teacher_images=255 - each.images) for each in images())
        return made

    plain, _ = trained(run())
    again = run()
    losses, watch = trained(again, FakeRecorder(live(again)))
    assert watch.graph.captured
    assert losses == plain
    assert losses != trained(on_device(toy_run(images(), steps=7)))[0]


def test_a_new_phase_and_a_loaded_state_are_captured_again():
    run = on_device(toy_run(images(), steps=20))
    recorder = FakeRecorder()
    enter = run.phases.enter

    def enters(step, student):
        if step in (6, 13):
            run.phases.entries += 1
            run.update.forget()
        return enter(step, student)

    run.phases.enter = enters
    trained(run, recorder)
    assert recorder.captures == 3
    assert recorder.replays == 20 - 3 * WARM_UP


def test_a_replaced_tensor_is_found_by_the_recorder():
    run = on_device(toy_run(images(), steps=20))
    recorder = FakeRecorder(live(run))
    graph = StepGraph(recorder)
    watch = Watch(graph=graph)
    run.steps = 6
    train(run, watch)
    run.optimizer.load_state_dict(copy.deepcopy(run.optimizer.state_dict()))  # without `phases.forget`
    run.steps = 7
    with pytest.raises(AssertionError, match="has moved"):
        train(run, watch)


class Reads(nn.Module):
    compares = "logits"

    def forward(self, student, teacher, labels):
        loss = PixelKL()(student, teacher, labels)
        return loss * 2 if loss.item() > 1e9 else loss


class Counts(Reads):
    def __init__(self):
        super().__init__()
        self.calls, self.seen = 0, []

    def forward(self, student, teacher, labels):
        self.calls += 1
        self.seen.append(labels.shape)
        return PixelKL()(student, teacher, labels) / self.calls


class Remembers(Reads):
    def __init__(self):
        super().__init__()
        self.bank = {"mean": []}

    def forward(self, student, teacher, labels):
        self.bank["mean"].append(student.detach().mean())
        return PixelKL()(student, teacher, labels) * len(self.bank["mean"])


class Replaces(Reads):
    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(()))

    def forward(self, student, teacher, labels):
        loss = PixelKL()(student, teacher, labels)
        self.mean = 0.9 * self.mean + 0.1 * loss.detach()
        return loss


class Draws(Reads):
    def forward(self, student, teacher, labels):
        return PixelKL()(student, teacher, labels) * numpy.random.rand()  # noqa: NPY002


class Selects(Reads):
    def forward(self, student, teacher, labels):
        return (student - teacher).square().sum(1)[labels < 3].mean()


@pytest.mark.parametrize(
    ("loss", "line"),
    [
        (Reads, r"train.graph: distill.kl \(Reads\) cannot be captured: .*item.*; the steps run without a graph"),
        (
            Counts,
            r"train.graph: distill.kl \(Counts\) cannot be captured: it changes its attribute calls, not a tensor",
        ),
        (Remembers, r"train.graph: distill.kl \(Remembers\) cannot be captured: it changes its attribute bank, not a"),
        (Replaces, r"train.graph: distill.kl \(Replaces\) cannot be captured: it changes its attribute _buffers"),
        (Draws, r"train.graph: a component cannot be captured: it draws random numbers on the processor"),
        (Selects, r"train.graph: distill.kl \(Selects\) cannot be captured: .* selects by a mask"),
    ],
)
def test_what_cannot_be_captured_is_named_once_and_trains_as_it_is(loss, line):
    plain, asked = (on_device(toy_run(images(), steps=6)) for _ in range(2))
    for run in (plain, asked):
        run.terms = dict(run.terms, kl=Term(loss(), lambda step: 1.0))
        run.student.losses["kl"] = run.terms["kl"].loss
    numpy.random.seed(0)  # noqa: NPY002
    losses, _ = trained(plain)
    numpy.random.seed(0)  # noqa: NPY002
    recorder = FakeRecorder()
    with pytest.warns(UserWarning, match=line) as warned:
        of_asked, watch = trained(asked, recorder)
    assert len(warned) == 1
    assert recorder.captures == 0
    assert not watch.graph.captured
    assert of_asked == losses  # the trial has left no trace
    assert vars(plain.terms["kl"].loss).get("calls") == vars(asked.terms["kl"].loss).get("calls")


class OldCuda:
    """CUDA as torch 2.11 has it: where the end of a capture fails, its stream stays the current one, and the generator
    and the allocator stay in the capture."""

    def __init__(self, monkeypatch):
        self.stream, self.failing = "of the steps", False
        self.generator, self.recording = SimpleNamespace(state="drawn 5 times"), set()
        self.generator.clone_state = lambda: self.generator.state
        self.generator.graphsafe_set_state = lambda state: setattr(self.generator, "state", state)
        monkeypatch.setattr(torch.cuda, "graph", self.graph)
        monkeypatch.setattr(torch.cuda, "Stream", lambda device: "of the copies")
        monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: SimpleNamespace(replay=None))
        monkeypatch.setattr(torch.cuda, "current_stream", lambda device: self.stream)
        monkeypatch.setattr(torch.cuda, "set_stream", lambda stream: setattr(self, "stream", stream))
        monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: (0, 7))
        monkeypatch.setattr(torch.cuda, "default_generators", [None, self.generator])
        monkeypatch.setattr(torch._C, "_cuda_endAllocateToPool", self.end, raising=False)

    @contextlib.contextmanager
    def graph(self, graph, *, pool, capture_error_mode):
        self.stream, self.generator.state = "of the capture", "in a capture"
        self.recording.add((1, pool))
        yield
        if self.failing:
            raise RuntimeError("the end of the capture failed")
        self.stream, self.generator.state = "of the steps", "drawn 5 times"
        self.end(1, pool)

    def end(self, device, pool):
        if (device, pool) not in self.recording:
            raise RuntimeError("endAllocatePool: not currently recording to mempool_id")
        self.recording.remove((device, pool))


@pytest.mark.parametrize("fault", ["none", "in the step", "at the end", "at the end, which torch has tidied up"])
def test_a_capture_that_fails_leaves_nothing_behind(monkeypatch, fault):
    cuda = OldCuda(monkeypatch)
    cuda.failing = fault.startswith("at the end")

    def work():
        if fault == "in the step":
            raise RuntimeError("the step failed")
        if "tidied" in fault:
            cuda.recording.clear()
        return torch.zeros(())

    recorder = CudaRecorder(torch.device("cuda", 1))
    fails = contextlib.nullcontext() if fault == "none" else pytest.raises(RuntimeError, match=r"^the (end|step) ")
    with fails:
        recorder.capture(work)
    assert (cuda.stream, cuda.generator.state, cuda.recording) == ("of the steps", "drawn 5 times", set())


def test_a_run_that_captured_nothing_empties_no_cache(monkeypatch):
    """torch 2.11 refuses to, after a capture whose end failed."""
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: pytest.fail("the cache is emptied"))
    run = on_device(toy_run(images(), steps=WARM_UP + 1))
    _, watch = trained(run)
    watch.graph.release()


def test_a_function_that_reads_a_value_is_named():
    def mine(student, teacher, labels):
        return (student - teacher).square().mean() * float(student.detach().mean() < 1e9)

    run = on_device(toy_run(images(), steps=6))
    run.terms = dict(run.terms, kl=Term(mine, lambda step: 1.0))
    with pytest.warns(UserWarning, match=re.escape("train.graph: distill.kl (mine) cannot be captured")):
        trained(run, FakeRecorder())


def test_a_batch_of_another_shape_runs_as_it_is():
    small = batch(images=4)
    run = on_device(toy_run(itertools.chain([batch()] * 5, [small], [batch()] * 3), steps=9))
    recorder = FakeRecorder()
    trained(run, recorder)
    assert recorder.replays == 9 - WARM_UP - 1


def test_a_step_beside_the_capture_for_which_memory_runs_out_is_repeated_without_it():
    """Its statistics, its random numbers and its gradients are those of a step that was made once."""

    def run():
        batches = [*images(5), batch(images=4, seed=7), *images(3)]
        made = on_device(toy_run(iter(batches), steps=9, dropout=0.3))
        made.student.network.norm = nn.BatchNorm2d(4)
        return made

    plain, _ = trained(run())
    full, recorder = run(), FakeRecorder()
    passes = []

    def runs_out(module, args, output):
        if len(output) == 4:
            passes.append(recorder.captures)
            if len(passes) == 1:
                raise torch.OutOfMemoryError("CUDA out of memory")

    full.student.network.head.register_forward_hook(runs_out)
    line = (
        "train.graph: the GPU's memory does not hold a step of another size beside the captured one; the steps run "
        "without a graph"
    )
    with pytest.warns(UserWarning, match=f"^{re.escape(line)}$") as warned:
        losses, _ = trained(full, recorder)
    assert len(warned) == 1
    assert passes == [1, 1]
    assert (recorder.captures, recorder.replays) == (1, 5 - WARM_UP)
    assert losses == plain


def test_an_evaluation_for_which_memory_runs_out_takes_that_of_the_capture():
    run = on_device(toy_run(images(), steps=5))
    recorder = FakeRecorder()
    _, watch = trained(run, recorder)
    left = [RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")]

    def evaluation():
        if left:
            raise left.pop()
        return watch.graph.captured

    assert not watch.graph.making_room(evaluation)
    run.steps = 10
    train(run, watch)
    assert (recorder.captures, recorder.replays) == (2, 2 + 2)
    left += [torch.OutOfMemoryError("still")] * 2
    with pytest.raises(torch.OutOfMemoryError, match="still"):
        watch.graph.making_room(evaluation)
    with pytest.raises(torch.OutOfMemoryError, match="nothing to release"):
        StepGraph().making_room(lambda: (_ for _ in ()).throw(torch.OutOfMemoryError("nothing to release")))


def test_no_step_reads_a_value_on_the_processor():
    """Between two reports: no `.item()` and nothing like it, with and without a graph."""
    for recorder in (None, FakeRecorder()):
        run = on_device(toy_run(images(), steps=30)) if recorder else toy_run(images(), steps=30)
        watch = Watch(graph=StepGraph(recorder))
        run.steps = WARM_UP + 1  # a trial and a capture are not steps
        train(run, watch)
        run.steps = 30
        with Waits() as waits:
            train(run, watch)
        assert waits.counts == {}


def bare_step(run, batch):
    """What no training can do without: networks, losses, backward pass and update."""
    distill_step(run, batch)["total"].backward()
    run.optimizer.step()
    run.optimizer.zero_grad()


def test_the_loop_launches_little_more_than_a_bare_step():
    """Types of images and labels, the gradient's norm and whether it counts, the learning rate, the numbers."""
    run = on_device(toy_run(iter(list(images(5))), steps=6))
    run.phases.factor = lambda step: 1 / (1 + step)
    run.steps = 3
    train(run)
    run.steps = 4
    with Launches() as of_loop:
        train(run)
    given = to_device(next(run.batches), run.precision)
    with Launches() as bare:
        bare_step(run, given)
    assert bare.names.total() > 50
    added = of_loop.names - bare.names
    assert added.total() <= 11, added


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.AdamW])
def test_the_loop_calls_little_more_than_a_bare_step_whatever_the_size_of_the_network(optimizer):
    """For each parameter, it reads the gradient and its type, once."""
    added = []
    for layers in (1, 21):
        run = toy_run(steps=6)
        run.student.network.act = nn.Sequential(nn.ReLU(), *(nn.Conv2d(4, 4, 1) for _ in range(layers)))
        run.optimizer = optimizer(run.student.parameters(), lr=0.1)
        run.optimizer.param_groups[0]["initial_lr"] = 0.1
        run.phases._optimizer = run.optimizer
        on_device(run)
        run.steps = 3
        train(run)
        run.steps = 4
        with Calls() as of_loop:
            train(run)
        given = to_device(next(run.batches), run.precision)
        with Calls() as bare:
            bare_step(run, given)
        added.append(of_loop.count - bare.count)
    assert added[1] - added[0] == 2 * 2 * 20  # the gradient and its type, of each new parameter
    assert added[0] <= 70, added


def test_a_planted_read_is_counted():
    run = toy_run(images(), steps=2)
    run.terms = dict(run.terms, kl=Term(Reads(), lambda step: 1.0))
    with Waits() as waits:
        train(run)
    assert waits.counts["item"] == 2


def test_nothing_is_captured_while_no_update_has_been_made():
    """The first steps are not finite, so that the optimizer has no state yet."""
    white = batch()._replace(images=torch.full_like(batch().images, 255))
    run = on_device(toy_run(iter([white] * 5 + [batch()] * 5), steps=10), skip=True)
    run.student.network.conv.register_forward_pre_hook(white_is_infinite)
    recorder = FakeRecorder()
    with pytest.warns(UserWarning, match="skipped"):
        trained(run, recorder, guard=Guard("skip", 10))
    assert recorder.captures == 1
    assert recorder.replays == 10 - 5 - 2  # one update by the processor's decision, one by the device's


@pytest.mark.parametrize("graph", [False, True], ids=["as it is", "replayed"])
@pytest.mark.parametrize("bad", [1, 7])
def test_a_skipped_step_on_the_device_leaves_no_trace(graph, bad):
    with_bad, without = toy_run(steps=9), toy_run(steps=8)
    for run in (with_bad, without):
        run.student.network.norm = nn.BatchNorm2d(4)
        run.student.network.conv.register_forward_pre_hook(white_is_infinite)
        run.optimizer = torch.optim.SGD(run.student.parameters(), lr=0.1, momentum=0.9, fused=True)
        run.optimizer.param_groups[0]["initial_lr"] = 0.1
        run.phases._optimizer, run.phases.scalars = run.optimizer, Scalars(CPU)
        run.update = Update(run.optimizer, None, on_device=True, undo_buffers=True)
    stream = [batch(seed=seed) for seed in range(9)]
    without.batches = iter(stream[:bad] + stream[bad + 1 :])
    stream[bad] = stream[bad]._replace(images=torch.full_like(stream[bad].images, 255))
    with_bad.batches = iter(stream)
    watch = Watch(guard=Guard("skip", 3), graph=StepGraph(FakeRecorder() if graph else None))
    with pytest.warns(UserWarning, match=rf"step {bad + 1}: .*, on images sample 0.*; skipped \(1 of at most 3\)"):
        train(with_bad, watch)
    assert watch.graph.captured == graph
    train(without)
    for name, value in without.student.state_dict().items():
        assert torch.equal(value, with_bad.student.state_dict()[name]), name
