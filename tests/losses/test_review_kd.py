import numpy as np
import pytest
import torch
from torch.nn import functional as F

from kd.losses import ReviewKD
from kd.losses.feature.review_kd import hierarchical_distance

SIZES = ((9, 13), (5, 7), (3, 4))
CHANNELS = (4, 6, 8)


def stages(seed: int, dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, ...]:
    random = torch.Generator().manual_seed(seed)
    return tuple(
        torch.randn(2, c, *size, generator=random, dtype=dtype) for c, size in zip(CHANNELS, SIZES, strict=True)
    )


def labels_of_stages() -> tuple[torch.Tensor, ...]:
    labels = tuple(torch.zeros(2, *size, dtype=torch.long) for size in SIZES)
    for of_stage in labels:
        of_stage[:, -1] = 255
        of_stage[0, 0, 0] = 255
    return labels


def pyramid(difference: np.ndarray, seen: np.ndarray) -> float:
    """HCL of one image from its definition: means over the valid pixels of each cell, written as loops."""
    height, width = seen.shape
    result, weights, weight = np.mean(difference[:, seen] ** 2), 1.0, 1.0
    for level in (4, 2, 1):
        rows, columns = min(level, height), min(level, width)
        if (rows, columns) == (height, width):
            continue
        weight /= 2
        cells = []
        for i in range(rows):
            for j in range(columns):
                top, bottom = i * height // rows, -(-(i + 1) * height // rows)
                left, right = j * width // columns, -(-(j + 1) * width // columns)
                inside = seen[top:bottom, left:right]
                if inside.any():
                    cells.append(difference[:, top:bottom, left:right][:, inside].mean(1))
        result += weight * np.mean(np.square(cells))
        weights += weight
    return result / weights


@pytest.mark.parametrize("size", [(4, 4), (7, 9), (3, 10), (2, 2), (1, 1), (1, 8)])
def test_pyramid_by_formula_on_any_shape(size: tuple[int, int]) -> None:
    random = np.random.default_rng(1)
    student, teacher = random.normal(size=(2, 1, 3, *size))
    seen = random.random(size) < 0.7
    seen[0, 0] = True
    maps = (torch.from_numpy(a) for a in (student, teacher, seen[None]))
    expected = pyramid((student - teacher)[0], seen)
    assert hierarchical_distance(*maps).item() == pytest.approx(expected, rel=1e-12)


def test_wide_map_keeps_its_grids() -> None:
    # The authors' code considers the height only and leaves the grids 4 and 2 out for this map.
    difference = torch.zeros(1, 1, 2, 8)
    difference[..., :4] = 1
    difference[..., 4:] = -1
    by_hand = (1 + 0.5 * 1 + 0.25 * 1 + 0.125 * 0) / 1.875  # the mean of the only cell of the last grid is 0
    valid = torch.ones(1, 2, 8, dtype=torch.bool)
    assert hierarchical_distance(difference, torch.zeros_like(difference), valid).item() == pytest.approx(by_hand)


def test_the_deepest_map_is_fused_into_the_shallowest() -> None:
    loss, student, teacher, labels = ReviewKD(CHANNELS, width=5), stages(0), stages(1), labels_of_stages()
    student[-1].requires_grad_()
    with_all, without_shallowest = (
        torch.autograd.grad(loss(student, teacher, (shallowest, *labels[1:])), student[-1])[0]
        for shallowest in (labels[0], torch.full_like(labels[0], 255))
    )
    assert (with_all - without_shallowest).abs().max() > 1e-6


def test_every_parameter_learns() -> None:
    loss = ReviewKD(CHANNELS, width=5)
    loss(stages(0), stages(1)).backward()
    for parameter in loss.parameters():
        assert parameter.grad is not None
        assert parameter.grad.isfinite().all()


def test_fusion_by_the_formula() -> None:
    loss, student, teacher = (
        ReviewKD(CHANNELS[:2], width=5).double(),
        stages(0, torch.float64),
        stages(1, torch.float64),
    )
    deep = loss.enter[1](student[1])
    own = loss.enter[0](student[0])
    enlarged = F.interpolate(deep, SIZES[0], mode="bilinear", align_corners=False)
    first, second = loss.weigh[0](torch.cat((own, enlarged), 1)).sigmoid().chunk(2, 1)
    fused = own * first + enlarged * second
    expected = 0.0
    for out, maps, target in ((loss.leave[0], fused, teacher[0]), (loss.leave[1], deep, teacher[1])):
        difference = (out(maps) - target).detach().numpy()
        full = np.ones(difference.shape[2:], dtype=bool)
        expected += np.mean([pyramid(image, full) for image in difference])
    assert loss(student[:2], teacher[:2]).item() == pytest.approx(expected, rel=1e-12)


def test_ignored_pixels_of_any_stage_change_nothing() -> None:
    loss, teacher, labels = ReviewKD(CHANNELS, width=5), stages(1), labels_of_stages()
    values = []
    for other in (0.0, 1e3):
        student = tuple(m.masked_fill((y == 255)[:, None], other) for m, y in zip(stages(0), labels, strict=True))
        target = tuple(m.masked_fill((y == 255)[:, None], -other) for m, y in zip(teacher, labels, strict=True))
        values.append(loss(student, target, labels))
    torch.testing.assert_close(*values)


def test_all_ignored_is_zero() -> None:
    student = tuple(maps.requires_grad_() for maps in stages(0))
    result = ReviewKD(CHANNELS, width=5)(student, stages(1), tuple(y.fill_(255) for y in labels_of_stages()))
    result.backward()
    assert result == 0
    assert not any(maps.grad.any() for maps in student)


def test_trains_towards_the_teacher() -> None:
    torch.manual_seed(0)
    loss, student, teacher = ReviewKD(CHANNELS, width=8), stages(0), stages(1)
    optimizer = torch.optim.Adam(loss.parameters(), lr=0.01)
    values = []
    for _ in range(20):
        optimizer.zero_grad()
        result = loss(student, teacher)
        result.backward()
        optimizer.step()
        values.append(result.item())
    assert values[-1] < 0.8 * values[0]


def test_compiles_whole_with_tuples() -> None:
    student, teacher, labels = (maps[1:] for maps in (stages(0), stages(1), labels_of_stages()))
    loss = ReviewKD(CHANNELS[1:], width=3)
    expected = loss(student, teacher, labels)
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(student, teacher, labels), expected)


def test_the_message_has_the_wrong_numbers() -> None:
    loss = ReviewKD(CHANNELS, width=5)
    with pytest.raises(ValueError) as error:  # noqa: PT011  # the whole text is compared below
        loss(stages(0)[:2], stages(1)[:2])
    assert str(error.value) == (
        "2 maps of the student, 2 of the teacher, 2 of labels: the loss was built for 3; "
        "list as many taps as the loss has channels"
    )
    with pytest.raises(ValueError, match=r"maps \(2, 4, 9, 13\): the loss was built for 5 channels"):
        ReviewKD(5)(stages(0)[0], stages(1)[0])
    with pytest.raises(ValueError, match=r"channels\[1\] is 0; it must be at least 1"):
        ReviewKD((4, 0))
