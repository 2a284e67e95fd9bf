import numpy as np
import pytest
from PIL import Image

from kd.data.splits import duplicates
from kd.data.splits.duplicates import begin_looks, find_shared
from kd.errors import DataError


class Files:
    def __init__(self, folder):
        self.names = tuple(map(str, sorted(folder.iterdir())))

    def __len__(self):
        return len(self.names)


def photo(seed, size=(160, 120)):
    """Soft blobs: each seed another picture."""
    cells = np.random.default_rng(seed).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    return Image.fromarray(cells).resize(size, Image.Resampling.BICUBIC)


def lines_of(folder, **options):
    found, note = find_shared({split: Files(folder / split) for split in ("train", "val")}, **options)
    return [line for shared in found for line in shared.lines()] + ([note] if note else [])


@pytest.fixture
def splits(folder):
    for split in ("train", "val"):
        (folder / split).mkdir()
    for seed in range(8):
        photo(seed).save(folder / f"train/{seed}.png")
    return folder


def test_the_same_files_are_named(splits):
    for seed in (1, 3, 4, 6):
        (splits / f"val/v{seed}.png").write_bytes((splits / f"train/{seed}.png").read_bytes())
    photo(20).save(splits / "val/other.png")
    assert lines_of(splits) == [
        "warning: 4 of the 5 val images are training images too: train 1.png = val v1.png, train 3.png = val v3.png, "
        "train 4.png = val v4.png and 1 more; scores on them are too high"
    ]


@pytest.mark.parametrize(
    "change",
    [
        lambda image, path: image.save(f"{path}.jpg", quality=60),
        lambda image, path: image.resize((97, 71)).save(f"{path}.png"),
        lambda image, path: image.point(lambda value: int(0.8 * value + 30)).save(f"{path}.png"),
        lambda image, path: image.convert("L").save(f"{path}.tif"),
    ],
    ids=["jpeg", "resized", "brightened", "grey"],
)
def test_an_image_that_was_saved_in_another_way_is_nearly_the_same(splits, change):
    change(photo(5), splits / "val/again")
    (line,) = lines_of(splits)
    assert line.startswith(
        "warning: 1 of the 1 val images is nearly the same as a training image: train 5.png ≈ val again"
    )


def test_other_pictures_and_flat_images_are_no_duplicates(splits):
    for seed in range(100, 140):
        photo(seed).save(splits / f"val/{seed}.png")
    for split in ("train", "val"):  # blank slides: alike, and different files
        for number in range(5):
            grey = 200 + np.random.default_rng((number, len(split))).integers(0, 3, (120, 160), dtype=np.uint8)
            Image.fromarray(grey).save(splits / f"{split}/blank{number}.png")
    assert lines_of(splits) == []
    (splits / "val/blank9.png").write_bytes((splits / "train/blank2.png").read_bytes())
    assert lines_of(splits)[0].endswith("train blank2.png = val blank9.png; scores on them are too high")


def test_an_object_that_moved_is_another_image(splits):
    frame = np.asarray(photo(2)).copy()
    frame[20:90, 30:100] = frame[20:90, 60:130]
    Image.fromarray(frame).save(splits / "val/next.png")
    assert lines_of(splits) == []


def test_without_time_only_the_content_is_compared(splits):
    (splits / "val/same.png").write_bytes((splits / "train/7.png").read_bytes())
    photo(5).save(splits / "val/again.jpg", quality=60)
    (same, note) = lines_of(splits, seconds=-1)
    assert "train 7.png = val same.png" in same
    assert note.startswith("0 of 10 images were compared with those of other splits, as many as ")


def test_the_images_that_were_read_are_counted_over_all_splits(splits, monkeypatch):
    photo(1).save(splits / "val/1.png")
    monkeypatch.setattr(duplicates, "_PART", 4)
    read = []
    lines_of(splits, advance=read.append)
    assert read == [1, 5, 9]  # the one of val first


def test_many_images_are_compared_in_parts(splits, monkeypatch):
    for seed in range(8):
        photo(seed).resize((100, 80)).save(splits / f"val/{seed}.png")
    monkeypatch.setattr(duplicates, "_ROWS", 3)
    ((shared,), _) = find_shared({split: Files(splits / split) for split in ("train", "val")})
    assert [(pair.name, pair.other, pair.same) for pair in shared.found] == [
        (f"{n}.png",) * 2 + (False,) for n in range(8)
    ]


def test_workers_that_began_earlier_find_the_same(splits, monkeypatch):
    monkeypatch.setattr(duplicates, "_PART", 3)
    for seed in (1, 6):
        photo(seed).resize((97, 71)).save(splits / f"val/v{seed}.png")
    begun = begin_looks(Files(splits / "train"), workers=2)
    assert (found := lines_of(splits, begun={"train": begun})) == lines_of(splits)
    assert len(found) == 1
    begun = begin_looks(Files(splits / "train"), workers=1, seconds=-1)
    assert lines_of(splits, begun={"train": begun}) == [
        "2 of 10 images were compared with those of other splits, as many as 20 s allow"
    ]


def test_files_that_look_otherwise_are_not_read_again(splits, monkeypatch):
    for seed in (1, 6):
        (splits / f"val/v{seed}.png").write_bytes((splits / f"train/{seed}.png").read_bytes())
    large = max(path.stat().st_size for path in splits.glob("*/*.png"))
    for path in splits.glob("*/*.png"):  # all of one size; what follows the image is not decoded
        path.write_bytes(path.read_bytes().ljust(large, b"\0"))
    hashed = []
    monkeypatch.setattr(duplicates, "sha256", lambda path: hashed.append(path.name) or path.read_bytes())
    (line,) = lines_of(splits)
    assert line.startswith("warning: 2 of the 2 val images are training images too: ")
    assert sorted(hashed) == ["1.png", "6.png", "v1.png", "v6.png"]
    hashed.clear()
    same, _ = lines_of(splits, seconds=-1)  # nothing was looked at: all of them are read
    assert same == line
    assert len(hashed) == 10


def test_three_splits_are_compared_in_pairs(splits):
    (splits / "test").mkdir()
    for split in ("val", "test"):
        photo(3).save(splits / f"{split}/x.png")
    found, _ = find_shared({split: Files(splits / split) for split in ("train", "val", "test")})
    assert [shared.splits for shared in found] == [("train", "val"), ("train", "test"), ("val", "test")]
    assert found[2].lines()[0].startswith("warning: 1 of the 1 test images is a val image too: val x.png = test x.png")


def test_datasets_without_files_are_left_out_and_damaged_files_are_named(splits):
    class Drawn(Files):
        def __init__(self):
            self.names = ("drawn 0", "drawn 1")

    class Listed(Files):
        def files(self, index):
            return ()

    for other in (Drawn(), Listed(splits / "train")):
        assert find_shared({"train": Files(splits / "train"), "val": other}) == ([], "")
    (splits / "val/cut.png").write_bytes((splits / "train/7.png").read_bytes()[:200])
    with pytest.raises(DataError, match=r"val/cut\.png: "):
        lines_of(splits)


@pytest.mark.slow
def test_a_thousand_photos_take_seconds(splits):
    import time

    photo(0, (1024, 768)).save(splits / "train/large.jpg")
    content = (splits / "train/large.jpg").read_bytes()
    for number in range(1000):
        (splits / f"{'val' if number % 5 == 0 else 'train'}/{number}.jpg").write_bytes(content + bytes([number % 256]))
    began = time.perf_counter()
    lines_of(splits)
    assert time.perf_counter() - began < 20  # 5 s on two idle cores


def test_files_that_are_no_pictures_are_compared_by_content(folder):
    for split, numbers in (("train", (0, 1, 2)), ("val", (2, 3))):
        (folder / split).mkdir()
        for number in numbers:
            np.savez(folder / f"{split}/{number}.npz", image=np.full((4, 4), number))
    assert lines_of(folder) == [
        "warning: 1 of the 2 val images is a training image too: train 2.npz = val 2.npz; scores on them are too high"
    ]
