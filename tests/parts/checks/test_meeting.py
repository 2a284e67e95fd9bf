import json

import pytest
from tiny import read, run, write_recipes

from kd.errors import DataError, RecipeError
from kd.parts.checks.dry_run import open_parts
from kd.runs import is_finished

HALVES = """
import torch
from torch import nn

from kd.types import Sample, SegmentationOutput, Tap


class Halves(nn.Module):  # halves three times and doubles back: each side must be divisible by 8
    def __init__(self, num_classes, in_channels, batchless=False, least=1):
        super().__init__()
        self.num_classes, self.in_channels, self.taps = num_classes, in_channels, {"low": Tap(4, 4)}
        self.down = nn.ModuleList(nn.Conv2d(c, 4, 3, 2, 1) for c in (in_channels, 4, 4))
        self.head = nn.Conv2d(4, num_classes, 1)
        self.batchless, self.least = batchless, least

    def forward(self, images):
        if self.training and len(images) < self.least:
            raise ValueError("needs a second image")
        half = self.down[0](images)
        low = self.down[1](half)
        deep = self.down[2](low)
        low = low + nn.functional.interpolate(deep, scale_factor=2)
        logits = self.head(half + nn.functional.interpolate(low, scale_factor=2))
        return SegmentationOutput(logits.squeeze(0) if self.batchless else logits, {"low": low}, {})


class Shifting(Net):
    def forward(self, images):
        images -= 0.5
        return super().forward(images)


class Stripes36:
    class_names, colors, in_channels = ("dark", "bright"), ((0, 0, 0), (9, 9, 9)), 3

    def __init__(self, split, breaks=""):
        self.breaks = breaks

    def __len__(self):
        return 5

    def __getitem__(self, key):
        if self.breaks == "tuple":
            return torch.zeros(3, 36, 36), torch.zeros(36, 36)
        if self.breaks == "raises":
            return self.file[key[0]]
        return Sample(torch.zeros(3, 36, 36, dtype=torch.uint8), torch.zeros(36, 36, dtype=torch.uint8), "grey")


class Colourless(Stripes36):
    @property
    def colors(self):
        raise AttributeError("colors")


class Clumsy:
    def __call__(self, image, mask):
        return image.rotate(90), mask


def downhill(steps):
    return lambda step: 1 - 2 * step / steps


def halved(steps):
    return lambda step: torch.tensor(0.5)


def forgetful(steps):
    return lambda step: 1.0 if step != 5 else None


class Overwrites(nn.Module):
    def forward(self, logits, labels):
        powers = logits.exp()
        total = powers.mean()
        powers.mul_(2)
        return total


class Unlearned(torch.autograd.Function):
    @staticmethod
    def forward(ctx, maps):
        return maps.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient.nothing


class Unteachable(nn.Module):
    compares = "either"

    def forward(self, student, teacher, labels):
        return Unlearned.apply(student).mean()


class BadAdapter(nn.Module):
    def __init__(self, in_channels, out_channels):
        super().__init__()

    def forward(self, maps):
        return maps.undefined


class Twofold(nn.Conv2d):
    def __init__(self, in_channels, out_channels):
        super().__init__(in_channels, out_channels, 1)

    def forward(self, maps):
        return super().forward(maps), maps


def Plain(in_channels, out_channels):
    return lambda maps: maps


class Shapeless(Net):
    def __init__(self, num_classes, in_channels):
        super().__init__(num_classes, in_channels, channels=4)
        self.head = nn.LazyConv2d(num_classes, 1)


class Positions(Net):
    def forward(self, images):
        if "position" not in dict(self.named_buffers()):
            self.register_buffer("position", torch.zeros(1))
        return super().forward(images)


class Rateless(torch.optim.Optimizer):
    def __init__(self, params):
        super().__init__(params, {})


class Other:
    def __init__(self, params):
        pass


class Bare(Net):
    def forward(self, images):
        return self.head(self.conv(images))


def stumbling(steps):
    return lambda step: 1 / (steps - 1 - step)


class WrongAtItsOwnSize(nn.Module):
    def forward(self, logits, labels):
        return logits.mean() * labels.new_zeros(65)[labels.shape[-1]]


class Signed(torch.optim.Optimizer):
    def __init__(self, params, lr=0.01):
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.sub_(group["lr"] * (parameter.grad.sign() + parameter))


class Lazy(torch.optim.SGD):
    def step(self, closure=None):
        return self.nothing()
"""


@pytest.fixture
def path(folder):
    path = write_recipes(folder)
    (folder / "nets.py").write_text((folder / "nets.py").read_text() + HALVES)
    return path


def mistakes(path, *overrides):
    with pytest.raises(RecipeError) as caught:
        open_parts(read(path, *overrides), runs=path.parent / "runs", trained=False)
    return caught.value.mistakes


def line_of(path, text):
    lines = (path.parent / "nets.py").read_text().splitlines()
    return f"(nets.py:{next(n for n, line in enumerate(lines, 1) if text in line)})"


ALONE = ("teacher=null", "distill=null")


@pytest.mark.parametrize(
    ("overrides", "size", "wanted"),
    [
        (["data.size=[36, 32]"], "size [36, 32] in training", "data.size: [32, 32]"),
        (["data.size=[64, 64]", "data.crop=[60, 32]"], "crop [60, 32] in training", "data.crop: [64, 32]"),
        (["evaluate.size=[40, 44]"], "size [40, 44] in evaluation", "evaluate.size: [32, 32]"),
    ],
)
def test_a_network_that_does_not_take_a_size_of_the_run_gets_one_that_it_takes(path, overrides, size, wanted):
    student = "student={use: 'nets.py:Halves'}"
    (line,) = mistakes(path, *ALONE, student, *overrides)
    assert f"student nets.py:Halves fails on {'4' if 'training' in size else '1'} image" in line
    assert f"of {size}: RuntimeError: The size of tensor a" in line
    assert line.endswith(f"{line_of(path, 'low = low + nn')}; set {wanted}, which it takes")
    name, _, value = wanted.partition(": ")
    followed = [text for text in overrides if not text.startswith(name)] + [f"{name}={value}"]
    open_parts(read(path, *ALONE, student, *followed), runs=path.parent, trained=False)


def test_a_teacher_that_does_not_take_the_size_is_named_before_it_trains_for_hours(path):
    teacher = (path.parent / "teacher.yaml").read_text()
    (path.parent / "teacher.yaml").write_text(teacher.replace('"nets.py:Net", args: {channels: 8}', '"nets.py:Halves"'))
    (line,) = mistakes(path, "data.size=[36, 36]", "distill.hint=null")
    assert line.startswith(f"{path}:13:1: the teacher nets.py:Halves fails on 4 images of size [36, 36] in training")


@pytest.mark.parametrize(
    ("overrides", "wanted"),
    [
        (["train.batch_size=1"], "train.batch_size: 2"),
        (["train.batch_size=4", "train.accumulate=4"], "train.accumulate: 2"),
        (["train.batch_size=3", "train.accumulate=3"], "train.accumulate: 1"),
    ],
)
def test_a_network_that_needs_two_images_is_refused_where_micro_batches_have_one(path, overrides, wanted):
    student = "student={use: 'nets.py:Halves', args: {least: 2}}"
    (line,) = mistakes(path, *ALONE, student, *overrides)
    assert " fails on 1 image of size [32, 32] in training: ValueError: needs a second image (nets.py:" in line
    assert line.endswith(f": set {wanted}")
    key, _, value = wanted.partition(": ")
    followed = [text for text in overrides if not text.startswith(key)]
    open_parts(read(path, *ALONE, student, *followed, f"{key}={value}"), runs=path.parent, trained=False)
    open_parts(read(path, *ALONE, student, "train.batch_size=2"), runs=path.parent, trained=False)


@pytest.mark.parametrize("side", ["student", "teacher"])
def test_a_network_that_changes_its_images_in_place_is_refused(path, side):
    (line,) = mistakes(path, f"{side}={{use: 'nets.py:Shifting', args: {{channels: 8}}}}")
    assert line.endswith(
        f"the {side} nets.py:Shifting changes its images, which the other network reads too, in place; write "
        "images = images - mean, not images -= mean, and normalize(…) without inplace=True"
    )


def test_logits_without_the_dimension_of_the_batch_are_found_by_the_last_short_batch(path):
    (line,) = mistakes(path, *ALONE, "student={use: 'nets.py:Halves', args: {batchless: true}}")
    assert line.endswith(("keep the dimension of the batch", "keep the dimension of the batch in it"))


@pytest.mark.parametrize(
    ("override", "place", "message"),
    [
        (
            "data.augment=[{use: 'nets.py:Clumsy'}]",
            "return image.rotate",
            ": Clumsy failed: AttributeError: ",
        ),
        (
            "schedule={use: 'nets.py:stumbling'}",
            "return lambda step: 1 / (",
            "nets.py:stumbling raised ZeroDivisionErr",
        ),
        ("supervised={use: 'nets.py:WrongAtItsOwnSize'}", "return logits.mean() * labels", "IndexError"),
        ("optimizer={use: 'nets.py:Lazy', args: {lr: 0.1}}", "return self.nothing()", "nets.py:Lazy raised Attribute"),
    ],
)
def test_what_a_users_code_raises_is_one_line_with_its_file_and_line(path, override, place, message):
    size = ["data.size=[72, 72]"] if "ItsOwn" in override else []
    (line,) = mistakes(path, *ALONE, override, *size)
    assert message in line
    assert line.endswith(line_of(path, place))


def test_an_optimizer_of_the_users_trains(path):
    recipe = read(path, *ALONE, "optimizer={use: 'nets.py:Signed'}", "train.steps=2")
    ((run_dir,), _) = run(recipe, path.parent / "runs")
    assert is_finished(run_dir)


@pytest.mark.parametrize(
    ("overrides", "loss", "message"),
    [
        (
            [*ALONE, "supervised={use: 'nets.py:Overwrites'}"],
            "supervised: nets.py:Overwrites",
            "modified by an inplace",
        ),
        (["distill.kl.loss={use: 'nets.py:Unteachable'}"], "distill.kl.loss: nets.py:Unteachable", "AttributeError: "),
    ],
)
def test_a_loss_whose_gradient_fails_is_named(path, overrides, loss, message):
    (line,) = mistakes(path, *overrides)
    assert f": {loss}: its gradient cannot be computed: " in line
    assert message in line


def test_an_adapter_that_raises_is_named(path):
    (line,) = mistakes(path, "distill.hint.adapter.use=nets.py:BadAdapter")
    assert ": distill.hint.adapter: nets.py:BadAdapter raised AttributeError: " in line
    assert line.endswith(line_of(path, "return maps.undefined"))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "distill.hint.adapter.use=nets.py:Twofold",
            ": distill.hint.adapter: nets.py:Twofold: an adapter returns a tensor (N, out_channels, h, w), not tuple",
        ),
        ("distill.hint.adapter.use=nets.py:Plain", "nets.py:Plain is function, not an adapter (torch.nn.Module)"),
        (
            "optimizer={use: 'nets.py:Rateless'}",
            "Rateless is no torch.optim.Optimizer with a learning rate, `lr`, which the schedule sets",
        ),
        ("optimizer={use: 'nets.py:Other'}", "Other is no torch.optim.Optimizer with a learning rate, `lr`, which the"),
        (
            "student={use: 'nets.py:Shapeless'}",
            "nets.py:Shapeless: head.weight has no shape before the first forward (torch.nn.Lazy…); give the number of "
            "channels (nets.py:",
        ),
        (
            "student={use: 'nets.py:Positions', args: {channels: 4}}",
            "nets.py:Positions: its first forward makes or replaces position, so that its weights would fit no network "
            "as it is built; make it in __init__, or as a buffer with persistent=False",
        ),
    ],
)
def test_a_component_that_is_no_adapter_optimizer_or_network_is_named(path, override, message):
    (line,) = mistakes(path, override)
    assert message in line


def test_a_network_that_returns_a_tensor_gets_the_two_ways_on(path):
    (line,) = mistakes(path, *ALONE, "student={use: 'nets.py:Bare'}")
    assert ": student: nets.py:Bare: forward returned a Tensor; return kd.types.SegmentationOutput(" in line
    assert ", or give the network to teachers.Wrapped as its argument `network`" in line
    bare = "{use: 'nets.py:Bare', args: {num_classes: 2}}"
    wrapped = f"student={{use: teachers.Wrapped, args: {{network: {bare}}}}}"
    open_parts(read(path, *ALONE, wrapped), runs=path.parent, trained=False)


def test_a_schedule_is_called_at_every_step(path):
    (line,) = mistakes(path, *ALONE, "schedule={use: 'nets.py:forgetful'}")
    assert "nets.py:forgetful raised TypeError: '<=' not supported between" in line


def test_a_schedule_that_returns_a_tensor_keeps_its_curves(path):
    schedules = ("schedule={use: 'nets.py:halved'}", "distill.kl.weight={use: 'nets.py:halved'}")
    teacher = "teacher={use: 'nets.py:Net', args: {channels: 8}}"
    ((run_dir,), lines) = run(read(path, teacher, *schedules, "train.steps=2"), path.parent / "runs")
    curves = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    assert [curve["lr"] for curve in curves if "lr" in curve] == [0.05, 0.05]
    assert not [line for line in lines if "stopped" in line]


def test_a_schedule_below_zero_is_refused(path):
    (line,) = mistakes(path, *ALONE, "schedule={use: 'nets.py:downhill'}")
    assert line.endswith("nets.py:downhill returns -0.25 at step 5 of 8; a factor is finite, 0 or above")


def test_a_dataset_without_colours_is_a_mistake_of_the_recipe_with_the_line_of_its_class(path):
    (line,) = mistakes(path, *ALONE, "data.use=nets.py:Colourless")
    assert line.endswith(
        f": data: nets.py:Colourless has no colors {line_of(path, 'class Colourless')}; see docs/add-a-dataset.md"
    )


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("colors = None", "colors must be 2 colours (r, g, b), integers 0 … 255, one for each class, got None (nets."),
        ("colors = ((300, 0, 0), (0, 0, 0))", "one for each class, got ((300, 0, 0), (0, 0, 0)) (nets.py:"),
        ("colors = ((0.5, 0, 0), (0, 0, 0))", "integers 0 … 255, one for each class, got ((0.5, 0, 0), (0, 0, 0)) ("),
        ("class_names = None", "class_names must be a tuple of names, got None (nets.py:"),
        ("class_names = torch.tensor([1, 2])", "class_names must be a tuple of names, got tensor([1, 2]) (nets.py:"),
        (r"class_names = ('a\udce4', 'b')", "class_names must be a tuple of names, got ('a\\udce4', 'b') (nets.py:"),
        ("__len__ = lambda self: 5 / 2", "nets.py:Slip raised TypeError: 'float' object cannot be interpreted as an"),
    ],
)
def test_what_a_dataset_declares_is_checked(path, body, message):
    (path.parent / "nets.py").write_text(
        (path.parent / "nets.py").read_text() + f"\nclass Slip(Stripes):\n    {body}\n"
    )
    assert message in mistakes(path, *ALONE, "data.use=nets.py:Slip")[0]


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ("torch.zeros(5, 5).byte().numpy()", "Slip.labels returned ndarray; expected a torch tensor uint8 (H, W)"),
        (
            "torch.zeros(5, 5).byte()",
            "sample 0: Slip.labels(0) differs from the labels of sample 0, so that what is counted is not what is "
            "trained; return the same from both",
        ),
    ],
)
def test_labels_that_are_read_alone_are_those_of_the_sample(path, returned, message):
    slip = f"\nclass Slip(Stripes):\n    def labels(self, index):\n        return {returned}\n"
    (path.parent / "nets.py").write_text((path.parent / "nets.py").read_text() + slip)
    with pytest.raises(DataError) as caught:
        open_parts(read(path, *ALONE, "data.use=nets.py:Slip"), runs=path.parent, trained=False)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("breaks", "kind", "message"),
    [
        ("tuple", DataError, "Stripes36: sample {} is a tuple; return kd.types.Sample(image, labels, name)"),
        (
            "raises",
            RecipeError,
            "Stripes36: sample {} cannot be read: AttributeError: 'Stripes36' object has no attribute 'file'",
        ),
    ],
)
def test_a_sample_that_cannot_be_read_is_an_error_of_the_data_or_of_its_code(path, breaks, kind, message):
    recipe = read(path, *ALONE, "data.use=nets.py:Stripes36", f"data.args.breaks={breaks}")
    with pytest.raises(kind) as caught:
        open_parts(recipe, runs=path.parent, trained=False)
    before, _, after = message.partition("{}")
    assert str(caught.value).startswith(before)
    assert after in str(caught.value)


def test_a_network_that_takes_no_small_image_is_checked_at_its_own_size(path):
    source = (path.parent / "nets.py").read_text()
    (path.parent / "nets.py").write_text(
        source.replace("        half = self", "        assert images.shape[2] == 72\n        half = self")
    )
    student = "student={use: 'nets.py:Halves'}"
    open_parts(read(path, *ALONE, student, "data.size=[72, 72]"), runs=path.parent, trained=False)
    open_parts(read(path, student, "data.size=[72, 72]"), runs=path.parent, trained=False)
    assert "AssertionError" in mistakes(path, *ALONE, student, "data.size=[64, 64]")[0]


@pytest.mark.gpu
def test_networks_losses_and_metrics_meet_on_the_gpu(path):
    metrics = "evaluate.metrics=[{use: kd.metrics.BoundaryIoU}]"
    open_parts(read(path, "device=cuda", metrics), runs=path.parent, trained=False)
    (line,) = mistakes(path, *ALONE, "device=cuda", "student={use: 'nets.py:Halves'}", "data.size=[36, 32]")
    assert line.endswith("set data.size: [32, 32], which it takes")
