"""Outlines and run lengths: values worked by hand, values of pycocotools 2.0, and what damaged files hold."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kd.errors import DataError
from kd.prepare.formats.draw import Shape, area_of, disc, fill, paint, run_lengths, unpacked


def points(*pairs: tuple[float, float]) -> np.ndarray:
    return np.array(pairs, np.float64)


def rows(region: np.ndarray) -> list[str]:
    return ["".join(".#"[int(value)] for value in row) for row in region]


def test_a_pixel_belongs_to_an_outline_if_its_centre_does() -> None:
    square = points((1, 1), (4, 1), (4, 3), (1, 3))
    assert rows(fill([square], (4, 5), "a")) == [".....", ".###.", ".###.", "....."]
    shifted = square + 0.4  # the centres 1.5 … 3.5 are still between 1.4 and 4.4
    assert rows(fill([shifted], (4, 5), "a")) == [".....", ".###.", ".###.", "....."]
    assert rows(fill([square + 0.6], (4, 5), "a")) == [".....", ".....", "..###", "..###"]
    triangle = points((0, 0), (4, 0), (0, 4))
    assert rows(fill([triangle], (4, 4), "a")) == ["###.", "##..", "#...", "...."]


def test_parts_outside_the_image_are_cut_off() -> None:
    around = points((-9, -9), (99, -9), (99, 99), (-9, 99))
    assert fill([around], (3, 4), "a").all()
    assert not fill([around + 500], (3, 4), "a").any()
    assert rows(fill([points((-2, 1), (2, 1), (2, 9), (-2, 9))], (3, 4), "a")) == ["....", "##..", "##.."]


def test_several_polygons_are_united_or_cut_holes() -> None:
    outer, inner = points((0, 0), (4, 0), (4, 4), (0, 4)), points((1, 1), (3, 1), (3, 3), (1, 3))
    assert fill([outer, inner], (4, 4), "a").all()
    assert rows(fill([outer, inner], (4, 4), "a", holes=True)) == ["####", "#..#", "#..#", "####"]


def test_fewer_than_three_points_enclose_nothing() -> None:
    for few in (np.empty((0, 2)), points((1, 1)), points((0, 0), (3, 3))):
        assert not fill([few], (4, 4), "a").any()


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.integers(-3, 12), st.integers(-3, 12)), min_size=3, max_size=7))
def test_filling_is_the_even_odd_rule(corners: list[tuple[int, int]]) -> None:
    """Against a ray to the right from every centre; centres never lie on an edge's end, as corners are integers."""
    outline = points(*corners)
    found = fill([outline], (8, 9), "a")
    for row in range(8):
        for column in range(9):
            crossings = 0
            for (x0, y0), (x1, y1) in zip(corners, corners[1:] + corners[:1], strict=True):
                if (y0 > row + 0.5) != (y1 > row + 0.5):
                    at = x0 + (row + 0.5 - y0) * ((x1 - x0) / (y1 - y0))
                    crossings += at > column + 0.5
            assert found[row, column] == crossings % 2


@pytest.mark.parametrize(("x", "what"), [(np.nan, "beyond"), (np.inf, "beyond"), (1e9, "beyond 10,000,000")])
def test_coordinates_that_no_image_has_are_refused(x: float, what: str) -> None:
    with pytest.raises(DataError, match=what):
        fill([points((x, 0), (1, 1), (2, 0))], (4, 4), "a")


def test_an_outline_of_endless_length_is_refused() -> None:
    zigzag = points(*((number % 2, (number % 2) * 4000) for number in range(1100)))
    with pytest.raises(DataError, match="correct it in the tool that drew it"):
        fill([zigzag], (4000, 4), "a")


def test_areas_and_discs() -> None:
    assert area_of([points((0, 0), (4, 0), (0, 4))]) == 8
    assert rows(disc((2, 2), 1.6, (4, 4))) == [".##.", "####", "####", ".##."]


# rows of a mask 9 × 7 and what pycocotools writes for it
COUNTS = "311020N020O033NM00N67KI012"
ROWS = [".###...", "....#.#", ".#..#.#", "#...#..", "...##..", "#...#.#", ".##.#.#", "..#.###", "..##.##"]


def test_run_lengths_are_those_of_pycocotools() -> None:
    assert rows(run_lengths(unpacked(COUNTS, "a"), (9, 7), "a")) == ROWS
    assert rows(run_lengths([2, 1, 3], (3, 2), "a")) == ["..", "..", "#."]  # down the columns


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ([3, 2], "2 run lengths of 5 pixels"),
        ([7], "1 run lengths of 7 pixels"),
        ([-1, 7], "2 run lengths of 6 pixels"),
        ([2**70, 6 - 2**70], "2 run lengths of 6 pixels"),
        ([], "0 run lengths of 0 pixels"),
        ([1] * 4 + [0] * 99 + [2], "104 run lengths of 6 pixels"),
    ],
)
def test_run_lengths_that_do_not_fit_are_refused(counts: list[int], message: str) -> None:
    with pytest.raises(DataError) as caught:
        run_lengths(counts, (3, 2), "a")
    assert str(caught.value) == f"a: {message}, but the image has 6; export it again"


@pytest.mark.parametrize(("text", "what"), [("3\n", r"character '\n'"), ("P", "cut off"), ("o" * 40, "character 'o'")])
def test_damaged_run_lengths_are_refused(text: str, what: str) -> None:
    with pytest.raises(DataError) as caught:
        unpacked(text, "a")
    assert str(caught.value).replace("\\\\", "\\").startswith("a: damaged run lengths (")
    assert what.encode("unicode_escape").decode() in str(caught.value) or what in str(caught.value)


def test_the_smaller_object_or_the_later_one_is_on_top_and_crowds_are_lowest() -> None:
    def shape(label: int, left: int, right: int, *, crowd: bool = False) -> Shape:
        region = np.zeros((1, 6), bool)
        region[:, left:right] = True
        return Shape(label, right - left, lambda: region, crowd)

    shapes = [shape(2, 3, 5), shape(1, 1, 5), shape(3, 0, 2, crowd=True)]
    assert paint(shapes, (1, 6), by_area=True).tolist() == [[255, 1, 1, 2, 2, 0]]
    assert paint(shapes, (1, 6), by_area=False).tolist() == [[255, 1, 1, 1, 1, 0]]
