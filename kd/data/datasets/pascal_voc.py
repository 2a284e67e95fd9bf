"""Pascal VOC: photographs of 20 kinds of objects."""

import tempfile
from pathlib import Path
from typing import Literal

from kd import distributed
from kd.data.datasets.mat import read_mat
from kd.data.datasets.published import Found, Part, Published, Release, find, numbered
from kd.data.splits.shares import Shares
from kd.errors import DataError

NAMES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
COLORS = (
    (0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0), (0, 0, 128), (128, 0, 128), (0, 128, 128), (128, 128, 128),
    (64, 0, 0), (192, 0, 0), (64, 128, 0), (192, 128, 0), (64, 0, 128), (192, 0, 128), (64, 128, 128),
    (192, 128, 128), (0, 64, 0), (128, 64, 0), (0, 192, 0), (128, 192, 0), (0, 64, 128),
)  # fmt: skip
AS_PNG = "SegmentationClassAug"  # SBD's masks as PNG, as they are often passed on
HELD_OUT = "10%"  # of trainval
SBD = ("benchmark_RELEASE/dataset", "sbd")  # as it is unpacked; as torchvision unpacks it


def PascalVOC(  # noqa: N802  # recipes call every dataset as they call a class
    root: str,
    split: str,
    *,
    year: int = 2012,
    train: Literal["train", "trainval", "augmented"] = "train",
    download: bool = False,
) -> Published:
    """Pascal VOC 2012 or 2007 with masks of 20 kinds of objects and the background.

    The images that train are one of three sets:

        train      those of VOC's train: 1,464 of 2012, 209 of 2007
        trainval   those of train and val, of which a tenth is held out as "val", chosen by a hash of the names
        augmented  those of train, and those of SBD that are not in val: 10,582 of 2012

    "val" is VOC's val (1,449 of 2012, 213 of 2007) but for `trainval`. "test" is that of 2007 (210); the labels of
    2012's are not public. Borders of objects (255) are ignored.

    Source: Everingham et al., "The Pascal Visual Object Classes (VOC) Challenge", IJCV 88(2), 2010; SBD: Hariharan et
        al., "Semantic Contours from Inverse Detectors", ICCV 2011. The photographs are from Flickr, under its terms.

    Args:
        root: the folder that contains `VOCdevkit/`.
        split: "train", "val" or "test".
        year: 2012 or 2007.
        train: the images that train, as above.
        download: whether missing files are downloaded to `root` by torchvision, 2 GB of 2012 and 1.4 GB of SBD.

    Raises:
        ValueError: `year` or `train` is none of these.
        DataError: a folder or list is missing; the split has no labels; a download fails; (by item) a file is damaged
            or holds an unknown label.
    """
    if year not in (2007, 2012):
        raise ValueError(f"PascalVOC: year must be 2007 or 2012, got {year}")
    if train not in ("train", "trainval", "augmented"):
        raise ValueError(f"PascalVOC: no training images are called {train!r}, only train, trainval and augmented")
    if train == "augmented" and year != 2012:
        raise ValueError("PascalVOC: the images of SBD belong to 2012; set year: 2012, or train: trainval")
    base = f"VOCdevkit/VOC{year}"
    if split == "test" and year == 2012:
        raise DataError("PascalVOC: the test labels of 2012 are not public; use val, or year: 2007")
    if download:
        _download(root, base, year, sbd=train == "augmented")
    release = _release(year)

    def listed(*lists: str) -> Found:
        files = tuple(f"{base}/ImageSets/Segmentation/{name}.txt" for name in lists)
        return find(release, Part(f"{base}/JPEGImages", f"{base}/SegmentationClass", files), root)

    if split == "test" or (split == "val" and train != "trainval"):
        return Published(release, split, [listed(split)])
    if train == "train":
        return Published(release, split, [listed("train")])
    if train == "augmented":
        own, val = listed("train"), listed("val")
        return Published(release, split, [own, _of_sbd(release, root, base, {*own.items, *val.items})])
    items, notes = listed("train", "val")
    kept = Shares(val=HELD_OUT, owner="PascalVOC").of(list(items), split)
    if split == "val":
        notes = [*notes, f"val is {HELD_OUT} of VOC's trainval: its scores are not comparable with those on VOC's val"]
    return Published(release, split, [Found({name: items[name] for name in kept}, notes)])


def _of_sbd(release: Release, root: str, base: str, known: set[str]) -> Found:
    """The images of SBD that are not known, with SBD's masks; the images themselves are VOC's."""
    as_png = f"{base}/{AS_PNG}"
    folder = next((place for place in SBD if (Path(root) / place).is_dir()), SBD[0])
    lists = (f"{folder}/train.txt", f"{folder}/val.txt")
    part = Part(f"{base}/JPEGImages", f"{folder}/cls", lists, mask_suffixes=(".mat",), read=read_mat)
    if (Path(root) / as_png).is_dir():
        part = Part(f"{base}/JPEGImages", as_png, lists=())
    release = Release(release.name, release.colors, release.meaning, _TREE_OF_SBD, _GET_SBD)
    items, notes = find(release, part, root)
    return Found({name: item for name, item in items.items() if name not in known}, notes)


_TREE_OF_SBD = "VOCdevkit and benchmark_RELEASE/dataset/{cls, train.txt, val.txt}"
_GET_SBD = "get SBD, benchmark.tgz of home.bharathh.info/pubs/codes/SBD, or set data.args.download=true"


def _release(year: int) -> Release:
    archive = (
        "VOCtrainval_11-May-2012.tar" if year == 2012 else "VOCtrainval_06-Nov-2007.tar and VOCtest_06-Nov-2007.tar"
    )
    return Release(
        "PascalVOC",
        COLORS,
        numbered(NAMES),
        f"VOCdevkit/VOC{year}/{{JPEGImages, SegmentationClass, ImageSets/Segmentation}}",
        f"unpack {archive} of host.robots.ox.ac.uk/pascal/VOC/voc{year}, or set data.args.download=true",
    )


def _download(root: str, base: str, year: int, *, sbd: bool) -> None:
    """Download what is missing: into a folder of its own, which is renamed when it is complete."""
    from torchvision.datasets import SBDataset, VOCSegmentation

    def fetch_voc(place: str) -> Path:
        for images in ("trainval", "test") if year == 2007 else ("trainval",):
            VOCSegmentation(place, str(year), images, download=True)
        return Path(place) / base

    def fetch_sbd(place: str) -> Path:
        SBDataset(f"{place}/sbd", mode="segmentation", download=True)
        return Path(place) / "sbd"

    folder = Path(root)
    wanted = [] if (folder / base).exists() else [(base, fetch_voc)]
    if sbd and not any((folder / place).exists() for place in (*SBD, f"{base}/{AS_PNG}")):
        wanted.append((SBD[1], fetch_sbd))
    for what, fetch in wanted:
        if distributed.world() > 1:
            raise DataError(
                f"PascalVOC: no {folder / what}; download it with one process first: kd check RECIPE "
                "data.args.download=true"
            )
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".download-") as place:
            try:
                complete = fetch(place)
                (folder / what).parent.mkdir(exist_ok=True)
                complete.rename(folder / what)
            except Exception as error:
                reason = " ".join(str(error).split()) or type(error).__name__
                raise DataError(f"PascalVOC: {folder / what}: the download failed: {reason}") from error
