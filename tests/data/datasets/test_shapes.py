import numpy as np
import pytest
import torch

from kd.data import Shapes


def example(root):
    return {"count": 9, "size": 32}


def test_an_image_is_a_function_of_seed_split_and_index():
    one, again = Shapes("train")[3, 0], Shapes("train")[3, 7]
    assert torch.equal(one.image, again.image)
    assert torch.equal(one.labels, again.labels)
    assert not torch.equal(one.image, Shapes("train", seed=1)[3, 0].image)
    assert not torch.equal(one.image, Shapes("val")[3, 0].image)
    assert not torch.equal(one.image, Shapes("train")[4, 0].image)


def test_hard_images_have_textures_of_less_contrast():
    def contrast(difficulty):
        """The variation of brightness on the objects."""
        samples = [Shapes("val", difficulty=difficulty)[index, 0] for index in range(40)]
        inside = [image.float().mean(0)[labels > 0] for image, labels, _ in samples if (labels > 0).any()]
        return np.mean([float(values.std() / values.mean()) for values in inside])

    assert contrast("hard") < 0.95 * contrast("easy")
    with pytest.raises(ValueError, match="Shapes: difficulty must be easy or hard, got 'medium'"):
        Shapes("val", difficulty="medium")


def test_the_global_generators_are_left_alone():
    np.random.seed(0)  # noqa: NPY002
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    Shapes("train")[0, 0]
    assert torch.equal(before[0], torch.get_rng_state())
    assert np.array_equal(before[1], np.random.get_state()[1])  # noqa: NPY002


def test_a_small_set_is_the_beginning_of_a_large_one_and_val_is_always_the_same():
    small, large = Shapes("train", count=200), Shapes("train", count=2000)
    assert (len(small), len(large)) == (200, 2000)
    assert torch.equal(small[199, 0].image, large[199, 0].image)
    for split in ("val", "test"):
        assert len(Shapes(split, count=5)) == 200
        assert torch.equal(Shapes(split, count=5, seed=3)[9, 0].image, Shapes(split)[9, 0].image)
    assert not torch.equal(Shapes("val")[0, 0].image, Shapes("test")[0, 0].image)


def test_every_class_occurs_and_none_dominates():
    counts = sum(torch.bincount(Shapes("val")[i, 0].labels.flatten(), minlength=6) for i in range(100))
    share = counts / counts.sum()
    assert len(counts) == 6
    assert 0.6 < share[0] < 0.9
    assert (share[1:] > 0.015).all()


def test_colour_does_not_tell_the_classes_apart():
    colors: dict[int, list[list[float]]] = {label: [] for label in range(1, 6)}
    for i in range(200):
        image, labels, _ = Shapes("val")[i, 0]
        for label in labels.unique().tolist():
            if label and (labels == label).sum() > 60:
                colors[label].append(image[:, labels == label].float().mean(1).tolist())
    means = np.array([np.mean(found, 0) for found in colors.values()])
    spread = np.mean([np.std(found, 0) for found in colors.values()])
    assert np.ptp(means, 0).max() < 0.6 * spread


def test_plain_objects_are_background():
    # so that outlines alone, bright on dark, do not tell what is a class
    bright = sum(
        bool((image.float().mean(0)[labels == 0] > 150).sum() > 40)
        for image, labels, _ in (Shapes("val")[i, 0] for i in range(100))
    )
    assert bright > 15


@pytest.mark.parametrize("size", [32, 64, 100])
@pytest.mark.parametrize("channels", [1, 3])
def test_sizes_and_channels(size, channels):
    data = Shapes("train", size=size, in_channels=channels)
    sample = data[0, 0]
    assert sample.image.shape == (channels, size, size)
    assert sample.labels.shape == (size, size)
    assert data.in_channels == channels


def test_the_picture_grows_with_its_size():
    small, large = Shapes("val", size=64)[1, 0].labels, Shapes("val", size=128)[1, 0].labels
    assert (large[::2, ::2] == small).float().mean() > 0.95


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"split": "trian"}, "Shapes: split must be one of train, val, test, got 'trian'"),
        ({"count": 0}, "Shapes: count must be 1 to 1,000,000, got 0"),
        ({"count": 10**12}, "Shapes: count must be 1 to 1,000,000, got 1,000,000,000,000"),
        ({"size": 16}, "Shapes: size must be at least 32, where textures are still visible, got 16"),
        ({"in_channels": 2}, "Shapes: in_channels must be 1 or 3, got 2"),
        ({"seed": -1}, "Shapes: seed must be at least 0, got -1"),
    ],
)
def test_mistakes(args, message):
    with pytest.raises(ValueError, match=r"^Shapes: ") as error:
        Shapes(**({"split": "train"} | args))
    assert str(error.value) == message


def test_an_index_out_of_range_ends_iteration():
    with pytest.raises(IndexError):
        Shapes("train", count=5)[5, 0]
