"""The contract of losses, for everything that `kd.losses` exports.

A loss without a row in the tables below is built without arguments and has every property.
"""

import ast
import inspect
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from fake_graph import FakeRecorder, Refusing
from jaxtyping import Float
from torch import Tensor, nn

import kd.losses

ROOT = Path(__file__).resolve().parents[2]
N, K, H, W = 2, 4, 6, 5
IGNORE = 255


def filled(loss: nn.Module) -> nn.Module:
    """A loss with a memory, filled, in evaluation mode so that it writes nothing more."""
    inputs = Inputs("CIRKDMemory", torch.float32)
    for _ in range(2):
        loss(inputs.student, inputs.teacher, inputs.labels)
    return loss.eval()


class OfTwoTaps(nn.Module):
    """Two taps made from one map, for a loss that compares several."""

    compares = "either"

    def __init__(self, loss: nn.Module) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, student: Tensor, teacher: Tensor, labels: Tensor | None) -> Tensor:
        return self.loss((student[:, :1], student), (teacher[:, :1], teacher), (labels, labels))


# How to build a loss for maps of K channels if the default arguments do not.
BUILD: dict[str, Callable[[], nn.Module]] = {
    "Masked": lambda: kd.losses.Masked(kd.losses.PixelKL(), entropy=0.9),
    "Sampled": lambda: kd.losses.Sampled(kd.losses.PixelKL(), pixels=12),
    "CIRKDMemory": lambda: filled(kd.losses.CIRKDMemory(K, K, pixel_queue=8, region_queue=4)),
    "DSD": lambda: OfTwoTaps(kd.losses.DSD()),
    "ReviewKD": lambda: kd.losses.ReviewKD(K, width=3),
    "VID": lambda: kd.losses.VID(K),
}

# Maps of another shape than (2, 4, 6, 5): (N, C, h, w).
SHAPE: dict[str, tuple[int, int, int, int]] = {}

# (loss, property) -> why its definition excludes the property. Every row is tested: the property must fail.
EXCEPTIONS: dict[tuple[str, str], str] = {
    ("AT", "channel_mismatch_is_an_error"): "compares spatial maps: the channels are averaged away first",
    ("BPKD", "tiling_changes_nothing"): "the seams between tiles are edges",
    ("CIRKDMemory", "two_classes"): "its queues are built for the 4 channels of the other maps",
    ("CIRKDMiniBatch", "channel_mismatch_is_an_error"): "compares similarities: the channel counts may differ",
    ("DSD", "tiling_changes_nothing"): "the overlap of two classes sums products of shares of the map",
    ("IFVD", "channel_mismatch_is_an_error"): "compares similarities: the channel counts may differ",
    ("RKD", "channel_mismatch_is_an_error"): "compares distances and angles: the channel counts may differ",
    ("SKD", "channel_mismatch_is_an_error"): "compares similarities: the channel counts may differ",
    ("SKD", "tiling_changes_nothing"): "windows of 2×2 straddle the seam of an odd width",
    ("SP", "channel_mismatch_is_an_error"): "compares similarities: the channel counts may differ",
    ("SP", "odd_sizes_and_one_image"): "compares images: 0 by definition for one",
    ("PseudoLabel", "minimum_at_the_target"): "the target is the teacher's class, not its probabilities",
    ("PseudoLabel", "minimum_at_a_rare_class"): "the target is the teacher's class, not its probabilities",
    ("Sampled", "batch_order_changes_nothing"): "draws different pixels for each image of the batch",
    ("Sampled", "channel_mismatch_is_an_error"): "the inner loss raises the error, with the shapes of the sample",
    ("Sampled", "tiling_changes_nothing"): "draws other pixels from a larger map",
    ("ReviewKD", "minimum_at_the_target"): "reads the student through learnt layers",
    ("ReviewKD", "minimum_at_a_rare_class"): "reads the student through learnt layers",
    ("ReviewKD", "one_image_all_ignored_adds_nothing"): "batch normalisation includes the ignored image",
    ("ReviewKD", "tiling_changes_nothing"): "compares means over a fixed number of cells",
    ("ReviewKD", "two_classes"): "is built for the channels of one tap",
    ("VID", "two_classes"): "has a variance for each channel of one tap",
}


class Inputs:
    """A seeded student, teacher and labels; pixels of the last rows and one stray pixel are ignored."""

    def __init__(self, name: str, dtype: torch.dtype = torch.float64, shape: tuple[int, ...] | None = None) -> None:
        shape = shape or SHAPE.get(name, (N, K, H, W))
        random = torch.Generator().manual_seed(7)
        self.student = torch.randn(shape, generator=random, dtype=torch.float64).to(dtype).requires_grad_()
        self.teacher = torch.randn(shape, generator=random, dtype=torch.float64).to(dtype)
        self.labels = torch.randint(0, shape[1], (shape[0], *shape[2:]), generator=random)
        self.labels[:, -2:] = IGNORE
        self.labels[0, 0, 1] = IGNORE


def build(name: str, dtype: torch.dtype = torch.float64) -> nn.Module:
    torch.manual_seed(0)
    loss = BUILD.get(name, getattr(kd.losses, name))()
    return loss.to(dtype)


def supervised(loss: object) -> bool:
    return not hasattr(loss, "compares")


def value(loss: nn.Module, student: Tensor, teacher: Tensor, labels: Tensor | None) -> Tensor:
    torch.manual_seed(1)  # a loss that draws must draw the same in two calls that are compared
    return loss(student, labels) if supervised(loss) else loss(student, teacher, labels)


def value_and_gradient(loss: nn.Module, student: Tensor, teacher: Tensor, labels: Tensor | None):
    student = student.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    result = value(loss, student, teacher, labels)
    (gradient,) = torch.autograd.grad(result, student)
    return result.detach(), gradient


def scalar_in_float32_from_half_types(name: str) -> None:
    inputs = Inputs(name, torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        result = value(build(name, torch.float32), inputs.student, inputs.teacher, inputs.labels)
    assert result.shape == ()
    assert result.dtype == torch.float32
    raised = value(build(name, torch.float32), inputs.student.float(), inputs.teacher.float(), inputs.labels)
    torch.testing.assert_close(result, raised)  # nothing was computed in bfloat16


def scalar_in_float64_from_float64(name: str) -> None:
    inputs = Inputs(name)
    result = value(build(name), inputs.student, inputs.teacher, inputs.labels)
    assert result.shape == ()
    assert result.dtype == torch.float64


def minimum_at_the_target(name: str) -> None:
    inputs, loss = Inputs(name), build(name)
    if supervised(loss):
        target = torch.zeros_like(inputs.student).scatter(1, inputs.labels.clamp(max=K - 1)[:, None], 20.0)
    else:
        target = inputs.teacher
    least, gradient = value_and_gradient(loss, target, inputs.teacher, inputs.labels)
    assert gradient.abs().max() < 1e-6
    for scale in (0.1, 1.0, 10.0):
        assert least < value(loss, target + scale * inputs.student, inputs.teacher, inputs.labels)


def minimum_at_a_rare_class(name: str) -> None:
    """No image has the last class; or, in features, a channel or a pixel holds almost nothing."""
    inputs, loss = Inputs(name), build(name)
    last = torch.zeros(K, 1, 1, dtype=torch.float64).index_fill(0, torch.tensor(K - 1), 1)
    if supervised(loss):
        inputs.labels[inputs.labels == K - 1] = 0
        certain = torch.zeros_like(inputs.student).scatter(1, inputs.labels.clamp(max=K - 1)[:, None], 20.0)
        targets = [certain - offset * last for offset in (14, 60)]
    else:
        targets = [inputs.teacher - offset * last for offset in (14, 60)]
        targets += [inputs.teacher * (1 - last) + last + 1e-6 * inputs.teacher, 1e-13 * inputs.teacher]
        targets += [torch.cat((1e-13 * inputs.teacher[..., :2], inputs.teacher[..., 2:]), 3)]
    for target in targets:
        least, gradient = value_and_gradient(loss, target, target, inputs.labels)
        assert gradient.abs().max() < 1e-6
        for change in (5 * last, -5 * last, 0.1 * inputs.student, inputs.student, 10 * inputs.student):
            assert least < value(loss, target + change, target, inputs.labels) + 1e-9


def gradient_to_the_student_alone(name: str) -> None:
    inputs, loss = Inputs(name), build(name)
    teacher = inputs.teacher.requires_grad_()
    value(loss, inputs.student, teacher, inputs.labels).backward()
    assert inputs.student.grad is not None
    assert inputs.student.grad.abs().sum() > 0
    assert teacher.grad is None


def zero_when_all_is_ignored(name: str) -> None:
    inputs = Inputs(name)
    ignored = torch.full_like(inputs.labels, IGNORE)
    result, gradient = value_and_gradient(build(name), inputs.student, inputs.teacher, ignored)
    assert result == 0
    assert torch.equal(gradient, torch.zeros_like(gradient))


def one_image_all_ignored_adds_nothing(name: str) -> None:
    inputs, loss = Inputs(name), build(name)
    inputs.labels[1] = IGNORE
    result, gradient = value_and_gradient(loss, inputs.student, inputs.teacher, inputs.labels)
    alone, alone_gradient = value_and_gradient(loss, inputs.student[:1], inputs.teacher[:1], inputs.labels[:1])
    torch.testing.assert_close(result, alone)
    torch.testing.assert_close(gradient[:1], alone_gradient)
    assert torch.equal(gradient[1:], torch.zeros_like(gradient[1:]))


def ignored_pixels_change_nothing(name: str) -> None:
    inputs, loss = Inputs(name), build(name)
    ignored = (inputs.labels == IGNORE)[:, None].expand_as(inputs.student)
    result, gradient = value_and_gradient(loss, inputs.student, inputs.teacher, inputs.labels)
    assert not gradient[ignored].any()
    for other in (50.0, -1e3, torch.inf, torch.nan):  # a gradient must not be 0 times inf
        student = inputs.student.detach().masked_fill(ignored, other)
        teacher = inputs.teacher.masked_fill(ignored, -other / 3)
        changed = value_and_gradient(loss, student, teacher, inputs.labels)
        torch.testing.assert_close(changed, (result, gradient))


def batch_order_changes_nothing(name: str) -> None:
    inputs, loss = Inputs(name), build(name)
    inputs.labels[1, 0] = IGNORE  # images with different numbers of valid pixels
    result = value(loss, inputs.student, inputs.teacher, inputs.labels)
    torch.testing.assert_close(
        value(loss, inputs.student.flip(0), inputs.teacher.flip(0), inputs.labels.flip(0)), result
    )


def tiling_changes_nothing(name: str) -> None:
    inputs, loss = Inputs(name), build(name)
    result = value(loss, inputs.student, inputs.teacher, inputs.labels)
    tiled = (maps.repeat(*[1] * (maps.dim() - 2), 2, 2) for maps in (inputs.student, inputs.teacher, inputs.labels))
    torch.testing.assert_close(value(loss, *tiled), result)


def odd_sizes_and_one_image(name: str) -> None:
    inputs = Inputs(name, shape=(1, SHAPE.get(name, (N, K, H, W))[1], 7, 9))
    result, gradient = value_and_gradient(build(name), inputs.student, inputs.teacher, inputs.labels)
    assert result.isfinite()
    assert gradient.isfinite().all()
    assert gradient.any()


def two_classes(name: str) -> None:
    inputs = Inputs(name, shape=(N, 2, H, W))
    result, gradient = value_and_gradient(build(name), inputs.student, inputs.teacher, inputs.labels)
    assert result.isfinite()
    assert gradient.isfinite().all()
    assert gradient.any()


def large_values_stay_finite(name: str) -> None:
    inputs = Inputs(name, torch.float32)
    student, teacher = inputs.student.detach().sign() * 1e4, inputs.teacher.sign() * 1e4
    for first, second in ((student, teacher), (teacher, teacher), (student * 0, teacher), (student, teacher * 0)):
        result, gradient = value_and_gradient(build(name, torch.float32), first, second, inputs.labels)
        assert result.isfinite()
        assert gradient.isfinite().all()


def channels_last_changes_nothing(name: str) -> None:
    inputs, loss = Inputs(name), build(name)
    result, gradient = value_and_gradient(loss, inputs.student, inputs.teacher, inputs.labels)
    student, teacher = (m.to(memory_format=torch.channels_last) for m in (inputs.student, inputs.teacher))
    changed = value_and_gradient(loss, student, teacher, inputs.labels)
    torch.testing.assert_close(changed, (result, gradient))


def gradient_is_right(name: str) -> None:
    shape = (2, SHAPE.get(name, (N, K, H, W))[1], 3, 4)
    inputs, loss = Inputs(name, shape=shape), build(name)
    inputs.labels = inputs.labels.clamp(max=shape[1] - 1)
    inputs.labels[:, 0, 0] = IGNORE
    of_student = partial(value, loss, teacher=inputs.teacher, labels=inputs.labels)
    assert torch.autograd.gradcheck(of_student, inputs.student, fast_mode=True)


def compiles_whole(name: str, backend: str = "aot_eager") -> None:
    inputs, loss = Inputs(name, torch.float32), build(name, torch.float32)
    expected = value_and_gradient(loss, inputs.student, inputs.teacher, inputs.labels)
    loss.compile(fullgraph=True, backend=backend)
    result = value_and_gradient(loss, inputs.student, inputs.teacher, inputs.labels)
    torch.testing.assert_close(result, expected)


def can_be_captured(name: str) -> None:
    """A step with the loss may become a CUDA graph: it reads no value, and other inputs in its memory suffice."""
    inputs, loss, again = Inputs(name, torch.float32), build(name, torch.float32), build(name, torch.float32)
    loss.train()
    again.train()
    with Refusing():
        torch.autograd.grad(value(again, inputs.student, inputs.teacher, inputs.labels), inputs.student)
    again = build(name, torch.float32).train()
    maps = [inputs.student, inputs.teacher, inputs.labels]

    def work() -> Tensor:
        result = value(loss, *maps)
        return torch.stack([result.detach(), torch.autograd.grad(result, inputs.student)[0].sum()])

    with torch.no_grad():
        replay, results = FakeRecorder().capture(torch.enable_grad()(work))
    for _ in range(2):
        with torch.no_grad():
            inputs.student.mul_(-1.5)
            inputs.labels.copy_(inputs.labels.flip(0))
        torch.manual_seed(1)
        replay()
        expected, gradient = value_and_gradient(again, *maps)
        torch.testing.assert_close(results, torch.stack([expected, gradient.sum()]))


def works_without_labels(name: str) -> None:
    inputs = Inputs(name)
    result, gradient = value_and_gradient(build(name), inputs.student, inputs.teacher, None)
    assert result.isfinite()
    assert gradient.isfinite().all()
    assert gradient.any()


def size_mismatch_is_an_error(name: str) -> None:
    inputs = Inputs(name)
    n, c, h, w = inputs.student.shape
    with pytest.raises(ValueError, match="batch or size differs; resize") as error:
        value(build(name), inputs.student[..., 1:], inputs.teacher, None)
    assert str((n, c, h, w - 1)) in str(error.value)
    assert str((n, c, h, w)) in str(error.value)


def channel_mismatch_is_an_error(name: str) -> None:
    inputs = Inputs(name)
    n, c, h, w = inputs.student.shape
    with pytest.raises(ValueError, match="channels differ; add an adapter") as error:
        value(build(name), inputs.student, torch.cat((inputs.teacher, inputs.teacher), 1), None)
    assert str((n, c, h, w)) in str(error.value)
    assert str((n, 2 * c, h, w)) in str(error.value)


def labels_of_another_size_are_an_error(name: str) -> None:
    inputs = Inputs(name)
    with pytest.raises(ValueError, match="labels must be"):
        value(build(name), inputs.student, inputs.teacher, inputs.labels[:, 1:])


def states_shapes_in_its_types(name: str) -> None:
    signature = inspect.signature(getattr(kd.losses, name).forward)
    inputs = ["logits", "labels"] if supervised(getattr(kd.losses, name)) else ["student", "teacher", "labels"]
    assert list(signature.parameters) == ["self", *inputs]
    for name in inputs:
        assert "jaxtyping.Float[Tensor" in str(signature.parameters[name].annotation) or name == "labels"
    assert "jaxtyping.Integer[Tensor" in str(signature.parameters["labels"].annotation)
    assert str(signature.return_annotation) == str(Float[Tensor, ""])


def states_its_source(name: str) -> None:
    loss = getattr(kd.losses, name)
    for part in ("Source: ", "Returns (of forward):"):
        assert part in inspect.getdoc(loss), f"{name}'s docstring has no '{part.strip()}'"
    page = ROOT / "docs" / "methods" / f"{loss.__module__.rpartition('.')[2]}.md"
    assert page.is_file(), f"{page.relative_to(ROOT)} is missing"
    assert name in page.read_text(encoding="utf-8")


BOTH = [
    scalar_in_float32_from_half_types,
    scalar_in_float64_from_float64,
    minimum_at_the_target,
    minimum_at_a_rare_class,
    gradient_to_the_student_alone,
    zero_when_all_is_ignored,
    one_image_all_ignored_adds_nothing,
    ignored_pixels_change_nothing,
    batch_order_changes_nothing,
    tiling_changes_nothing,
    odd_sizes_and_one_image,
    two_classes,
    large_values_stay_finite,
    channels_last_changes_nothing,
    gradient_is_right,
    compiles_whole,
    can_be_captured,
    labels_of_another_size_are_an_error,
    states_shapes_in_its_types,
    states_its_source,
]
DISTILLATION = [works_without_labels, size_mismatch_is_an_error, channel_mismatch_is_an_error]
PROPERTIES = {check.__name__: check for check in [*BOTH, *DISTILLATION]}


def cases() -> list:
    rows = []
    for name in kd.losses.__all__:
        for check in BOTH if supervised(getattr(kd.losses, name)) else [*BOTH, *DISTILLATION]:
            reason = EXCEPTIONS.get((name, check.__name__))
            marks = [] if reason is None else [pytest.mark.xfail(strict=True, reason=reason)]
            rows.append(pytest.param(check, name, id=f"{name}-{check.__name__}", marks=marks))
    return rows


@pytest.mark.filterwarnings("ignore:with two classes:UserWarning")
@pytest.mark.filterwarnings("ignore:SP compares the images:UserWarning")
@pytest.mark.parametrize(("check", "name"), cases())
def test_loss_keeps(check: Callable[[str], None], name: str) -> None:
    check(name)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the compiler's own
@pytest.mark.parametrize("name", kd.losses.__all__)
def test_loss_compiles_with_inductor(name: str) -> None:
    with torch._inductor.config.patch(fallback_random=True):  # the random numbers of eager mode
        compiles_whole(name, "inductor")


WITH_CONVENTIONS = [
    name for name in kd.losses.__all__ if "convention" in inspect.signature(getattr(kd.losses, name)).parameters
]


@pytest.mark.parametrize("name", WITH_CONVENTIONS)
def test_an_unknown_convention_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"^convention 'no such' is unknown; known: default, "):
        getattr(kd.losses, name)(convention="no such")


def test_index_is_sorted_and_complete() -> None:
    imported = {
        alias.name
        for node in ast.parse(Path(kd.losses.__file__).read_text(encoding="utf-8")).body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert set(kd.losses.__all__) == imported
    assert kd.losses.__all__ == sorted(kd.losses.__all__, key=_ruff_order)


def _ruff_order(name: str) -> tuple[bool, str]:
    return (not name.isupper(), name)  # acronyms first, as ruff sorts `__all__`


def test_tables_name_what_exists() -> None:
    for name in [*BUILD, *SHAPE, *(loss for loss, _ in EXCEPTIONS)]:
        assert name in kd.losses.__all__
    for _, check in EXCEPTIONS:
        assert check in PROPERTIES


@pytest.mark.parametrize("name", [n for n in kd.losses.__all__ if not supervised(getattr(kd.losses, n))])
def test_states_what_it_compares(name: str) -> None:
    assert getattr(kd.losses, name).compares in ("logits", "features", "either")
