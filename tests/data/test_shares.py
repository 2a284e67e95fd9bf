import pytest

from kd.data.shares import by_share, share_of

# letters in the order of their BLAKE2b digests, worked out once with hashlib: the order must never change
DRAWN = ["h", "d", "a", "c", "i", "b", "f", "g", "j", "e"]


def test_the_draw_never_changes():
    from hashlib import blake2b

    assert sorted(DRAWN, key=lambda stem: blake2b(stem.encode()).hexdigest()) == DRAWN
    stems = sorted(DRAWN)
    assert share_of(stems, "val", "20%", 0.3) == sorted(DRAWN[:2])
    assert share_of(stems, "test", "20%", 0.3) == sorted(DRAWN[2:5])
    assert share_of(stems, "train", "20%", 0.3) == sorted(DRAWN[5:])


@pytest.mark.parametrize(
    ("images", "lists", "val", "expected"),
    [("images", None, "20%", True), ("{split}/images", None, None, False), ("images", "{split}.txt", None, False)],
)
def test_what_defines_the_splits(images, lists, val, expected):
    assert by_share(images, lists, val, None) is expected
