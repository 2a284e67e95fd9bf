import pytest
import torch

from kd.data.transforms import crop
from kd.data.transforms.crop import UNLABELLED, Crop
from kd.data.transforms.sampling import Frame

IMAGE = Frame.of((6, 6), (6, 6))


def places(crop, frame, labels, count=300):
    windows = (crop.draw(frame, labels) for _ in range(count))
    return {(int(window.y[2]), int(window.x[2])) for window in windows}


def test_every_window_inside_a_larger_image_is_drawn():
    labels = torch.zeros(6, 6, dtype=torch.uint8)
    assert places(Crop((4, 5)), IMAGE, labels) == {(top, left) for top in range(3) for left in range(2)}
    assert Crop((4, 5)).draw(IMAGE, labels).size == (4, 5)


def test_a_smaller_image_is_padded_at_the_end_or_on_all_sides():
    labels = torch.zeros(6, 6, dtype=torch.uint8)
    assert places(Crop((8, 6)), IMAGE, labels) == {(0, 0)}
    assert places(Crop((8, 7), padding="random"), IMAGE, labels) == {
        (top, left) for top in (-2, -1, 0) for left in (-1, 0)
    }


def halves(right):
    labels = torch.zeros(6, 6, dtype=torch.uint8)
    labels[:, 3:] = right
    return labels


def test_windows_of_one_class_are_drawn_again():
    """Columns 0-2 have one class and 3-5 another: of the windows 3 wide, those at 1 and 2 have both in part."""
    assert {left for _, left in places(Crop((6, 3)), IMAGE, halves(1))} == {0, 1, 2, 3}
    torch.manual_seed(0)
    balanced = [int(Crop((6, 3), 0.75).draw(IMAGE, halves(1)).x[2]) for _ in range(300)]
    assert sum(left in (1, 2) for left in balanced) > 295  # all but one in 2¹¹


def test_a_window_without_labels_is_taken_and_padding_does_not_count():
    assert 3 in {left for _, left in places(Crop((6, 3), 0.75), IMAGE, halves(UNLABELLED), 60)}
    top = Crop((6, 12), 0.5).draw(IMAGE, halves(1))  # both classes have half of what is labelled
    assert top.size == (6, 12)


def test_at_most_ten_windows_are_drawn_again(monkeypatch):
    looked = []
    sample_labels = crop.sample_labels
    monkeypatch.setattr(crop, "sample_labels", lambda *args: looked.append(1) or sample_labels(*args))
    Crop((4, 4), 0.75).draw(IMAGE, torch.zeros(6, 6, dtype=torch.uint8))
    assert len(looked) == crop.REDRAWN
    looked.clear()
    Crop((6, 6), 0.75).draw(IMAGE, torch.zeros(6, 6, dtype=torch.uint8))
    assert looked == []  # there is one window only


@pytest.mark.parametrize("padding", ["end", "random"])
def test_a_window_of_the_frames_own_size_draws_nothing(padding):
    before = torch.get_rng_state()
    assert Crop((6, 6), padding=padding).draw(IMAGE, torch.zeros(6, 6, dtype=torch.uint8)) == IMAGE
    if padding == "end":
        assert torch.equal(before, torch.get_rng_state())
