from pathlib import Path

import pytest
import torch
from samples import Fixed, sample
from torchvision import tv_tensors

from kd.data import ColorJitter, RandomBlur, RandomFlip, RandomRotate, RandomScale, Shapes
from kd.data.splits.split import Split, pixel_sum
from kd.data.transforms.crop import Crop
from kd.errors import DataError, RecipeError
from kd.types import Sample, resize

AUGMENT = (RandomScale(0.5, 2), RandomFlip(), RandomRotate(20), ColorJitter(), RandomBlur())


def test_an_item_is_a_function_of_seed_view_and_index():
    split = Split(Shapes("train"), (40, 48), crop=Crop((32, 32)), augment=AUGMENT, teacher_size=(40, 40))
    torch.manual_seed(5)
    one = split[3, 1]
    torch.manual_seed(6)
    torch.rand(10)
    for part, again in zip(one, split[3, 1], strict=True):
        assert torch.equal(part, again)
    others = [
        split[3, 2],
        split[4, 1],
        Split(Shapes("train"), (40, 48), crop=Crop((32, 32)), augment=AUGMENT, seed=1)[3, 1],
    ]
    assert not any(torch.equal(one.image, other.image) for other in others)


def test_the_generators_are_left_as_they_were():
    split = Split(Shapes("train"), (40, 40), crop=Crop((32, 32)), augment=AUGMENT)
    before = torch.get_rng_state()
    split[0, 0]
    assert torch.equal(torch.get_rng_state(), before)
    with pytest.raises(DataError):
        Split(Fixed(DataError("broken")), (8, 8))[0, 0]
    assert torch.equal(torch.get_rng_state(), before)


def test_shapes_and_types():
    item = Split(Shapes("train"), (40, 48), crop=Crop((32, 24)), augment=AUGMENT)[2, 7]
    assert (item.image.shape, item.image.dtype) == ((3, 32, 24), torch.uint8)
    assert (item.labels.shape, item.labels.dtype) == ((32, 24), torch.uint8)
    assert (item.inside.shape, item.inside.dtype) == ((32, 24), torch.bool)
    assert item.key.tolist() == [2, 7]
    assert type(item.image) is type(item.labels) is torch.Tensor


def test_without_crop_and_augmentation_the_image_is_only_resized():
    labels = [[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 255, 255], [2, 2, 255, 255]]
    item = Split(Fixed(sample(labels)), (2, 2))[0, 0]
    assert item.labels.tolist() == [[0, 1], [2, 255]]
    assert item.inside.all()
    assert (item.image == 100).all()


def test_padding_is_ignored_and_outside_and_unlabelled_pixels_are_ignored_and_inside():
    item = Split(Fixed(sample([[0, 255], [1, 2]])), (2, 2), crop=Crop((3, 4)))[0, 0]
    assert item.labels.tolist() == [[0, 255, 255, 255], [1, 2, 255, 255], [255] * 4]
    assert item.inside.tolist() == [[True, True, False, False], [True, True, False, False], [False] * 4]
    assert item.image[:, 2].sum() == 0


def test_inside_follows_rotation():
    unlabelled = Sample(torch.full((3, 30, 30), 100, dtype=torch.uint8), None, "a")
    item = Split(Fixed(unlabelled), (30, 30), augment=[RandomRotate(45)])[0, 0]
    assert (item.labels == 255).all()
    assert not item.inside[0, 0]
    assert item.inside[10:20, 10:20].all()
    assert ((item.image[0] > 0) >= item.inside).float().mean() > 0.97


def test_a_crop_is_a_window_of_the_image_and_every_window_comes():
    labels = (torch.arange(36).reshape(6, 6) % 3).tolist()
    places = torch.arange(36, dtype=torch.uint8).reshape(6, 6).expand(3, -1, -1)
    split = Split(Fixed(Sample(places, torch.tensor(labels, dtype=torch.uint8), "a")), (6, 6), crop=Crop((4, 5)))
    corners = set()
    for view in range(100):
        item = split[0, view]
        corner = int(item.image[0, 0, 0])
        top, left = divmod(corner, 6)
        assert torch.equal(item.image[0], places[0, top : top + 4, left : left + 5])
        assert torch.equal(item.labels, item.image[0] % 3)
        corners.add((top, left))
    assert corners == {(top, left) for top in range(3) for left in range(2)}


def test_a_users_transform_may_draw_and_fails_with_the_samples_name():
    def darker(image, mask):
        return tv_tensors.Image(image // (2 + int(torch.randint(3, ())))), mask

    split = Split(Fixed(sample([[0] * 4] * 4)), (4, 4), augment=[darker])
    assert {int(split[0, view].image.max()) for view in range(30)} == {50, 33, 25}

    def in_place(image, mask):
        return image.add_(1), mask.fill_(2)

    split = Split(Fixed(sample([[0] * 4] * 4)), (4, 4), augment=[in_place])
    assert [int(split[0, view].image.max()) for view in range(3)] == [101, 101, 101]
    assert split.dataset[0, 0].labels.max() == 0

    def broken(image, mask):
        raise KeyError("gone\nfor good")

    with pytest.raises(RecipeError) as error:
        Split(Fixed(sample([[0] * 4] * 4)), (4, 4), augment=[broken])[0, 0]
    line = broken.__code__.co_firstlineno + 1
    assert str(error.value) == rf"a.png: broken failed: KeyError: 'gone\nfor good' ({Path(__file__).name}:{line})"

    def shrinking(image, mask):
        return image, mask[:2]

    with pytest.raises(DataError) as error:
        Split(Fixed(sample([[0] * 4] * 4)), (4, 4), augment=[shrinking])[0, 0]
    assert str(error.value) == (
        "a.png: shrinking returned an image uint8 (3, 4, 4) and a mask uint8 (2, 4); "
        "a transform returns uint8 (3, H, W) and uint8 (H, W) of one size"
    )

    def grey(image, mask):
        return image[:1], mask

    with pytest.raises(DataError) as error:
        Split(Fixed(sample([[0] * 4] * 4)), (4, 4), augment=[grey])[0, 0]
    assert "grey returned an image uint8 (1, 4, 4) and a mask uint8 (4, 4); a transform returns uint8 (3, H, W)" in str(
        error.value
    )


def test_a_transform_that_makes_labels_of_no_class_is_named():
    split = Split(Fixed(sample([[0, 255], [1, 1]])), (2, 2), augment=[lambda image, mask: (image, mask * 7)])
    with pytest.raises(DataError) as error:
        split[0, 0]
    assert str(error.value).startswith("a.png: <lambda>: labels ")
    assert str(error.value).endswith("; a transform returns 0 … 2, and 255 for ignored pixels")
    split = Split(Fixed(sample([[0, 255], [1, 1]])), (2, 2), augment=[lambda image, mask: (image, mask)])
    assert split[0, 0].labels.tolist() == [[0, 255], [1, 1]]


def test_large_factors_show_the_files_own_pixels():
    """Twice `size`, cut out of an image of twice `size`: the pixels of the file, not an enlarged small image."""
    pixels = torch.randint(0, 256, (3, 32, 32), dtype=torch.uint8)
    labels = torch.randint(0, 3, (32, 32), dtype=torch.uint8)
    split = Split(Fixed(Sample(pixels, labels, "a")), (16, 16), augment=[RandomScale(2, 2)])
    item = split[0, 0]
    places = [
        (top, left)
        for top in range(17)
        for left in range(17)
        if torch.equal(item.image, pixels[:, top : top + 16, left : left + 16])
        and torch.equal(item.labels, labels[top : top + 16, left : left + 16])
    ]
    assert len(places) == 1


def test_geometric_transforms_come_first_wherever_they_are_listed():
    seen = []

    def looked_at(image, mask):
        seen.append(tuple(mask.shape))
        return image, mask

    dataset = Fixed(sample([[0] * 8] * 8))
    listed = [looked_at, RandomScale(0.5, 2), ColorJitter(), RandomFlip()]
    first = Split(dataset, (8, 8), crop=Crop((6, 6)), augment=listed)[0, 3]
    again = Split(dataset, (8, 8), crop=Crop((6, 6)), augment=[listed[1], listed[3], listed[0], listed[2]])[0, 3]
    assert torch.equal(first.image, again.image)
    assert seen == [(6, 6)] * 2


def test_a_users_transform_may_return_another_size():
    def halved(image, mask):
        return tv_tensors.Image(image[:, ::2, ::2]), tv_tensors.Mask(mask[::2, ::2])

    item = Split(Fixed(sample([[0] * 8] * 8)), (8, 8), augment=[halved])[0, 0]
    assert item.labels.shape == (8, 8)
    assert item.inside[:4, :4].all()
    assert item.inside.sum() == 16

    def doubled(image, mask):
        return tv_tensors.Image(image.repeat(1, 2, 2)), tv_tensors.Mask(mask.repeat(2, 2))

    item = Split(Fixed(sample([[0] * 8] * 8)), (8, 8), augment=[doubled])[0, 0]
    assert item.labels.shape == (8, 8)
    assert item.inside.all()


class Beside:
    """A user's own geometric transform: the window to the right."""

    def place(self, frame):
        return frame.moved((1, 0, 3), (0, 1, 0))


class Nowhere:
    def place(self, frame):
        return frame.size


class Lost:
    def place(self, frame):
        return frame.sized


def test_a_users_geometric_transform_is_composed():
    item = Split(Fixed(sample([[0, 1, 2, 0, 1, 2]])), (1, 6), augment=[Beside()])[0, 0]
    assert item.labels.tolist() == [[0, 1, 2, 255, 255, 255]]
    assert item.inside.tolist() == [[True] * 3 + [False] * 3]
    with pytest.raises(DataError) as error:
        Split(Fixed(sample([[0]])), (4, 4), augment=[Nowhere()])[0, 0]
    assert str(error.value) == "a.png: Nowhere.place returned a tuple; return a frame: frame.moved(...)"
    with pytest.raises(RecipeError) as error:
        Split(Fixed(sample([[0]])), (4, 4), augment=[Lost()])[0, 0]
    assert str(error.value).startswith("a.png: Lost failed: AttributeError: ")


def checkerboard(side):
    """Cells of one pixel, 0 and 200."""
    pixels = 200 * (torch.arange(side)[:, None] + torch.arange(side)).remainder(2)
    return Sample(pixels.expand(3, -1, -1).to(torch.uint8), torch.zeros(side, side, dtype=torch.uint8), "board")


def test_a_teacher_of_four_times_the_size_sees_what_the_student_cannot_resolve():
    board = checkerboard(16)
    item = Split(Fixed(board), (4, 4), teacher_size=(16, 16))[0, 0]
    assert (item.image.int() - 100).abs().max() <= 3  # grey: the mean of as many black as white cells
    assert torch.equal(item.teacher_image, board.image)


def test_both_are_mirrored_and_cut_alike():
    columns = torch.tensor([0, 20, 40, 60, 80, 100, 120, 140], dtype=torch.uint8)
    file = Sample(columns.expand(3, 8, 8).clone(), torch.zeros(8, 8, dtype=torch.uint8), "a")
    split = Split(Fixed(file), (4, 4), crop=Crop((2, 2)), augment=[RandomFlip(p=1)], teacher_size=(4, 4))
    for view in range(9):
        item = split[0, view]
        left = int(item.teacher_image[0, 0, 0])
        assert item.teacher_image[0, 0].tolist() == [left, left - 20, left - 40, left - 60]
        assert left in (140, 100, 60)
        assert item.image[0, 0, 1] < item.image[0, 0, 0]
        assert left - 20 <= item.image[0, 0, 0] <= left  # two of the teacher's columns, and at a border three


def test_both_show_the_same_region_in_the_same_colours_and_the_student_sees_what_it_did():
    rows, columns = torch.meshgrid(torch.arange(90.0), torch.arange(120.0), indexing="ij")
    smooth = torch.stack((60 + rows, 60 + columns, 160 - (rows + columns) / 2)).to(torch.uint8)
    file = Fixed(Sample(smooth, torch.zeros(90, 120, dtype=torch.uint8), "a"))
    options = {"crop": Crop((24, 24)), "augment": AUGMENT, "seed": 4}
    both, alone = Split(file, (30, 40), teacher_size=(48, 48), **options), Split(file, (30, 40), **options)
    for view in range(8):
        item, expected = both[0, view], alone[0, view]
        assert torch.equal(item.image, expected.image)
        assert torch.equal(item.labels, expected.labels)
        whole = item.inside.float()[None, None]
        interior = -torch.nn.functional.max_pool2d(-whole, 9, 1, 4)[0, 0] > 0  # away from padding, which a blur smears
        seen = resize(item.teacher_image[None].float(), (24, 24))[0]
        assert interior.sum() > 30
        assert (seen - item.image)[:, interior].abs().max() <= 4


def test_a_file_without_more_pixels_gives_the_teacher_an_enlarged_image():
    file = Sample(torch.randint(0, 256, (3, 8, 8), dtype=torch.uint8), torch.zeros(8, 8, dtype=torch.uint8), "a")
    item = Split(Fixed(file), (8, 8), teacher_size=(16, 16))[0, 0]
    assert (resize(item.image[None].float(), (16, 16))[0] - item.teacher_image).abs().max() <= 1  # of 255


def test_a_key_holds_the_sum_of_what_the_teacher_sees():
    plain = Split(Fixed(checkerboard(16)), (4, 4), sums=True)[0, 0]
    item = Split(Fixed(checkerboard(16)), (4, 4), sums=True, teacher_size=(16, 16))[0, 0]
    assert item.key.tolist() == [0, 0, pixel_sum(item.teacher_image)]
    assert plain.key.tolist() == [0, 0, pixel_sum(plain.image)]


def test_a_change_that_cannot_be_repeated_leaves_the_teacher_the_students_image():
    def holes(image, mask):
        row = int(torch.randint(image.shape[1], ()))
        image[:, row] = 0
        return image, mask

    assert Split(Fixed(checkerboard(16)), (4, 4), augment=[holes], teacher_size=(16, 16))[0, 0].teacher_image is None
    assert Split(Fixed(checkerboard(16)), (4, 4), teacher_size=(4, 4))[0, 0].teacher_image is None


class Darker:
    def __init__(self, spoil):
        self.spoil = spoil

    def draw_change(self):
        by = int(torch.randint(10, 90, ()))
        return lambda image, scale: (image - image.clamp(max=by))[:, :: 2 if self.spoil and scale > 1 else 1]


def test_a_users_change_is_drawn_once_for_both_and_checked():
    even = sample([[0] * 16] * 16)  # 100 everywhere
    item = Split(Fixed(even), (4, 4), augment=[Darker(spoil=False)], teacher_size=(16, 16))[0, 0]
    (left,) = item.image.unique().tolist()
    assert 10 < left <= 90
    assert item.teacher_image.unique().tolist() == [left]
    with pytest.raises(DataError) as refused:
        Split(Fixed(even), (4, 4), augment=[Darker(spoil=True)], teacher_size=(16, 16))[0, 0]
    assert str(refused.value) == (
        "a.png: Darker returned an image uint8 (3, 8, 16) for a teacher that sees (16, 16); "
        "a transform returns uint8 (3, H, W) and uint8 (H, W) of one size"
    )


def test_too_many_classes():
    data = Fixed(sample([[0]]))
    data.class_names = tuple(str(i) for i in range(255))
    with pytest.raises(ValueError, match=r"^255 classes; 8-bit labels hold at most 254$"):
        Split(data, (4, 4))
