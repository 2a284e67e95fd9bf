import numpy as np
import pytest
import torch
from torch import Tensor, distributed
from torch.nn import functional as F

from kd.losses import CIRKDMemory, CIRKDMiniBatch
from kd.losses._pixels import unit


def log_softmax(rows: np.ndarray) -> np.ndarray:
    return rows - np.log(np.exp(rows).sum(-1, keepdims=True))


def divergence(student: np.ndarray, teacher: np.ndarray) -> float:
    s, t = log_softmax(student), log_softmax(teacher)
    return np.sum(np.exp(t) * (t - s), -1).mean()


def directions(maps: np.ndarray, valid: np.ndarray) -> np.ndarray:
    pixels = maps[:, valid].T
    return pixels / np.linalg.norm(pixels, axis=1, keepdims=True)


def test_batch_by_hand() -> None:
    # One image of two pixels. Teacher: at right angles, cosines (1, 0). Student: alike, cosines (1, 1).
    teacher = torch.tensor([[1.0, 0.0], [0.0, 1.0]]).view(1, 2, 1, 2)
    student = torch.tensor([[1.0, 1.0], [0.0, 0.0]]).view(1, 2, 1, 2)
    p = np.exp(1) / (np.exp(1) + 1)
    expected = p * np.log(p / 0.5) + (1 - p) * np.log((1 - p) / 0.5)
    assert CIRKDMiniBatch(temperature=1.0)(student, teacher, None).item() == pytest.approx(expected)


def test_batch_formula_with_ignored_pixels() -> None:
    random = np.random.default_rng(5)
    student, teacher = random.normal(size=(3, 2, 3, 4)), random.normal(size=(3, 5, 3, 4))
    labels = np.zeros((3, 3, 4), dtype=np.int64)
    labels[0, 0] = labels[1, 1:, 2] = labels[2] = 255  # the third image is in no pair
    pairs = []
    for i in (0, 1):
        for j in (0, 1):
            rows = [
                directions(maps[i], labels[i] != 255) @ directions(maps[j], labels[j] != 255).T / 0.1
                for maps in (student, teacher)
            ]
            pairs.append(divergence(*rows))
    ours = CIRKDMiniBatch()(*(torch.from_numpy(a) for a in (student, teacher, labels)))
    assert ours.item() == pytest.approx(np.mean(pairs), rel=1e-12)


def test_batch_pools_first() -> None:
    student, teacher = torch.randn(2, 2, 3, 5, 6, dtype=torch.float64)
    small = [F.avg_pool2d(maps, 2, ceil_mode=True) for maps in (student, teacher)]
    torch.testing.assert_close(CIRKDMiniBatch(pool=2)(student, teacher, None), CIRKDMiniBatch()(*small, None))


def a_batch(seed: int, images: int = 2, classes: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    """Maps in which the teacher's first channels are the one-hot class of each pixel."""
    random = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, classes, (images, 4, 5), generator=random)
    labels[0, 0, :2] = 255
    teacher = torch.rand(images, classes + 2, 4, 5, generator=random)
    teacher[:, :classes] = 10.0 * F.one_hot(labels.where(labels < classes, 0), classes).permute(0, 3, 1, 2)
    teacher[:, -1] = 100.0 * (labels == 255)  # an ignored pixel has none of the classes
    return torch.randn(images, classes + 2, 4, 5, generator=random), teacher, labels


def a_memory(**options: int) -> CIRKDMemory:
    return CIRKDMemory(3, 5, **{"pixel_queue": 20, "region_queue": 6, "pixels_written": 4} | options)


def held(loss: CIRKDMemory, kind: str, c: int) -> Tensor:
    memory = getattr(loss, kind)
    return memory.queue[c, : int(memory.written[c].clamp(max=memory.queue.shape[1]))]


def test_memory_by_hand() -> None:
    # Two classes with one remembered pixel each: (1, 0) and (0, 1). Teacher's pixel (1, 0), student's (0, 1).
    loss = CIRKDMemory(2, 2, temperature=1.0, region=0.0).eval()
    loss.pixels.queue[0, 0], loss.pixels.queue[1, 0] = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    loss.pixels.written.fill_(1)
    teacher, student = (torch.tensor(pixel).view(1, 2, 1, 1) for pixel in ([1.0, 0.0], [0.0, 1.0]))
    p = np.exp(1) / (np.exp(1) + 1)
    expected = p * np.log(p / (1 - p)) + (1 - p) * np.log((1 - p) / p)
    assert loss(student, teacher, torch.zeros(1, 1, 1, dtype=torch.int64)).item() == pytest.approx(expected)


def test_memory_formula_with_both_parts_and_ignored_pixels() -> None:
    loss = a_memory(pixel_samples=999, region_samples=999).double()
    for seed in range(3):
        student, teacher, labels = (maps.double() if maps.is_floating_point() else maps for maps in a_batch(seed))
        loss(student, teacher, labels)
    loss.pixel, loss.region = 0.3, 0.7
    student, teacher, labels = (maps.double() if maps.is_floating_point() else maps for maps in a_batch(9))
    expected = 0.0
    for factor, kind in ((0.3, "pixels"), (0.7, "regions")):
        bank = torch.cat([held(loss, kind, c) for c in range(3)]).numpy()  # every held entry is drawn
        pixels = [
            np.concatenate([directions(maps[n].numpy(), labels[n].numpy() != 255) for n in (0, 1)])
            for maps in (student, teacher)
        ]
        expected += factor * divergence(*(rows @ bank.T / 0.1 for rows in pixels))
    assert loss(student, teacher, labels).item() == pytest.approx(expected, rel=1e-10)


def test_a_queue_holds_pixels_of_its_class() -> None:
    loss = a_memory()
    for seed in range(8):
        loss(*a_batch(seed))
    assert (loss.pixels.written > 20).all()  # the rings have wrapped around
    for kind in ("pixels", "regions"):
        for c in range(3):
            vectors = held(loss, kind, c)
            assert (vectors[:, :3].argmax(1) == c).all()
            assert not vectors[:, 4].any()  # no ignored pixel
            torch.testing.assert_close(vectors.norm(dim=1), torch.ones(len(vectors)))


def test_the_authors_queue_holds_other_pixels(oracle: dict[str, Tensor]) -> None:
    """Of the 96 pixels that their code writes, 69 are of another class or ignored; ours writes none of these."""
    labels = F.interpolate(oracle["in_y"][:, None].double(), (7, 9), mode="nearest")[:, 0].long().flatten()
    pixels = unit(oracle["in_t"], 1).permute(0, 2, 3, 1).flatten(0, 2)

    def wrong(queue: Tensor, written: list[Tensor]) -> tuple[int, int]:
        classes = [(queue[c][written[c]] @ pixels.T).argmax(1) for c in range(3)]
        return sum(len(each) for each in classes), sum(int((labels[each] != c).sum()) for c, each in enumerate(classes))

    after, before = oracle["extra_pixel_queue_after"], oracle["extra_pixel_queue_before"]
    assert wrong(after, [(after[c] != before[c]).any(1) for c in range(3)]) == (96, 69)

    loss = CIRKDMemory(3, 8, pixel_queue=40, region_queue=6).double()
    loss(oracle["in_t"], oracle["in_t"], labels.view(2, 7, 9))
    assert wrong(loss.pixels.queue, [torch.arange(40) < n for n in loss.pixels.written]) == (96, 0)
    torch.testing.assert_close(  # the regions agree
        loss.regions.queue[:, :2], oracle["extra_segment_queue_after"][:, :2], rtol=1e-9, atol=1e-9
    )


@pytest.fixture
def oracle(request: pytest.FixtureRequest) -> dict[str, Tensor]:
    with np.load(request.config.rootpath / "tests" / "oracles" / "cirkd_memory_pixel_region.npz") as arrays:
        return {key: torch.from_numpy(arrays[key]) for key in arrays.files}


def test_the_value_is_computed_before_the_batch_is_written() -> None:
    loss = a_memory()
    loss(*a_batch(0))
    training, writing = loss(*a_batch(1)), loss.pixels.written.clone()
    again = a_memory()
    again(*a_batch(0))
    again.eval()
    assert training == again(*a_batch(1))
    assert (again.pixels.written < writing).all()  # evaluation writes nothing


def test_the_oldest_entries_are_replaced() -> None:
    loss = a_memory(region_queue=3)
    seen = []
    for seed in range(5):
        loss(*a_batch(seed))
        _, teacher, labels = a_batch(seed)
        seen += [unit(maps[:, of == 1].mean(1), 0) for maps, of in zip(unit(teacher, 1), labels, strict=True)]
    assert loss.regions.written[1] == len(seen) == 10
    order = [9, 7, 8]  # entry e is in place e % 3
    torch.testing.assert_close(loss.regions.queue[1], torch.stack([seen[e] for e in order]))


def test_more_entries_than_places() -> None:
    loss = a_memory(pixel_queue=3, region_queue=1)
    loss(*a_batch(0))
    assert loss.pixels.written.tolist() == [3, 3, 3]
    for c in range(3):
        assert (held(loss, "pixels", c)[:, :3].argmax(1) == c).all()


def test_a_resumed_run_continues_exactly() -> None:
    loss, other = a_memory(pixel_samples=6), a_memory(pixel_samples=6)
    for seed in range(4):
        loss(*a_batch(seed))
    other.load_state_dict(loss.state_dict())
    for seed in range(4, 7):
        assert loss(*a_batch(seed)) == other(*a_batch(seed))
    for key, value in loss.state_dict().items():
        assert torch.equal(value, other.state_dict()[key])


def test_a_sample_is_drawn_anew() -> None:
    loss = a_memory(pixel_samples=6, region=0)
    for seed in range(4):
        loss(*a_batch(seed))
    values = []
    for draw in (10, 11, 10):
        loss.eval().draws.fill_(draw)
        values.append(loss(*a_batch(9)).item())
    assert values[0] == values[2] != values[1]


def test_an_empty_memory_is_replaced_by_the_batch() -> None:
    student, teacher, labels = a_batch(0)
    for given in (labels, None):
        loss = a_memory()
        (gradient,) = torch.autograd.grad(loss(student.requires_grad_(), teacher, given), student)
        assert gradient.any()
        assert loss.pixels.written.any() == (given is not None)  # without labels nothing has a class


def test_a_label_beyond_the_classes_is_not_remembered() -> None:
    student, teacher, labels = a_batch(0)
    loss = a_memory()
    assert loss(student, teacher, labels.masked_fill(labels == 2, 200)).isfinite()
    assert loss.regions.written.tolist() == [2, 2, 0]


def test_two_classes() -> None:
    student, teacher, labels = a_batch(0, classes=2)
    loss = CIRKDMemory(2, 4)
    loss(student, teacher, labels)
    (gradient,) = torch.autograd.grad(loss(student.requires_grad_(), teacher, labels), student)
    assert gradient.isfinite().all()
    assert gradient.any()


def test_the_size_of_the_memory_is_bounded() -> None:
    loss = CIRKDMemory(11, 64, pixel_queue=30, region_queue=7)
    assert sum(b.numel() for b in loss.buffers() if b.is_floating_point()) == 11 * (30 + 7) * 64


def test_every_rank_writes_the_entries_of_all_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two ranks, one after the other: a stand-in for the collective passes the entries of the other rank."""
    batches = [a_batch(rank) for rank in (0, 1)]
    offered: dict[int, list[Tensor]] = {0: [], 1: []}
    for rank in (0, 1):  # the entries that a rank offers

        def offer(gathered: list[Tensor], entries: Tensor, rank: int = rank) -> None:
            offered[rank].append(entries)
            for place in gathered:
                place.copy_(entries)

        monkeypatch.setattr(distributed, "is_initialized", lambda: True)
        monkeypatch.setattr(distributed, "get_world_size", lambda: 2)
        monkeypatch.setattr(distributed, "all_gather", offer)
        a_memory()(*batches[rank])
    states = []
    for rank in (0, 1):
        calls = iter(zip(offered[0], offered[1], strict=True))

        def gather(gathered: list[Tensor], entries: Tensor, calls=calls, rank: int = rank) -> None:
            both = next(calls)
            assert torch.equal(both[rank], entries)
            for place, entries in zip(gathered, both, strict=True):
                place.copy_(entries)

        monkeypatch.setattr(distributed, "all_gather", gather)
        loss = a_memory()
        loss(*batches[rank])
        states.append(loss.state_dict())
    for key, value in states[0].items():
        assert torch.equal(value, states[1][key])
    assert states[0]["regions.written"].tolist() == [4, 4, 4]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"temperature": 0}, "temperature is 0; it must be above 0"),
        ({"pixel_queue": 0}, "pixel_queue is 0; it must be at least 1"),
        ({"num_classes": 0}, "num_classes is 0; it must be at least 1"),
        ({"region": -0.1}, "region is -0.1; it must be at least 0"),
    ],
)
def test_wrong_arguments(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CIRKDMemory(**{"num_classes": 3, "channels": 5} | arguments)


def test_wrong_arguments_of_the_batch() -> None:
    with pytest.raises(ValueError, match="temperature is -1; it must be above 0"):
        CIRKDMiniBatch(-1)
    with pytest.raises(ValueError, match="pool is 0; it must be at least 1"):
        CIRKDMiniBatch(pool=0)


def test_other_channels_than_the_memory() -> None:
    with pytest.raises(ValueError, match=r"maps \(1, 4, 2, 2\): the loss was built for 5 channels"):
        a_memory()(torch.zeros(1, 4, 2, 2), torch.zeros(1, 4, 2, 2), None)


def test_channels_of_several_taps_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^channels \(8, 16\) are those of 2 taps; name one tap per term$"):
        CIRKDMemory(4, (8, 16))
