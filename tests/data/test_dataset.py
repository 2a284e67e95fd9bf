from pathlib import Path

import pytest
import torch
from torchvision import tv_tensors

from kd.data import ColorJitter, RandomBlur, RandomFlip, RandomRotate, RandomScale, Shapes
from kd.data.dataset import Split, Survey, read, resize_image, survey, warnings
from kd.errors import DataError
from kd.types import Sample, resize_labels


class Fixed:
    """A dataset of given samples."""

    class_names = ("a", "b", "c")
    colors = ((0, 0, 0), (1, 1, 1), (2, 2, 2))
    in_channels = 3

    def __init__(self, *samples):
        self.samples = samples

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, key):
        found = self.samples[key[0]]
        if isinstance(found, Exception):
            raise found
        return found


def sample(labels, name="a.png"):
    labels = torch.tensor(labels, dtype=torch.uint8)
    return Sample(torch.full((3, *labels.shape), 100, dtype=torch.uint8), labels, name)


AUGMENT = (RandomScale(0.5, 2), RandomFlip(), RandomRotate(20), ColorJitter(), RandomBlur())


def test_an_item_is_a_function_of_seed_view_and_index():
    split = Split(Shapes("train"), (40, 48), crop=(32, 32), augment=AUGMENT)
    torch.manual_seed(5)
    one = split[3, 1]
    torch.manual_seed(6)
    torch.rand(10)
    for part, again in zip(one, split[3, 1], strict=True):
        assert torch.equal(part, again)
    others = [split[3, 2], split[4, 1], Split(Shapes("train"), (40, 48), crop=(32, 32), augment=AUGMENT, seed=1)[3, 1]]
    assert not any(torch.equal(one.image, other.image) for other in others)


def test_the_generators_are_left_as_they_were():
    split = Split(Shapes("train"), (40, 40), crop=(32, 32), augment=AUGMENT)
    before = torch.get_rng_state()
    split[0, 0]
    assert torch.equal(torch.get_rng_state(), before)
    with pytest.raises(DataError):
        Split(Fixed(DataError("broken")), (8, 8))[0, 0]
    assert torch.equal(torch.get_rng_state(), before)


def test_shapes_and_types():
    item = Split(Shapes("train"), (40, 48), crop=(32, 24), augment=AUGMENT)[2, 7]
    assert (item.image.shape, item.image.dtype) == ((3, 32, 24), torch.uint8)
    assert (item.labels.shape, item.labels.dtype) == ((32, 24), torch.int64)
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
    item = Split(Fixed(sample([[0, 255], [1, 2]])), (2, 2), crop=(3, 4))[0, 0]
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
    split = Split(Fixed(Sample(places, torch.tensor(labels, dtype=torch.uint8), "a")), (6, 6), crop=(4, 5))
    corners = set()
    for view in range(100):
        item = split[0, view]
        corner = int(item.image[0, 0, 0])
        top, left = divmod(corner, 6)
        assert torch.equal(item.image[0], places[0, top : top + 4, left : left + 5])
        assert torch.equal(item.labels, item.image[0].long() % 3)
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

    with pytest.raises(DataError) as error:
        Split(Fixed(sample([[0] * 4] * 4)), (4, 4), augment=[broken])[0, 0]
    line = broken.__code__.co_firstlineno + 1
    assert str(error.value) == rf"a.png: broken failed: KeyError: 'gone\nfor good' ({Path(__file__).name}:{line})"

    def shrinking(image, mask):
        return image, mask[:2]

    with pytest.raises(DataError) as error:
        Split(Fixed(sample([[0] * 4] * 4)), (4, 4), augment=[shrinking])[0, 0]
    assert str(error.value) == (
        "a.png: shrinking gave an image uint8 (3, 4, 4) and a mask uint8 (2, 4); "
        "a transform returns uint8 (C, H, W) and uint8 (H, W) of one size"
    )


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (
            Sample(torch.zeros(3, 4, 4), None, "x.png"),
            "x.png: the image is float32 (3, 4, 4); expected uint8 (3, H, W)",
        ),
        (
            Sample(torch.zeros(1, 4, 4, dtype=torch.uint8), None, "x.png"),
            "x.png: the image is uint8 (1, 4, 4); expected uint8 (3, H, W)",
        ),
        (
            Sample(torch.zeros(3, 4, 4, dtype=torch.uint8), torch.zeros(4, 5, dtype=torch.uint8), "x.png"),
            "x.png: the labels are uint8 (4, 5); expected uint8 (4, 4), as the image",
        ),
        (
            Sample(torch.zeros(3, 4, 4, dtype=torch.uint8), torch.zeros(4, 4, dtype=torch.int64), "x.png"),
            "x.png: the labels are int64 (4, 4); expected uint8 (4, 4), as the image",
        ),
        (
            sample([[0, 3], [3, 1]], "x.png"),
            "x.png: label 3 (2 pixels) in no class (known: 0 … 2, ignored 255), first at row 0, column 1; "
            "write values: {3: ignore} or name its class there",
        ),
    ],
)
def test_a_dataset_that_breaks_the_contract(found, message):
    with pytest.raises(DataError) as error:
        read(Fixed(found), 0)
    assert str(error.value) == message


def test_a_dataset_that_raises():
    with pytest.raises(DataError) as error:
        read(Fixed(OSError("disk\ngone")), 0)
    assert str(error.value).startswith("Fixed: sample 0 cannot be read: OSError: disk gone (test_dataset.py:")


def test_too_many_classes():
    data = Fixed(sample([[0]]))
    data.class_names = tuple(str(i) for i in range(255))
    with pytest.raises(ValueError, match=r"^255 classes, at most 254 fit in labels of 8 bits$"):
        Split(data, (4, 4))


def test_resizing():
    image = torch.randint(0, 256, (3, 30, 40), dtype=torch.uint8)
    assert resize_image(image, (30, 40)) is image
    for size in ((10, 20), (45, 44)):
        exact = torch.nn.functional.interpolate(image[None].double(), size, mode="bilinear", antialias=True)[0]
        assert (resize_image(image, size) - exact).abs().max() <= 1.01  # rounded twice
    labels = torch.arange(6, dtype=torch.uint8).expand(6, 6)
    assert resize_labels(labels[None], (6, 6)).data_ptr() == labels.data_ptr()
    assert resize_labels(labels[None], (2, 2)).tolist() == [[[1, 4], [1, 4]]]


def test_survey_counts_the_files_own_pixels():
    data = Fixed(sample([[0, 0], [1, 255]]), sample([[0, 255, 255, 255]]), Sample(*sample([[0]])[:1], None, "c"))
    assert survey(data) == Survey(3, 3, 8, 0.5, (3, 1, 0))
    assert survey(data, at_most=1) == Survey(1, 3, 4, 0.25, (2, 1, 0))


def test_survey_of_nothing():
    with pytest.raises(DataError, match=r"^Fixed: the split is empty$"):
        survey(Fixed())


def test_what_a_user_reads_before_step_1():
    train, val = Survey(500, 2000, 1000, 0.123, (800, 77, 0)), Survey(20, 20, 100, 0.0, (50, 0, 50))
    assert warnings(train, val, ("sky", "road", "car")) == [
        "train: 12.3 % of the pixels are ignored; never occur: car (500 of 2000 images)",
        "val: 0.0 % of the pixels are ignored; never occur: road (20 images)",
    ]
    whole = Survey(2, 2, 10, 0.0, (5, 5))
    assert warnings(whole, whole, ("sky", "road"))[0] == (
        "train: 0.0 % of the pixels are ignored; every class occurs (2 images)"
    )


def test_warnings_before_step_1():
    train, val = Survey(5, 5, 1000, 0.61, (300, 90)), Survey(2, 2, 100, 0.0, (100, 0))
    assert warnings(train, val, ("sky", "road"))[2:] == [
        "warning: train: more than half of the pixels are ignored (61.0 %)",
        "warning: val: the mean is over one class: only sky occurs",
    ]
