import torch

from kd.data import speed
from kd.types import Batch


def test_the_first_pass_is_not_timed_and_the_stream_is_closed(monkeypatch):
    """Batches of 4 images; the first two take 10 s each, the others 0.5 s: 8 images a second."""
    now, closed = [0.0], []

    def batches():
        try:
            for seconds in [10.0, 10.0, *[0.5] * 100]:
                now[0] += seconds
                yield Batch(*[torch.zeros(4)] * 4)
        finally:
            closed.append(True)

    monkeypatch.setattr(speed.time, "monotonic", lambda: now[0])
    assert speed.images_per_second(batches(), 8, warm=60, timed=5) == 8
    assert closed == [True]


def test_the_first_pass_ends_with_its_time(monkeypatch):
    now = [0.0]

    def batches():
        while True:
            now[0] += 1
            yield Batch(*[torch.zeros(2)] * 4)

    monkeypatch.setattr(speed.time, "monotonic", lambda: now[0])
    assert speed.images_per_second(batches(), 10**6, warm=3, timed=2) == 2
