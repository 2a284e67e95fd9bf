"""ADE20K: scenes of all kinds, 150 classes."""

from kd.data.datasets.published import Part, Published, Release, find, numbered
from kd.data.masks.classes import distinct_colors
from kd.errors import DataError
from kd.types import IGNORE

NAMES = (
    "wall", "building", "sky", "floor", "tree", "ceiling", "road", "bed", "windowpane", "grass", "cabinet", "sidewalk",
    "person", "earth", "door", "table", "mountain", "plant", "curtain", "chair", "car", "water", "painting", "sofa",
    "shelf", "house", "sea", "mirror", "rug", "field", "armchair", "seat", "fence", "desk", "rock", "wardrobe", "lamp",
    "bathtub", "railing", "cushion", "base", "box", "column", "signboard", "chest of drawers", "counter", "sand",
    "sink", "skyscraper", "fireplace", "refrigerator", "grandstand", "path", "stairs", "runway", "case", "pool table",
    "pillow", "screen door", "stairway", "river", "bridge", "bookcase", "blind", "coffee table", "toilet", "flower",
    "book", "hill", "bench", "countertop", "stove", "palm", "kitchen island", "computer", "swivel chair", "boat",
    "bar", "arcade machine", "hovel", "bus", "towel", "light", "truck", "tower", "chandelier", "awning", "streetlight",
    "booth", "television receiver", "airplane", "dirt track", "apparel", "pole", "land", "bannister", "escalator",
    "ottoman", "bottle", "buffet", "poster", "stage", "van", "ship", "fountain", "conveyer belt", "canopy", "washer",
    "plaything", "swimming pool", "stool", "barrel", "basket", "waterfall", "tent", "bag", "minibike", "cradle",
    "oven", "ball", "food", "step", "tank", "trade name", "microwave", "pot", "animal", "bicycle", "lake",
    "dishwasher", "screen", "blanket", "sculpture", "hood", "sconce", "vase", "traffic light", "tray", "ashcan", "fan",
    "pier", "crt screen", "plate", "monitor", "bulletin board", "shower", "radiator", "glass", "clock", "flag",
)  # fmt: skip
_FOLDERS = {"train": "training", "val": "validation"}


def ADE20K(root: str, split: str) -> Published:  # noqa: N802  # recipes call every dataset as they call a class
    """ADE20K of the Scene Parsing Benchmark of MIT: 20,210 training and 2,000 validation images, 150 classes.

    Masks hold the classes from 1 on; 0, which is everything else, is ignored. There are no public test labels.

    Source: Zhou et al., "Scene Parsing through ADE20K Dataset", CVPR 2017. For research and teaching
        without commercial use; the masks are under BSD-3-Clause.

    Args:
        root: the folder that contains `ADEChallengeData2016/`.
        split: "train" or "val".

    Raises:
        DataError: the split has no labels; a folder is missing; an image has no mask; (by item) a file is damaged or
            holds an unknown label.
    """
    if split not in _FOLDERS:
        raise DataError("ADE20K: there are no public test labels; use val")
    folder = _FOLDERS[split]
    part = Part(f"ADEChallengeData2016/images/{folder}", f"ADEChallengeData2016/annotations/{folder}")
    return Published(_RELEASE, split, [find(_RELEASE, part, root)])


_RELEASE = Release(
    "ADE20K",
    distinct_colors(len(NAMES)),
    numbered(NAMES, {0: IGNORE} | {number: index for index, number in enumerate(range(1, len(NAMES) + 1))}),
    "ADEChallengeData2016/{images, annotations}/{training, validation}",
    "unpack ADEChallengeData2016.zip of data.csail.mit.edu/places/ADEchallenge",
)
